"""Whether a failed login says that the password is bad. It imports no driver, and all databases share it."""

from __future__ import annotations

from typing import Final

__all__ = ["is_refused_login"]

# PostgreSQL: invalid_password, invalid_authorization_specification. MySQL and MariaDB: ER_ACCESS_DENIED_ERROR.
_CODES: Final = frozenset({"28P01", "28000", 1045})
# libpq passes on the words of the server, and no code.
_WORDS: Final = "authentication failed"


def is_refused_login(error: Exception, /) -> bool:
    """Tell whether *error*, which a driver raised while it connected, says that the server refused the password."""
    named = [getattr(error, name, None) for name in ("sqlstate", "pgcode", "errno")]
    first = error.args[0] if error.args else None
    named.append(first.get("C") if isinstance(first, dict) else first)
    return any(isinstance(code, str | int) and code in _CODES for code in named) or _WORDS in str(error)
