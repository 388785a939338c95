"""
Where tokens are kept and shared.
"""

from evertoken.stores.memory import MemoryStore

__all__ = ["MemoryStore"]
