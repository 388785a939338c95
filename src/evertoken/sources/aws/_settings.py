"""The regions and endpoints from the environment and a profile. The environment takes precedence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.errors import GrantRejected
from evertoken._model.plain_text import without_query
from evertoken._model.redaction import quoted
from evertoken.sources.aws._sts import Sts, sts_url

if TYPE_CHECKING:
    from evertoken.sources.aws._shared_files import ProfileSettings
    from evertoken.sources.aws._variables import Variables

__all__ = ["METADATA", "METADATA_ON_IPV6", "Settings", "check_sts"]

METADATA: Final = "http://169.254.169.254"
METADATA_ON_IPV6: Final = "http://[fd00:ec2::254]"

_MODES: Final = {"ipv4": METADATA, "ipv6": METADATA_ON_IPV6}


@final
class Settings:
    """
    Regions and endpoints (AWS SDKs and Tools Reference Guide, "Settings reference").

    Args:
        environ: The environment.

        profile: The selected profile, if there is one.

        sts_endpoint: A URL for STS that takes precedence over all others.
    """

    def __init__(self, environ: Variables, profile: ProfileSettings | None, *, sts_endpoint: str | None = None) -> None:
        self._environ = environ
        self._profile = profile
        self._sts_endpoint = sts_endpoint

    def sts(self) -> dict[str, Any]:
        """
        Return the region and the endpoint for the sources of roles.

        Raises:
            GrantRejected: The settings contradict each other, or one of them is invalid.
        """
        region = self._environ.first("AWS_REGION", "AWS_DEFAULT_REGION") or self._of_profile("region")
        fips = self._says("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")
        dual_stack = self._says("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")
        endpoint = self._sts_endpoint or self._endpoint_url()
        special = [name for name, on in (("FIPS", fips), ("dual stack", dual_stack)) if on]
        if special and endpoint is not None:
            own = without_query(endpoint)
            what = f"{' and '.join(special)} is set, and a special endpoint ({own}) too: unset one of them"
        elif special and region is None:
            what = f"{' and '.join(special)} needs a region: set AWS_REGION"
        else:
            try:
                if special:
                    endpoint = sts_url(region, fips=bool(fips), dual_stack=bool(dual_stack))
                Sts(region, endpoint=endpoint, client=None, signed=False)
            except ValueError as error:
                what = f"{error} (AWS_REGION, AWS_ENDPOINT_URL_STS, or the profile's)"
            else:
                return {"region": region, "endpoint": endpoint}
        raise GrantRejected("invalid_request", f"the settings of STS cannot be used: {what}")

    def metadata(self) -> str:
        """
        Return the address of the instance metadata service.

        Raises:
            GrantRejected: The mode is neither IPv4 nor IPv6.
        """
        endpoint = self._either("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")
        if endpoint is not None:
            return endpoint
        mode = self._either("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode")
        if (mode or "IPv4").lower() in _MODES:
            return _MODES[(mode or "IPv4").lower()]
        msg = f"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (or the profile's) must be IPv4 or IPv6, not {quoted(mode)}"
        raise GrantRejected("invalid_request", msg)

    def _endpoint_url(self) -> str | None:
        if self._says("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls"):
            return None
        of_environment = self._environ.first("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL")
        return of_environment or (None if self._profile is None else self._profile.endpoint_url())

    def _either(self, variable: str, name: str) -> str | None:
        return self._environ.get(variable) or self._of_profile(name)

    def _says(self, variable: str, name: str) -> bool:
        return (self._either(variable, name) or "").lower() == "true"

    def _of_profile(self, name: str) -> str | None:
        return None if self._profile is None else self._profile.get(name)

    def __repr__(self) -> str:
        return f"Settings(profile={self._profile!r})"


def check_sts(sts_endpoint: str | None, client: Any) -> None:
    """
    Check the user's arguments for requests to STS.

    Raises:
        ValueError: *sts_endpoint* is not an allowed URL.
        TypeError: *client* is not a client.
    """
    Sts(None, endpoint=sts_endpoint, client=client, signed=False, parameter="sts_endpoint")
