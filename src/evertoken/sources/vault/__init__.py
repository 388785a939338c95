"""OpenBao and HashiCorp Vault, one way to log in a file."""

from evertoken.sources.vault.app_role import AppRole
from evertoken.sources.vault.jwt_login import JwtLogin

__all__ = ["AppRole", "JwtLogin"]
