"""
The asyncio machinery: sessions, the supervisor, flights, the refresh path, limits, threads and loops.

This package knows nothing about OAuth, HTTP or stores. It imports only `_model`.
"""
