"""OpenBao and HashiCorp Vault. Each way to log in has its own file."""

from evertoken.sources.vault.app_role import AppRole
from evertoken.sources.vault.jwt_login import JwtLogin

__all__ = ["AppRole", "JwtLogin"]
