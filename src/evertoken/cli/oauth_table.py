"""Makes the OAuth client that a table of the configuration describes, and reads the limits of its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evertoken._model.provider_limits import Budget, RateLimit
from evertoken.cli.toml_table import nearest
from evertoken.providers import PROVIDERS
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from pathlib import Path

    from evertoken.cli.toml_table import Table

__all__ = ["CLIENT", "budget_of", "client_of", "rate_limit_of", "secret_of"]

#: The keys of a client.
CLIENT: Final = (
    "provider", "token_endpoint", "issuer", "client_id", "client_secret", "client_auth", "client_key", "client_key_id",
    "client_algorithm", "client_assertion", "tls_certificate", "tls_key", "tls_authority", "form_encoded_basic",
    "revocation_endpoint", "body", "headers", "rate_limit", "budget", "allow_http",
)  # fmt: skip
_METHODS: Final = (
    "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "client_assertion",
    "tls_client_auth", "none",
)  # fmt: skip


def rate_limit_of(table: Table) -> RateLimit:
    """Return the rate limit in *table*."""
    table.only(["requests", "per", "burst", "concurrency"])
    values = table.number("requests"), table.number("per")
    if None in values:
        raise table.wrong("per" if values[1] is None else "requests", "is missing")
    try:
        return RateLimit(
            requests=values[0] or 0.0,
            per=values[1] or 0.0,
            burst=table.whole("burst"),
            concurrency=table.whole("concurrency"),
        )
    except ValueError as error:
        raise table.wrong(None, str(error)) from None


def budget_of(table: Table) -> Budget:
    """Return the budget in *table*."""
    table.only(["tokens", "per", "hard"])
    tokens, per = table.whole("tokens"), table.number("per")
    if tokens is None or per is None:
        raise table.wrong("tokens" if tokens is None else "per", "is missing")
    try:
        return Budget(tokens=tokens, per=per, hard=bool(table.flag("hard")))
    except ValueError as error:
        raise table.wrong(None, str(error)) from None


def client_of(table: Table) -> OAuthClient:
    """Return the client that *table* describes."""
    if not {"provider", "issuer", "token_endpoint"} & table.values.keys():
        raise table.wrong("token_endpoint", "is missing; or give issuer, by which it is found, or provider")
    rate, budget = table.table("rate_limit"), table.table("budget")
    secret = table.secret("client_secret")
    given: dict[str, Any] = {
        "token_endpoint": table.text("token_endpoint"),
        "issuer": table.text("issuer"),
        "client_id": table.text("client_id"),
        "client_auth": _authentication(table, secret),
        "client_secret": secret,
        "revocation_endpoint": table.text("revocation_endpoint"),
        "headers": table.pairs("headers"),
        "rate_limit": None if rate is None else rate_limit_of(rate),
        "budget": None if budget is None else budget_of(budget),
        "form_encoded_basic": table.flag("form_encoded_basic"),
        "allow_http": table.flag("allow_http"),
        "body": None if table.text("body") is None else table.choice("body", ("form", "json")),
    }
    if not isinstance(given["client_auth"], str | None):
        # The secret is part of the method, and is not used elsewhere.
        given["client_secret"] = None
    given = {name: value for name, value in given.items() if value is not None}
    provider = table.text("provider")
    if provider is None:
        return OAuthClient(**given)
    if provider not in PROVIDERS:
        said = f"unknown provider {provider!r}{nearest(provider, PROVIDERS)}; use one of {', '.join(sorted(PROVIDERS))}"
        raise table.wrong("provider", said)
    names = {name: value for name in PROVIDERS[provider].names if (value := table.text(name)) is not None}
    return OAuthClient.for_provider(provider, **names, **given)


def _authentication(table: Table, secret: str | Path | None) -> Any:
    method = None if table.text("client_auth") is None else table.choice("client_auth", _METHODS)
    if method not in {"private_key_jwt", "client_secret_jwt", "client_assertion", "tls_client_auth"}:
        for key in ("client_key", "client_key_id", "client_algorithm", "client_assertion", "tls_certificate"):
            if key in table.values:
                raise table.wrong(key, "needs client_auth, which says how the client authenticates")
        return method
    # Each of these needs further arguments, and some need an extra.
    from evertoken.sources import (  # noqa: PLC0415
        ClientAssertion,
        ClientSecretJwt,
        PrivateKeyJwt,
        TlsClientAuth,
    )

    algorithm = table.text("client_algorithm")
    if method == "private_key_jwt":
        return PrivateKeyJwt(secret_of(table, "client_key"), algorithm or "RS256", key_id=table.text("client_key_id"))
    if method == "client_secret_jwt":
        if secret is None:
            raise table.wrong("client_secret", "is missing")
        return ClientSecretJwt(secret, algorithm or "HS256")
    if method == "client_assertion":
        return ClientAssertion(secret_of(table, "client_assertion"))
    certificate = table.path("tls_certificate")
    if certificate is None:
        raise table.wrong("tls_certificate", "is missing")
    return TlsClientAuth(certificate, table.path("tls_key"), authority=table.path("tls_authority"))


def secret_of(table: Table, key: str) -> str | Path:
    """Return a required secret."""
    value = table.secret(key)
    if value is None:
        raise table.wrong(key, "is missing")
    return value
