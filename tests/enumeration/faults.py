"""
The names of faults: at which step of which member, how often that step had come, and the outcome.

A run is named `store:rotating:a.commit#3=lost+b.fetch#2=kill`. The same name always is the same run.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FETCH_OUTCOMES", "PROVIDERS", "STORE_OUTCOMES", "WHERES", "Fault", "Plan", "outcomes_of"]

WHERES: Final = ("store", "local")
PROVIDERS: Final = ("rotating", "minting")

#: The possible outcomes of each step. A participle says that the step was done before.
STORE_OUTCOMES: Final = (
    "fail",  # failed, and nothing was done
    "lost",  # done, but reported as failed
    "slow",  # done after seven seconds, beyond its bound
    "hang",  # never done, never answered
    "cancel",  # the task that takes the step is cancelled before it is done
    "cancelled",  # the same, after it is done
    "kill",  # the process ends before it is done
    "killed",  # the same, after it is done
    "pause",  # the process stands still for fifteen seconds before it is done
    "paused",  # the same, after it is done
    "flush",  # the store loses its data, and tells nobody
    "restart",  # the store loses its data, and its watchers notice
    "forward",  # the wall clock is set forward by two minutes
    "back",  # the wall clock is set back by two minutes
    "ahead",  # the same, on the machine of this process alone
    "behind",  # the same, on the machine of this process alone
    "close",  # the manager is closed meanwhile, and started again
)
FETCH_OUTCOMES: Final = (
    *STORE_OUTCOMES,
    "received",  # the task is cancelled after the answer was received and before the call returns
    "dead",  # the access token in the answer has expired already
    "unusable",  # the answer has a refresh token, and no access token that can be used
)
#: Without a store, no data can be lost and there is no other machine.
_OF_STORES: Final = ("flush", "restart", "ahead", "behind")


class Fault(NamedTuple):
    """One outcome of one step."""

    member: str
    step: str
    number: int
    outcome: str

    def __str__(self) -> str:
        return f"{self.member}.{self.step}#{self.number}={self.outcome}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        place, _, outcome = text.partition("=")
        name, _, number = place.partition("#")
        member, _, step = name.partition(".")
        return cls(member, step, int(number), outcome)


class Plan(NamedTuple):
    """One run: with a store or without, which kind of provider, and its faults."""

    where: str
    provider: str
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}:{self.provider}:{'+'.join(map(str, self.faults))}"

    @classmethod
    def parse(cls, text: str) -> Plan:
        where, provider, faults = text.split(":", 2)
        return cls(where, provider, tuple(Fault.parse(fault) for fault in faults.split("+") if fault))

    def with_fault(self, fault: Fault) -> Plan:
        return self._replace(faults=(*self.faults, fault))


def outcomes_of(where: str, step: str) -> tuple[str, ...]:
    """Return what can become of *step*."""
    outcomes = FETCH_OUTCOMES if step == "fetch" else STORE_OUTCOMES
    return outcomes if where == "store" else tuple(outcome for outcome in outcomes if outcome not in _OF_STORES)
