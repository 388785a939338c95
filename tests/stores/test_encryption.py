"""Encryption at rest: a sealed record opens only with its key and in its place, and no key is ever shown."""

from __future__ import annotations

import base64
import copy
import importlib
import json
import logging
import os
import pickle
import stat
import sys
import traceback
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.errors
import pytest
import time_machine
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evertoken import Record, Token
from evertoken._engine.clock import SystemClock
from evertoken.stores import _keys
from evertoken.stores._record import TornRecord, UnreadableRecord, dump, load
from evertoken.stores.encryption import AesGcm, generate_key
from evertoken.stores.keyring import KeyringKey

SECRET = "planted-access-token-4711"
RECORD = Record(
    "k",
    3,
    Token(SECRET, issued_at=1.0, refresh_token="planted-refresh-token"),
    5.0,
    "a-member",
    since=4.0,
    origins=("a1b2", "c3d4"),
)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are read again as often as there is a reason to."""
    monkeypatch.setattr(_keys, "_AT_LEAST", 0.0)


def test_sealed_and_opened():
    """S1: a sealed record shows nothing of its token, and comes back whole; its key and version stay readable."""
    codec = AesGcm(generate_key())
    data = dump(RECORD, codec)
    assert b"planted" not in data
    assert b'"key": "k"' in data
    assert load("k", data, codec) == RECORD
    assert load("k", dump(Record("k", 4, None), codec), codec) == Record("k", 4, None)
    assert dump(RECORD, codec) != data


def test_it_is_what_it_says():
    """S1: a sealed record is AES-256-GCM with the header and the context bound in, as anyone can check."""
    key = os.urandom(32)
    sealed = AesGcm(key).seal(b"plain", b"context")
    header, nonce, rest = sealed[:9], sealed[9:21], sealed[21:]
    assert header[:1] == b"\x01"
    assert AESGCM(key).decrypt(nonce, rest, header + b"context") == b"plain"
    assert AesGcm(key).seal(b"plain", b"context")[:9] == header
    assert key[:8] not in sealed


def test_only_in_its_place():
    """S1: a sealed token that is moved to another key or version, or altered in any byte, is torn."""
    codec = AesGcm(generate_key())
    sealed = codec.seal(b"plain", b"context")
    with pytest.raises(TornRecord):
        codec.open(sealed, b"another context")
    for place in [0, *range(9, len(sealed))]:
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(UnreadableRecord if place == 0 else TornRecord):
            codec.open(bytes(altered), b"context")
    for size in range(len(sealed)):
        with pytest.raises(TornRecord):
            codec.open(sealed[:size], b"context")
    data = dump(RECORD, codec)
    for moved in (data.replace(b'"version": 3', b'"version": 4'), data.replace(b'"key": "k"', b'"key": "l"')):
        with pytest.raises(TornRecord):
            load("l" if b'"l"' in moved else "k", moved, codec)


TOMBSTONE = Record("k", 3, None, revoked=True, since=4.0)


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (RECORD, "version", 2),
        (RECORD, "version", 4),
        (RECORD, "sent_at", None),
        (RECORD, "sent_at", 5.5),
        (RECORD, "sent_by", None),
        (RECORD, "sent_by", "another"),
        (RECORD, "revoked", True),
        (RECORD, "since", 0.0),
        (RECORD, "since", 1e12),
        (RECORD, "origins", []),
        (RECORD, "origins", ["a1b2"]),
        (RECORD, "origins", ["c3d4", "a1b2"]),
        (RECORD, "generation", 1),
        (RECORD, "format", True),
        (RECORD, "format", 1.0),
        (RECORD, "later", 1),
        (RECORD, "token", None),
        (TOMBSTONE, "revoked", False),
        (TOMBSTONE, "since", 3.0),
        (TOMBSTONE, "sent_at", 5.0),
        (TOMBSTONE, "generation", 7),
        (TOMBSTONE, "token", {"access_token": "planted", "issued_at": 0.0}),
    ],
)
@pytest.mark.parametrize("accept_plain", [False, True])
def test_every_field_is_bound(record, field, value, accept_plain):
    """S3: a sealed record with any field altered by somebody without the key, added or taken away, is torn."""
    codec = AesGcm(generate_key(), accept_plain=accept_plain)
    body = json.loads(dump(record, codec))
    assert load("k", json.dumps(body).encode(), codec) == record
    with pytest.raises(TornRecord, match="altered"):
        load("k", json.dumps({**body, field: value}).encode(), codec)
    if field in body and field not in {"version", "format"}:
        del body[field]
        with pytest.raises(TornRecord, match="altered"):
            load("k", json.dumps(body).encode(), codec)


@pytest.mark.parametrize("other", [RECORD, TOMBSTONE, Record("k", 4, RECORD.token)])
def test_a_seal_of_another_record(other):
    """S3: the sealed part of one record does not open in another one of the same key."""
    codec = AesGcm(generate_key())
    sealed = json.loads(dump(Record("k", 2, RECORD.token, 1.0), codec))["sealed"]
    body = {**json.loads(dump(other, codec)), "sealed": sealed}
    with pytest.raises(TornRecord, match="altered"):
        load("k", json.dumps(body).encode(), codec)


def test_the_form_of_a_record_is_not_bound():
    """S3: what binds is what a record says, not the order of its fields or the spaces between them."""
    codec = AesGcm(generate_key())
    body = json.loads(dump(RECORD, codec))
    again = json.dumps(dict(reversed(body.items())), indent=2).encode()
    assert load("k", again, codec) == RECORD


def test_fields_to_come_are_bound_and_passed_over():
    """S3, K1: a record that a later release sealed, with fields that this one does not know, opens here."""
    codec = AesGcm(generate_key())
    body = json.loads(dump(RECORD))
    token = json.dumps(body.pop("token")).encode()
    body["later"] = {"b": 1, "a": [None]}
    sealed = codec.seal(token, json.dumps({name: body[name] for name in sorted(body)}).encode())
    body["sealed"] = base64.b64encode(sealed).decode()
    assert load("k", json.dumps(body).encode(), codec) == RECORD


def test_rotation():
    """S1: the first key seals, all open; a record whose key is gone is unreadable, not torn."""
    old, new = generate_key(), generate_key()
    before = dump(RECORD, AesGcm(old))
    both = AesGcm(new, old)
    assert load("k", before, both) == RECORD
    after = dump(RECORD, both)
    assert load("k", after, AesGcm(new)) == RECORD
    with pytest.raises(UnreadableRecord) as caught:
        load("k", after, AesGcm(old))
    assert not isinstance(caught.value, TornRecord)
    assert repr(AesGcm(new))[8:24] in str(caught.value)


def test_changing_over():
    """S1: plain records are read only where that was asked for, and sealed ones never without a codec."""
    plain, key = dump(RECORD), generate_key()
    assert load("k", plain, AesGcm(key, accept_plain=True)) == RECORD
    with pytest.raises(UnreadableRecord, match="accept_plain"):
        load("k", plain, AesGcm(key))
    with pytest.raises(UnreadableRecord, match="no codec"):
        load("k", dump(RECORD, AesGcm(key)))


@pytest.mark.parametrize("kind", ["bytes", "text", "standard base64", "file", "raw file", "callable", "several"])
def test_where_keys_come_from(kind, tmp_path):
    """S1: the same key in any of its forms, from any of its places, opens what the others sealed."""
    raw = bytes(range(224, 256))
    text = base64.urlsafe_b64encode(raw).decode()
    path = tmp_path / "key"
    path.write_bytes(raw if kind == "raw file" else f"# of 2026\n\n {text} \n{generate_key()}\n".encode())
    given: dict[str, Any] = {
        "bytes": raw,
        "text": f" {text}\n",
        "standard base64": base64.b64encode(raw).decode(),
        "file": path,
        "raw file": path,
        "callable": lambda: text,
        "several": lambda: [raw, generate_key()],
    }
    assert AesGcm(raw).open(AesGcm(given[kind]).seal(b"plain", b""), b"") == b"plain"


def test_generate_key(tmp_path):
    """S1: a key is 256 random bits; its file is its owner's alone, and never written over."""
    path = tmp_path / "key"
    text = generate_key(path)
    assert len(base64.urlsafe_b64decode(text)) == 32
    assert path.read_text() == text + "\n"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        generate_key(path)
    assert path.read_text() == text + "\n"
    assert len({generate_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        pytest.param((), ValueError, "at least one key", id="none"),
        pytest.param(("",), ValueError, "key 1", id="empty"),
        pytest.param((b"planted-key",), ValueError, "32 bytes", id="short"),
        pytest.param((generate_key(), "planted-key"), ValueError, "key 2", id="no base64"),
        pytest.param(("planted\u2603",), ValueError, "key 1", id="no ascii"),
        pytest.param((base64.b64encode(b"planted-key" * 2).decode(),), ValueError, "32 bytes", id="too short"),
        pytest.param(("/etc/planted-key",), ValueError, "pathlib.Path", id="path as text"),
        pytest.param((4711,), TypeError, "key 1 must be", id="number"),
        pytest.param((None,), TypeError, "not NoneType", id="None"),
    ],
)
def test_what_is_no_key(given, error, named):
    """S1: an invalid key is refused at once, by its number and never by its value."""
    with pytest.raises(error) as caught:
        AesGcm(*given)
    assert named in str(caught.value)
    assert "planted" not in str(caught.value)
    frames = list(traceback.walk_tb(caught.value.__traceback__))[1:]
    assert not [frame for frame, _ in frames if "planted" in repr(frame.f_locals)]
    assert caught.value.__cause__ is None


async def _later() -> str:
    return generate_key()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param(Path("missing"), FileNotFoundError, id="no file"),
        pytest.param(lambda: "planted-key", ValueError, id="no key"),
        pytest.param(lambda: None, ValueError, id="None"),
        pytest.param(list, ValueError, id="empty list"),
        pytest.param(lambda: ["planted-key"], ValueError, id="no key in a list"),
        pytest.param(lambda: os.environ["EVERTOKEN_MISSING"], KeyError, id="raises"),
    ],
)
def test_a_source_that_has_no_key(given, error, tmp_path, monkeypatch):
    """S1: a file or a callable without a key is an error when it is used, without the token it was to seal."""
    monkeypatch.chdir(tmp_path)
    codec = AesGcm(given)
    assert repr(codec) == "AesGcm(unread)"
    with pytest.raises(error) as caught:
        codec.seal(b"plain", b"")
    assert "planted" not in str(caught.value)
    frames = list(traceback.walk_tb(caught.value.__traceback__))[1:]
    assert not [frame for frame, _ in frames if "planted" in repr(frame.f_locals)]


def test_an_async_callable_is_refused():
    """S1: a callable that would have to be awaited is refused when the codec is made."""
    with pytest.raises(TypeError, match="plain callable"):
        AesGcm(_later)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["file", "callable"])
def test_an_unknown_key_is_looked_for(kind, tmp_path):
    """S1: when a record names a key that is not known, the file or callable is read again."""
    old, new = generate_key(), generate_key()
    path = tmp_path / "key"
    path.write_text(old)
    codec = AesGcm(path if kind == "file" else path.read_text)
    assert codec.open(AesGcm(old).seal(b"plain", b""), b"") == b"plain"
    sealed = AesGcm(new).seal(b"plain", b"")
    with pytest.raises(UnreadableRecord):
        codec.open(sealed, b"")
    path.write_text(new)
    assert codec.open(sealed, b"") == b"plain"


def test_unknown_keys_are_looked_for_once_a_second():
    """S1: records of a stranger do not have the keys read for each of them."""
    read = []

    def source() -> str:
        read.append(1)
        return key

    key = generate_key()
    codec = AesGcm(source)
    sealed = AesGcm(generate_key()).seal(b"plain", b"")
    with time_machine.travel(0.0, tick=False):
        for _ in range(50):
            with pytest.raises(UnreadableRecord):
                codec.open(sealed, b"")
    assert len(read) <= 3


def test_a_changed_file_seals(tmp_path):
    """S1: a key that was put first into the file seals from then on, without a restart."""
    old, new = generate_key(), generate_key()
    path = tmp_path / "key"
    path.write_text(old + "\n")
    codec = AesGcm(path)
    AesGcm(old).open(codec.seal(b"plain", b""), b"")
    path.write_text(f"{new}\n{old}\n")
    assert AesGcm(new).open(codec.seal(b"plain", b""), b"") == b"plain"


def test_a_callable_is_asked_again(monkeypatch):
    """S1: a callable is asked again after a minute, so that a rotated key is used to seal."""
    given = [generate_key()]
    now = 1000.0
    monkeypatch.setattr(SystemClock, "monotonic", lambda: now)
    codec = AesGcm(lambda: given)
    old, new = given[0], generate_key()
    codec.seal(b"plain", b"")
    given.insert(0, new)
    now += 59.0
    AesGcm(old).open(codec.seal(b"plain", b""), b"")
    now += 1.0
    AesGcm(new).open(codec.seal(b"plain", b""), b"")


def test_a_file_that_went_bad(tmp_path, caplog):
    """S1: while the file is gone or spoilt the keys known so far are used, and the log says so."""
    path = tmp_path / "key"
    old = generate_key(path)
    codec = AesGcm(path)
    codec.seal(b"plain", b"")
    for spoil in (lambda: path.write_text("planted-key, spoilt"), path.unlink):
        spoil()
        with caplog.at_level(logging.DEBUG, "evertoken"):
            assert AesGcm(old).open(codec.seal(b"plain", b""), b"") == b"plain"
    assert len(caplog.records) == 2
    assert "planted" not in caplog.text


def test_nothing_shows_a_key():
    """S1: no repr, state, copy or pickle of a codec shows its keys."""
    key = generate_key()
    codec = AesGcm(key)
    codec.seal(b"plain", b"")
    held = codec._keys.first
    for shown in (repr(codec), str(codec), repr(held), repr(codec._keys), repr(vars(codec)), repr(vars(codec._keys))):
        assert key not in shown
        assert repr(base64.urlsafe_b64decode(key))[2:-1] not in shown
    for copier in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copier(held)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(codec)
    assert copy.copy(codec) is copy.deepcopy(codec) is codec


class _Ring(keyring.backend.KeyringBackend):
    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        raise keyring.errors.PasswordDeleteError


def test_keyring():
    """S1: the operating system's keyring gives the key, an entry that is missing is named, and rotation works."""
    before = keyring.get_keyring()
    keyring.set_keyring(_Ring())
    try:
        source = KeyringKey("my-app", "tokens")
        codec = AesGcm(source)
        with pytest.raises(LookupError, match=r"'tokens' of 'my-app'; generate\(\)"):
            codec.seal(b"plain", b"")
        source.generate()
        old = codec.seal(b"plain", b"")
        source.generate()
        assert len(source()) == 2
        rotated = AesGcm(KeyringKey("my-app", "tokens"))
        assert rotated.open(old, b"") == b"plain"
        assert rotated.seal(b"plain", b"")[:9] != old[:9]
        assert repr(source) == "KeyringKey('my-app', 'tokens')"
    finally:
        keyring.set_keyring(before)
    for wrong in (("", "tokens"), ("my-app", "")):
        with pytest.raises(ValueError, match="must not be empty"):
            KeyringKey(*wrong)


@pytest.mark.parametrize(("extra", "module"), [("encryption", "cryptography.exceptions"), ("keyring", "keyring")])
def test_the_missing_extra_is_named(extra, module, monkeypatch):
    """S1: without what an extra brings the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"evertoken.stores.{extra}")
    with pytest.raises(ImportError, match=rf"evertoken\[{extra}\]"):
        importlib.import_module(f"evertoken.stores.{extra}")
