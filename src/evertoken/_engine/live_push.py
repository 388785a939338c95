"""Each new token is pushed into a live connection, and pushed again where that fails."""

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

        push: What is awaited with each.

        known: The value of the token that the connection has already.

        is_refusal: Tells whether what *push* raised means that the server refused the token.

        report: Awaited with a token that was refused.

        rules: How long the pauses are after a failure.

        clock: What measures them.
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
                except Exception as error:  # noqa: BLE001 - whatever the connection raised
                    failures += 1
                    level = logging.WARNING if failures == 1 else logging.DEBUG
                    say(level, "pushing a new token raised %s; it is tried again", type(error).__qualname__)
                    refused = is_refusal(error)
                else:
                    failures, refused = 0, False
                    continue
                # Connections that fail together do not come back together.
                pause = rules.retry.delay(failures, spread(rules.seed, id(subscription), failures))
                timer = clock.call_later(pause, subscription.again)
                if refused:
                    await _reported(report, token)
        except ManagerClosed:
            # It ended before the first token.
            return
        finally:
            if timer is not None:
                timer.cancel()


async def _reported(report: Callable[[Any], Awaitable[object]], token: Any) -> None:
    try:
        await report(token)
    except Exception as error:  # noqa: BLE001 - the next token comes by the subscription, when there is one
        say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)
