"""What is made of a provider's habits: endpoints, the meaning of its errors, and what its answers leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.parsing import http_date, number, parse_retry_after
from evertoken._model.redaction import quoted
from evertoken._signing.server_time import learn, signatures, skew
from evertoken.providers import PROVIDERS, Provider
from evertoken.sources._url import check_host, check_name_in_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.answer import Answer
    from evertoken._model.token import Token
    from evertoken._signing.dpop import DPoPKey

__all__ = ["Answered", "as_meant", "completed", "endpoints_of", "known"]

# The statuses by which servers refuse what was signed.
_REFUSALS: Final = frozenset({400, 401, 403})

# Seconds after its expiry by our clock for which a token may still be valid by the provider's.
_EARLY: Final = 30.0
# A hint at the expiry itself would be none.
_WHOLE: Final = 1.0 - 1e-6


@final
class Answered:
    """What the last answer of a token endpoint said besides its fields."""

    def __init__(self, url: str, dpop: DPoPKey | None) -> None:
        self._url = url
        self._dpop = dpop
        #: The proof that was sent last.
        self.proof = ""
        #: Whether the request is to be sent again, with the nonce or the time of the server that was just learnt.
        self.wants_nonce = False
        self.retry_after: float | None = None
        # How much was signed for the server when its time was learnt.
        self._learnt_at: int | None = None

    def seen(self, status: int, headers: Any, fields: Mapping[str, Any]) -> None:
        """
        Take note of it, before it is judged.

        Raises:
            TransientRefreshError: It was refused for its date. It is to be signed again, by the server's clock.
        """
        date = headers.get("date")
        server_time = None if date is None else http_date(date)
        self.retry_after = parse_retry_after(headers.get("retry-after"), server_time)
        fresh = self._dpop is not None and self._dpop.learn(self._url, headers.get("dpop-nonce"), self.proof)
        self.wants_nonce = fresh and fields.get("error") == "use_dpop_nonce"
        if status in _REFUSALS and not self.wants_nonce and learn(self._url, server_time):
            self._learnt_at = signatures(self._url)
            self.wants_nonce = True
            raise TransientRefreshError(self._off())

    def outdated(self, error: GrantRejected) -> TransientRefreshError | None:
        """Return what is meant by *error* where an assertion was refused that was signed before the time was known."""
        if error.error != "invalid_grant" or self._learnt_at is None or signatures(self._url) > self._learnt_at:
            return None
        return TransientRefreshError(f"{self._off()}: {error}")

    def _off(self) -> str:
        return (
            f"the clock of {self._url.partition('?')[0]} is {skew(self._url):+.0f} s off from the one here, by which "
            f"the request was signed"
        )


def known(provider: str | Provider) -> Provider:
    """
    Return the provider of that name.

    Raises:
        ValueError: There is none.
    """
    found = provider if isinstance(provider, Provider) else PROVIDERS.get(provider)
    if found is None:
        msg = f"provider must be one of {', '.join(sorted(PROVIDERS))}, or a Provider, not {quoted(provider)}"
        raise ValueError(msg)
    return found


def endpoints_of(provider: Provider, options: dict[str, Any]) -> dict[str, str]:
    """
    Return the endpoints of *provider*, filled in with what is taken out of *options*.

    Raises:
        ValueError: Something is missing, or would make another URL of it.
    """
    names: dict[str, str] = {}
    for name in provider.names:
        value = options.pop(name, provider.defaults.get(name))
        if not isinstance(value, str) or not value.strip("/"):
            msg = f"{name} is missing: the provider's token endpoint is {provider.token_endpoint!r}"
            raise ValueError(msg)
        if f"{{{name}}}" in urlsplit(provider.token_endpoint).netloc:
            # Many paste the URL of their tenant.
            names[name] = check_host(name, value.removeprefix("https://").removesuffix("/"))
        else:
            names[name] = check_name_in_path(name, value)
    endpoints = {"token_endpoint": provider.token_endpoint.format(**names)}
    if provider.revocation_endpoint is not None:
        endpoints["revocation_endpoint"] = provider.revocation_endpoint.format(**names)
    return endpoints


def as_meant(
    error: GrantRejected | TransientRefreshError, provider: Provider | None, answered: Answered, current: Token | None
) -> GrantRejected | TransientRefreshError:
    """Return *error*, or the one that *provider* means by it."""
    if isinstance(error, TransientRefreshError):
        return error
    outdated = answered.outdated(error)
    if provider is None or outdated is not None:
        return outdated or error
    if provider.refuses_early_refresh and current is not None and current.valid_at(SystemClock.time() - _EARLY):
        msg = f"the provider refuses to refresh a token that is still valid: {error}"
        return TransientRefreshError(msg, status=error.status)
    words = (error.error_description or "").lower()
    if any(error.error == code and word in words for code, word in provider.throttles):
        return TransientRefreshError(f"the provider throttles: {error}", retry_after=answered.retry_after, status=429)
    return error


def completed(answer: Answer, provider: Provider | None) -> Answer:
    """Return *answer* with what *provider* leaves out of it."""
    if provider is None:
        return answer
    fields = answer.fields
    lifetime = number(fields.get("expires_in"))
    if provider.refuses_early_refresh and lifetime is not None and "refresh_in" not in fields:
        # A refresh before its time would be refused: this one is due just when it ends.
        fields = {**fields, "refresh_in": lifetime * _WHOLE}
    default = provider.default_lifetime
    if lifetime is not None and lifetime in provider.never_expires:
        fields, default = {name: value for name, value in fields.items() if name != "expires_in"}, None
    return answer.replace(fields=fields, default_lifetime=default, token_types=provider.token_types)
