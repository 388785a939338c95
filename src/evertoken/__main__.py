"""The command line: `python -m evertoken`."""

import sys

from evertoken.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
