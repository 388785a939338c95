"""
Where tokens are kept and shared.
"""

from evertoken.stores.file import FileStore
from evertoken.stores.memory import MemoryStore

__all__ = ["FileStore", "MemoryStore"]
