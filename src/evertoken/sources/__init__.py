"""
Where tokens come from, one grant a file.
"""

from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.refresh_token import RefreshToken

__all__ = ["ClientCredentials", "RefreshToken"]
