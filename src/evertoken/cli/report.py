"""The result as text: a table with both sides, and the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evertoken.cli.result import Column, Result

__all__ = ["report"]


def report(result: Result) -> str:
    """Return the summary as plain text, at most 80 columns wide."""
    rows = [("", "evertoken", "the snippet"), *_rows(result.evertoken, result.snippet)]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}  {row[1]:>14}  {row[2]:>14}" for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    lines += ["", "evertoken's promises"]
    for promise in result.promises:
        lines.append(f"  {'kept  ' if promise.kept else 'BROKEN'}  {promise.says}: {promise.seen}")
    if not result.complete:
        lines += ["", "The run was cut short, so these are the numbers of a part of it."]
    return "\n".join(lines)


def _rows(ours: Column, theirs: Column) -> list[tuple[str, str, str]]:
    def row(says: str, value: object, other: object) -> tuple[str, str, str]:
        return says, str(value), str(other)

    return [
        row("requests", ours.requests, theirs.requests),
        row("failed, as callers saw it", ours.failed, theirs.failed),
        row("  in the outage", ours.failed_in_outage, theirs.failed_in_outage),
        row("  after the revocation", ours.failed_after_revocation, theirs.failed_after_revocation),
        row("401s that reached callers", ours.unauthorized, theirs.unauthorized),
        row("waited more than 100 ms", ours.waited, theirs.waited),
        row("median latency", _ms(ours.median), _ms(theirs.median)),
        row("99th percentile", _ms(ours.p99), _ms(theirs.p99)),
        row("slowest request", _ms(ours.slowest), _ms(theirs.slowest)),
        row("token requests", ours.token_requests, theirs.token_requests),
        row("tokens issued", ours.tokens_issued, theirs.tokens_issued),
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
