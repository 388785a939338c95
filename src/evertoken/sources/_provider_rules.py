"""Applies the known behaviour of a provider: its endpoints, the meaning of its errors, and gaps in its answers."""

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

# The statuses with which servers refuse a signed request.
_REFUSALS: Final = frozenset({400, 401, 403})

# A token may be valid by the provider's clock for this many seconds after its expiry by our clock.
_EARLY: Final = 30.0
# A refresh hint at the expiry itself would be ignored, so it is a little earlier.
_WHOLE: Final = 1.0 - 1e-6


@final
class Answered:
    """Facts about the last answer of a token endpoint, besides its fields."""

    def __init__(self, url: str, dpop: DPoPKey | None) -> None:
        self._url = url
        self._dpop = dpop
        #: The proof that was sent last.
        self.proof = ""
        #: Whether to send the request again, with the nonce or the server time that was just learnt.
        self.wants_nonce = False
        self.retry_after: float | None = None
        # The number of signatures for the server when its time was learnt.
        self._learnt_at: int | None = None

    def seen(self, status: int, headers: Any, fields: Mapping[str, Any]) -> None:
        """
        Record the answer, before it is judged.

        Raises:
            TransientRefreshError: The answer refused a date. The request must be signed again, by the server's clock.
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
        """
        Return the real meaning of *error*, if the refused assertion was signed before the server's time was known.
        """
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
    Return the provider with that name.

    Raises:
        ValueError: The name is unknown.
    """
    found = provider if isinstance(provider, Provider) else PROVIDERS.get(provider)
    if found is None:
        msg = f"provider must be one of {', '.join(sorted(PROVIDERS))}, or a Provider, not {quoted(provider)}"
        raise ValueError(msg)
    return found


def endpoints_of(provider: Provider, options: dict[str, Any]) -> dict[str, str]:
    """
    Return the endpoints of *provider*. Their missing parts are taken out of *options*.

    Raises:
        ValueError: A part is missing, or would change the URL.
    """
    names: dict[str, str] = {}
    for name in provider.names:
        value = options.pop(name, provider.defaults.get(name))
        if not isinstance(value, str) or not value.strip("/"):
            msg = f"{name} is missing: the provider's token endpoint is {provider.token_endpoint!r}"
            raise ValueError(msg)
        if f"{{{name}}}" in urlsplit(provider.token_endpoint).netloc:
            # Many users paste the URL of their tenant.
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
    """Return *error*, or the error that *provider* means by it."""
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
    """Return *answer* with the facts that *provider* leaves out."""
    if provider is None:
        return answer
    fields = answer.fields
    lifetime = number(fields.get("expires_in"))
    if provider.refuses_early_refresh and lifetime is not None and "refresh_in" not in fields:
        # An early refresh would be refused, so the refresh is due exactly when the token ends.
        fields = {**fields, "refresh_in": lifetime * _WHOLE}
    default = provider.default_lifetime
    if lifetime is not None and lifetime in provider.never_expires:
        fields, default = {name: value for name, value in fields.items() if name != "expires_in"}, None
    return answer.replace(fields=fields, default_lifetime=default, token_types=provider.token_types)
