"""
The part of AWS that hands out credentials, as others wrote it: moto, in a process of its own.

Run as a script it prints where it is as a line of JSON, and serves until it is killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading

from moto.server import ThreadedMotoServer


def main() -> None:
    logging.disable(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)  # noqa: T201 - for the test to read
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.stop()


if __name__ == "__main__":
    main()
