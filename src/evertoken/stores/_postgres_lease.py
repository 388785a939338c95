"""The rule by which PostgreSQL gives a lease, in each statement that takes one."""

from __future__ import annotations

from typing import Final

__all__ = ["TAKE"]

#: The end of an INSERT AS held of the key, the fence 1, the owner, and the end of the lease. $3: how long it lasts.
TAKE: Final = """
ON CONFLICT (key) DO UPDATE SET (fence, owner, ends) = (
    SELECT
        CASE WHEN free THEN held.fence + 1 ELSE held.fence END,
        CASE WHEN free THEN excluded.owner ELSE held.owner END,
        CASE WHEN free THEN at + make_interval(secs => $3) ELSE held.ends END
    FROM (
        SELECT at, held.owner = excluded.owner OR held.ends <= at OR held.ends > at + {longest} AS free
        FROM (SELECT clock_timestamp() AS at) AS clock
    ) AS judged
)
"""
