"""Keys in the keyring of the operating system."""

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
    A key for `evertoken.stores.encryption.AesGcm` that the operating system's keyring keeps.

    Needs the extra `keyring`.

    Args:
        service: The name of the entry's service, such as the program's name.

        username: The name of the entry within it.

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
        Return the keys that the entry holds, the one to seal with first.

        Raises:
            LookupError: There is no such entry.
        """
        found = keyring.get_password(self._service, self._username)
        if found is None:
            msg = f"the keyring has no entry {self._username!r} of {self._service!r}; generate() makes one"
            raise LookupError(msg)
        return found.split()

    def generate(self) -> None:
        """Put a new key into the entry, before those that it holds, which still open what they sealed."""
        found = keyring.get_password(self._service, self._username) or ""
        keyring.set_password(self._service, self._username, " ".join([generate_key(), *found.split()]))

    def __repr__(self) -> str:
        return f"KeyringKey({self._service!r}, {self._username!r})"
