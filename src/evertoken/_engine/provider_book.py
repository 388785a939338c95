"""The state of each provider. It outlives sessions, as the keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._engine.callable_source import CallableSource
from evertoken._engine.provider_state import ProviderState
from evertoken._model.snapshot import ProviderSnapshot

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from evertoken._engine.providers import Limits
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Clock
    from evertoken._model.provider_limits import Budget, RateLimit

__all__ = ["ProviderBook"]


@final
class ProviderBook:
    """
    The providers of one manager.

    Args:
        rate_limits: The rate limits of providers, by name.

        budgets: The budgets of providers, by name.
    """

    def __init__(self, rate_limits: Mapping[str, RateLimit], budgets: Mapping[str, Budget]) -> None:
        self._states: dict[Hashable, ProviderState] = {}
        self._given: set[str] = {*rate_limits, *budgets}
        for name in self._given:
            self.of(name).allow(rate_limits.get(name), budgets.get(name))

    def know(self, source: Any, /) -> None:
        """Note the provider that *source* states, and its limits."""
        provider = getattr(source, "provider", None)
        if isinstance(provider, str):
            self.of(provider).allow(getattr(source, "rate_limit", None), getattr(source, "budget", None))

    def check(self, known: set[Any], /) -> None:
        """
        Check that each name in the given limits is one of the *known* providers.

        Raises:
            ValueError: A name is unknown.
        """
        wrong = sorted(self._given - known)
        if wrong:
            have = ", ".join(sorted(repr(name) for name in known if isinstance(name, str))) or "none with a name"
            msg = f"rate_limits and budgets name {wrong[0]!r}, but the providers of these sources are {have}"
            raise ValueError(msg)

    def of(self, provider: Hashable, /) -> ProviderState:
        """Return the state of *provider*."""
        state = self._states.get(provider)
        if state is None:
            named = isinstance(provider, str)
            state = self._states[provider] = ProviderState(str(provider) if named else "", named=named)
        return state

    @property
    def down(self) -> int:
        """The number of providers that are down. It can be called from any thread."""
        return sum(state.is_down for state in list(self._states.values()))

    def closed(self) -> None:
        """The session has ended, and all its fetches too."""
        for state in self._states.values():
            state.closed()

    def snapshots(self, limits: Limits | None, clock: Clock, /) -> dict[str, ProviderSnapshot]:
        """
        Return the state of each provider, on any thread. A provider without a name is shown once it has been asked.
        """
        now, wall = clock.monotonic(), clock.time()
        found: dict[str, ProviderSnapshot] = {}
        for provider, state in list(self._states.items()):
            if not state.name:
                continue
            queue = None if limits is None else limits.of(provider)
            rate, held, spending = state.bucket.rate(now), state.held_for(now), state.spending
            down_at = None if state.outage is None else state.outage.down_at
            used = None if spending is None else spending.used(wall)
            name = state.name if state.name not in found else f"{state.name} ({len(found)})"
            found[name] = ProviderSnapshot(
                in_flight=0 if queue is None else queue.under_way,
                queued=0 if queue is None else queue.fetches,
                rate=None if rate == float("inf") else rate,
                held_until=wall + held if held else None,
                down_since=None if down_at is None else wall - (now - down_at),
                error=None if down_at is None else str(state.error),
                attempts=state.attempts,
                budget_used=used,
                budget_left=None if spending is None or used is None else max(spending.budget.tokens - used, 0),
            )
        return found


def name_of(key: KeyState, /) -> str:
    """Return a name for the provider of *key*, if its source does not state one."""
    source = key.source
    thing = source.function if isinstance(source, CallableSource) else source
    return getattr(thing, "__qualname__", type(thing).__qualname__)
