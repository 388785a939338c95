"""Makes the source that a table of the configuration describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.identity import identity_of
from evertoken.cli.oauth_table import CLIENT, client_of, secret_of
from evertoken.providers import PROVIDERS
from evertoken.sources.client_credentials import ClientCredentials
from evertoken.sources.command import Command
from evertoken.sources.refresh_token import RefreshToken
from evertoken.sources.token_exchange import ACCESS_TOKEN, TokenExchange
from evertoken.sources.token_file import TokenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken import Token, TokenHandle, TokenSource
    from evertoken.cli.toml_table import Table

__all__ = ["COMMON", "KINDS", "ParentToken", "keys_of", "parents_of", "source_of"]

#: The keys that a source of each kind may have.
COMMON: Final = ("kind", "key", "single", "write_to", "format", "host", "login")

_ASKED: Final = ("scope", "audience", "resource", "parameters")

#: The keys of each kind, besides the common ones.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "client_credentials": (*CLIENT, *_ASKED),
    "refresh_token": (*CLIENT, *_ASKED, "refresh_token", "subject", "rotates", "on_ambiguous", "grace"),
    "jwt_bearer": (*CLIENT, *_ASKED, "assertion", "sign"),
    "token_exchange": (
        *CLIENT, *_ASKED, "subject_token", "subject_token_type", "actor_token", "actor_token_type",
        "requested_token_type",
    ),
    "google": ("scopes",),
    "azure": ("scope",),
    "aws": ("sts_endpoint",),
    "command": ("arguments", "lifetime", "environment"),
    "token_file": ("path", "reread"),
}  # fmt: skip

_SIGN: Final = ("key", "issuer", "subject", "audience", "algorithm", "key_id", "lifetime", "claims")


@final
class ParentToken:
    """
    The token of another source, which is exchanged. It is bound to a manager when the manager exists.

    Args:
        source: The other source.
    """

    def __init__(self, source: TokenSource) -> None:
        self.identity: str | None = identity_of(source)
        self.handle: TokenHandle | None = None

    async def get(self) -> Token:
        """Return a valid token."""
        return await self._bound().get()

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Report that *token* was refused."""
        return await self._bound().refused(token, wait=wait)

    def _bound(self) -> TokenHandle:
        if self.handle is None:
            msg = "the token to exchange is not bound to a manager"
            raise RuntimeError(msg)
        return self.handle


def keys_of(kind: str, provider: str | None) -> tuple[str, ...]:
    """Return the keys that a source of this *kind* may have."""
    names = PROVIDERS[provider].names if provider is not None and provider in PROVIDERS else ()
    return (*COMMON, *KINDS[kind], *(names if "provider" in KINDS[kind] else ()))


def parents_of(table: Table) -> dict[str, str]:
    """Return the sources whose tokens this one exchanges, each by the key that names it."""
    found = {}
    for key in ("subject_token", "actor_token"):
        value = table.values.get(key)
        if table.values.get("kind") == "token_exchange" and isinstance(value, dict) and "source" in value:
            if len(value) != 1 or not isinstance(value["source"], str):
                raise table.wrong(key, 'must be { source = "NAME" } if it is the token of another source')
            found[key] = value["source"]
    return found


def source_of(table: Table, parents: Mapping[str, ParentToken]) -> TokenSource:
    """
    Return the source.

    Args:
        table: The table in the file.

        parents: The tokens that it exchanges, each by the key that names it.

    Raises:
        ConfigurationError: The table is wrong. The message names the file, the table and the key.
    """
    kind = table.choice("kind", tuple(KINDS))
    provider = table.values.get("provider")
    table.only(keys_of(kind, provider if isinstance(provider, str) else None))
    try:
        return _MAKERS[kind](table, parents)
    except (TypeError, ValueError, ImportError) as error:
        raise table.wrong(None, str(error).replace("=True", " = true")) from None


def _asked(table: Table) -> dict[str, Any]:
    return {
        "scope": table.text_or_strings("scope"),
        "audience": table.text("audience"),
        "resource": table.text_or_strings("resource"),
        "parameters": table.pairs("parameters"),
    }


def _client_credentials(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    return ClientCredentials(client_of(table), **_asked(table))


def _refresh_token(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    token = table.secret("refresh_token")
    chosen = table.text("on_ambiguous")
    return RefreshToken(
        client_of(table),
        ... if token is None else token,
        subject=table.text("subject"),
        rotates=table.flag("rotates"),
        on_ambiguous=None if chosen is None else table.choice("on_ambiguous", ("retry", "hold", "reject")),  # type: ignore[arg-type]  # one of them
        grace=table.number("grace"),
        **_asked(table),
    )


def _jwt_bearer(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    from evertoken.sources.jwt_bearer import Assertion, JwtBearer  # noqa: PLC0415 - may need an extra

    sign = table.table("sign")
    if (sign is None) == ("assertion" not in table.values):
        raise table.wrong("assertion", "give either assertion, or the table sign that says how to sign one")
    if sign is None:
        return JwtBearer(client_of(table), secret_of(table, "assertion"), **_asked(table))
    sign.only(_SIGN)
    given: dict[str, Any] = {
        "subject": sign.text("subject"),
        "audience": sign.text("audience"),
        "algorithm": sign.text("algorithm"),
        "key_id": sign.text("key_id"),
        "lifetime": sign.number("lifetime"),
        "claims": None if (claims := sign.table("claims")) is None else claims.values,
    }
    assertion = Assertion(
        secret_of(sign, "key"),
        issuer=sign.needed("issuer"),
        **{name: value for name, value in given.items() if value is not None},
    )
    return JwtBearer(client_of(table), assertion, **_asked(table))


def _token_exchange(table: Table, parents: Mapping[str, ParentToken]) -> TokenSource:
    actor: Any = parents.get("actor_token") or table.secret("actor_token")
    return TokenExchange(
        client_of(table),
        parents.get("subject_token") or secret_of(table, "subject_token"),
        subject_token_type=table.text("subject_token_type", ACCESS_TOKEN) or ACCESS_TOKEN,
        actor_token=actor,
        actor_token_type=table.text("actor_token_type", ACCESS_TOKEN) or ACCESS_TOKEN,
        requested_token_type=table.text("requested_token_type"),
        **_asked(table),
    )


def _google(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    from evertoken.sources import google  # noqa: PLC0415 - only imported if this cloud is used

    scopes = table.text_or_strings("scopes")
    return google.from_environment() if scopes is None else google.from_environment(scopes=scopes)


def _azure(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    from evertoken.sources import azure  # noqa: PLC0415

    return azure.from_environment(table.needed("scope"))


def _aws(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    from evertoken.sources import aws  # noqa: PLC0415

    return aws.from_environment(sts_endpoint=table.text("sts_endpoint"))


def _command(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    arguments = table.strings("arguments")
    if not arguments:
        raise table.wrong("arguments", "is missing, or empty")
    return Command(arguments, lifetime=table.number("lifetime"), environment=table.pairs("environment"))


def _token_file(table: Table, _: Mapping[str, ParentToken]) -> TokenSource:
    path, reread = table.path("path"), table.number("reread")
    if path is None:
        raise table.wrong("path", "is missing")
    return TokenFile(path) if reread is None else TokenFile(path, reread=reread)


_MAKERS: Final[Mapping[str, Callable[[Table, Mapping[str, ParentToken]], TokenSource]]] = {
    "client_credentials": _client_credentials,
    "refresh_token": _refresh_token,
    "jwt_bearer": _jwt_bearer,
    "token_exchange": _token_exchange,
    "google": _google,
    "azure": _azure,
    "aws": _aws,
    "command": _command,
    "token_file": _token_file,
}
