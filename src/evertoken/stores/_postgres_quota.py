"""Quotas in `PostgresStore`: the statements that take a part and give it back, and their values."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from evertoken._model.leases import LONGEST_HOLD, Spent, Unused
from evertoken._model.tally import GRAIN
from evertoken.stores._postgres_lease import TAKE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._model.leases import Quota

__all__ = ["BEGIN", "GIVE_BACK", "TABLE", "VALUES", "Taking", "given_back", "table_of", "taken"]

_SUFFIX: Final = "_quotas"

_LONGEST_NAME: Final = 63

TABLE: Final = """
CREATE TABLE IF NOT EXISTS {quotas} (
    name text COLLATE "C" PRIMARY KEY,
    full_at float8 NOT NULL DEFAULT 0,
    held_until float8 NOT NULL DEFAULT 0,
    period bigint NOT NULL DEFAULT 0,
    used bigint NOT NULL DEFAULT 0,
    wait float8 NOT NULL DEFAULT 0
) WITH (fillfactor = 50)
"""

# The same as `Tally.take`. $4: the quota, $5: the time per request (0 without a rate), $6: the time in which an empty
# bucket fills, $7: the length of a period (0 without a budget), $8: its tokens (-1 without a limit), $9: the tokens
# that were not counted. The lease is always locked first, so members cannot wait for each other. A count is on disk
# before a token is requested. A lease and a rate need not survive a crash of the server.
BEGIN: Final = """
WITH seen AS MATERIALIZED (
    SELECT owner, ends, record FROM {table} WHERE key = $1 FOR UPDATE
), free AS MATERIALIZED (
    SELECT 1 WHERE NOT EXISTS (
        SELECT FROM seen
        WHERE owner <> $2 AND ends > clock_timestamp() AND ends <= clock_timestamp() + {longest}
    )
), took AS (
    INSERT INTO {quotas} AS kept (name, full_at, period, used)
    SELECT $4, CASE WHEN $5 > 0 THEN {now} + $5 ELSE 0 END, coalesce(floor({now} / nullif($7, 0)), 0)::bigint, $9 + 1
    FROM free
    ON CONFLICT (name) DO UPDATE SET (full_at, period, used, wait) = (
        SELECT
            CASE WHEN shut <= 0 AND $5 > 0 THEN at + full_in + $5 ELSE kept.full_at END,
            this,
            CASE WHEN shut <= 0 AND $7 > 0 THEN counted + 1 ELSE counted END,
            greatest(shut, 0)
        FROM (
            SELECT at, full_in, this, counted, greatest(
                CASE WHEN kept.held_until <= at + {hold} THEN kept.held_until - at ELSE 0 END,
                CASE WHEN $5 > 0 THEN full_in - ($6 - $5) - {grain} ELSE 0 END,
                CASE WHEN $8 >= 0 AND counted >= $8 THEN (this + 1) * $7 - at ELSE 0 END
            ) AS shut
            FROM (
                SELECT at, this, least(greatest(kept.full_at - at, 0), $6) AS full_in,
                    $9 + CASE WHEN this = kept.period THEN kept.used ELSE 0 END AS counted
                FROM (
                    SELECT at, CASE
                        WHEN floor(at / nullif($7, 0)) NOT BETWEEN kept.period - 1 AND kept.period
                        THEN floor(at / nullif($7, 0))::bigint ELSE kept.period
                    END AS this
                    FROM (SELECT {now} AS at) AS clock
                ) AS timed
            ) AS counting
        ) AS judged
    )
    RETURNING wait, used, period, (period + 1) * $7 - {now} AS ends_in
), given AS (
    INSERT INTO {table} AS held (key, fence, owner, ends)
    SELECT $1, 1, $2, clock_timestamp() + make_interval(secs => $3) FROM took WHERE wait <= 0
    {lease}
    RETURNING owner, fence, extract(epoch FROM ends - clock_timestamp())::float8 AS remaining, record
)
SELECT coalesce(given.owner, seen.owner, ''), coalesce(given.fence, 0),
    coalesce(given.remaining, extract(epoch FROM nullif(seen.ends, '-infinity') - clock_timestamp())::float8, 0),
    coalesce(given.record, seen.record),
    CASE WHEN $7 > 0 THEN {durable} ELSE set_config('synchronous_commit', 'off', true) END,
    coalesce(took.wait, -1), coalesce(took.used, 0), coalesce(took.period, 0), coalesce(took.ends_in, 0)
FROM (SELECT 1) AS one LEFT JOIN took ON true LEFT JOIN given ON true LEFT JOIN seen ON true
""".replace("{lease}", TAKE)

# The same as `Tally.give_back`. $4: the quota, $5: the time per request, $6: the period, $7: the pause.
GIVE_BACK: Final = """
WITH ended AS (
    UPDATE {table} SET ends = '-infinity' WHERE key = $1 AND fence = $2 AND owner = $3
    RETURNING 1
)
UPDATE {quotas} SET
    full_at = full_at - $5,
    used = CASE WHEN period = $6 THEN greatest(used - 1, 0) ELSE used END,
    held_until = CASE WHEN $7 <= 0 THEN held_until ELSE greatest(
        {now} + $7, CASE WHEN held_until <= {now} + {hold} THEN held_until ELSE 0 END
    ) END
FROM (SELECT count(*) FROM ended) AS first
WHERE name = $4
"""


class Taking(NamedTuple):
    """
    The answer of `BEGIN` about *quota*.

    Args:
        waits: Seconds until it opens. The value is negative if nothing was asked of it.

        used: The tokens of the period, as in `Spent`.

        period: The number of the period.

        ends_in: Seconds until the period ends.
    """

    quota: Quota
    waits: float
    used: int
    period: int
    ends_in: float

    @property
    def wait(self) -> float:
        """Seconds until the quota opens, or 0.0 if it is open."""
        return max(self.waits, 0.0)

    @property
    def spent(self) -> Spent | None:
        """The used part of the budget, if there is a budget."""
        asked = self.waits >= 0.0 and self.quota.per is not None
        return Spent(self.used, self.period, self.ends_in) if asked else None

    @property
    def unused(self) -> Unused:
        """All that was taken, to be given back."""
        return Unused(quota=self.quota, request=True, period=None if self.spent is None else self.period)

    def is_idle(self, *, given: bool) -> bool:
        """Tell whether something was taken, but no lease was *given*."""
        return self.waits == 0.0 and not given


#: Further values that replace placeholders in these statements.
VALUES: Final = {
    "{now}": "extract(epoch FROM clock_timestamp())::float8",
    "{hold}": str(LONGEST_HOLD),
    "{grain}": str(GRAIN),
}


def table_of(parts: Sequence[str], /) -> str:
    """Return the name of the table for quotas. It belongs to the table whose name has these *parts*."""
    name = parts[-1] + _SUFFIX
    if len(name.encode()) > _LONGEST_NAME:
        name = f"evertoken{_SUFFIX}_{hashlib.sha256(parts[-1].encode()).hexdigest()[:32]}"
    return ".".join('"' + part.replace('"', '""') + '"' for part in (*parts[:-1], name))


def taken(quota: Quota, /) -> tuple[float | int, ...]:
    """Return the values with which `BEGIN` takes from *quota*. They follow its name."""
    share = 0.0 if quota.rate is None else 1.0 / quota.rate
    tokens = -1 if quota.tokens is None else quota.tokens
    return share, share * quota.burst, quota.per or 0.0, tokens, quota.more


def given_back(unused: Unused, /) -> tuple[float | int, ...]:
    """Return the values with which `GIVE_BACK` gives *unused* back. They follow the name of its quota."""
    share = 1.0 / unused.quota.rate if unused.request and unused.quota.rate is not None else 0.0
    period = -1 if unused.period is None else unused.period
    return share, period, min(unused.hold, LONGEST_HOLD)
