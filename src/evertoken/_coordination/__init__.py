"""
Who may fetch, and what is on record: one protocol, implemented in memory and through a store.

It imports `_model` and `_engine`.
"""
