"""
Observers for metrics, traces and structured logs. Each file needs one extra, and is imported by its full name.

An observer is a function that a manager tells of each event; see `evertoken.events`.
"""
