"""
The published examples of AWS: the service of these tests accepts their signatures, and the library makes the same ones.
"""

from __future__ import annotations

import pytest
import time_machine
from tests.clients.aws_service import SECRET, parse, refusal

from evertoken._signing.sigv4 import SigV4
from evertoken.sources.aws import AwsCredentials

UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SESSION = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwt"
    "hAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXA"
    "kiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = "application/x-www-form-urlencoded"
VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

# The Signature Version 4 test suite of AWS: method and target, further fields, body, signature. Its paths stand there
# as a service receives them.
SUITE = {
    "get-vanilla": ("GET /", [], "", VANILLA),
    "get-vanilla-empty-query-key": (
        "GET /?Param1=value1", [], "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-key-case": (
        "GET /?Param2=value2&Param1=value1", [], "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-order-key": (
        "GET /?Param1=value2&Param1=Value1", [], "", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    "get-vanilla-query-order-value": (
        "GET /?Param1=value2&Param1=value1", [], "", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "get-vanilla-query-order-encoded": (
        "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", [], "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    "get-vanilla-query-unreserved": (
        f"GET /?{UNRESERVED}={UNRESERVED}", [], "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    "get-vanilla-utf8-query": (
        "GET /?\u1234=bar", [], "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    "get-unreserved": (
        f"GET /{UNRESERVED}", [], "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": ("GET /\u1234", [], "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "post-vanilla": ("POST /", [], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-vanilla-query": (
        "POST /?Param1=value1", [], "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    "post-x-www-form-urlencoded": (
        "POST /", [("Content-Type", FORM)], "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
    "post-x-www-form-urlencoded-parameters": (
        "POST /", [("Content-Type", f"{FORM}; charset=utf8")], "Param1=value1",
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
    ),
    "post-sts-header-before": (
        "POST /", [("X-Amz-Security-Token", SESSION)], "",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    "get-relative": ("GET /example/..", [], "", VANILLA),
    "get-relative-relative": ("GET /example1/example2/../..", [], "", VANILLA),
    "get-slash": ("GET //", [], "", VANILLA),
    "get-slash-dot-slash": ("GET /./", [], "", VANILLA),
    "get-slash-pointless-dot": (
        "GET /./example", [], "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    "get-slashes": ("GET //example//", [], "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    "get-space": ("GET /example space/", [], "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    "get-special-character": (
        "GET /example/$delete", [], "", "a853c9b21b528b19643d00910d35b83a10c366a10833ceefb45edd6c80e40f27",
    ),
}  # fmt: skip
# Examples that sign fields which the library leaves unsigned, so that proxies may change them.
OTHER_FIELDS = {
    "get-header-key-duplicate": (
        "GET /", [("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")], "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-multiline": (
        "GET /", [("My-Header1", "value1\r\n  value2\r\n     value3")], "",
        "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd",
    ),
    "get-header-value-order": (
        "GET /", [("My-Header1", f"value{number}") for number in (4, 1, 3, 2)], "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    "get-header-value-trim": (
        "GET /", [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')], "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-header-key-sort": (
        "POST /", [("My-Header1", "value1")], "", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-header-value-case": (
        "POST /", [("My-Header1", "VALUE1")], "", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
}  # fmt: skip
# Amazon S3 API Reference, "Signature Calculations for the Authorization Header": its four examples.
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
S3 = {
    "get-object": (
        "GET /test.txt", [("Range", "bytes=0-9")], "",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put-object": (
        "PUT /test%24file.text",
        [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
        "Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get-bucket-lifecycle": (
        "GET /?lifecycle", [], "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list-objects": (
        "GET /?max-keys=2&prefix=J", [], "", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}  # fmt: skip
WELCOME = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


def request_of(first: str, fields: list[tuple[str, str]], body: str) -> bytes:
    lines = [f"{first} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", body]).encode()


def signed(first: str, fields: list[tuple[str, str]], body: str, signature: str, *, service: str = "service") -> bytes:
    """Return a published request with its published signature, over every field that it has."""
    names = ";".join(sorted({name.lower() for name, _ in fields}))
    day = dict(fields)["X-Amz-Date"][:8]
    said = (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{day}/us-east-1/{service}/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return request_of(first, [*fields, ("Authorization", said)], body)


def of_suite(name: str) -> tuple[str, list[tuple[str, str]], str, str]:
    first, fields, body, signature = {**SUITE, **OTHER_FIELDS}[name]
    return first, [("Host", "example.amazonaws.com"), ("X-Amz-Date", "20150830T123600Z"), *fields], body, signature


def of_s3(name: str) -> tuple[str, list[tuple[str, str]], str, str]:
    first, fields, body, signature = S3[name]
    host = [("Host", "examplebucket.s3.amazonaws.com"), ("X-Amz-Date", "20130524T000000Z")]
    return first, [*host, *fields, ("x-amz-content-sha256", WELCOME if body else EMPTY)], body, signature


@pytest.mark.parametrize("name", [*SUITE, *OTHER_FIELDS])
def test_service_accepts_the_suite(name):
    """Every request of the published suite is accepted, and none with another target, field, body or key."""
    first, fields, body, signature = of_suite(name)
    assert refusal(parse(signed(first, fields, body, signature)), service="service") == ""
    for changed in (
        signed(f"{first}x" if name.startswith("get") else f"{first}?x", fields, body, signature),
        signed(first, [(one, f"{value}x" if one == "Host" else value) for one, value in fields], body, signature),
        signed(first, fields, f"{body}x", signature),
        signed(first, fields, body, signature[::-1]),
    ):
        assert refusal(parse(changed), service="service").startswith("SignatureDoesNotMatch")
    right = parse(signed(first, fields, body, signature))
    assert refusal(right, service="service", secret="other").startswith("SignatureDoesNotMatch")
    assert refusal(right, service="other") == "IncompleteSignature"


@pytest.mark.parametrize("name", S3)
def test_service_accepts_the_examples_of_s3(name):
    """Every example of the S3 reference is accepted, and none with another body."""
    first, fields, body, signature = of_s3(name)
    secret = SECRET.replace("+", "/")
    right = signed(first, fields, body, signature, service="s3")
    assert refusal(parse(right), service="s3", secret=secret) == ""
    assert refusal(parse(right + b"x"), service="s3", secret=secret) == "XAmzContentSHA256Mismatch"


@pytest.mark.parametrize("name", SUITE)
def test_library_signs_the_suite(name):
    """Signature Version 4: the library's signature is the published one, byte for byte."""
    first, fields, body, signature = of_suite(name)
    method, _, target = first.partition(" ")
    session = dict(fields).get("X-Amz-Security-Token")
    keys = AwsCredentials.of("AKIDEXAMPLE", SECRET, session)
    with time_machine.travel("2015-08-30T12:36:00Z", tick=False):
        made = SigV4("service", "us-east-1").sign_sent(
            keys, method, target.encode(), [(one.encode(), value.encode()) for one, value in fields], body.encode()
        )
    assert made["Authorization"].endswith(f"Signature={signature}")
    assert made["X-Amz-Date"] == "20150830T123600Z"
    assert made.get("X-Amz-Security-Token") == session


@pytest.mark.parametrize("name", ["get-bucket-lifecycle", "list-objects"])
def test_library_signs_the_examples_of_s3(name):
    """Signature Version 4: where the S3 reference signs what the library signs, the signature is the published one."""
    first, _, body, signature = of_s3(name)
    method, _, target = first.partition(" ")
    keys = AwsCredentials.of("AKIAIOSFODNN7EXAMPLE", SECRET.replace("+", "/"))
    with time_machine.travel("2013-05-24T00:00:00Z", tick=False):
        made = SigV4("s3", "us-east-1").sign(
            keys, method, f"https://examplebucket.s3.amazonaws.com{target}", {}, body.encode()
        )
    assert made["Authorization"].endswith(f"Signature={signature}")
    assert made["X-Amz-Content-SHA256"] == EMPTY


HOST = "https://example.amazonaws.com"


@pytest.mark.parametrize(
    "url",
    [
        HOST,
        f"{HOST}/",
        f"{HOST}:443/",
        "https://EXAMPLE.amazonaws.com/",
        "https://user:secret@example.amazonaws.com",
        "http://example.amazonaws.com:80",
    ],
)
def test_host_of_a_request_to_be_built(url):
    """The host is signed as a client writes it: in lower case, without a default port or a user."""
    with time_machine.travel("2015-08-30T12:36:00Z", tick=False):
        made = SigV4("service", "us-east-1").sign(AwsCredentials.of("AKIDEXAMPLE", SECRET), "GET", url, {}, b"")
    assert made["Authorization"].endswith(f"Signature={VANILLA}")


@pytest.mark.parametrize("ahead", [0.0, 86_400.0, -3600.0])
def test_skew(ahead):
    """T3: the signature bears the time of the service's clock."""
    with time_machine.travel("2015-08-30T12:36:00Z", tick=False) as now:
        now.shift(-ahead)
        made = SigV4("service", "us-east-1").sign(
            AwsCredentials.of("AKIDEXAMPLE", SECRET), "GET", HOST, {}, b"", skew=ahead
        )
    assert made["Authorization"].endswith(f"Signature={VANILLA}")
