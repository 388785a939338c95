"""The parts of a release: lower bounds without known security holes, a pinned workflow, and a reproducible build."""
