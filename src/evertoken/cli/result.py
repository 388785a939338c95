"""The results of the demo, and whether evertoken kept its promises."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken.cli.load import Sample
    from evertoken.cli.plan import Plan

__all__ = ["Column", "Promise", "Result", "column_of", "promises_of"]

#: The longest time in seconds that reading a token may take if nothing must be fetched. It is far above any delay of a
#: busy machine's loop, and far below the token endpoint's latency.
READ_WITHIN: Final = 0.05

#: A request that took longer than this many seconds had to wait for something.
WAITED: Final = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The numbers of one side. Latencies are in seconds."""

    name: str
    requests: int
    failed: int
    unauthorized: int
    errors: dict[str, int]
    median: float
    p99: float
    slowest: float
    waited: int
    failed_in_outage: int
    failed_after_revocation: int
    token_requests: int
    tokens_issued: int


@final
@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of evertoken, and the observation."""

    says: str
    seen: str
    kept: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The results of both sides, and the promises."""

    plan: Plan
    evertoken: Column
    snippet: Column
    promises: tuple[Promise, ...]
    complete: bool = True

    @property
    def kept(self) -> bool:
        """Whether all promises were kept, in a complete run."""
        return self.complete and all(promise.kept for promise in self.promises)

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {**asdict(self), "kept": self.kept}


def column_of(name: str, samples: Sequence[Sample], plan: Plan, *, token_requests: int, tokens_issued: int) -> Column:
    """Return the numbers of *samples*."""
    latencies = sorted(sample.latency for sample in samples)
    bad = [sample for sample in samples if not sample.good]
    begin, end = plan.outage
    return Column(
        name=name,
        requests=len(samples),
        failed=len(bad),
        unauthorized=sum(sample.status == 401 for sample in samples),  # noqa: PLR2004 - RFC 9110 section 15.5.2
        errors=dict(Counter(sample.error for sample in bad if sample.error)),
        median=_quantile(latencies, 0.5),
        p99=_quantile(latencies, 0.99),
        slowest=latencies[-1] if latencies else math.nan,
        waited=sum(latency > WAITED for latency in latencies),
        # A request that came just before the end of the outage may also fail, behind a lock that lasts longer.
        failed_in_outage=sum(begin - plan.latency <= sample.at < end + plan.latency for sample in bad),
        failed_after_revocation=sum(sample.at >= plan.revocation - plan.latency for sample in bad),
        token_requests=token_requests,
        tokens_issued=tokens_issued,
    )


def promises_of(
    column: Column, plan: Plan, *, waits: Sequence[tuple[float, float]], healing_fetches: int, most_in_flight: int
) -> tuple[Promise, ...]:
    """
    Judge evertoken's side.

    Args:
        column: The numbers of this side.

        plan: The timetable.

        waits: The times of all reads of a token (seconds from the start), and how long each took.

        healing_fetches: The number of fetches that a refused token caused.

        most_in_flight: The largest number of its token requests at one time.
    """
    healing = (plan.revocation - plan.latency, plan.revocation + plan.healing)
    slowest = max((wait for at, wait in waits if not healing[0] <= at <= healing[1]), default=math.nan)
    # One fetch at each half-life, the first one, one for the revocation, and one in reserve.
    fair = math.ceil(plan.seconds / (plan.lifetime / 2.0)) + 3
    return (
        Promise("no request fails", f"{column.failed} of {column.requests}", column.failed == 0 < column.requests),
        Promise("no 401 reaches a caller", str(column.unauthorized), column.unauthorized == 0),
        Promise(
            f"a token is read in less than {READ_WITHIN * 1000:.0f} ms",
            f"{slowest * 1000:.2f} ms",
            slowest < READ_WITHIN,
        ),
        Promise("one fetch at most heals the revocation", str(healing_fetches), healing_fetches <= 1),
        Promise("never two fetches at once", f"{most_in_flight} at most", most_in_flight == 1),
        Promise(f"at most {fair} tokens are issued", str(column.tokens_issued), column.tokens_issued <= fair),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else math.nan
