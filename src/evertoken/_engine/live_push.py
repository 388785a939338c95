"""Push each new token into a live connection, and push it again if that fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from evertoken._engine.observers import say
from evertoken._model.errors import ManagerClosed
from evertoken._model.policy import spread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evertoken._engine.subscription import Subscription
    from evertoken._model.policy import Rules
    from evertoken._model.protocols import Clock, Timer

__all__ = ["push_each"]


async def push_each(
    subscription: Subscription[Any],
    push: Callable[[Any], Awaitable[object]],
    *,
    known: str | None,
    is_refusal: Callable[[Exception], bool],
    report: Callable[[Any], Awaitable[object]],
    rules: Rules,
    clock: Clock,
) -> None:
    """
    Await *push* with each token of *subscription*, until it ends.

    Args:
        subscription: The tokens.

        push: An async function that receives each token.

        known: The value of the token that the connection already has.

        is_refusal: A function that tells whether an exception of *push* means that the server refused the token.

        report: An async function that receives a refused token.

        rules: The rules for the pauses after a failure.

        clock: The clock that measures them.
    """
    failures = 0
    timer: Timer | None = None
    async with subscription:
        subscription.skip(known)
        try:
            async for token in subscription:
                if timer is not None:
                    timer.cancel()
                try:
                    await push(token)
                except Exception as error:  # noqa: BLE001 - the connection may raise anything
                    failures += 1
                    level = logging.WARNING if failures == 1 else logging.DEBUG
                    say(level, "pushing a new token raised %s; it is tried again", type(error).__qualname__)
                    refused = is_refusal(error)
                else:
                    failures, refused = 0, False
                    continue
                # The pauses differ, so that connections that fail together do not return together.
                pause = rules.retry.delay(failures, spread(rules.seed, id(subscription), failures))
                timer = clock.call_later(pause, subscription.again)
                if refused:
                    await _reported(report, token)
        except ManagerClosed:
            # The manager closed before the first token.
            return
        finally:
            if timer is not None:
                timer.cancel()


async def _reported(report: Callable[[Any], Awaitable[object]], token: Any) -> None:
    try:
        await report(token)
    except Exception as error:  # noqa: BLE001 - the subscription brings the next token
        say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)
