"""
A client that the user gave, and shares with an API: what it would add to a token request, and must not keep of one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["drop_cookies", "drop_defaults"]


def drop_defaults(outgoing: Any, client: Any, headers: Mapping[str, str]) -> None:
    """Take out of *outgoing* what the client would send to anybody."""
    # A client that is shared with an API carries what is meant for the API.
    own = {"accept", "accept-encoding", "content-type", "host", "user-agent", *(name.lower() for name in headers)}
    for name in ("authorization", "cookie", *client.headers):
        if name.lower() not in own:
            outgoing.headers.pop(name, None)


def drop_cookies(response: Any, cookies: Any, before: list[Any]) -> None:
    """Undo what *response* did to the client's jar."""
    # Others may use the jar meanwhile: only what this very answer did to it is undone.
    if "set-cookie" not in response.headers:
        return
    ours = type(cookies)()
    ours.extract_cookies(response)
    for cookie in ours.jar:
        with contextlib.suppress(KeyError):
            cookies.jar.clear(cookie.domain, cookie.path, cookie.name)
    there = {(cookie.domain, cookie.path, cookie.name) for cookie in cookies.jar}
    for cookie in before:
        if (cookie.domain, cookie.path, cookie.name) not in there:
            cookies.jar.set_cookie(cookie)
