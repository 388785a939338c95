"""
The walker: it raises every exception that the public names can raise, and looks for secrets as error reporters do.

`python -m tests.leaks` prints how much was walked, and what was found.
"""
