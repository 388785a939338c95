"""The tables of the configuration besides the sources: the store, the agent, and the refresh policy."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from evertoken._model.policy import RefreshPolicy
from evertoken._model.redaction import scrub
from evertoken.cli.address import Address, url_in_file, without_passwords
from evertoken.cli.named_store import store_named
from evertoken.cli.place import store_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken import ListedStore
    from evertoken.cli.toml_table import Table

__all__ = ["AgentSettings", "agent_of", "fetch_timeout_of", "policy_of", "store_of"]


@final
@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The settings of an agent. *health_address* is a host and a port."""

    socket: Path | None = None
    health_address: tuple[str, int] | None = None
    health_file: Path | None = None
    close_grace: float = 5.0


def store_of(top: Table) -> tuple[Callable[[], ListedStore], Callable[[str], str]] | None:
    """Return a function that makes the store, and one that removes its passwords from a text."""
    table = top.table("store")
    if table is None:
        return None
    table.only(["url", "import", "key_file", "prefix", "table"])
    if "import" in table.values:
        return _named(table)
    given = table.values.get("url")
    if isinstance(given, str):
        if without_passwords(given) != given:
            raise table.wrong("url", 'a password must not be in this file; write { file = "..." } or { env = "..." }')
        url = given
    else:
        secret = table.secret("url")
        if secret is None:
            raise table.wrong("url", "is missing, and so is import")
        try:
            url = url_in_file(secret) if isinstance(secret, Path) else secret
        except (OSError, ValueError) as error:
            raise table.wrong("url", without_passwords(str(error))) from None
    if url.startswith(("file:", "sqlite:")) and not url.partition(":")[2].startswith("/"):
        raise table.wrong("url", f"needs an absolute path, as in {url.partition(':')[0]}:/var/lib/app/tokens")
    address = Address(url)
    prefix, name, key_file = table.text("prefix"), table.text("table"), table.path("key_file")

    def make() -> ListedStore:
        return store_at(url, key_file=key_file, prefix=prefix, table=name, must_exist=False)

    try:
        make()
    except (OSError, ValueError, ImportError) as error:
        raise table.wrong(
            None, address.clean(str(error)).replace("--prefix", "prefix").replace("--table", "table")
        ) from None
    return make, address.clean


def _named(table: Table) -> tuple[Callable[[], ListedStore], Callable[[str], str]]:
    path = table.text("import") or ""
    if len(table.values) > 1:
        raise table.wrong("import", "names a store that is made already: leave the other keys of this table out")
    try:
        store_named(path)
    except ValueError as error:
        raise table.wrong("import", str(error)) from None
    return (lambda: store_named(path)), scrub


def fetch_timeout_of(top: Table) -> float | None:
    """Return the longest time that a fetch may take."""
    value = top.number("fetch_timeout")
    if value is not None and value <= 0:
        raise top.wrong("fetch_timeout", f"must be a number of seconds above 0, not {value:g}")
    return value


def policy_of(table: Table | None) -> RefreshPolicy | None:
    """Return the refresh policy."""
    if table is None:
        return None
    names = ("lead_fraction", "lead_time", "jitter", "default_lifetime")
    table.only(names)
    given = {name: value for name in names if (value := table.number(name)) is not None}
    try:
        return RefreshPolicy(**given)
    except ValueError as error:
        raise table.wrong(None, str(error)) from None


def agent_of(table: Table | None) -> AgentSettings | None:
    """Return the settings of an agent."""
    if table is None:
        return None
    table.only(["socket", "health_address", "health_file", "close_grace"])
    grace = table.number("close_grace")
    if grace is not None and grace < 0:
        raise table.wrong("close_grace", f"must be a number of seconds of at least 0, not {grace:g}")
    return AgentSettings(
        socket=table.path("socket"),
        health_address=_address(table),
        health_file=table.path("health_file"),
        close_grace=5.0 if grace is None else grace,
    )


def _address(table: Table) -> tuple[str, int] | None:
    text = table.text("health_address")
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not port.isdecimal() or not 0 <= int(port) <= 65535:  # noqa: PLR2004 - RFC 9293
        raise table.wrong(
            "health_address", f"must be a loopback address and a port, as in 127.0.0.1:9090, not {text!r}"
        )
    return host, int(port)
