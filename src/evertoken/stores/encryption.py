"""Encryption at rest: a codec that seals what any store of ours keeps."""

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

#: The first byte of what is sealed: how.
_FORMAT: Final = b"\x01"

#: Bytes of a nonce (NIST SP 800-38D section 8.2.2: random ones of 96 bits).
_NONCE: Final = 12

_TAG: Final = 16


@final
class AesGcm(Guarded):
    """
    A codec that seals tokens with AES-256-GCM (NIST SP 800-38D). Needs the extra `encryption`.

    All other fields of a record are bound to its seal: the store's key, the version, the mark, the tombstone and the
    rest. A sealed token opens only in the record that it was written in, so that somebody who may write to the store
    cannot put one customer's token in another's place, nor turn a sign-out into a login. A whole record that is older
    opens: only a process that has seen the newer one can tell. Each record says by an id which key it was sealed with.

    To rotate, put the new key first, give it to every member, and take the old one away when all records have been
    written anew. Give members both before any of them seals with the new one: keep the old one first until then.

    Args:
        keys:
            The first seals; all open. Each is 32 bytes, a string as `generate_key` makes it, a `pathlib.Path` of a file
            with one such string a line, or a callable that returns one or several of these. Files and callables are
            read when first needed, and again when a record names a key that is not known, when the file was
            changed, and when the callable was last asked a minute ago.

        accept_plain:
            Whether records that were kept unsealed are read, as while a store is being changed over. They are
            sealed when they are next written.

    Raises:
        TypeError: A key is of no such kind.
        ValueError: A value is no key. A file or a callable raises it when it is used.
    """

    def __init__(self, *keys: KeySource, accept_plain: bool = False) -> None:
        self.accept_plain = accept_plain
        self._keys = Keys(keys)

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """
        Return *plain* sealed, so that it opens with the same *context* alone.

        Raises:
            ValueError: A file or a callable holds no key.
            OSError: The key file cannot be read, or others could have written it.
        """
        key = self._keys.first
        header = _FORMAT + key.id
        nonce = os.urandom(_NONCE)
        return header + nonce + AESGCM(key.value).encrypt(nonce, plain, header + context)

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """
        Return the plain bytes of *sealed*.

        Raises:
            UnreadableRecord: The key it was sealed with is not at hand.
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
            msg = f"the record is sealed with the key <{header[len(_FORMAT) :].hex()}>, which is not at hand"
            raise UnreadableRecord(msg)
        try:
            return AESGCM(key.value).decrypt(nonce, sealed[start:], header + context)
        except InvalidTag:
            msg = "the sealed part of the record was altered, or belongs to another record"
            raise TornRecord(msg) from None

    def __repr__(self) -> str:
        # Tracebacks show also what is not yet whole.
        return f"AesGcm({getattr(self, '_keys', 'unread')})"

    def __reduce__(self) -> NoReturn:
        msg = "a codec carries keys and cannot be pickled"
        raise TypeError(msg)
