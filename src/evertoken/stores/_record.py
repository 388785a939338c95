"""
A record as JSON: what every store of ours keeps, and what the next release and the last one can read.

Fields are only ever added within one format. A reader ignores those it does not know.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from evertoken._model.guarded import guarded
from evertoken._model.parsing import is_finite
from evertoken._model.protocols import Record
from evertoken._model.redaction import quoted
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Codec", "TornRecord", "UnreadableRecord", "dump", "dump_record", "load", "load_record"]

FORMAT: Final = 1

#: No version comes near to this. Above it scripts of a server, which count in floats, could not tell one from the next.
_LAST_VERSION: Final = 2**53 - 1

_TOKEN_FIELDS: Final = (
    "access_token",
    "issued_at",
    "expires_at",
    "token_type",
    "refresh_at",
    "refresh_token",
    "scope",
    "extra",
)


class UnreadableRecord(Exception):
    """
    A record is there, and may be good, but not for this reader: it is sealed with a key that is not at hand.

    It must not be overwritten, because others may well read it.
    """


@final
class TornRecord(UnreadableRecord):
    """The stored bytes are not a record: cut off, foreign, or of another key. They may be set aside."""


class Codec(Protocol):
    """
    Seals records before they are kept.

    Args:
        accept_plain: Whether a record that was kept unsealed is read, as while a store is being changed over.
    """

    accept_plain: bool

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """Return *plain* sealed, so that it opens with the same *context* alone."""

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """
        Return the plain bytes of *sealed*.

        Raises:
            UnreadableRecord: The key it was sealed with is not at hand.
            TornRecord: It was altered, or sealed with another context.
        """


@guarded
def dump_record(record: Record, codec: Codec | None = None, /) -> dict[str, Any]:
    """
    Return *record* as a dict that `json.dumps` can write, for stores of your own.

    It says its format, so that later releases read it. Its texts may be secrets: the tokens are in it, unless they are
    sealed.

    Args:
        record: What a manager gave to `mark` or `commit`.

        codec: What seals the token, such as `evertoken.stores.encryption.AesGcm`. All other fields are bound to the
            seal, and stay readable.
    """
    token = None if record.token is None else {name: _plain(getattr(record.token, name)) for name in _TOKEN_FIELDS}
    body: dict[str, Any] = {
        "format": FORMAT,
        "key": record.key,
        "version": record.version,
        "sent_at": record.sent_at,
        "sent_by": record.sent_by,
        "revoked": record.revoked,
        "since": record.since,
        "origins": list(record.origins),
        "generation": record.generation,
    }
    if codec is None:
        body["token"] = token
    else:
        sealed = codec.seal(json.dumps(token).encode(), _context(body))
        body["sealed"] = base64.b64encode(sealed).decode()
    return body


@guarded
def load_record(key: str, data: Mapping[str, Any], codec: Codec | None = None, /) -> Record:
    """
    Return the record of *key* that *data* is: the reverse of `dump_record`.

    Args:
        key: The key that the store was asked for. A record of another key is refused.

        data: What `dump_record` returned, in this release or an earlier one.

        codec: What opens the token, if it is sealed.

    Raises:
        TornRecord: It is no record, or one of another key. A store may treat it as missing.
        UnreadableRecord: It is sealed with a key that is not at hand, or of a later format. A store must raise it, and
            must not write over such a record. It is the base of `TornRecord`.
    """
    try:
        form, found, version = data["format"], data["key"], data["version"]
    except (KeyError, TypeError):
        msg = "what is stored is no record"
        raise TornRecord(msg) from None
    if found != key:
        msg = "what is stored is a record of another key"
        raise TornRecord(msg)
    if form != FORMAT:
        msg = f"the record has format {quoted(form)}, and this release reads format {FORMAT}"
        raise UnreadableRecord(msg)
    if not (isinstance(version, int) and is_finite(version) and abs(version) <= _LAST_VERSION):
        msg = "the record has no version"
        raise TornRecord(msg)
    history = _history(data)
    return Record(key, version, _token(_opened(data, codec)), **history)


def dump(record: Record, codec: Codec | None = None, /) -> bytes:
    """
    Return what `dump_record` returns, as UTF-8 JSON.

    Raises:
        TypeError: The token carries extra fields that JSON has no form for.
    """
    return json.dumps(dump_record(record, codec)).encode()


def load(key: str, data: bytes, codec: Codec | None = None, /) -> Record:
    """Return the record of *key* that the JSON *data* is, as `load_record` does."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        msg = "what is stored is no record"
        raise TornRecord(msg) from None
    return load_record(key, body, codec)


def _history(body: Mapping[str, Any]) -> dict[str, Any]:
    # A field that an earlier release did not write has its default.
    sent_at, sent_by, since = body.get("sent_at"), body.get("sent_by"), body.get("since", 0.0)
    origins, generation = body.get("origins", []), body.get("generation", 0)
    if not (sent_at is None or is_finite(sent_at)):
        msg = "the record has a mark that is no instant"
        raise TornRecord(msg)
    if not (sent_by is None or isinstance(sent_by, str)):
        msg = "the record has a mark of an owner that is no text"
        raise TornRecord(msg)
    if not is_finite(since):
        msg = "the record has a beginning that is no instant"
        raise TornRecord(msg)
    if not (isinstance(origins, list) and all(isinstance(origin, str) for origin in origins)):
        msg = "the record has origins that are no list of texts"
        raise TornRecord(msg)
    if not (isinstance(generation, int) and is_finite(generation) and 0 <= generation <= _LAST_VERSION):
        msg = "the record has a generation that is no number of tokens"
        raise TornRecord(msg)
    return {
        "sent_at": sent_at,
        "sent_by": sent_by,
        "revoked": body.get("revoked") is True,
        "since": since,
        "origins": tuple(origins),
        "generation": generation,
    }


def _opened(body: Mapping[str, Any], codec: Codec | None) -> object:
    if "sealed" not in body:
        if codec is not None and not codec.accept_plain:
            msg = "the record is not sealed, and only sealed ones are accepted (see accept_plain)"
            raise UnreadableRecord(msg)
        return body.get("token", "")
    if codec is None:
        msg = "the record is sealed, and no codec was given to open it"
        raise UnreadableRecord(msg)
    try:
        sealed = base64.b64decode(body["sealed"], validate=True)
        return json.loads(codec.open(sealed, _context(body)))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        msg = "the sealed part of the record is damaged"
        raise TornRecord(msg) from None


def _token(fields: object) -> Token | None:
    if fields is None:
        return None
    try:
        known = {name: fields[name] for name in _TOKEN_FIELDS if name in fields}  # type: ignore[index,operator]
        return Token.restored(known)
    except (ValueError, TypeError, KeyError):
        msg = "the record holds no token"
        raise TornRecord(msg) from None


def _context(body: Mapping[str, Any]) -> bytes:
    # Fields that this release does not know are bound too: a later one wrote them, and reads them.
    return json.dumps({name: body[name] for name in sorted(body) if name != "sealed"}).encode()


def _plain(value: object) -> object:
    return dict(value) if hasattr(value, "keys") else value  # type: ignore[call-overload]
