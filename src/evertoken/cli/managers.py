"""The managers that serve the sources of a configuration."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, final

from evertoken._engine.clock import SystemClock
from evertoken._manager import TokenManager
from evertoken._model.snapshot import Health
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from evertoken import Clock, Observer, Token
    from evertoken.cli.configuration import Configuration

__all__ = ["Managers"]


@final
class Managers:
    """
    One manager for all sources with keys, and one manager for each source without a key.

    Use it as an async context manager.

    Args:
        configuration: The checked content of the file.

        names: The needed sources. The sources of tokens that they exchange are added. With None, all sources.

        initial: The initial tokens, by the name of their source.

        observers: Functions that are called with each event.

        clock: The source of time.

    Raises:
        ConfigurationError: The sources cannot be combined.
    """

    def __init__(
        self,
        configuration: Configuration,
        names: Iterable[str] | None = None,
        *,
        initial: Mapping[str, Token] | None = None,
        observers: Sequence[Observer] = (),
        clock: Clock = SystemClock(),
    ) -> None:
        wanted = dict.fromkeys(configuration.sources if names is None else names)
        self._stack = AsyncExitStack()
        self.configuration = configuration
        self._by_name: dict[str, tuple[TokenManager[Any, Any], Hashable]] = {}
        for name in list(wanted):
            wanted |= dict.fromkeys(_with_parents(configuration, name))
        entries = [configuration.entry(name) for name in wanted]
        known = {provider for entry in entries if (provider := getattr(entry.source, "provider", None))}
        begun = {} if initial is None else initial
        options: dict[str, Any] = {
            "namespace": configuration.namespace,
            "fetch_timeout": configuration.fetch_timeout,
            "policy": configuration.policy,
            "close_grace": configuration.agent.close_grace,
            "observers": observers,
            "clock": clock,
        }
        if names is None:
            self._check_providers(known)
        several = {entry.key: entry for entry in entries if not entry.single}
        groups = [[entry] for entry in entries if entry.single] + ([list(several.values())] if several else [])
        for group in groups:
            of_group = {getattr(entry.source, "provider", None) for entry in group}
            limits: dict[str, Any] = {
                "rate_limits": {name: one for name, one in configuration.rate_limits.items() if name in of_group},
                "budgets": {name: one for name, one in configuration.budgets.items() if name in of_group},
            }
            store = None if configuration.make_store is None else configuration.make_store()
            tokens = {entry.key: begun[entry.name] for entry in group if entry.name in begun}
            try:
                if group[0].single:
                    source, first = group[0].source, tokens.get(None)
                    manager: TokenManager[Any, Any] = TokenManager(
                        source, store=store, initial=first, **limits, **options
                    )
                else:
                    sources: Mapping[Hashable, Any] = {entry.key: entry.source for entry in group}
                    options["initial"] = tokens or None
                    manager = TokenManager(sources, store=store, **limits, **options)
            except (TypeError, ValueError) as error:
                msg = f"{configuration.path}: {configuration.clean(str(error))}"
                raise ConfigurationError(msg) from None
            for entry in group:
                self._by_name[entry.name] = manager, entry.key
        for entry in entries:
            for parent, name in entry.parents:
                owner, key = self._by_name[name]
                parent.handle = owner.handle(key)

    def _check_providers(self, known: set[str]) -> None:
        for table in ("rate_limits", "budgets"):
            for name in getattr(self.configuration, table):
                if name not in known:
                    msg = (
                        f"{self.configuration.path}: [{table}.{name!r}]: no source has this provider; there are "
                        f"{', '.join(sorted(known)) or 'none'}"
                    )
                    raise ConfigurationError(msg)

    def __iter__(self) -> Any:
        return iter(self._by_name)

    def of(self, name: str) -> tuple[TokenManager[Any, Any], Hashable]:
        """
        Return the manager of a source, and its key there.

        Raises:
            ConfigurationError: The source does not exist.
        """
        if name not in self._by_name:
            self.configuration.entry(name)
        return self._by_name[name]

    @property
    def all(self) -> list[TokenManager[Any, Any]]:
        """All managers."""
        return list(dict.fromkeys(manager for manager, _ in self._by_name.values()))

    async def get(self, name: str, *, min_ttl: float | None = None, timeout: float | None = None) -> Token:
        """Return a valid token of a source, as `TokenManager.get` does."""
        manager, key = self.of(name)
        token: Token = await manager.get(key, min_ttl, timeout)
        return token

    def peek(self, name: str) -> Token | None:
        """Return the valid token of a source, or None."""
        manager, key = self.of(name)
        token: Token | None = manager.peek(key)
        return token

    def health(self) -> Health:
        """Return the combined health of all managers."""
        found = [manager.health() for manager in self.all]
        beats = [health.last_beat_at for health in found]
        return Health(
            alive=all(health.alive for health in found),
            ready=all(health.ready for health in found),
            last_beat_at=min((beat for beat in beats if beat is not None), default=None),
            restarts=sum(health.restarts for health in found),
            failing=tuple(key for health in found for key in health.failing),
            rejected=tuple(key for health in found for key in health.rejected),
            degraded=tuple(key for health in found for key in health.degraded),
        )

    async def __aenter__(self) -> Self:
        for manager in self.all:
            await self._stack.enter_async_context(manager)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


def _with_parents(configuration: Configuration, name: str) -> list[str]:
    names = [name]
    for _, parent in configuration.entry(name).parents:
        names += _with_parents(configuration, parent)
    return names
