"""
A client that the user gave, and shares with an API: what it would add to a token request, and must not keep of one.
"""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["answer_in", "drop_cookies", "drop_defaults", "with_last_hook"]

# Where clients of httpx and httpx2 have the transports of proxies, and for which URLs the environment names some.
_MOUNTS: Final = "_mounts"
_OF_THE_ENVIRONMENT: Final = frozenset({"http://", "https://", "all://"})
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def with_last_hook(client: Any, last: Callable[[], object], *, near: bool = False) -> Any:
    """
    Return *client* to send one token request with: it calls *last* when nothing is left but its transport.

    Its request hooks run, for they may be what gets a request through. Its response hooks do not: they are meant for
    answers of the API, may raise, and would see tokens. Where the request goes to this machine or its own link
    (*near*), proxies of the environment are passed by. The user's own object is not changed.
    """
    if not hasattr(client, "event_hooks"):
        last()
        return client

    async def called(request: Any) -> None:  # noqa: ARG001 - a hook's protocol
        last()

    # It has the same transports and the same cookies.
    ours = copy.copy(client)
    ours.event_hooks = {"request": [*client.event_hooks.get("request", ()), called], "response": []}
    if near and getattr(client, "trust_env", False) and getproxies():
        mounts = getattr(client, _MOUNTS, {})
        proxies = {_place(url) for url in getproxies().values()}
        kept = {url: there for url, there in mounts.items() if not _is_of_environment(url, there, proxies)}
        setattr(ours, _MOUNTS, kept)
    return ours


def _is_of_environment(url: Any, transport: Any, proxies: set[str | None]) -> bool:
    """Tell whether *transport* is that of a proxy of the environment, and not one that the user gave."""
    if getattr(url, "pattern", "") not in _OF_THE_ENVIRONMENT:
        return False
    proxy = getattr(getattr(transport, "_pool", None), "_proxy_url", None)
    return proxy is not None and (_place(bytes(proxy).decode("latin-1")) in proxies or None in proxies)


def _place(proxy: str) -> str | None:
    """Return host and port of *proxy*, in one spelling; None where they cannot be read."""
    try:
        url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
    except httpx.InvalidURL:
        return None
    return f"{url.host}:{url.port or _PORTS.get(url.scheme)}"


def answer_in(error: Exception) -> tuple[int, Any, bytes] | None:
    """Return status, header fields and body of the answer for which a transport raised *error*, if it has one."""
    response = getattr(error, "response", None)
    status, fields = getattr(response, "status_code", None), getattr(response, "headers", None)
    if not isinstance(status, int) or not hasattr(fields, "get"):
        return None
    try:
        # It may never have been read.
        body = getattr(response, "content", b"")
    except Exception:  # noqa: BLE001 - of any client
        body = b""
    return status, fields, body if isinstance(body, bytes) else b""


def drop_defaults(outgoing: Any, client: Any, headers: Mapping[str, str]) -> None:
    """Take out of *outgoing* what the client would send to anybody."""
    # A client that is shared with an API carries what is meant for the API.
    own = {"accept", "accept-encoding", "content-type", "host", "user-agent", *(name.lower() for name in headers)}
    for name in ("authorization", "cookie", *client.headers):
        if name.lower() not in own:
            outgoing.headers.pop(name, None)
    if "host" in client.headers and "host" not in {name.lower() for name in headers}:
        # By this field a server that many share passes a request on to one of them.
        outgoing.headers["Host"] = outgoing.url.netloc.decode("ascii")


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
