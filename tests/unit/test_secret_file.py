"""Files with secrets that the user provides: who may own them, who may write to them, and who may read them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from evertoken import FetchRequest, TransientRefreshError
from evertoken._signing import secret_file
from evertoken._signing.dpop import DPoPKey
from evertoken._signing.secret import resolve
from evertoken.sources import TlsClientAuth, TokenFile
from evertoken.sources.azure import ClientCertificate
from evertoken.sources.google._info import read_info
from evertoken.stores.encryption import AesGcm, generate_key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that")

STRANGER = 65_534
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)


async def by_source(source: Any) -> None:
    await source.fetch(FetchRequest(None, None, 5.0))


async def no_certificate(path: Path) -> None:
    # It is read, and found to have no certificate.
    with pytest.raises(ValueError, match="certificate"):
        await by_source(ClientCertificate(path, tenant_id="t", client_id="c", scope="https://vault.azure.net/.default"))


async def no_chain(path: Path) -> None:
    # Likewise.
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(TlsClientAuth(path).context)


# The content of the file, and its reader.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a key that seals records": (generate_key(), lambda path: asyncio.to_thread(AesGcm(path).seal, b"plain", b"")),
    "a secret": ("planted-secret", lambda path: resolve(path, "client_secret")),
    "a token": ("planted-token", lambda path: by_source(TokenFile(path))),
    "a key of DPoP": (PEM, lambda path: asyncio.to_thread(DPoPKey, path)),
    "a service account": (json.dumps({"type": "service_account"}), lambda path: read_info(path, "service_account")),
    "a certificate": ("planted-certificate", no_certificate),
    "a key of TLS": (PEM, no_chain),
}  # fmt: skip


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "_said", set())


def made(folder: Path, reader: str, mode: int = 0o600) -> Path:
    path = folder / "planted-file"
    path.write_text(READERS[reader][0], "utf-8")
    path.chmod(mode)
    return path


async def read(reader: str, path: Path) -> None:
    await READERS[reader][1](path)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "may read" in record.getMessage()]


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o620, 0o602, 0o664, 0o646, 0o777, 0o722])
async def test_a_file_that_others_may_write_to(tmp_path, reader, mode):
    """S3: a file that the group or all may write to is refused, with its name and what to do; then it is read."""
    path = made(tmp_path, reader, mode)
    with pytest.raises(
        (PermissionError, TransientRefreshError), match=rf"others may write.*mode {mode:04o}.*go-w"
    ) as caught:
        await read(reader, path)
    assert str(path) in str(caught.value)
    assert READERS[reader][0] not in str(caught.value)
    path.chmod(mode & ~0o022)
    await read(reader, path)


@as_root
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
async def test_a_stranger_s_file(tmp_path, reader, mode):
    """S3: a file that belongs to neither this user nor root is refused."""
    path = made(tmp_path, reader, mode)
    os.chown(path, STRANGER, -1)
    with pytest.raises((PermissionError, TransientRefreshError), match=r"another user \(uid 65534\)"):
        await read(reader, path)


@as_root
async def test_a_stranger_s_file_behind_a_link(tmp_path, reader):
    """S3: what counts is the file that a link leads to."""
    path = made(tmp_path, reader)
    os.chown(path, STRANGER, -1)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises((PermissionError, TransientRefreshError), match="another user"):
        await read(reader, link)


@pytest.mark.parametrize(
    ("mode", "told"), [(0o600, 0), (0o400, 0), (0o640, 0), (0o440, 0), (0o644, 1), (0o604, 1), (0o444, 1)]
)
async def test_a_file_that_all_may_read(tmp_path, reader, mode, told, caplog):
    """S3: a file that all may read is read, and one warning for each file names it, its mode and what to do."""
    path = made(tmp_path, reader, mode)
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        await read(reader, path)
    lines = said(caplog)
    assert len(lines) == told
    assert all(str(path) in line and f"mode {mode:04o}" in line and "go-r" in line for line in lines)
    assert READERS[reader][0] not in caplog.text


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o400, 0o640])
async def test_a_secret_of_kubernetes(tmp_path, reader, mode, caplog):
    """S3: a mounted secret of Kubernetes, links to a file that all may read, is read without a word."""
    content = tmp_path / "..2026_11_26_03_12_46.1234"
    content.mkdir()
    made(content, reader, mode)
    (tmp_path / "..data").symlink_to(content.name)
    path = tmp_path / "key"
    path.symlink_to("..data/planted-file")
    await read(reader, path)
    assert said(caplog) == []


@as_root
async def test_a_file_of_root(tmp_path, reader, monkeypatch, caplog):
    """S3: a file of root that all may read, as a mounted secret is, is read by another user without a word."""
    path = made(tmp_path, reader, 0o644)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    await read(reader, path)
    assert said(caplog) == []


class ReadOnly:
    """The result of `os.fstatvfs` for a file that is mounted read-only."""

    def __init__(self, fd: int) -> None:
        self.f_flag = os.ST_RDONLY


async def test_a_read_only_file_system(tmp_path, reader, monkeypatch, caplog):
    """S3: where nobody can change the mode of a file there is no warning about it."""
    path = made(tmp_path, reader, 0o444)
    monkeypatch.setattr(os, "fstatvfs", ReadOnly)
    await read(reader, path)
    assert said(caplog) == []


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o666, 0o777])
@pytest.mark.parametrize("owner", [None, pytest.param(STRANGER, marks=as_root)])
async def test_a_secret_of_docker_compose(tmp_path, reader, owner, mode, monkeypatch, caplog):
    """S3: a file of the host's user, mounted read-only into a container, is read: nobody in there can change it."""
    path = made(tmp_path, reader, mode)
    if owner is not None:
        os.chown(path, owner, -1)
    monkeypatch.setattr(os, "fstatvfs", ReadOnly)
    await read(reader, path)
    assert said(caplog) == []


async def test_a_pipe(tmp_path):
    """S3: what a shell gives as a pipe is read: it has no mode that says anything."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    path.chmod(0o666)
    writer = threading.Thread(target=path.write_text, args=("secret\n",))
    writer.start()
    assert await resolve(path, "client_secret") == "secret"
    writer.join()


async def test_keys_in_use_stay_in_use(tmp_path, caplog):
    """K1: while the file of a key is refused, records that it sealed are opened with the keys that are known."""
    path = tmp_path / "key"
    key = generate_key(path)
    codec = AesGcm(path)
    sealed = codec.seal(b"plain", b"")
    path.write_text(f"{key}\n{generate_key()}\n")
    path.chmod(0o666)
    with caplog.at_level(logging.WARNING):
        assert codec.open(sealed, b"") == b"plain"
        assert AesGcm(key).open(codec.seal(b"plain", b""), b"") == b"plain"
    assert "others may write to it (mode 0666)" in caplog.text
    assert key not in caplog.text
