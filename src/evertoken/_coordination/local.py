"""The coordinator of a manager without a store. It applies the same rules to the state in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._engine.flight import LOOKS
from evertoken._model.coordination_rules import judge_lost_answer, judge_sign_out
from evertoken._model.coordinator import Permit

if TYPE_CHECKING:
    from evertoken._engine.flight import Flight
    from evertoken._model.key_state import KeyState
    from evertoken._model.policy import Rules
    from evertoken._model.protocols import Clock, Record
    from evertoken._model.token import Token

__all__ = ["LocalCoordinator"]


@final
class LocalCoordinator:
    """A `Coordinator` in memory. The state of memory is the record."""

    #: There are no records of keys that are not open.
    records: Final = None

    def __init__(self, *, clock: Clock, rules: Rules) -> None:
        self._clock = clock
        self._rules = rules
        self._permit = Permit()

    async def open(self) -> None:
        """Do nothing, because there is no store."""

    async def close(self) -> None:
        """Do nothing, because there is no store."""

    async def look(self, state: KeyState, flight: Flight, /) -> Record | None:  # noqa: ARG002 - the protocol has this parameter
        """Return None, because no other member writes."""
        return None

    async def begin(self, state: KeyState, flight: Flight, /) -> Permit | Record:
        """
        Return the right to fetch, unless the key was signed out or an answer is missing.

        Raises:
            TransientRefreshError: The refresh token is held back to protect the access token in service.
            GrantRejected: The key was signed out, or its refresh token may not be presented again.
        """
        failure = state.failure
        if failure is not None and flight.reason not in LOOKS:
            forced = flight.reason == "forced"
            judge_sign_out(state, None, forced=forced)
            if failure.sent_at is not None:
                _, error = judge_lost_answer(state, failure.sent_at, self._clock.time(), self._rules, forced=forced)
                if error is not None:
                    raise error
        return self._permit

    async def mark(self, state: KeyState, flight: Flight, permit: Permit, sent_at: float, /) -> None:
        """Do nothing, because memory remembers a lost answer by itself."""

    def check(self, permit: Permit, /) -> None:
        """Do nothing, because a permit without a lease does not end."""

    def renew(self, state: KeyState, permit: Permit, /) -> None:
        """Do nothing, because a permit without a lease does not end."""

    async def finish(
        self,
        state: KeyState,  # noqa: ARG002 - the protocol has this parameter
        flight: Flight,  # noqa: ARG002 - the protocol has this parameter
        permit: Permit,  # noqa: ARG002 - the protocol has this parameter
        token: Token | None,  # noqa: ARG002 - the protocol has this parameter
        /,
    ) -> bool | Record:
        return True

    def ended(self, state: KeyState, flight: Flight, permit: Permit, /) -> None:
        """Do nothing, because nothing is left to do."""
