"""
Observers for metrics, traces and structured logs. Each file needs one extra. Import it by its full name.

An observer is a function that the manager calls with each event; see `evertoken.events`.
"""
