"""
A record as JSON. All stores of this library use this format, and the next release and the last one can read it.

Within one format, fields are only added. A reader ignores unknown fields.
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

#: No version is ever this high. Scripts of a server count in floats, which are not exact above it.
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
    A record exists and may be valid, but this reader cannot read it. For example, its key is not available.

    It must not be overwritten, because other members may be able to read it.
    """


@final
class TornRecord(UnreadableRecord):
    """The stored bytes are not a record: they are cut off, foreign, or of another key. They may be set aside."""


class Codec(Protocol):
    """
    The interface of codecs, which seal records before they are kept.

    Args:
        accept_plain: Whether records that were kept unsealed are read, for example during a migration.
    """

    accept_plain: bool

    def seal(self, plain: bytes, context: bytes, /) -> bytes:
        """Return *plain* in sealed form. It can only be opened with the same *context*."""

    def open(self, sealed: bytes, context: bytes, /) -> bytes:
        """
        Return the plain bytes of *sealed*.

        Raises:
            UnreadableRecord: The key that sealed it is not available.
            TornRecord: It was altered, or sealed with another context.
        """


@guarded
def dump_record(record: Record, codec: Codec | None = None, /) -> dict[str, Any]:
    """
    Return *record* as a dict that `json.dumps` can write, for stores of your own.

    The dict names its format, so that later releases can read it. It contains the tokens, unless they are sealed.

    Args:
        record: The argument of `mark` or `commit`.

        codec: Seals the token, such as `evertoken.stores.encryption.AesGcm`. All other fields are bound to the seal,
            and stay readable.

    Raises:
        TypeError: The token has extra fields that JSON cannot express.
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
    Return the record of *key* from *data*, which `dump_record` made.

    Args:
        key: The key that the store was asked for. A record of another key is refused.

        data: The result of `dump_record`, of this release or an earlier one.

        codec: Opens the token, if it is sealed.

    Raises:
        TornRecord: *data* is not a record, or is one of another key. A store may treat it as missing.
        UnreadableRecord: It is sealed with a key that is not available, or has a later format. A store must raise it,
            and must not write over such a record. It is the base of `TornRecord`.
    """
    try:
        form, found, version = data["format"], data["key"], data["version"]
    except (KeyError, TypeError):
        msg = "the stored data is not a record"
        raise TornRecord(msg) from None
    if found != key:
        msg = "the stored data is a record of another key"
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
    Return the result of `dump_record` as UTF-8 JSON.

    Raises:
        TypeError: The token has extra fields that JSON cannot express.
    """
    return json.dumps(dump_record(record, codec)).encode()


def load(key: str, data: bytes, codec: Codec | None = None, /) -> Record:
    """Return the record of *key* from JSON, as `load_record` does from a dict."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        msg = "the stored data is not a record"
        raise TornRecord(msg) from None
    return load_record(key, body, codec)


def _history(body: Mapping[str, Any]) -> dict[str, Any]:
    # A field that an earlier release did not write gets its default.
    sent_at, sent_by, since = body.get("sent_at"), body.get("sent_by"), body.get("since", 0.0)
    origins, generation = body.get("origins", []), body.get("generation", 0)
    if not (sent_at is None or is_finite(sent_at)):
        msg = "the record has a mark that is not an instant"
        raise TornRecord(msg)
    if not (sent_by is None or isinstance(sent_by, str)):
        msg = "the record has a mark of an owner that is not text"
        raise TornRecord(msg)
    if not is_finite(since):
        msg = "the record has a beginning that is not an instant"
        raise TornRecord(msg)
    if not (isinstance(origins, list) and all(isinstance(origin, str) for origin in origins)):
        msg = "the record has origins that are not a list of texts"
        raise TornRecord(msg)
    if not (isinstance(generation, int) and is_finite(generation) and 0 <= generation <= _LAST_VERSION):
        msg = "the record has a generation that is not a number of tokens"
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
        msg = "the record does not contain a valid token"
        raise TornRecord(msg) from None


def _context(body: Mapping[str, Any]) -> bytes:
    # Unknown fields are bound too, because a later release wrote them and will read them.
    return json.dumps({name: body[name] for name in sorted(body) if name != "sealed"}).encode()


def _plain(value: object) -> object:
    return dict(value) if hasattr(value, "keys") else value  # type: ignore[call-overload]
