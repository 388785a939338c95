"""
Commands on a key by a person, a login or a client: refresh, refuse, forget, put, sign out.

Each command changes memory at once, before it awaits anything. The rest is a normal flight. So a cancelled command
never leaves a key half changed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.tasks import bounded, cancelled_here, must_propagate
from evertoken._model import events
from evertoken._model.errors import GrantRejected, TokenUnavailable, TransientRefreshError
from evertoken._model.failures import failure_of, signed_out
from evertoken._model.fetch_request import FetchRequest
from evertoken._model.grant import token_of
from evertoken._model.identity import identity_of
from evertoken._model.key_state import TICK

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.flight import Flight
    from evertoken._engine.provider_watch import Barrier
    from evertoken._engine.refresh import Failure
    from evertoken._engine.session import Session
    from evertoken._model.grant import Grant
    from evertoken._model.guarded import Hidden
    from evertoken._model.key_service import Refusal
    from evertoken._model.key_state import KeyState
    from evertoken._model.token import Token

__all__ = ["Commands"]

# How often refresh() joins a flight that fetches nothing, before it gives up.
_JOINED: Final = 4

# How many tokens of one key are remembered until their server has been told. The oldest ones go first.
_MOST_UNTOLD: Final = 16


@final
class Commands:
    """Changes of a key that are not caused by a schedule."""

    def __init__(self, session: Session) -> None:
        self._registry = session.registry
        self._lock = session.lock
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._counters = session.counters
        self._strays = session.strays
        self._maintenance = session.maintenance
        self._flights = session.flights
        self._read_path = session.read_path
        self._barrier = session.providers.barrier
        self._timeout = session.settings.fetch_timeout
        self._check_open = session.check_open
        self._carry = session.carry

    async def refresh(self, key: Hashable) -> Token:
        """Fetch now, or join the fetch under way. Return its token or raise its failure."""
        state = await self._read_path.state(key)
        signed_out = state.signed_out
        joined = 0
        while True:
            if state.signed_out and not signed_out:
                # The key was signed out in the meantime. A call from before that must not log in again.
                raise state.unavailable()
            before = state.token
            flight = self._flights.launch(state, "forced", urgent=True)
            held: Barrier | None = None
            while not flight.landed and held is None:
                held = self._barrier(state, flight)
                await flight.wait(self._clock, None if held is None else self._rules.retry.patience)
                self._check_open()
                held = None if flight.landed else self._barrier(state, flight)
            if held is not None:
                raise held.error
            self._check_open()
            token = flight.token
            joined += 1
            if joined < _JOINED and (flight.void or (token is not None and not token.valid_at(self._clock.time()))):
                # The flight was replaced, or its token expired before it could be returned, for example while the
                # machine slept.
                continue
            # A flight that found nothing newer does not count as a refresh.
            found = flight.request is not None or flight.error is not None
            if joined == _JOINED or found or (token is not None and token is not before):
                break
        if token is None or not token.valid_at(self._clock.time()):
            raise self._no_new_token(state, flight)
        return token

    async def refused(self, key: Hashable, access_token: Hidden[str], wait: bool) -> Token | None:  # noqa: FBT001 - it is passed between threads by position
        """Take the token with this value out of service if it is the current one. Return another token, or None."""
        outcome = await self.invalidate(key, access_token)
        if outcome == "cooling" or not wait:
            return None
        token = await self._read_path.obtain(key, None, None)
        return None if token.access_token == access_token.value else token

    async def invalidate(self, key: Hashable, access_token: Hidden[str]) -> Refusal:
        """Take the token with this value out of service, if it is the current one and the cool-down allows it."""
        state = await self._read_path.state(key)
        now = self._clock.time()
        token = state.in_service(now)
        outcome = state.refused(access_token.value, now, self._rules)
        if outcome != "late" and token is not None:
            self._observers.emit(
                events.TokenRefused(at=now, key=key, fingerprint=token.fingerprint, cooling=outcome == "cooling")
            )
        if outcome == "taken":
            self._counters.refusals += 1
            if now >= state.demand_at(self._rules):
                self._flights.launch(state, "refused", urgent=True)
            else:
                self._maintenance.schedule(state)
        return outcome

    async def forget(self, key: Hashable) -> bool:
        """Forget *key* and begin again. A refresh token that nothing else keeps stays in memory."""
        self._check_open()
        state = self._registry.find(key)
        if state is None:
            return False
        flight: Flight | None = state.flight
        # If the store has the refresh token, the store keeps it. If a fetch has spent it, that fetch brings the next
        # one.
        unkept = state.unkept
        state.forgotten(
            keep_refresh_token=unkept or not self._rules.shared,
            keep_grant=flight is not None and flight.irreplaceable,
        )
        if unkept and state.token is not None:
            state.unsaved(self._clock.time(), self._rules, withhold=False)
        if flight is not None and not flight.irreplaceable:
            self._flights.replace(state, "absent")
        if self._registry.source_for is not None:
            before, state.source = state.source, self._registry.source_of(key)
            if _whose(before) != _whose(state.source):
                # A refresh token of another provider must not be sent to this one.
                state.forgotten(keep_refresh_token=False)
        self._maintenance.schedule(state)
        self._maintenance.wake(state)
        self._observers.emit(events.KeyEvicted(at=self._clock.time(), key=key))
        if self._registry.source_for is not None:
            async with self._lock:
                # An unused key is opened again when somebody asks for it.
                if state.token is None and self._maintenance.may_drop(state):
                    self._registry.drop(state)
                    self._maintenance.supervisor.deadlines.discard(state)
        return True

    async def put(self, key: Hashable, given: Token | Grant) -> None:
        """Put the token into service, or present a grant's refresh token next, and keep it in the store."""
        state = await self._read_path.state(key)
        # The instants of the token are in the present clock. Otherwise an older step could be noticed later and move
        # them.
        self._maintenance.supervisor.compare_clocks()
        now = self._clock.time()
        state.put(token_of(given, now), now, self._rules)
        flight: Flight | None = state.flight
        if self._rules.shared:
            state.unsaved(now, self._rules, withhold=True)
        if self._rules.shared or flight is not None:
            flight = self._flights.replace(state, "repair", decided=True)
        self._maintenance.published(state)
        if flight is not None and not flight.landed:
            await flight.wait(self._clock)

    async def revoke(self, key: Hashable) -> None:
        """Sign *key* out: in memory, in the store, and at the server if the source has a method for that."""
        state = await self._read_path.state(key)
        now = self._clock.time()
        before: Flight | None = state.flight
        self._must_tell(state, state.token)
        since = max(now, state.since + TICK) if self._rules.shared else 0.0
        state.signed_out_at(since, state.version, signed_out(), now, self._rules)
        if self._rules.shared:
            state.unsaved(now, self._rules, withhold=False)
        flight: Flight | None = None
        if self._rules.shared or before is not None:
            flight = self._flights.replace(state, "repair", decided=True)
        self._maintenance.published(state)
        self._observers.emit(events.TokenRevoked(at=now, key=key, by_peer=False))
        try:
            failure = await self._carry(
                self._sign_out_elsewhere(state, flight, before), f"evertoken:revoke:{state.key!r}"
            )
        except asyncio.CancelledError as error:
            if cancelled_here(error):
                raise
            failure = TransientRefreshError("signed out here, but the manager was closed meanwhile")
        if failure is not None:
            raise failure

    # How

    def _no_new_token(self, state: KeyState, flight: Flight) -> TokenUnavailable | GrantRejected:
        error = state.unavailable("no new token")
        if state.signed_out and isinstance(flight.error, TransientRefreshError):
            # This is the reason why the new login failed.
            unavailable = TokenUnavailable(f"no new token: {flight.error}")
            unavailable.__cause__ = flight.error
            return unavailable
        if isinstance(flight.error, GrantRejected):
            return flight.error.again()
        return error

    async def _sign_out_elsewhere(
        self, state: KeyState, flight: Flight | None, before: Flight | None
    ) -> Failure | None:
        try:
            if flight is not None and not flight.landed:
                await flight.wait(self._clock)
        finally:
            # A close ends the wait, and the next life of the manager tells the server.
            self._must_tell(state, None if flight is None else flight.found)
            self._must_tell(state, None if before is None or before.response is None else before.response.token)
        failures: list[Failure | None] = []
        if flight is not None and self._rules.shared and not flight.kept and not flight.void:
            words = "signed out here, but the store could not be told; call revoke() again"
            failures.append(TransientRefreshError(words))
        untold = self._registry.untold.get(state.key, ())
        failures += await asyncio.gather(*(self._tell(state, source, token) for source, token in untold))
        found = [failure for failure in failures if failure is not None]
        # A caller can do something about a temporary failure: call again.
        return min(found, key=lambda failure: isinstance(failure, GrantRejected), default=None)

    def _must_tell(self, state: KeyState, token: Token | None) -> None:
        """The server of the present source must be told that *token* is no longer needed. Remember it until then."""
        if token is None or not callable(getattr(state.source, "revoke", None)):
            return
        untold = self._registry.untold.setdefault(state.key, [])
        if not any(_is_same(one, token) for _, one in untold):
            untold.append((state.source, token))
            del untold[:-_MOST_UNTOLD]

    async def _tell(self, state: KeyState, source: Any, token: Token) -> Failure | None:
        failure: Failure | None = None
        try:
            await bounded(
                lambda: source.revoke(token),
                self._timeout,
                clock=self._clock,
                strays=self._strays,
                name=f"evertoken:revoke:{state.key!r}",
            )
        except BaseException as error:
            if must_propagate(error):
                raise
            # The caller raises it, without the frames that it passed through.
            failure = failure_of(error, FetchRequest(state.key, token, self._timeout))
            if isinstance(failure, TransientRefreshError):
                return failure
        left = [pair for pair in self._registry.untold.get(state.key, ()) if not _is_same(pair[1], token)]
        self._registry.untold[state.key] = left
        if not left:
            del self._registry.untold[state.key]
        return failure


def _whose(source: object) -> tuple[str | None, object]:
    return identity_of(source), getattr(source, "provider", None)


def _is_same(one: Token, other: Token) -> bool:
    return (one.access_token, one.refresh_token) == (other.access_token, other.refresh_token)
