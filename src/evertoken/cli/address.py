"""Finds the URL of a store, which may contain a password, and hides the password in messages."""

from __future__ import annotations

import getpass
import os
import re
import stat
import sys
import warnings
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from evertoken._model.redaction import scrub
from evertoken._signing.secret_file import cannot_change

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["VARIABLE", "Address", "address_of", "url_in_file", "without_passwords"]

#: The variable that holds the URL of a store.
VARIABLE: Final = "EVERTOKEN_STORE"

# The largest size in bytes of a file with a URL.
_LONGEST: Final = 65_536

# Text before the last at sign of a URL, readable or not, and values whose name says that they are passwords.
_USER: Final = re.compile(r"(://|\b(?:rediss?|unix|postgres(?:ql)?):).*(?=@)", re.DOTALL)
_PAIR: Final = re.compile(r"([\w.+/-]+:)\S+(?=@)")
_QUERY: Final = re.compile(r"((?:password|passwd|sslpassword)=)[^&\s'\"]+", re.IGNORECASE)

_HOW: Final = f"give its URL in the variable {VARIABLE} or with --store-file, or as an argument if it holds no password"


class Address:
    """
    The URL of a store.

    Args:
        url: The URL, with the password if it has one.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"Address({without_passwords(self.url)!r})"

    def clean(self, text: str) -> str:
        """Return *text* without any part of the URL that may be a password, cut to at most 1,000 characters."""
        return scrub(text, _passwords(self.url))


def address_of(url: str | None, *, file: Path | None, ask: bool, environ: Mapping[str, str] = os.environ) -> Address:
    """
    Return the address of a store: the *url* of the command line, the content of *file*, or the environment variable.

    Args:
        url: The argument.

        file: A file with the URL in a single line. It must be private, unless it is mounted read-only.

        ask: Whether to ask for the password. The URL must not contain one then.

        environ: The environment variables. One of them may contain the URL.

    Raises:
        ValueError: No URL or two URLs are given, or the URL cannot be used. The message contains no password.
        OSError: The file cannot be read.
    """
    if url is not None and file is not None:
        msg = "the store is given twice: as an argument and with --store-file"
        raise ValueError(msg)
    if file is not None:
        url = url_in_file(file)
    elif url is not None:
        if _passwords(url):
            print(
                "evertoken: warning: all users of this machine can see the password in this argument, and the shell "
                f"may remember it; give the URL in {VARIABLE} or with --store-file, or leave the password out and add "
                "--ask-password",
                file=sys.stderr,
            )
    else:
        url = environ.get(VARIABLE, "").strip()
    if not url:
        msg = f"no store is given; {_HOW}"
        raise ValueError(msg)
    return Address(_asked(url) if ask else url)


def without_passwords(text: str, /) -> str:
    """Return *text* with stars in place of each part that may be a password in a URL."""
    for pattern in (_USER, _PAIR, _QUERY):
        text = pattern.sub(r"\1***", text)
    return text


def url_in_file(path: Path, /) -> str:
    """
    Return the URL in the single line of a private file.

    Raises:
        ValueError: Others may read the file, or it has other content.
        OSError: The file cannot be read.
    """
    # It is opened first, so that the checked file is the one that is read. It may be a pipe, as in <(pass show store).
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        # Kubernetes mounts secrets that all users in a container may read, and nobody in the container can change that.
        if not cannot_change(file.fileno()):
            _check_private(path, found)
        data = file.read(_LONGEST)
    try:
        lines = data.decode().strip().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1:
        msg = f"{str(path)!r} must hold the URL of a store in one line of UTF-8, and no other line"
        raise ValueError(msg)
    return lines[0]


def _check_private(path: Path, found: os.stat_result) -> None:
    # libpq checks files with private keys in the same way: a file of the administrator may be readable by a group.
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid not in {os.geteuid(), 0}:
        msg = f"{str(path)!r} belongs to another user (uid {found.st_uid}), who could name another store"
        raise ValueError(msg)
    mode = stat.S_IMODE(found.st_mode)
    if mode & (0o077 if found.st_uid == os.geteuid() else 0o037):
        msg = f"{str(path)!r} may be read by others (mode {mode:04o}), and may hold a password: chmod 600"
        raise ValueError(msg)


def _asked(url: str) -> str:
    if _passwords(url):
        msg = "the URL of the store has a password already; leave it out, or leave --ask-password out"
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or not parts.hostname:
        msg = "--ask-password is for the URL of a server, such as redis://user@host/0"
        raise ValueError(msg)
    if not sys.stdin.isatty():
        msg = f"--ask-password needs a terminal to ask on; {_HOW}"
        raise ValueError(msg)
    try:
        with warnings.catch_warnings():
            # This warning means that the terminal would show the password.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password = getpass.getpass(f"Password for {without_passwords(url)}: ")
    except (EOFError, getpass.GetPassWarning):
        msg = f"no password could be asked for; {_HOW}"
        raise ValueError(msg) from None
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def _passwords(url: str) -> list[str]:
    """Return the texts in *url* that may be a password, in each spelling, even if the URL is unreadable."""
    scheme, _, rest = url.partition(":")
    if scheme in {"file", "sqlite"}:
        return []
    user = rest.removeprefix("//").rpartition("@")[0]
    found = [user.partition(":")[2]] if ":" in user else []
    found += [match[0].partition("=")[2] for match in _QUERY.finditer(url)]
    return [one for password in found if password for one in (password, unquote(password))]
