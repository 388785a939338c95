"""The requests that an agent accepts over its socket, and its answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from evertoken._model.errors import GrantRejected, TokenError
from evertoken._model.plain_text import one_line
from evertoken._model.redaction import quoted
from evertoken.cli.formats import fields_of
from evertoken.cli.readings import reading_of
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from evertoken import Clock, Health
    from evertoken.cli.managers import Managers

__all__ = ["OPERATIONS", "answer"]

#: The operations, and the fields of each.
OPERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "get": ("name", "min_ttl", "timeout"),
    "refused": ("name", "access_token"),
    "health": (),
    "top": (),
}


class _Term(Protocol):
    managers: Managers


class _Agent(Protocol):
    @property
    def term(self) -> _Term: ...

    def health(self) -> Health: ...


async def answer(agent: _Agent, request: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """
    Return the answer to one request.

    Args:
        agent: The agent that answers.

        request: The fields of the request.

        clock: The clock for `expires_in`.
    """
    operation = request.get("op")
    if not isinstance(operation, str) or operation not in _ANSWERS:
        return _failure("invalid", f"op must be one of {', '.join(OPERATIONS)}, not {quoted(operation)}")
    unknown = [name for name in request if name not in {"op", *OPERATIONS[operation]}]
    if unknown:
        return _failure("invalid", f"{operation} has no field {quoted(unknown[0])}")
    try:
        return {"ok": True, **await _ANSWERS[operation](agent, request, clock)}
    except GrantRejected as error:
        return _failure("rejected", str(error))
    except TokenError as error:
        return _failure("unavailable", str(error), getattr(error, "retry_at", None))
    except (ConfigurationError, TypeError, ValueError) as error:
        return _failure("unknown" if isinstance(error, ConfigurationError) else "invalid", str(error))


def _failure(code: str, message: str, retry_at: float | None = None) -> dict[str, Any]:
    more = {} if retry_at is None else {"retry_at": retry_at}
    return {"ok": False, "error": code, "message": one_line(message, 2000), **more}


async def _get(agent: _Agent, request: dict[str, Any], clock: Clock) -> dict[str, Any]:
    name, least, limit = _name(request), _seconds(request, "min_ttl"), _seconds(request, "timeout")
    token = await agent.term.managers.get(name, min_ttl=least, timeout=limit)
    return {"token": fields_of(token, clock.time())}


async def _refused(agent: _Agent, request: dict[str, Any], clock: Clock) -> dict[str, Any]:
    manager, key = agent.term.managers.of(_name(request))
    text = request.get("access_token")
    if not isinstance(text, str) or not text:
        msg = f"access_token must be the token that was refused, not {type(text).__name__}"
        raise ValueError(msg)
    current = manager.peek(key)
    if current is not None and current.access_token == text:
        await manager.refused(current, key)
    return {"token": fields_of(await manager.get(key), clock.time())}


async def _health(agent: _Agent, _: dict[str, Any], __: Clock) -> dict[str, Any]:
    health = agent.health()
    return {
        "health": {
            "alive": health.alive,
            "ready": health.ready,
            "failing": len(health.failing),
            "rejected": len(health.rejected),
            "degraded": len(health.degraded),
        }
    }


async def _top(agent: _Agent, _: dict[str, Any], clock: Clock) -> dict[str, Any]:
    return {"reading": reading_of(agent.term.managers, clock.time())}


def _name(request: dict[str, Any]) -> str:
    name = request.get("name")
    if not isinstance(name, str):
        msg = f"name must be the name of a source, not {quoted(name)}"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    return name


def _seconds(request: dict[str, Any], name: str) -> float | None:
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        msg = f"{name} must be a number of seconds, not {quoted(value)}"
        raise ValueError(msg)
    return float(value)


_ANSWERS: Final[Mapping[str, Callable[[_Agent, dict[str, Any], Clock], Awaitable[dict[str, Any]]]]] = {
    "get": _get,
    "refused": _refused,
    "health": _health,
    "top": _top,
}
