"""Keys from the keyring of the operating system."""

from __future__ import annotations

from typing import final

try:
    import keyring
except ImportError as _error:
    msg = "evertoken.stores.keyring needs keyring: pip install 'evertoken[keyring]'"
    raise ImportError(msg) from _error

from evertoken._model.guarded import Guarded
from evertoken.stores._keys import generate_key

__all__ = ["KeyringKey"]


@final
class KeyringKey(Guarded):
    """
    A key for `evertoken.stores.encryption.AesGcm`, kept in the keyring of the operating system.

    It needs the extra `keyring`.

    Args:
        service: The service name of the entry, such as the name of the program.

        username: The user name of the entry.

    Raises:
        ValueError: A name is empty.
    """

    def __init__(self, service: str, username: str = "evertoken") -> None:
        for name, value in (("service", service), ("username", username)):
            if not value:
                msg = f"{name} must not be empty"
                raise ValueError(msg)
        self._service = service
        self._username = username

    def __call__(self) -> list[str]:
        """
        Return the keys in the entry, the sealing one first.

        Raises:
            LookupError: There is no such entry.
        """
        found = keyring.get_password(self._service, self._username)
        if found is None:
            msg = f"the keyring has no entry {self._username!r} of {self._service!r}; generate() makes one"
            raise LookupError(msg)
        return found.split()

    def generate(self) -> None:
        """Put a new key into the entry, before the existing keys. These still open the records that they sealed."""
        found = keyring.get_password(self._service, self._username) or ""
        keyring.set_password(self._service, self._username, " ".join([generate_key(), *found.split()]))

    def __repr__(self) -> str:
        return f"KeyringKey({self._service!r}, {self._username!r})"
