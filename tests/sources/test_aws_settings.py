"""Settings of AWS tools: regions, endpoints of STS, FIPS and dual stack, the metadata service, and agents."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lacking import needed
from tests.sources.aws_machine import ARN, nowhere  # noqa: F401 - a fixture
from tests.sources.wire import Asked, Wire, a_request, always, http

from evertoken import GrantRejected
from evertoken.sources.aws import ContainerRole, InstanceRole, Profile, from_environment
from evertoken.sources.aws._settings import Settings
from evertoken.sources.aws._shared_files import Locations
from evertoken.sources.aws._sts import sts_url
from evertoken.sources.aws._variables import Variables


async def settings(environ: dict[str, str], config: str, folder: Any, **options: Any) -> Settings:
    (folder / "config").write_text(config)
    files = await Locations(folder / "none", folder / "config", Variables({})).read()
    return Settings(Variables(environ), files.get("default"), **options)


EAST = "us-east-1"
MINE, OTHER, THIRD = "https://sts.example.com", "https://all.example.com", "https://third.example.com"
SERVICES = (
    f"services = mine\n[services mine]\ns3 =\n  endpoint_url = https://s3.example.com\nsts =\n  endpoint_url = {MINE}\n"
)


@pytest.mark.parametrize(
    ("environ", "config", "region", "endpoint"),
    [
        ({}, "", None, None),
        ({"AWS_REGION": "eu-west-1"}, "", "eu-west-1", None),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "", "eu-west-1", None),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "", "eu-west-1", None),
        ({"AWS_REGION": " ", "AWS_DEFAULT_REGION": "eu-west-2"}, "", "eu-west-2", None),
        ({}, "region = eu-west-3\n", "eu-west-3", None),
        ({"AWS_REGION": "eu-west-1"}, "region = eu-west-3\n", "eu-west-1", None),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "region = eu-west-3\n", "eu-west-2", None),
        ({"AWS_ENDPOINT_URL_STS": MINE}, "", None, MINE),
        ({"AWS_ENDPOINT_URL": OTHER}, "", None, OTHER),
        ({"AWS_ENDPOINT_URL_STS": MINE, "AWS_ENDPOINT_URL": OTHER}, "", None, MINE),
        ({"AWS_ENDPOINT_URL": OTHER}, SERVICES, None, OTHER),
        ({}, SERVICES, None, MINE),
        ({}, f"endpoint_url = {THIRD}\n", None, THIRD),
        ({}, f"endpoint_url = {THIRD}\n{SERVICES}", None, MINE),
        ({}, f"endpoint_url = {THIRD}\nservices = s\n[services s]\ns3 =\n  endpoint_url = {MINE}\n", None, THIRD),
        ({"AWS_ENDPOINT_URL_STS": MINE, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"}, "", None, None),
        ({}, f"ignore_configured_endpoint_urls = true\n{SERVICES}", None, None),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "0"}, f"ignore_configured_endpoint_urls=true\n{SERVICES}", None, MINE),
        ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_REGION": EAST}, "", EAST, sts_url(EAST, fips=True)),
        ({}, f"use_fips_endpoint = true\nregion = {EAST}\n", EAST, sts_url(EAST, fips=True)),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, f"region = {EAST}\n", EAST, sts_url(EAST, dual_stack=True)),
        ({"AWS_USE_FIPS_ENDPOINT": "false"}, "use_fips_endpoint = true\n", None, None),
    ],
)  # fmt: skip
async def test_sts(environ, config, region, endpoint, tmp_path):
    """K16: the environment goes before the profile, the service before all services (Reference Guide, "Settings")."""
    found = await settings(environ, f"[default]\n{config}", tmp_path)
    assert found.sts() == {"region": region, "endpoint": endpoint}


@pytest.mark.parametrize(
    ("environ", "config", "says"),
    [
        ({"AWS_REGION": "evil.example.com/"}, "", "region must be as in"),
        ({"AWS_ENDPOINT_URL_STS": "localstack:4566"}, "", "endpoint must be an absolute URL"),
        ({"AWS_ENDPOINT_URL_STS": "http://localstack:4566"}, "", "endpoint must use https"),
        ({}, "endpoint_url = nowhere\n", "endpoint must be an absolute URL"),
        ({}, "services = typo\n", "services = typo, and there is no such section"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "", "FIPS needs a region"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", "dual stack needs a region"),
        ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_ENDPOINT_URL": OTHER}, "region=us-east-1\n", "FIPS is set"),
    ],
)  # fmt: skip
async def test_sts_that_cannot_be(environ, config, says, tmp_path):
    """K16: settings that make no sense, or contradict each other, are refused and named."""
    with pytest.raises(GrantRejected, match=says):
        (await settings(environ, f"[default]\n{config}", tmp_path)).sts()


@pytest.mark.parametrize("dual_stack", [False, True])
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize(
    "region",
    [
        "eu-west-1",
        "us-east-1",
        "ap-south-1",
        "us-gov-west-1",
        "us-gov-east-1",
        "cn-north-1",
        "cn-northwest-1",
        "eusc-de-east-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "eu-isoe-west-1",
        "us-isof-south-1",
    ],
)
def test_variants(region, fips, dual_stack):
    """The endpoint of each region, in each variant, is the one of the rules that botocore brings."""
    session = needed("botocore.session").Session()
    from botocore.endpoint_provider import EndpointProvider  # noqa: PLC0415

    loader = session.get_component("data_loader")
    rules = EndpointProvider(loader.load_service_model("sts", "endpoint-rule-set-1"), loader.load_data("partitions"))
    theirs = rules.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual_stack, UseGlobalEndpoint=False).url
    assert sts_url(region, fips=fips, dual_stack=dual_stack) == f"{theirs}/"


IPV4, IPV6 = "http://169.254.169.254", "http://[fd00:ec2::254]"


@pytest.mark.parametrize(
    ("environ", "config", "endpoint"),
    [
        ({}, "", IPV4),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://override:456"}, "", "http://override:456"),
        ({}, "ec2_metadata_service_endpoint = http://override:456\n", "http://override:456"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://a"}, "ec2_metadata_service_endpoint = http://b\n", "http://a"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv4"}, "", IPV4),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}, "", IPV6),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "ipV6"}, "", IPV6),
        ({}, "ec2_metadata_service_endpoint_mode = IPv6\n", IPV6),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}, "ec2_metadata_service_endpoint_mode = IPv4\n", IPV6),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://a"}, "ec2_metadata_service_endpoint_mode = IPv6\n", "http://a"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "error"}, "", None),
        ({}, "ec2_metadata_service_endpoint_mode = IPv7\n", None),
    ],
)  # fmt: skip
async def test_metadata(environ, config, endpoint, tmp_path):
    """K16: the cases that the SDKs of AWS share for the endpoint of the metadata service."""
    found = await settings(environ, f"[default]\n{config}", tmp_path)
    if endpoint is None:
        with pytest.raises(GrantRejected, match=r"ENDPOINT_MODE .* must be IPv4 or IPv6, not '(error|IPv7)'"):
            found.metadata()
        return
    assert found.metadata() == endpoint
    if not config:
        assert InstanceRole.from_environment(environ).provider == endpoint


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"AWS_EC2_METADATA_DISABLED": "TRUE"}, LookupError),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "error"}, ValueError),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "not a uri"}, ValueError),
    ],
)
def test_no_metadata(environ, error):
    """K16: what makes no sense is told at once where the role is made by hand."""
    with pytest.raises(error):
        InstanceRole.from_environment(environ)


@pytest.mark.parametrize(
    ("relative", "full", "gives"),
    [
        (None, None, LookupError),
        (" ", "", LookupError),
        ("/credentials", None, "http://169.254.170.2/credentials"),
        # The shown part ends before the query, which may contain a key.
        ("/credentials?a=1", None, "http://169.254.170.2/credentials"),
        ("/credentials", "http://localhost:8080/other", "http://169.254.170.2/credentials"),
        (None, "/credentials", ValueError),
        (None, "https://mine/credentials", "https://mine/credentials"),
        (None, "https://mine:8080/credentials", "https://mine:8080/credentials"),
        (None, "http://localhost:8080/credentials", "http://localhost:8080/credentials"),
        (None, "http://127.0.0.1:8080/credentials", "http://127.0.0.1:8080/credentials"),
        (None, "http://169.254.170.2/credentials", "http://169.254.170.2/credentials"),
        (None, "http://169.254.170.23/v1/credentials", "http://169.254.170.23/v1/credentials"),
        (None, "http://[fd00:ec2::23]/v1/credentials", "http://[fd00:ec2::23]/v1/credentials"),
        (None, "http://169.254.170.24/v1/credentials", ValueError),
        (None, "http://mine/credentials", ValueError),
    ],
)
def test_agents(relative, full, gives):
    """K16: the cases that the SDKs of AWS share for the role of a container; an error names the variable."""
    names = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    environ = {name: value for name, value in zip(names, (relative, full), strict=True) if value is not None}
    if isinstance(gives, str):
        assert repr(ContainerRole.from_environment(environ)) == f"ContainerRole({gives!r})"
        return
    with pytest.raises(gives, match="AWS_CONTAINER_CREDENTIALS_"):
        ContainerRole.from_environment(environ)


@pytest.mark.parametrize("how", ["environment", "profile"])
async def test_endpoint_and_region_are_used(how, monkeypatch, tmp_path):
    """K16: the endpoint and the region that are configured are those of the request and of its signature."""
    leaves = "<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
    async with Wire(always(http(200, f"<R>{leaves}</R>".encode(), {"Content-Type": "text/xml"}))) as wire:
        (tmp_path / "config").write_text(
            f"[profile p]\nrole_arn = {ARN}\nsource_profile = q\nregion = eu-west-3\nservices = s\n"
            f"[services s]\nsts =\n  endpoint_url = {wire.url('/inner')}\n"
            "[profile q]\naws_access_key_id = Q\naws_secret_access_key = s\nregion = us-east-1\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "p")
        if how == "environment":
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", wire.url("/outer"))
            monkeypatch.setenv("AWS_REGION", "eu-west-1")
        for source in (from_environment(), Profile()):
            await source.fetch(a_request())
    asked: list[Asked] = wire.asked
    assert {one.target for one in asked} == {"/outer" if how == "environment" else "/inner"}
    region = "eu-west-1" if how == "environment" else "eu-west-3"
    assert all(f"/{region}/sts/aws4_request" in one.headers["authorization"] for one in asked)
    assert len(asked) == 2


@pytest.mark.parametrize("make", [from_environment, Profile])
def test_a_given_endpoint_is_checked_at_once(make):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises(ValueError, match="sts_endpoint must"):
        make(sts_endpoint="nowhere")


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, None),
        ({"AWS_REGION": EAST}, None),
        ({"AWS_ENDPOINT_URL_STS": MINE}, None),
        ({"AWS_REGION": EAST, "AWS_USE_FIPS_ENDPOINT": "true"}, "FIPS is set"),
    ],
)
async def test_a_given_endpoint_goes_before_all(environ, says, tmp_path):
    """K16: what the program gives goes before the environment and the files, and contradicts FIPS as well."""
    found = await settings(environ, f"[default]\n{SERVICES}", tmp_path, sts_endpoint="https://given.example.com")
    if says is None:
        assert found.sts()["endpoint"] == "https://given.example.com"
        return
    with pytest.raises(GrantRejected, match=says):
        found.sts()
