"""Encryption at rest: a codec that seals the records of all stores of this library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn, final

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as _error:
    msg = "evertoken.stores.encryption needs cryptography: pip install 'evertoken[encryption]'"
    raise ImportError(msg) from _error

from evertoken._model.guarded import Guarded
from evertoken.stores._keys import ID_SIZE, Keys, generate_key
from evertoken.stores._record import TornRecord, UnreadableRecord

if TYPE_CHECKING:
    from evertoken.stores._keys import KeySource

__all__ = ["AesGcm", "generate_key"]

#: The first byte of sealed data. It names the method.
_FORMAT: Final = b"\x01"

#: The number of bytes in a nonce (NIST SP 800-38D section 8.2.2: random ones of 96 bits).
_NONCE: Final = 12

_TAG: Final = 16


@final
class AesGcm(Guarded):
    """
    A codec that seals tokens with AES-256-GCM (NIST SP 800-38D). It needs the extra `encryption`.

    All other fields of a record are bound to the seal: the store's key, the version, the mark, the tombstone and the
    rest. A sealed token opens only in its own record. So an attacker who can write to the store cannot swap the tokens
    of two customers, or turn a sign-out into a login. An older copy of a whole record still opens. Only a process that
    has seen the newer one can notice that. Each record names the key that sealed it by an id.

    To rotate keys, first give the new key to every member in second place. When all members have it, put it first. When
    all records have been written again, remove the old key.

    Args:
        keys:
            The first key seals, and all keys open. Each is 32 bytes, a string from `generate_key`, a `pathlib.Path` to
            a file with one such string per line, or a callable that returns one or several of these. Files and
            callables are read when they are first needed. They are read again if a record names an unknown key, if the
            file has changed, or if the callable was last called a minute ago.

        accept_plain:
            Whether records that were kept unsealed are read, for example during a migration. They are sealed when they
            are next written.

    Raises:
        TypeError: A key has none of these types.
        ValueError: A value is not a key. For a file or a callable, this is raised when it is used.
    """

    def __init__(self, *keys: KeySource, accept_plain: bool = False) -> None:
        self.accept_plain = accept_plain
        self._keys = Keys(keys)

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """
        Return *plain* in sealed form. It can only be opened with the same *context*.

        Raises:
            ValueError: A file or a callable contains no key.
            OSError: The key file cannot be read, or other users could have written it.
        """
        key = self._keys.first
        header = _FORMAT + key.id
        nonce = os.urandom(_NONCE)
        return header + nonce + AESGCM(key.value).encrypt(nonce, plain, header + context)

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """
        Return the plain bytes of *sealed*.

        Raises:
            UnreadableRecord: The key that sealed it is not available.
            TornRecord: It was altered, or sealed with another context.
        """
        start = len(_FORMAT) + ID_SIZE + _NONCE
        if len(sealed) < start + _TAG:
            msg = "the sealed part of the record is cut off"
            raise TornRecord(msg)
        if not sealed.startswith(_FORMAT):
            msg = f"the record is sealed in a way (0x{sealed[0]:02x}) that this release does not know"
            raise UnreadableRecord(msg)
        header, nonce = sealed[: start - _NONCE], sealed[start - _NONCE : start]
        key = self._keys.find(header[len(_FORMAT) :])
        if key is None:
            msg = f"the record is sealed with the key <{header[len(_FORMAT) :].hex()}>, which is not available"
            raise UnreadableRecord(msg)
        try:
            return AESGCM(key.value).decrypt(nonce, sealed[start:], header + context)
        except InvalidTag:
            msg = "the sealed part of the record was altered, or belongs to another record"
            raise TornRecord(msg) from None

    def __repr__(self) -> str:
        # Tracebacks may also show an object whose constructor has not finished.
        return f"AesGcm({getattr(self, '_keys', 'unread')})"

    def __reduce__(self) -> NoReturn:
        msg = "a codec carries keys and cannot be pickled"
        raise TypeError(msg)
