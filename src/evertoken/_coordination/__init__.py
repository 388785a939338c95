"""
Decides who may fetch, and keeps the records. There is one protocol with two implementations: in memory, and in a store.

This package imports `_model` and `_engine`.
"""
