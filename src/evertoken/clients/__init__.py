"""Plugging a manager into HTTP clients, one file for each library."""
