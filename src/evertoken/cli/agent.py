"""`evertoken agent`: keeps tokens fresh in files and behind a socket, for programs in any language."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._engine.health_file import HealthFile
from evertoken._model.errors import ManagerClosed
from evertoken._model.events import TokenRevoked
from evertoken._model.redaction import describe
from evertoken._model.snapshot import Health
from evertoken.cli.agent_requests import answer
from evertoken.cli.agent_socket import AgentSocket
from evertoken.cli.managers import Managers
from evertoken.cli.token_files import TokenFile, check_folder
from evertoken.cli.toml_table import ConfigurationError
from evertoken.health import HealthApp

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken import Clock, Token
    from evertoken._model.frozen import Frozen
    from evertoken.cli.configuration import Configuration

__all__ = ["Agent"]

_log: Final = logging.getLogger("evertoken.agent")


@final
class _Term:
    """The managers of one configuration, and its tasks that write files."""

    def __init__(self, configuration: Configuration, initial: dict[str, Token], clock: Clock) -> None:
        self.configuration = configuration
        self.managers: Managers = Managers(configuration, initial=initial, observers=[self._seen], clock=clock)
        entries = [entry for entry in configuration.sources.values() if entry.write_to is not None]
        self.files: dict[str, TokenFile] = {entry.name: TokenFile(entry, self.managers, clock) for entry in entries}
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for file in self.files.values():
            check_folder(file.path)
        await self.managers.__aenter__()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._kept(file), name=f"evertoken:file:{name}") for name, file in self.files.items()
        ]

    async def end(self) -> None:
        # Their subscriptions end with the managers. A task that waits for a disk must be cancelled.
        await self.managers.__aexit__()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _kept(file: TokenFile) -> None:
        try:
            await file.keep()
        except ManagerClosed:
            # It ended before it began, because the agent cannot start.
            pass
        except Exception as error:  # noqa: BLE001 - one file must not end the agent
            file.failure = describe(error)
            _log.error("the file %s is no longer updated: %s", file.path, file.failure)

    def _seen(self, event: Frozen) -> None:
        if isinstance(event, TokenRevoked):
            for name, file in self.files.items():
                # A manager's only source has no key, so several sources may match this event.
                if self.managers.of(name)[1] == event.key and self.managers.peek(name) is None:
                    file.remove()


@final
class Agent:
    """
    Serves the sources of a configuration until it is stopped.

    Args:
        load: A function that reads the configuration, now and at each reload.

        clock: The source of time.
    """

    def __init__(self, load: Callable[[], Configuration], clock: Clock = SystemClock()) -> None:
        self._load = load
        self._clock = clock
        self._term: _Term | None = None
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    def stop(self) -> None:
        """Stop after the requests under way are answered."""
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration again. If it is invalid, the old one stays."""
        self._reload.set()

    @property
    def term(self) -> _Term:
        """The configuration that is served now."""
        assert self._term is not None  # noqa: S101 - set before anything is served
        return self._term

    def health(self) -> Health:
        """Return the health of the managers. It is not ready while a file cannot be written."""
        health = self.term.managers.health()
        failing = any(file.failure is not None for file in self.term.files.values())
        return Health(
            alive=health.alive,
            ready=health.ready and not failing,
            last_beat_at=health.last_beat_at,
            restarts=health.restarts,
            failing=health.failing,
            rejected=health.rejected,
            degraded=health.degraded,
        )

    async def run(self) -> None:
        """
        Serve until `stop` is called.

        Raises:
            ConfigurationError: The configuration cannot be used.
            OSError: The socket, the address or a folder cannot be used.
            ImportError: The server for health over HTTP is not installed.
        """
        configuration = self._load()
        settings = configuration.agent
        self._term = _Term(configuration, {}, self._clock)
        door: AgentSocket | None = None
        async with contextlib.AsyncExitStack() as stack:
            if settings.socket is not None:
                # The socket comes first, so that a second agent is refused before it asks for a token.
                door = AgentSocket(settings.socket, lambda request: answer(self, request, self._clock))
                door.bind()
                stack.callback(door.release)
            await self.term.begin()
            stack.push_async_callback(self._end)
            if settings.health_address is not None:
                stack.callback(_serve_health(self, *settings.health_address))
            if settings.health_file is not None:
                task = asyncio.create_task(
                    self._write_health(HealthFile(settings.health_file, self.health, self._clock))
                )
                stack.push_async_callback(_cancelled, task)
            if door is not None:
                await door.serve()
                stack.push_async_callback(door.close, settings.close_grace)
            _log.info("serving %s of %s", ", ".join(configuration.sources), configuration.path)
            await self._until_stopped()
            _log.info("stopping")

    async def _end(self) -> None:
        # This is the present one. If the configuration was read again, it is not the first one.
        await self.term.end()

    async def _until_stopped(self) -> None:
        stop = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                reload = asyncio.create_task(self._reload.wait())
                await asyncio.wait({stop, reload}, return_when=asyncio.FIRST_COMPLETED)
                reload.cancel()
                if self._reload.is_set() and not self._stop.is_set():
                    self._reload.clear()
                    await self._reloaded()
        finally:
            stop.cancel()

    async def _reloaded(self) -> None:
        old = self.term
        try:
            # This runs in a thread, because it reads files.
            configuration = await asyncio.get_running_loop().run_in_executor(None, self._load)
            term = _Term(configuration, self._carried(configuration), self._clock)
            await term.begin()
        except ConfigurationError as error:
            for message in error.messages:
                _log.error("the new configuration is refused: %s", message)
            _log.error("the old configuration stays")
            return
        except Exception as error:  # noqa: BLE001 - a fault of the new one must not end the old one
            _log.error("the new configuration is refused, the old one stays: %s", describe(error))
            return
        self._term = term
        gone = {file.path for file in old.files.values()} - {file.path for file in term.files.values()}
        await old.end()
        for path in gone:
            _log.info("the file %s is no longer updated, and stays as it is", path)
        if configuration.agent != old.configuration.agent:
            _log.warning("changes in [agent] take effect at the next start")
        _log.info("reloaded: serving %s of %s", ", ".join(configuration.sources), configuration.path)

    def _carried(self, configuration: Configuration) -> dict[str, Token]:
        """Return the tokens with which the new configuration can continue. With a store, they are in the store."""
        if configuration.make_store is not None:
            return {}
        old = self.term.configuration.sources
        same = [name for name, entry in configuration.sources.items() if name in old and old[name].table == entry.table]
        return {name: token for name in same if (token := self.term.managers.peek(name)) is not None}

    async def _write_health(self, file: HealthFile) -> None:
        try:
            while True:  # noqa: ASYNC110 - it only waits for the time
                await asyncio.sleep(max(file.write() - self._clock.time(), 0.1))
        finally:
            file.remove()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _serve_health(agent: Agent, host: str, port: int) -> Callable[[], None]:
    # It runs in a separate thread, so that it also reports a blocked loop.
    try:
        from evertoken.testing._serve import Serving, require_uvicorn  # noqa: PLC0415 - needs an extra

        require_uvicorn()
    except ImportError as error:
        msg = "health_address needs uvicorn: pip install 'evertoken[cli]' (health_file needs no extra)"
        raise ImportError(msg) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Serving(HealthApp(agent), socket.create_server((host, port), family=family)).stop
