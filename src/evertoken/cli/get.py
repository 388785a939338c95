"""`evertoken get`: prints a token from an agent or from the store, for a program that is not written in Python."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertoken._engine.clock import SystemClock
from evertoken._model.token import Token
from evertoken.cli.agent_client import ask
from evertoken.cli.configuration import CONFIG_VARIABLE, SOCKET_VARIABLE, find, read
from evertoken.cli.formats import Form
from evertoken.cli.managers import Managers
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from evertoken.cli.configuration import Configuration

__all__ = ["configured", "log_errors", "run_get", "socket_of", "tokens_of"]


def configured(given: Path | None) -> Configuration:
    """
    Return the configuration.

    Raises:
        ConfigurationError: The file does not exist, or cannot be used.
    """
    path = find(given)
    if path is None:
        msg = (
            f"there is no configuration: give --config FILE or {CONFIG_VARIABLE}, or write "
            "~/.config/evertoken/evertoken.toml or /etc/evertoken/evertoken.toml"
        )
        raise ConfigurationError(msg)
    return read(path)


def socket_of(options: argparse.Namespace) -> tuple[Path | None, Configuration | None]:
    """
    Return the path of the agent's socket, if it is configured, and the configuration if it had to be read for that.

    Raises:
        ConfigurationError: The configuration cannot be used.
    """
    if options.socket is not None:
        return options.socket, None
    if os.environ.get(SOCKET_VARIABLE):
        return Path(os.environ[SOCKET_VARIABLE]), None
    configuration = configured(options.config)
    return configuration.agent.socket, configuration


def log_errors() -> None:
    """Log errors to stderr, except rejections, because the command itself reports these."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: getattr(record, "evertoken_event", None) != "refresh_rejected")
    logging.basicConfig(format="evertoken: %(message)s", handlers=[handler], level=logging.ERROR)


def run_get(options: argparse.Namespace) -> int:
    """Print only a token, and return the exit status."""
    log_errors()
    form = Form(options.format, host=options.host, login=options.login or "oauth2")
    if form.name == "netrc" and form.host is None:
        msg = "netrc says for which host a token is: give --host HOST"
        raise ValueError(msg)
    token = tokens_of([options.name], options)[0]
    now = SystemClock.time()
    if options.min_ttl is not None and token.remaining(now) < options.min_ttl:
        left = token.remaining(now)
        print(f"evertoken: warning: the longest obtainable token lives {left:.0f} s", file=sys.stderr)
    sys.stdout.write(form.text(token, now))
    return 0


def tokens_of(names: Sequence[str], options: argparse.Namespace) -> list[Token]:
    """
    Return a token for each of *names*, from a running agent, or else as a separate service would get it.

    Raises:
        AgentError: The agent cannot give a token.
        ConfigurationError: The configuration cannot be used.
        TokenError: There is no token now, or until a person acts.
        OSError: The agent's socket cannot be used.
    """
    path, configuration = socket_of(options)
    if path is not None:
        found = [_from_agent(path, name, options) for name in names]
        if None not in found:
            return [token for token in found if token is not None]
        # No agent runs, so the store is used.
    if configuration is None:
        if options.config is None and find(None) is None:
            msg = f"no agent listens at {str(path)!r}, and there is no configuration to use instead"
            raise ConfigurationError(msg)
        configuration = configured(options.config)
    return asyncio.run(_from_managers(configuration, names, options))


def _from_agent(path: Path, name: str, options: argparse.Namespace) -> Token | None:
    request: dict[str, Any] = {"op": "get", "name": name}
    for field in ("min_ttl", "timeout"):
        if getattr(options, field) is not None:
            request[field] = getattr(options, field)
    answer = ask(path, request, timeout=options.timeout)
    return None if answer is None else _token_of(answer["token"])


def _token_of(fields: dict[str, Any]) -> Token:
    # AWS credentials have their own class, which is known after its module was imported.
    extra = {name: fields[name] for name in ("secret_access_key", "session_token") if name in fields}
    return Token.restored(
        {
            "access_token": fields["access_token"],
            "token_type": fields["token_type"],
            "issued_at": fields["issued_at"],
            "expires_at": fields.get("expires_at"),
            "scope": fields.get("scope"),
            "extra": extra,
        }
    )


async def _from_managers(
    configuration: Configuration, names: Sequence[str], options: argparse.Namespace
) -> list[Token]:
    async with Managers(configuration, names) as managers:
        return [await managers.get(name, min_ttl=options.min_ttl, timeout=options.timeout) for name in names]
