"""
The asyncio machinery: sessions, the supervisor, flights, the refresh path, limits, threads and loops.

It knows neither OAuth nor HTTP nor stores. It imports `_model` alone.
"""
