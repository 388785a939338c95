"""Finds, reads and checks the file `evertoken.toml`."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.policy import RefreshPolicy
from evertoken.cli.address import without_passwords
from evertoken.cli.oauth_table import budget_of, rate_limit_of
from evertoken.cli.owners import owner_fault
from evertoken.cli.settings_tables import AgentSettings, agent_of, fetch_timeout_of, policy_of, store_of
from evertoken.cli.source_entries import check_names, entries_of
from evertoken.cli.toml_table import ConfigurationError, Table, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken import Budget, ListedStore, RateLimit
    from evertoken.cli.source_entries import SourceEntry

__all__ = ["CONFIG_VARIABLE", "SOCKET_VARIABLE", "Configuration", "find", "read"]

#: The variable that holds the path of the file.
CONFIG_VARIABLE: Final = "EVERTOKEN_CONFIG"
#: The variable that holds the path of an agent's socket.
SOCKET_VARIABLE: Final = "EVERTOKEN_SOCKET"

# The largest size in bytes of the file.
_LONGEST: Final = 1_048_576
_TOP: Final = ("namespace", "fetch_timeout", "sources", "store", "refresh", "rate_limits", "budgets", "agent")


@final
@dataclass(frozen=True, kw_only=True)
class Configuration:
    """
    The checked content of the file. It contains secrets from variables, so it must not be shown.

    Args:
        path: The file.

        sources: The sources by name.

        make_store: A function that makes the store, if there is one.

        clean: A function that removes the passwords of the store's URL from a text.
    """

    path: Path
    sources: Mapping[str, SourceEntry]
    namespace: str | None = None
    fetch_timeout: float = 30.0
    policy: RefreshPolicy = field(default_factory=RefreshPolicy)
    make_store: Callable[[], ListedStore] | None = None
    clean: Callable[[str], str] = without_passwords
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    agent: AgentSettings = field(default_factory=AgentSettings)

    def __repr__(self) -> str:
        return f"Configuration({str(self.path)!r}, sources={list(self.sources)})"

    def entry(self, name: str) -> SourceEntry:
        """
        Return the source of that name.

        Raises:
            ConfigurationError: The source does not exist.
        """
        found = self.sources.get(name)
        if found is None:
            said = nearest(name, self.sources) or f"; it has {', '.join(self.sources)}"
            msg = f"{self.path}: there is no source {name!r}{said}"
            raise ConfigurationError(msg)
        return found


def find(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """
    Return the path of the file: *given*, EVERTOKEN_CONFIG, the user's file, or the machine's file. Else return None.

    The working directory is not searched, because the file of a stranger may name a command to run.
    """
    if given is not None:
        return given
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    folders = [environ.get("XDG_CONFIG_HOME") or "~/.config", "/etc"]
    for folder in folders:
        path = Path(os.path.expanduser(folder), "evertoken", "evertoken.toml")  # noqa: PTH111 - there may be no home
        if path.is_file():
            return path
    return None


def read(path: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """
    Return the content of the file.

    Raises:
        ConfigurationError: The file cannot be read, or others could change it, or its content is wrong. Each message
            names the file, the table and the key. It contains no secret.
    """
    path = path.absolute()
    top = Table(path, "", _parsed(path), environ)
    wrong: list[str] = []

    def part(make: Callable[[], Any]) -> Any:
        # One mistake must not hide mistakes in other tables.
        try:
            return make()
        except ConfigurationError as error:
            wrong.extend(error.messages)
            return None

    part(lambda: top.only(_TOP))
    store = part(lambda: store_of(top))
    sources = part(lambda: entries_of(top, has_store="store" in top.values, part=part))
    given: dict[str, Any] = {
        "namespace": part(lambda: top.text("namespace")),
        "fetch_timeout": part(lambda: fetch_timeout_of(top)),
        "policy": part(lambda: policy_of(top.table("refresh"))),
        "rate_limits": part(lambda: {name: rate_limit_of(one) for name, one in top.tables("rate_limits").items()}),
        "budgets": part(lambda: {name: budget_of(one) for name, one in top.tables("budgets").items()}),
        "agent": part(lambda: agent_of(top.table("agent"))),
    }
    if not wrong and store is not None and given["namespace"] is None:
        # Tokens of a source without identity could be served to others.
        part(lambda: check_names(path, sources))
    if wrong:
        raise ConfigurationError(*wrong)
    if store is not None:
        given["make_store"], given["clean"] = store
    return Configuration(
        path=path, sources=sources, **{name: value for name, value in given.items() if value is not None}
    )


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            fault = owner_fault(path, os.fstat(file.fileno()))
            if fault is not None:
                # The file may name a command to run, and the servers to which secrets are sent.
                msg = f"{path}: {fault}"
                raise ConfigurationError(msg)
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            msg = f"{path}: is larger than {_LONGEST} bytes"
            raise ConfigurationError(msg)
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        msg = f"{path}: is not text in UTF-8"
    except tomllib.TOMLDecodeError as error:
        msg = f"{path}: is not valid TOML: {error}"
    raise ConfigurationError(msg)
