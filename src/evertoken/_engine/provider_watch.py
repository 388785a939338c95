"""Learns from the results of fetches about their providers (refusals, outages, tokens issued), and reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

from evertoken._engine.outage import Outage, says_nothing
from evertoken._engine.provider_book import name_of
from evertoken._model.errors import GrantRejected, TokenUnavailable
from evertoken._model.policy import spread
from evertoken._model.provider_events import BudgetReached, ProviderDown, ProviderStillDown, ProviderUp

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._engine.flight import Flight
    from evertoken._engine.observers import Observers
    from evertoken._engine.options import Settings
    from evertoken._engine.provider_state import ProviderState
    from evertoken._engine.providers import Limits
    from evertoken._engine.registry import Registry
    from evertoken._model.errors import TransientRefreshError
    from evertoken._model.key_state import KeyState
    from evertoken._model.policy import Rules

__all__ = ["Barrier", "ProviderWatch"]


@final
class Barrier(NamedTuple):
    """
    The reason why a fetch does not start.

    Args:
        error: The error that callers receive.

        patience: Seconds that a caller still waits, because the end of an attempt may change the situation.
    """

    error: TokenUnavailable
    patience: float


@final
class ProviderWatch:
    """
    Learns from the fetches of one session about their providers.

    Args:
        limits: The queues in which fetches wait.

        registry: The keys, and the states of their providers.

        came_back: A function that is called with a provider that was down and has answered.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        registry: Registry,
        limits: Limits,
        rules: Rules,
        observers: Observers,
        came_back: Callable[[Hashable], object],
    ) -> None:
        self._clock = settings.clock
        self._timeout = settings.fetch_timeout
        self._book = registry.providers
        self._provider_of = registry.provider_of
        self._alone = registry.is_alone
        self._limits = limits
        self._rules = rules
        self._observers = observers
        self._came_back = came_back

    def issued(self, flight: Flight) -> None:
        """The provider of *flight* has issued a token."""
        state = self._book.of(flight.provider)
        if state.spending is None:
            return
        wall, budget = self._clock.time(), state.spending.budget
        share = state.spending.issued(wall, counted=flight.taken is not None)
        if share is None:
            return
        self._observers.emit(
            BudgetReached(
                at=wall,
                provider=state.name,
                share=share,
                used=state.spending.used(wall),
                tokens=budget.tokens,
                until=state.spending.until(wall),
            )
        )
        if share == 1.0 and budget.hard:
            self._tell(flight.provider)

    def state_of(self, flight: Flight) -> ProviderState:
        """Return the state of the provider of *flight*."""
        return self._book.of(flight.provider)

    def shut(self, flight: Flight, wait: float, *, paused: bool) -> None:
        """The provider of *flight* is closed for *wait* seconds: the quota is used up, or it asked for a pause."""
        self._book.of(flight.provider).shut(self._clock.monotonic(), wait, paused=paused)
        if paused and wait > self._timeout:
            self._tell(flight.provider)

    def asked(self, flight: Flight) -> None:
        """*flight* now asks its provider."""
        self._book.of(flight.provider).attempts += 1
        if not flight.counted:
            self._limits.asks(flight.provider, flight)

    def judge(self, flight: Flight, key: KeyState, failure: TransientRefreshError | GrantRejected | None) -> None:
        """The fetch of *flight* has ended. A rejection tells nothing about the state of the provider."""
        provider = flight.provider
        state = self._book.of(provider)
        if isinstance(failure, GrantRejected):
            return
        now = self._clock.monotonic()
        if failure is None:
            outage = state.answered(now)
            if outage is not None and outage.down_at is not None:
                wall = self._clock.time()
                took, waiting = now - outage.down_at, self._waiting(provider)
                state.last_outage = wall - took, wall
                self._came_back(provider)
                self._observers.emit(
                    ProviderUp(
                        at=wall,
                        provider=state.name,
                        since=wall - took,
                        took=took,
                        attempts=outage.attempts,
                        waiting=waiting,
                    )
                )
            return
        state.error, wall = failure, self._clock.time()
        if not state.named:
            state.name = name_of(key)
        if state.is_refusal(failure):
            queue = self._limits.of(provider)
            state.refused(
                failure,
                now,
                flight.began,
                under_way=1 if queue is None else queue.under_way,
                longest=self._rules.retry.retry_after_cap,
            )
            if state.held_for(now) > self._timeout:
                self._tell(provider)
        if not says_nothing(failure):
            self._failed(provider, key, failure, now, wall)

    def is_down(self, provider: Hashable) -> bool:
        """Tell whether only one attempt at a time is made for all keys of *provider*."""
        return self._book.of(provider).is_down

    def was_down(self, provider: Hashable, at: float) -> bool:
        """Tell whether *provider* is down, or was down at the instant *at* (epoch seconds), in its last outage."""
        state = self._book.of(provider)
        begun, ended = state.last_outage
        return state.is_down or begun <= at <= ended

    def barrier(self, key: KeyState, flight: Flight) -> Barrier | None:
        """
        Return the reason why a caller without a timeout should not wait for *flight*, which has not started.

        A wait for the rate limit is no such reason. The reasons are an outage, a hard budget that is used up, and a
        pause that is longer than a fetch may take.
        """
        if (flight.started and not flight.shut) or flight.landed:
            return None
        provider = self._provider_of(key)
        state = self._book.of(provider)
        if state.calm:
            return None
        now, wall, patience = self._clock.monotonic(), self._clock.time(), 0.0
        spending, outage, held = state.spending, state.outage, state.held_for(now)
        if spending is not None and spending.exhausted(wall, under_way=0, urgent=True):
            budget, retry_at = spending.budget, spending.until(wall)
            why = (
                f"its budget of {budget.tokens} tokens in {budget.per:g} s is used up, for {retry_at - wall:.0f} s more"
            )
        elif outage is not None and outage.down_at is not None:
            queue, retry = self._limits.of(provider), self._rules.retry
            probing = queue is not None and queue.under_way > 0
            patience = retry.patience if probing else 0.0
            wait = retry.demand_delay() if probing else outage.probe_at - now
            retry_at = wall + max(wait, held, 0.0)
            why = f"it is down since {now - outage.down_at:.0f} s, and one attempt at a time is made for all its keys"
        elif held > self._timeout:
            retry_at = wall + held
            why = f"it asked to wait, for {held:.0f} s more"
        else:
            return None
        of = "" if key.key is None else f" for key {key.key!r}"
        said = "" if state.error is None else f" ({state.error})"
        msg = f"no valid token{of}: nothing is fetched from {state.name} now: {why}{said}"
        error = TokenUnavailable(msg, retry_at=retry_at)
        error.__cause__ = state.error
        return Barrier(error, patience)

    # How

    def _waiting(self, provider: Hashable) -> int:
        queue = self._limits.of(provider)
        return 0 if queue is None else queue.fetches

    def _tell(self, provider: Hashable) -> None:
        # Callers without a timeout check again. They receive an error if their fetch does not start soon.
        queue = self._limits.of(provider)
        if queue is not None:
            for turn, _, _ in queue.turns():
                turn.wake()

    def _failed(self, provider: Hashable, key: KeyState, error: TransientRefreshError, now: float, wall: float) -> None:
        state = self._book.of(provider)
        outage = state.outage
        if outage is None:
            outage = state.outage = Outage()
        news = outage.failed(key.key, error, now, alone=self._alone(key))
        queue, retry = self._limits.of(provider), self._rules.retry
        token, serving = key.token, key.in_service(wall)
        wait = retry.delay(
            outage.failures,
            spread(self._rules.seed, key.key, outage.failures),
            lifetime=None if token is None else token.lifetime,
            left=None if serving is None else serving.remaining(wall),
            retry_after=error.retry_after,
        )
        outage.probe_at = now + wait
        if queue is not None:
            soonest = queue.soonest()
            if soonest is not None:
                # A key whose token expires earlier is used for the probe in time.
                outage.probe_at = max(min(outage.probe_at, soonest), now + min(wait, retry.demand_delay()))
            if queue.asked_for():
                outage.hurried(retry.demand_delay())
        down_at = outage.down_at
        if news is None or down_at is None:
            return
        if news == "down":
            retry_at = wall + max(outage.probe_at - now, state.held_for(now))
            self._observers.emit(
                ProviderDown(at=wall, provider=state.name, error=error, failures=outage.failures, retry_at=retry_at)
            )
            self._tell(provider)
            return
        self._observers.emit(
            ProviderStillDown(
                at=wall,
                provider=state.name,
                error=error,
                since=wall - (now - down_at),
                attempts=outage.attempts,
                waiting=self._waiting(provider),
            )
        )
