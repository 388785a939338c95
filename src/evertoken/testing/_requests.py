"""The requests that a server received, and their counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Stats", "TokenRequest"]


@final
@dataclass(slots=True, repr=False)
class TokenRequest:
    """
    A request to the token endpoint, as it arrived.

    Args:
        at: The instant of its arrival (the server's clock, epoch seconds).

        form: The form fields, in order.

        headers: The header fields, by lower-case name.

        outcome: "issued", the error code of the RFC, or the fault that affected it.
    """

    at: float
    form: Sequence[tuple[str, str]]
    headers: dict[str, str]
    outcome: str = "in flight"

    @property
    def grant_type(self) -> str:
        """The requested grant."""
        return dict(self.form).get("grant_type", "")

    def __repr__(self) -> str:
        return f"TokenRequest(grant_type={self.grant_type!r}, outcome={self.outcome!r})"


@final
@dataclass(frozen=True, slots=True)
class Stats:
    """
    The counts of the requests so far.

    Args:
        token_requests: The number of requests to the token endpoint.

        tokens_issued: The number of these requests that brought a token.

        by_grant: The number of requests by grant type.

        by_outcome: The number of requests by outcome: "issued", an error code, or a fault.

        max_in_flight: The largest number of requests to the token endpoint at one time.

        replays: How often a spent refresh token was presented.

        resource_requests: The number of requests to the protected resource.

        resource_401: The number of these requests that were refused.
    """

    token_requests: int
    tokens_issued: int
    by_grant: dict[str, int]
    by_outcome: dict[str, int]
    max_in_flight: int
    replays: int
    resource_requests: int
    resource_401: int

    @classmethod
    def of(cls, requests: Sequence[TokenRequest], counts: Counter[str], replays: int) -> Self:
        """Return the counts of *requests* and *counts*."""
        outcomes = Counter(request.outcome for request in requests)
        return cls(
            token_requests=len(requests),
            tokens_issued=outcomes["issued"],
            by_grant=dict(Counter(request.grant_type for request in requests)),
            by_outcome=dict(outcomes),
            max_in_flight=counts["max_in_flight"],
            replays=replays,
            resource_requests=counts["resource"],
            resource_401=counts["401"],
        )
