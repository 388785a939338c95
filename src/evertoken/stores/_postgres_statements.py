"""The statements of `PostgresStore` for one table. Each step of the protocol is one statement."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, final

from evertoken._model.protocols import LONGEST_LEASE
from evertoken.stores import _postgres_quota as quota
from evertoken.stores._postgres_lease import TAKE

__all__ = ["BIGINT", "BOOLEAN", "BYTES", "DOUBLE", "TEXT", "TEXTS", "Statement", "Statements"]

#: Types of PostgreSQL, by their numbers, which never change.
BOOLEAN: Final = 16
BYTES: Final = 17
BIGINT: Final = 20
TEXT: Final = 25
DOUBLE: Final = 701
TEXTS: Final = 1009

#: The longest name in bytes. PostgreSQL cuts off the rest, so two tables could become one.
_LONGEST_NAME: Final = 63

#: A part of a name: a plain word, or any text in double quotes.
_PART: Final = r'(?:[^\W\d][\w$]*|"(?:[^"\0]|"")+")'
_NAME: Final = re.compile(rf"({_PART})(?:\.({_PART}))?")

_PLACEHOLDER: Final = re.compile(r"\{[a-z]+\}")

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {table} (
    key text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    record bytea,
    digest bytea,
    fence bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    ends timestamptz NOT NULL DEFAULT '-infinity',
    changed xid8,
    torn bytea,
    UNIQUE (changed, key)
) WITH (fillfactor = 70)
"""

# This does not wait for the disk, because a lease need not survive a crash of the server.
_BEGIN: Final = """
INSERT INTO {table} AS held (key, fence, owner, ends)
VALUES ($1, 1, $2, clock_timestamp() + make_interval(secs => $3))
{lease}
RETURNING owner, fence, extract(epoch FROM ends - clock_timestamp())::float8, record,
    set_config('synchronous_commit', 'off', true)
""".replace("{lease}", TAKE)

# A record that a stranger wrote is not overwritten unseen, because its digest does not match.
_KEEP: Final = """
WITH done AS (
    UPDATE {table}
    SET version = $4, record = $5, digest = sha256($5), changed = pg_current_xact_id(),
        torn = CASE WHEN $8 THEN NULL ELSE torn END{more}
    WHERE key = $1 AND fence = $2 AND owner = $3 AND version < $4
        AND ($7 OR record IS NULL OR digest = sha256(record))
    RETURNING 1
)
SELECT pg_notify({channel}, $6), {durable} FROM done
"""

_DURABLE: Final = """
set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)
"""

# The keys are in order, so that two of these statements cannot wait for each other. A new fence ends existing leases.
_ADD: Final = """
WITH given AS (
    SELECT row, version, decode(record, 'base64') AS record, notice
    FROM json_to_recordset($1::json) AS given (row text, version bigint, record text, notice text)
), done AS (
    INSERT INTO {table} AS held (key, version, record, digest, fence, changed)
    SELECT row, version, record, sha256(record), 1, pg_current_xact_id() FROM given ORDER BY row
    ON CONFLICT (key) DO UPDATE SET (version, record, digest, fence, owner, ends, changed) = (
        excluded.version, excluded.record, excluded.digest, held.fence + 1, '', '-infinity', excluded.changed
    )
    WHERE held.record IS NULL AND held.version < excluded.version
        AND (held.ends <= clock_timestamp() OR held.ends > clock_timestamp() + {longest})
    RETURNING key
)
SELECT key, pg_notify({channel}, notice), {durable} FROM done JOIN given ON row = key
"""

_RENEW: Final = """
UPDATE {table} SET ends = clock_timestamp() + make_interval(secs => $4)
WHERE key = $1 AND fence = $2 AND owner = $3 AND ends > clock_timestamp()
RETURNING set_config('synchronous_commit', 'off', true)
"""

_ABANDON: Final = """
UPDATE {table} SET ends = '-infinity' WHERE key = $1 AND fence = $2 AND owner = $3
RETURNING set_config('synchronous_commit', 'off', true)
"""

_READ: Final = "SELECT record FROM {table} WHERE key = $1 AND record IS NOT NULL"

_READ_MANY: Final = "SELECT key, record FROM {table} WHERE key = ANY ($1) AND record IS NOT NULL"

_SET_ASIDE: Final = """
UPDATE {table} SET torn = record, record = NULL, version = 0 WHERE key = $1 AND record = $2
"""

_HOLDER: Final = """
SELECT owner, extract(epoch FROM ends - clock_timestamp())::float8 FROM {table}
WHERE key = $1 AND ends > clock_timestamp() AND ends <= clock_timestamp() + {longest}
"""

_DELETE: Final = """
WITH done AS (
    UPDATE {table} SET record = NULL, digest = NULL, torn = NULL, version = 0, changed = pg_current_xact_id()
    WHERE key = $1 AND (record IS NOT NULL OR torn IS NOT NULL)
    RETURNING 1
)
SELECT pg_notify({channel}, $2), {durable} FROM done
"""

_KEYS: Final = """
SELECT key, CASE WHEN octet_length(key) > $2 THEN record END FROM {table}
WHERE record IS NOT NULL AND key > $1 ORDER BY key LIMIT 500
"""

_EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"

# This starts at the oldest transaction that was open at the last look, because a later one may have ended first.
_CHANGES: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text, key, changed::text
FROM (SELECT 1) AS one LEFT JOIN {table} ON changed >= $1::xid8
"""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """
    One statement.

    Args:
        text: The SQL, with $1 for the first value.

        types: The type number of each value.
    """

    text: bytes
    types: tuple[int, ...] = ()


@final
class Statements:
    """
    The statements for one table.

    Args:
        table: The name of the table, with its schema if necessary. Case matters. Put special parts into double quotes.

    Raises:
        ValueError: The name is invalid, or longer than PostgreSQL's names may be.
    """

    def __init__(self, table: str) -> None:
        found = _NAME.fullmatch(table)
        if found is None:
            msg = (
                "table must be a name, with its schema if necessary, as in 'app.tokens';"
                f" put special names into double quotes, as in 'app.\"my tokens\"': not {table!r}"
            )
            raise ValueError(msg)
        parts = [_unquoted(part) for part in found.groups() if part is not None]
        for part in parts:
            if len(part.encode()) > _LONGEST_NAME:
                msg = f"table: a name in PostgreSQL has at most {_LONGEST_NAME} bytes, but this one has more: {part!r}"
                raise ValueError(msg)
        self.name = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        # It is the same for users who name the schema and for those who do not.
        self.channel = f"evertoken_{hashlib.sha256(parts[-1].encode()).hexdigest()[:32]}"
        owned = (TEXT, BIGINT, TEXT)
        kept = (*owned, BIGINT, BYTES, TEXT, BOOLEAN, BOOLEAN)
        self._quotas = quota.table_of(parts)
        self.create = self._made(_TABLE)
        self.create_quotas = self._made(quota.TABLE)
        self.begin_with = self._made(quota.BEGIN, TEXT, TEXT, DOUBLE, TEXT, DOUBLE, DOUBLE, DOUBLE, BIGINT, BIGINT)
        self.give_back = self._made(quota.GIVE_BACK, *owned, TEXT, DOUBLE, BIGINT, DOUBLE)
        self.begin = self._made(_BEGIN, TEXT, TEXT, DOUBLE)
        self.mark = self._made(_KEEP.replace("{more}", ""), *kept)
        self.commit = self._made(_KEEP.replace("{more}", ", ends = '-infinity'"), *kept)
        self.add = self._made(_ADD, TEXT)
        self.renew = self._made(_RENEW, *owned, DOUBLE)
        self.abandon = self._made(_ABANDON, *owned)
        self.read = self._made(_READ, TEXT)
        self.read_many = self._made(_READ_MANY, TEXTS)
        self.set_aside = self._made(_SET_ASIDE, TEXT, BYTES)
        self.holder = self._made(_HOLDER, TEXT)
        self.delete = self._made(_DELETE, TEXT, TEXT)
        self.keys = self._made(_KEYS, TEXT, BIGINT)
        self.exists = self._made(_EXISTS, TEXT)
        self.changes = self._made(_CHANGES, TEXT)
        self.listen = self._made('LISTEN "{channel}"'.replace("{channel}", self.channel))
        self.listens = self._made("SELECT {channel} = ANY (SELECT pg_listening_channels())")

    def _made(self, text: str, *types: int) -> Statement:
        values = {
            "{channel}": f"'{self.channel}'",
            "{durable}": _DURABLE.strip(),
            "{longest}": f"make_interval(secs => {LONGEST_LEASE})",
            **quota.VALUES,
            "{quotas}": self._quotas,
            "{table}": self.name,
        }
        # All are replaced in one pass, because names may contain any text.
        text = _PLACEHOLDER.sub(lambda found: values[found[0]], text)
        return Statement(text.encode(), types)


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
