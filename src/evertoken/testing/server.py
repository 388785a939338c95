"""A real authorization server on loopback, with the behaviour and the faults of real servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, final

import anyio.to_thread

from evertoken.sources._provider_rules import known
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.oauth_client import OAuthClient
from evertoken.sources.refresh_token import RefreshToken
from evertoken.testing._app import App
from evertoken.testing._faults import Fault, FaultKind, Faults, Window
from evertoken.testing._grants import Grants
from evertoken.testing._requests import Stats, TokenRequest
from evertoken.testing._serve import Serving, require_uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evertoken._model.provider_limits import RateLimit
    from evertoken.providers import Provider

__all__ = ["Stats", "TokenRequest", "TokenServer"]

DEFAULT_CLIENT: Final = ("svc", "s3cret")


@final
@dataclass(repr=False)
class TokenServer:
    """
    An authorization server (RFC 6749, 7009, 8414) and a protected resource (RFC 6750) on loopback.

    Use it as a sync or async context manager. It runs in its own thread. For tests without a socket, `app` is the same
    server as an ASGI application. All settings can be changed at any time.

    Args:
        lifetime: The real lifetime of an access token in seconds, by the server's clock.

        latency: The latency of the token endpoint in seconds.

        resource_latency: The latency of the protected resource in seconds.

        expires_in: A value to announce instead of *lifetime*: any JSON value, or None to leave it out.

        rotate: Whether a refresh token is replaced at each use.

        reuse_revokes_family: Whether presenting a spent refresh token ends the grant.

        grace: Seconds during which a spent refresh token may be presented again.

        exclusive: Whether a new access token ends all others.

        refuse_all: Whether the resource answers 401 to every token.

        date_skew: The error of the Date field in seconds.

        token_type: The announced type of the token.

        extra: Further fields of the answer, such as {"refresh_in": 60}.

        refuse_early: Whether a refresh is refused while the previous access token is valid.

        repeat: Whether the server returns the same access token until it expires.

        forbid_with: The status of the resource's paths that end with /forbidden.

        rate_limit: The number of token requests that it accepts in any `per` seconds. It answers others with 429 and a
            Retry-After.

        clock: The server's clock, in epoch seconds.
    """

    lifetime: float = 3600.0
    latency: float = 0.0
    resource_latency: float = 0.0
    expires_in: Any = ...
    rotate: bool = True
    reuse_revokes_family: bool = True
    grace: float = 0.0
    exclusive: bool = False
    refuse_all: bool = False
    date_skew: float = 0.0
    token_type: str = "Bearer"
    extra: dict[str, Any] = field(default_factory=dict)
    refuse_early: bool = False
    repeat: bool = False
    forbid_with: int = 403
    rate_limit: RateLimit | None = None
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.grants: Grants = Grants(self.now, dict([DEFAULT_CLIENT]))
        self.requests: list[TokenRequest] = []
        self.lock: contextlib.AbstractContextManager[object] = threading.RLock()
        self.app: App = App(self)
        self._faults, self._window = Faults(), Window()
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._serving: Serving | None = None
        self.url: str = "http://127.0.0.1"

    @classmethod
    def like(cls, provider: str | Provider, /, **settings: Any) -> Self:
        """
        Return a server that behaves like a provider (see `evertoken.providers`).

        Args:
            provider: The name of the provider, or your own `Provider`. If rotation is a setting of it, this server
                rotates.

            settings: Further settings. They also replace those of the provider.

        Raises:
            ValueError: The provider is unknown.
        """
        found = known(provider)
        habits: dict[str, Any] = {
            "rotate": found.rotates is not False,
            "reuse_revokes_family": found.reuse_revokes_family,
            "grace": found.grace,
            "exclusive": found.exclusive,
            "refuse_early": found.refuses_early_refresh,
            "repeat": found.repeats,
            "forbid_with": found.forbids_with,
            **({} if found.default_lifetime is None else {"expires_in": None, "lifetime": found.default_lifetime}),
        }
        return cls(**{**habits, **settings})

    # Where it is

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint (RFC 6749 section 3.2)."""
        return f"{self.url}/token"

    @property
    def resource(self) -> str:
        """The URL of the protected resource and of paths below it. A path that ends with /forbidden forbids access."""
        return f"{self.url}/resource"

    def metadata(self) -> dict[str, Any]:
        """Return the authorization server metadata (RFC 8414 section 2)."""
        return {
            "issuer": self.url,
            "token_endpoint": self.token_endpoint,
            "revocation_endpoint": f"{self.url}/revoke",
            "grant_types_supported": ["client_credentials", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        }

    def now(self) -> float:
        """Return the time of the server's clock, in epoch seconds."""
        return self.clock()

    # Clients and grants

    def add_client(self, client_id: str, client_secret: str | None = None) -> None:
        """Register a client. A client without a secret is public (RFC 6749 section 2.1)."""
        with self.lock:
            self.grants.clients[client_id] = client_secret

    def issue_grant(self, subject: str = "alice", *, client_id: str = DEFAULT_CLIENT[0]) -> str:
        """Return the first refresh token of a new grant, as a login would."""
        with self.lock:
            return self.grants.new_family(subject, client_id).current

    def oauth_client(self, **options: Any) -> OAuthClient:
        """Return a client that this server knows. *options* are those of `OAuthClient`."""
        known = {"client_id": DEFAULT_CLIENT[0], "client_secret": DEFAULT_CLIENT[1]}
        return OAuthClient(**{"token_endpoint": self.token_endpoint, **known, **options})

    def client_credentials(self, **options: Any) -> ClientCredentials:
        """Return a source for that client. *options* are those of `ClientCredentials`."""
        return ClientCredentials(self.oauth_client(), **options)

    def refresh_token(self, **options: Any) -> RefreshToken:
        """Return a source for a new grant. *options* are those of `RefreshToken`."""
        return RefreshToken(self.oauth_client(), self.issue_grant(), **options)

    # Faults

    def fail(
        self,
        what: int | FaultKind,
        *,
        times: int | None = None,
        retry_after: float | str | None = None,
        error: str | None = None,
        error_description: str | None = None,
        status: int = 400,
    ) -> Fault:
        """
        Let a number of token requests fail, or all until healed. As a context manager, the fault ends with the block.

        Args:
            what:
                A status code; or "hang", "reset" (cut before processing), "lost" (processed, then cut), "truncated",
                "garbage", "empty", "huge", "bomb", "redirect" or "error".

            times: The number of requests. With None, all requests until `heal`.

            retry_after: The Retry-After field: seconds, or a date as text.

            error: The error code of the RFC.

            error_description: The description that comes with it.

            status: The status of an "error".

        Raises:
            ValueError: The fault is unknown.
        """
        fault = Fault(what, times, retry_after, error, error_description, status)
        with self.lock:
            return self._faults.add(fault)

    def heal(self) -> None:
        """End all faults."""
        with self.lock:
            self._faults.heal()

    def revoke_all(self) -> None:
        """End all access tokens. Refresh tokens stay."""
        with self.lock:
            self.grants.access_tokens.clear()

    def revoke_grant(self, refresh_token: str) -> None:
        """
        End the grant of *refresh_token*, and its access tokens.

        Raises:
            LookupError: The grant is unknown.
        """
        with self.lock:
            self.grants.revoke(self.grants.families[refresh_token])

    # Requests

    @property
    def stats(self) -> Stats:
        """The counts of all requests so far."""
        with self.lock:
            return Stats.of(self.requests, self._counts, self.grants.replays)

    def reset_stats(self) -> None:
        """Start counting again."""
        with self.lock:
            self.requests.clear()
            self._counts.clear()
            self.grants.replays = 0

    # For the application

    def strike(self) -> Fault | None:
        """Return the fault for the present request, if any."""
        with self.lock:
            return self._faults.strike() or self._window.refusal(self.rate_limit, self.now())

    @contextlib.contextmanager
    def counting(self, form: Sequence[tuple[str, str]], headers: dict[str, str]) -> Iterator[TokenRequest]:
        """Count a token request while it is in flight."""
        record = TokenRequest(self.now(), form, headers)
        with self.lock:
            self.requests.append(record)
            self._in_flight += 1
            self._counts["max_in_flight"] = max(self._counts["max_in_flight"], self._in_flight)
        try:
            yield record
        finally:
            with self.lock:
                self._in_flight -= 1

    def count_resource(self, status: int) -> None:
        """Count a request to the protected resource."""
        with self.lock:
            self._counts["resource"] += 1
            self._counts[str(status)] += 1

    # Life

    def start(self) -> Self:
        """
        Listen on a free port of 127.0.0.1.

        Raises:
            ImportError: uvicorn is missing; the message names the extra.
        """
        if self._serving is None:
            require_uvicorn()
            listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._serving = Serving(self.app, listener)
        return self

    def stop(self) -> None:
        """Stop listening, and cut all connections."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        await anyio.to_thread.run_sync(self.stop)

    def __repr__(self) -> str:
        return f"TokenServer({self.url}, {len(self.requests)} token requests)"
