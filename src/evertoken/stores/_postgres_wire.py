"""
Connections to a PostgreSQL server. Each runs one statement at a time in one round trip, without session state.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

try:
    import psycopg
    from psycopg import conninfo as conninfos, errors, pq
except ImportError as _error:
    msg = "evertoken.stores.PostgresStore needs psycopg: pip install 'evertoken[postgres]'"
    raise ImportError(msg) from _error

from evertoken._engine.clock import SystemClock
from evertoken.stores._postgres_address import is_loopback, is_plain, place_of as plain_place
from evertoken.stores._postgres_statements import BIGINT, TEXT, Statement
from evertoken.stores._postgres_values import DECODE, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import Timer

__all__ = ["TIMEOUT", "Wire", "bounded", "connect", "errors", "place_of"]

#: Seconds to wait for a connection, a lock or an answer. A manager waits longer than this for a store.
TIMEOUT: Final = 4.0

_CLOCK: Final = SystemClock()

_log = logging.getLogger("evertoken")

#: Servers for which this process has already logged a warning.
_said: set[str] = set()

# These are set only in an own session. Behind a pooler, another server process than the named one answers.
_SETTINGS: Final = Statement(
    b"""
    SELECT set_config('default_transaction_isolation', 'read committed', false),
        set_config('default_transaction_read_only', 'off', false),
        set_config('statement_timeout', $2, false), set_config('lock_timeout', $2, false)
    WHERE pg_backend_pid() = $1
    """,
    (BIGINT, TEXT),
)
_ARE_SET: Final = Statement(
    b"""
    SELECT pg_backend_pid() = $1 AND current_setting('default_transaction_isolation') = 'read committed'
        AND current_setting('default_transaction_read_only') = 'off'
        AND current_setting('statement_timeout')::interval = $2::interval
    """,
    (BIGINT, TEXT),
)
_START: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_END: Final = b"COMMIT"


async def connect(conninfo: str, told: Callable[[str], object] | None = None) -> Wire:
    """
    Return a new connection. *told* is called with the text of each notice.

    Raises:
        psycopg.OperationalError: The server refuses the connection.
        OSError: The server does not answer.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(conninfo)
    except psycopg.OperationalError as error:
        # The original exception refers to the connection, which has the password.
        failure = type(error)(*error.args)
    else:
        _report_unverified(connection)
        return await _prepared(Wire(connection, told))
    raise failure


async def _prepared(wire: Wire) -> Wire:
    try:
        pid, limit = wire.pid, f"{TIMEOUT * 1000.0:.0f}ms"
        wire.shared = not await wire.run(_SETTINGS, pid, limit) or await wire.run(_ARE_SET, pid, limit) != [(True,)]
    except BaseException:
        wire.close()
        raise
    return wire


def _report_unverified(connection: psycopg.AsyncConnection[Any]) -> None:
    info = connection.info
    mode, place = info.get_parameters().get("sslmode", "prefer"), f"host={info.host} port={info.port}"
    if not connection.pgconn.ssl_in_use or mode == "verify-full" or is_loopback(info.hostaddr) or place in _said:
        return
    _said.add(place)
    _log.warning(
        "evertoken: PostgreSQL at %s: sslmode=%s does not check that the certificate is for this host, so another"
        " server can read the tokens: use sslmode=verify-full with sslrootcert=system or the file of your authority",
        place,
        mode,
    )


def bounded(conninfo: str) -> str:
    """
    Return *conninfo* with time limits for a silent server. Values of the user take precedence.

    The limits are no settings of the session, because a pooler may refuse such settings.

    Raises:
        ValueError: It is neither a URL nor a text for libpq, or a part of a password is in one of its other fields.
    """
    bounds: dict[str, Any] = {
        "connect_timeout": int(TIMEOUT),
        "tcp_user_timeout": int(TIMEOUT * 1000.0),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "application_name": "evertoken",
    }
    known = None
    # The error quotes a part of the text, so it must not become the context of another exception.
    with suppress(psycopg.ProgrammingError, UnicodeError):
        known = conninfos.conninfo_to_dict(conninfo)
    if known is None:
        msg = "conninfo is neither a URL nor a text that libpq accepts"
        raise ValueError(msg)
    if not is_plain(conninfo, known):
        msg = (
            "conninfo has an invalid host, port or database: quote special characters in its password, in a URL as"
            " %2F for '/', %3F for '?' and %40 for '@', elsewhere between single quotes"
        )
        raise ValueError(msg)
    return conninfos.make_conninfo(**{**bounds, **known, "client_encoding": "utf8"})


def place_of(conninfo: str) -> str:
    """Return the address in *conninfo*, without a password."""
    return plain_place(conninfos.conninfo_to_dict(conninfo))


@final
class Wire:
    """
    One connection, for one statement at a time.

    If the session is *shared*, as behind a pooler, each statement is sent within its own transaction, in the same round
    trip. Then the state of the session does not matter.

    Args:
        connection: A new connection of psycopg.

        told: A function that is called with the text of each notice.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], told: Callable[[str], object] | None) -> None:
        self.shared = False
        # This future is done when the connection cannot be used any longer.
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._pgconn = connection.pgconn
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._answer: asyncio.Future[list[pq.abc.PGresult]] | None = None
        self._results: list[pq.abc.PGresult] = []
        # The names of statements that have run here, and of those that the server has prepared.
        self._names: dict[Statement, bytes] = {}
        self._prepared: set[Statement] = set()
        # The socket is always watched, so that a hang-up of the server is noticed before the next statement.
        self._loop.add_reader(self._socket, self._readable)

    @property
    def pid(self) -> int:
        """The process id of the server, as it was reported at the connection."""
        return self._pgconn.backend_pid

    async def run(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """
        Return the rows of *statement* for *values*.

        Raises:
            psycopg.Error: The server refuses the statement, or is gone.
            TimeoutError: The server has not answered for four seconds.
        """
        data = encoded(statement, values)
        if self.shared:
            return await self._answered(partial(self._send_transaction, statement, data))
        binary = [1] * len(data)
        name = self._names.get(statement)
        if name is None:
            # Planning is most of the server's work for a step. A statement that runs only once is planned once anyway.
            self._names[statement] = b"evertoken_%d" % len(self._names)
            send = partial(self._pgconn.send_query_params, statement.text, data, statement.types, binary, 1)
            return await self._answered(send)
        if statement not in self._prepared:
            await self._answered(partial(self._pgconn.send_prepare, name, statement.text, statement.types))
            self._prepared.add(statement)
        return await self._answered(partial(self._pgconn.send_query_prepared, name, data, binary, 1))

    async def _answered(self, send: Callable[[], object]) -> list[tuple[Any, ...]]:
        if self.lost.done():
            raise self.gone()
        answer = self._answer = self._loop.create_future()
        self._results = []
        timer: Timer = _CLOCK.call_later(TIMEOUT, self._late)
        done = False
        try:
            send()
            self._flush()
            results = await answer
            if not results:
                raise self.gone()
            failed = next((result for result in results if result.status == pq.ExecStatus.FATAL_ERROR), None)
            # A transaction that failed in the middle stays open.
            done = failed is None or not self.shared
        finally:
            timer.cancel()
            self._answer = None
            if not done:
                # The next statement would receive the answer of this one.
                self.close()
        if failed is not None:
            raise _error_of(failed)
        return [row for result in results for row in _rows_of(result)]

    def close(self) -> None:
        """Close the connection, without waiting for anything."""
        self._lose(None)

    def gone(self) -> Exception:
        """Return the reason why the connection was lost."""
        error = self.lost.result() if self.lost.done() else None
        return psycopg.OperationalError("the connection was closed") if error is None else error

    def _send_transaction(self, statement: Statement, values: list[Any]) -> None:
        pgconn, binary = self._pgconn, [1] * len(values)
        limit = b"SET LOCAL statement_timeout = %d" % int(TIMEOUT * 1000.0)
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(_START, None)
        pgconn.send_query_params(limit, None)
        pgconn.send_query_params(statement.text, values, statement.types, binary, 1)
        pgconn.send_query_params(_END, None)
        pgconn.pipeline_sync()

    def _flush(self) -> None:
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._lose(error)

    def _readable(self) -> None:
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while (notice := pgconn.notifies()) is not None:
                if self._told is not None:
                    self._told(notice.extra.decode())
            if self._answer is not None and not self._answer.done():
                self._collect(self._answer)
            if pgconn.status == pq.ConnStatus.BAD:
                self._lose(None)
        except Exception as error:  # noqa: BLE001 - a callback may raise anything; the watch raises it
            self._lose(error)

    def _collect(self, answer: asyncio.Future[list[pq.abc.PGresult]]) -> None:
        pgconn = self._pgconn
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                if self.shared and pgconn.status != pq.ConnStatus.BAD:
                    continue
            elif result.status != pq.ExecStatus.PIPELINE_SYNC:
                self._results.append(result)
                continue
            else:
                pgconn.exit_pipeline_mode()
            answer.set_result(self._results)
            return

    def _late(self) -> None:
        # This process may have been stopped meanwhile, and the answer may have arrived.
        if not self.lost.done():
            self._readable()
        if self._answer is not None and not self._answer.done():
            self._lose(TimeoutError(f"the server has not answered for {TIMEOUT:g} s"))

    def _lose(self, error: Exception | None) -> None:
        if self.lost.done():
            return
        self.lost.set_result(error)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self.gone())
        self._pgconn.finish()


def _rows_of(result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
    # Columns of other types are only there because the query has a side effect.
    decode = [(column, DECODE.get(result.ftype(column))) for column in range(result.nfields)]
    wanted = [(column, decoder) for column, decoder in decode if decoder is not None]
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else decoder(value) for column, decoder in wanted
        )
        for row in range(result.ntuples)
    ]


def _error_of(result: pq.abc.PGresult) -> psycopg.Error:
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if state is None:
        return psycopg.OperationalError("the connection was lost")
    said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    try:
        return errors.lookup(state.decode())(said)
    except KeyError:
        return psycopg.DatabaseError(f"{said} ({state.decode()})")
