"""
A client that the user gave and also uses for an API: removes its additions to a token request, and protects it.
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

# The attribute of httpx and httpx2 clients with the transports of proxies, and the URLs that the environment may name.
_MOUNTS: Final = "_mounts"
_OF_THE_ENVIRONMENT: Final = frozenset({"http://", "https://", "all://"})
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def with_last_hook(client: Any, last: Callable[[], object], *, near: bool = False) -> Any:
    """
    Return *client*, prepared to send one token request. It calls *last* just before the request goes to its transport.

    The client's request hooks run, because a request may need them. Its response hooks do not run, because they are
    meant for answers of the API, may raise, and would see tokens. If the request goes to this machine or its own link
    (*near*), proxies of the environment are not used. The user's own object is not changed.
    """
    if not hasattr(client, "event_hooks"):
        last()
        return client

    async def called(request: Any) -> None:  # noqa: ARG001 - the protocol of a hook has this parameter
        last()

    # The copy has the same transports and the same cookies.
    ours = copy.copy(client)
    ours.event_hooks = {"request": [*client.event_hooks.get("request", ()), called], "response": []}
    if near and getattr(client, "trust_env", False) and getproxies():
        mounts = getattr(client, _MOUNTS, {})
        proxies = {_place(url) for url in getproxies().values()}
        kept = {url: there for url, there in mounts.items() if not _is_of_environment(url, there, proxies)}
        setattr(ours, _MOUNTS, kept)
    return ours


def _is_of_environment(url: Any, transport: Any, proxies: set[str | None]) -> bool:
    """Tell whether *transport* is a proxy of the environment, and not one from the user."""
    if getattr(url, "pattern", "") not in _OF_THE_ENVIRONMENT:
        return False
    proxy = getattr(getattr(transport, "_pool", None), "_proxy_url", None)
    return proxy is not None and (_place(bytes(proxy).decode("latin-1")) in proxies or None in proxies)


def _place(proxy: str) -> str | None:
    """Return host and port of *proxy* in one spelling, or None if they cannot be read."""
    try:
        url = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
    except httpx.InvalidURL:
        return None
    return f"{url.host}:{url.port or _PORTS.get(url.scheme)}"


def answer_in(error: Exception) -> tuple[int, Any, bytes] | None:
    """Return status, header fields and body of the answer in *error*, which a transport raised, or None."""
    response = getattr(error, "response", None)
    status, fields = getattr(response, "status_code", None), getattr(response, "headers", None)
    if not isinstance(status, int) or not hasattr(fields, "get"):
        return None
    try:
        # The body may never have been read.
        body = getattr(response, "content", b"")
    except Exception:  # noqa: BLE001 - any client may raise anything
        body = b""
    return status, fields, body if isinstance(body, bytes) else b""


def drop_defaults(outgoing: Any, client: Any, headers: Mapping[str, str]) -> None:
    """Remove from *outgoing* the fields that the client sends with every request."""
    # A client that is shared with an API carries fields for the API.
    own = {"accept", "accept-encoding", "content-type", "host", "user-agent", *(name.lower() for name in headers)}
    for name in ("authorization", "cookie", *client.headers):
        if name.lower() not in own:
            outgoing.headers.pop(name, None)
    if "host" in client.headers and "host" not in {name.lower() for name in headers}:
        # A shared server uses this field to pass a request on to the right host.
        outgoing.headers["Host"] = outgoing.url.netloc.decode("ascii")


def drop_cookies(response: Any, cookies: Any, before: list[Any]) -> None:
    """Undo the changes of *response* in the client's cookie jar."""
    # Other requests may use the jar at the same time, so only the changes of this answer are undone.
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
