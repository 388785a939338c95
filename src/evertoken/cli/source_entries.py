"""The sources in the configuration. Each becomes one entry, and the sources that it needs are made first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

from evertoken.cli.formats import FORMATS, Form
from evertoken.cli.sources import KINDS, ParentToken, parents_of, source_of
from evertoken.cli.toml_table import ConfigurationError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from pathlib import Path

    from evertoken import TokenSource
    from evertoken.cli.toml_table import Table

__all__ = ["SourceEntry", "check_names", "entries_of"]


@final
@dataclass(frozen=True, kw_only=True)
class SourceEntry:
    """
    One source.

    Args:
        name: The name of the source in the file.

        key: The key in the store, which running services use for it.

        single: Whether it is the only source of a manager, and so has no key.

        table: The table in the file.

        source: The source itself.

        parents: The tokens that it exchanges, and the names of their sources.

        write_to: The file in which an agent keeps its token.

        form: The format of the token in that file.
    """

    name: str
    key: Hashable
    single: bool
    table: Mapping[str, Any]
    source: TokenSource
    parents: tuple[tuple[ParentToken, str], ...]
    write_to: Path | None
    form: Form


def entries_of(top: Table, *, has_store: bool, part: Callable[[Callable[[], Any]], Any]) -> dict[str, SourceEntry]:
    """
    Return the sources by name.

    Args:
        top: The top of the file.

        has_store: Whether there is a store.

        part: A function that does a part of the work, and records its mistakes.

    Raises:
        ConfigurationError: There are no sources, or two have the same key.
    """
    tables = top.tables("sources")
    if not tables:
        raise top.wrong("sources", "is missing: a table such as [sources.billing] says where a token comes from")
    made: dict[str, SourceEntry] = {}
    failed: set[str] = set()

    def make(name: str, asked_by: tuple[str, ...]) -> SourceEntry | None:
        if name in made or name in failed:
            return made.get(name)
        table = tables[name]
        parents: dict[str, tuple[ParentToken, str]] = {}
        for key, parent in parents_of(table).items():
            if parent not in tables:
                said = nearest(parent, tables) or f"; there are {', '.join(tables)}"
                raise table.wrong(key, f"there is no source {parent!r}{said}")
            if parent in (*asked_by, name):
                raise table.wrong(key, f"the source {parent!r} would wait for itself")
            found = make(parent, (*asked_by, name))
            if found is None:
                # The mistake of the other source was already reported.
                failed.add(name)
                return None
            parents[key] = ParentToken(found.source), parent
        made[name] = _entry(name, table, parents, has_store=has_store)
        return made[name]

    for name in tables:
        if part(lambda name=name: make(name, ())) is None:  # type: ignore[misc]
            failed.add(name)
    keys: dict[Hashable, str] = {}
    for entry in made.values():
        other = keys.setdefault(entry.key, entry.name)
        if not entry.single and other != entry.name:
            raise tables[entry.name].wrong("key", f"the source {other!r} has the same key {entry.key!r}")
    # The result has the order of the file.
    return {name: made[name] for name in tables if name in made}


def _entry(name: str, table: Table, parents: Mapping[str, tuple[ParentToken, str]], *, has_store: bool) -> SourceEntry:
    kind = table.choice("kind", tuple(KINDS))
    source = source_of(table, {key: parent for key, (parent, _) in parents.items()})
    if kind == "refresh_token" and not has_store and getattr(source, "rotates", None) is not False:
        raise table.wrong(
            "kind", "refresh_token needs a [store]: a use may spend the refresh token, and the next one has to be kept "
            "(or say rotates = false)"
        )  # fmt: skip
    if getattr(source, "exclusive", False) and not has_store:
        raise table.wrong(None, "needs a [store]: a new token invalidates the previous one, so processes must share it")
    single = bool(table.flag("single"))
    key = _key(table)
    if single and key is not None:
        raise table.wrong("key", "is for a source of several, and single = true says that there is but one")
    form = table.choice("format", FORMATS, "token")
    if table.text("write_to") is not None and (form == "aws-process") != (kind == "aws") and form != "json":
        said = "is for a source of the kind aws" if kind != "aws" else "cannot be used for AWS credentials"
        raise table.wrong("format", f"{form} {said}; use {'token' if kind != 'aws' else 'aws-process'} or json")
    login, host = table.text("login", "oauth2"), table.text("host")
    if form == "netrc" and host is None:
        raise table.wrong("host", "is missing: netrc says for which host a token is")
    return SourceEntry(
        name=name,
        key=None if single else name if key is None else key,
        single=single,
        table={**table.values},
        source=source,
        parents=tuple(parents.values()),
        write_to=table.path("write_to"),
        form=Form(form, host=host, login=login or "oauth2"),
    )


def _key(table: Table) -> Hashable:
    value = table.values.get("key")
    if isinstance(value, list) and value and all(type(one) in {str, int} for one in value):
        return tuple(value)
    if value is None or (type(value) in {str, int} and value != ""):
        return cast("Hashable", value)
    raise table.wrong("key", "must be a string, a whole number, or an array of these")


def check_names(path: Path, sources: Mapping[str, SourceEntry]) -> None:
    """Raise an error if a source has no identity, and the store has no namespace."""
    nameless = [name for name, entry in sources.items() if not getattr(entry.source, "identity", None)]
    if nameless:
        msg = (
            f"{path}: namespace: is missing: the source {nameless[0]!r} does not say whose tokens it gives, so the "
            "store could mix them up with those of others (for refresh_token, subject = says it)"
        )
        raise ConfigurationError(msg)
