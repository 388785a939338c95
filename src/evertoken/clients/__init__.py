"""Adapters that use a manager in HTTP clients. Each library has its own file."""
