"""
The walker: it raises every exception that the public names can raise, and looks for secrets as error reporters do.

`python -m tests.leaks` prints the number of walked objects, and the findings.
"""
