"""The check of prose: pages, docstrings, comments and messages are written in plain sentences (`nox -s lint`)."""
