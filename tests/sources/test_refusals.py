"""
F4 as a table: what real servers answer, by status, body and provider, how it is judged, and the message the user sees.

In the messages AS stands for the origin of the token endpoint.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import pytest
from tests.sources.wire import Wire, a_request, always, http

from evertoken import GrantRejected, TokenManager, TransientRefreshError
from evertoken.providers import PROVIDERS, Provider, Rejection
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken

SECRET, REFRESH = "planted-s3cret/+&=?", "planted-refresh-1"
PROBLEM = "application/problem+json"


class Row(NamedTuple):
    """One answer; *code* is that of a rejection, or None where the failure passes."""

    provider: str
    status: int
    body: Any
    code: str | None
    message: str
    kind: str = "application/json"


OWN = Provider(
    token_endpoint="https://as.example.com",
    rejections=frozenset(
        {
            "user_disabled",
            Rejection(r"\AE4\d\d\Z", at="fault.number", description_at="fault.reading"),
            Rejection(r"refresh token .* (gone|revoked)", at="message", description_at="message"),
        }
    ),
)

# Codes that are spelled, placed and wrapped as servers do it. Each of them says that a person must act.
REJECTED = [
    ({"error": "invalid_grant"}, "invalid_grant"),
    ({"error": "invalid_grant", "error_description": "revoked"}, "invalid_grant: revoked"),
    ({"error": "INVALID_GRANT", "error_description": "gone"}, "invalid_grant: gone"),
    ({"error": " Invalid_Grant "}, "invalid_grant"),
    ({"error": "invalid-grant"}, "invalid_grant"),
    ({"error": "InvalidGrant"}, "invalid_grant"),
    ({"error": "Invalid grant"}, "invalid_grant: Invalid grant"),
    ({"error": "invalid_grant: Token is expired or invalid."}, "invalid_grant: Token is expired or invalid."),
    ({"error": "oauth2: invalid_client (see the log)"}, "invalid_client: oauth2: invalid_client (see the log)"),
    ({"error": {"code": "invalid_grant", "message": "revoked"}}, "invalid_grant: revoked"),
    ({"error": {"type": "invalid_grant", "message": "revoked"}}, "invalid_grant: revoked"),
    ({"error": {"error": {"code": "UNAUTHORIZED_CLIENT"}}}, "unauthorized_client"),
    ({"error": {"code": "access_denied", "message": "no"}}, "access_denied: no"),
    ({"errors": [{"errorType": "invalid_grant", "message": "invalid"}], "success": False}, "invalid_grant: invalid"),
    ({"errors": ["invalid_client"]}, "invalid_client"),
    (
        {"errorCode": "invalid_client", "errorSummary": "Invalid value for client_id."},
        "invalid_client: Invalid value for client_id.",
    ),
    ({"error_code": "invalid_scope", "errorMessage": "no such scope"}, "invalid_scope: no such scope"),
    ({"code": "invalid_grant", "msg": "the login has ended"}, "invalid_grant: the login has ended"),
    (
        {"type": "https://as.example.com/problems/invalid-grant", "title": "Bad Request", "detail": "withdrawn"},
        "invalid_grant: withdrawn",
    ),
    ({"type": "urn:ietf:params:oauth:error:invalid_target", "title": "Bad target"}, "invalid_target: Bad target"),
    ({"message": "invalid_grant: the token was used"}, "invalid_grant: the token was used"),
    (
        {"fault": {"faultstring": "no such client", "detail": {"errorcode": "oauth.v2.invalid_client"}}},
        "invalid_client: no such client",
    ),
    ([{"errorCode": "invalid_grant", "message": "expired"}], "invalid_grant: expired"),
    ("invalid_grant", "invalid_grant"),
    (b"invalid_client", "invalid_client"),
    (b"error=invalid_grant&error_description=it+has+ended", "invalid_grant: it has ended"),
    ({"Error": "invalid_grant", "ErrorDescription": "ended"}, "invalid_grant: ended"),
]

# Transient or unclear: the words are reported, and nobody is signed out.
PASSES = [
    (401, {"message": "Invalid client credentials"}, "AS answered 401: Invalid client credentials"),
    (
        403,
        {"detail": "this address is not on the allow list"},
        "AS answered 403: this address is not on the allow list",
    ),
    (
        403,
        b"<html><head><title>Access denied by rule 4711</title></head></html>",
        "AS answered 403: Access denied by rule 4711",
    ),
    (
        403,
        b"<html><body><style>a{}</style><h1>Sorry</h1><p>Not &amp; today</p></body></html>",
        "AS answered 403: Sorry Not & today",
    ),
    (403, b"Access Denied", "AS answered 403: Access Denied"),
    (403, {"error": "Forbidden", "message": "the firewall says no"}, "AS answered 403 Forbidden: the firewall says no"),
    (403, {"message": "Access Denied", "code": "AccessDenied"}, "AS answered 403 AccessDenied: Access Denied"),
    (
        400,
        {"error": "suspended", "error_description": "the tenant has not paid"},
        "AS answered 400 suspended: the tenant has not paid",
    ),
    (
        400,
        {"errors": [{"message": "the grant type is switched off"}]},
        "AS answered 400: the grant type is switched off",
    ),
    (400, {"errors": {"grant": ["first", "second"]}}, "AS answered 400: first; second"),
    (401, {"errorCode": "E0000004", "errorSummary": "not assigned"}, "AS answered 401 E0000004: not assigned"),
    (400, {"error": {"code": 98, "message": "busy"}}, "AS answered 400 98: busy"),
    (400, {"status": "error", "code": 400, "message": "odd"}, "AS answered 400: odd"),
    (429, {"error": "invalid_grant", "error_description": "slow down"}, "AS answered 429 invalid_grant: slow down"),
    (503, {"error": {"code": "invalid_client"}}, "AS answered 503 invalid_client"),
    (
        500,
        {"error": "server_error", "error_description": "a " * 900},
        "AS answered 500 server_error: " + ("a " * 900)[:597] + "...",
    ),
    (401, b"", "AS answered 401"),
    (403, {}, "AS answered 403"),
    (404, b"\xe9 is no \xff text", "AS answered 404: \ufffd is no \ufffd text"),
    (200, {"error": {"code": 98, "message": "this client is locked"}}, "AS answered 200 98: this client is locked"),
    (200, {"ok": False, "reason": "try later"}, "AS answered 200: try later"),
    (200, {"success": False, "errors": [{"message": "later"}]}, "AS answered 200: later"),
    (
        200,
        b"<html><title>Log in to the hotel</title></html>",
        "AS answered 200 with a body that is not a JSON object: Log in to the hotel",
    ),
    (200, b"AbCdEfGhIjKl", "AS answered 200 with a body that is not a JSON object"),
]

MICROSOFT = {
    "error": "interaction_required",
    "error_description": "AADSTS50076: you must use multi-factor authentication.",
    "error_codes": [50076],
    "suberror": "basic_action",
    "trace_id": "0a1b2c3d-aaaa-bbbb-cccc-1234567890ab",
    "correlation_id": "9f8e7d6c-dddd-eeee-ffff-ba0987654321",
}

TABLE = [
    *(
        Row("plain", status, body, said.split(":")[0], f"{said} (AS answered {status})")
        for status in (200, 400, 401, 403)
        for body, said in REJECTED
    ),
    *(Row("plain", status, body, None, said) for status, body, said in PASSES),
    Row(
        "plain",
        400,
        {"title": "Bad Request", "detail": "ended", "type": "about:blank"},
        None,
        "AS answered 400: ended",
        PROBLEM,
    ),
    Row(
        "entra",
        400,
        MICROSOFT,
        "interaction_required",
        "interaction_required: AADSTS50076: you must use multi-factor authentication. (suberror basic_action, "
        "trace_id 0a1b2c3d-aaaa-bbbb-cccc-1234567890ab, correlation_id "
        "9f8e7d6c-dddd-eeee-ffff-ba0987654321) (AS answered 400)",
    ),
    Row(
        "entra",
        400,
        {"error": "invalid_resource", "error_description": "AADSTS500011: no such resource"},
        "invalid_resource",
        "invalid_resource: AADSTS500011: no such resource (AS answered 400)",
    ),
    Row(
        "entra",
        400,
        {"error": "invalid_grant", "error_description": "AADSTS50196: a client request loop"},
        None,
        "AS answered 400 invalid_grant: AADSTS50196: a client request loop",
    ),
    Row(
        "hubspot",
        400,
        {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"},
        "BAD_REFRESH_TOKEN",
        "BAD_REFRESH_TOKEN: missing or invalid refresh token (AS answered 400)",
    ),
    Row(
        "hubspot",
        400,
        {"status": "BAD_CLIENT_SECRET", "message": "no match"},
        "BAD_CLIENT_SECRET",
        "BAD_CLIENT_SECRET: no match (AS answered 400)",
    ),
    Row(
        "hubspot",
        429,
        {"status": "error", "message": "limit", "policyName": "SECONDLY"},
        None,
        "AS answered 429: limit",
    ),
    Row(
        "plain",
        400,
        {"status": "BAD_REFRESH_TOKEN", "message": "missing"},
        None,
        "AS answered 400 BAD_REFRESH_TOKEN: missing",
    ),
    Row(
        "paypal",
        401,
        {"name": "AUTHENTICATION_FAILURE", "message": "failed", "debug_id": "f1"},
        "AUTHENTICATION_FAILURE",
        "AUTHENTICATION_FAILURE: failed (debug_id f1) (AS answered 401)",
    ),
    Row(
        "quickbooks",
        401,
        {
            "Fault": {
                "Error": [{"Message": "AuthenticationFailed", "Detail": "Token revoked", "code": "3200"}],
                "type": "AUTHENTICATION",
            }
        },
        "AUTHENTICATION",
        "AUTHENTICATION: Token revoked (AS answered 401)",
    ),
    Row(
        "zoom",
        400,
        {"reason": "Invalid Token!", "error": "invalid_grant"},
        "invalid_grant",
        "invalid_grant: Invalid Token! (AS answered 400)",
    ),
    Row(
        "zoom",
        400,
        {"code": 4717, "reason": "The app has been disabled"},
        "4717",
        "4717: The app has been disabled (AS answered 400)",
    ),
    Row(
        "github",
        200,
        {"error": "bad_refresh_token", "error_description": "incorrect or expired"},
        "bad_refresh_token",
        "bad_refresh_token: incorrect or expired (AS answered 200)",
    ),
    Row(
        "google",
        400,
        {"error": "admin_policy_enforced", "error_description": "no"},
        "admin_policy_enforced",
        "admin_policy_enforced: no (AS answered 400)",
    ),
    Row(
        "google",
        400,
        {"error": "invalid_grant", "error_description": "reauth", "error_subtype": "invalid_rapt"},
        "invalid_grant",
        "invalid_grant: reauth (error_subtype invalid_rapt) (AS answered 400)",
    ),
    Row(
        "auth0",
        403,
        {"error": "mfa_required", "error_description": "Multifactor required"},
        "mfa_required",
        "mfa_required: Multifactor required (AS answered 403)",
    ),
    Row(
        "atlassian",
        403,
        {"error": "unauthorized_client", "error_description": "refresh_token is invalid"},
        "unauthorized_client",
        "unauthorized_client: refresh_token is invalid (AS answered 403)",
    ),
    Row(
        "okta",
        401,
        {"errorCode": "invalid_client", "errorSummary": "Invalid client", "errorId": "oae1"},
        "invalid_client",
        "invalid_client: Invalid client (errorId oae1) (AS answered 401)",
    ),
    Row("okta", 429, {"errorCode": "E0000047", "errorSummary": "too many"}, None, "AS answered 429 E0000047: too many"),
    Row(
        "dropbox",
        429,
        {"error_summary": "too_many_requests/..", "error": {"reason": {".tag": "too_many_requests"}}},
        None,
        "AS answered 429: too_many_requests/..",
    ),
    Row(
        "own",
        400,
        {"error": "User_Disabled", "error_description": "gone"},
        "user_disabled",
        "user_disabled: gone (AS answered 400)",
    ),
    Row(
        "own",
        400,
        {"fault": {"number": "E404", "reading": "no such grant"}},
        "E404",
        "E404: no such grant (AS answered 400)",
    ),
    Row("own", 400, {"fault": {"number": "E500", "reading": "later"}}, None, "AS answered 400: later"),
    Row(
        "own",
        400,
        {"message": "The refresh token was revoked"},
        "invalid_grant",
        "invalid_grant: The refresh token was revoked (AS answered 400)",
    ),
]


def source_of(name: str, url: str) -> Any:
    habits = OWN if name == "own" else PROVIDERS.get(name, Provider(token_endpoint=url))
    here = dataclasses.replace(habits, token_endpoint=url, revocation_endpoint=None, defaults={})
    return RefreshToken(OAuthClient.for_provider(here, client_id="svc", client_secret=SECRET), REFRESH)


def answer_of(status: int, body: Any, kind: str) -> bytes:
    whole = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http(status, whole, {"content-type": "text/plain" if isinstance(body, bytes) else kind})


@pytest.mark.parametrize("row", TABLE, ids=[f"{n}-{row.provider}-{row.status}" for n, row in enumerate(TABLE)])
async def test_refusal(row):
    """F4: a refusal is recognised in every spelling, and the message has the origin, the status, code and words."""
    async with Wire(always(answer_of(row.status, row.body, row.kind))) as wire:
        with pytest.raises((GrantRejected, TransientRefreshError)) as caught:
            await source_of(row.provider, wire.url()).fetch(a_request())
    error = caught.value
    assert str(error).replace(wire.url(""), "AS") == row.message
    if row.code is None:
        assert isinstance(error, TransientRefreshError)
    else:
        assert isinstance(error, GrantRejected)
        assert (error.error, error.origin, error.status) == (row.code, wire.url(""), row.status)


ECHOES = [
    {"error": "invalid_grant", "error_description": "{}"},
    {"error": {"code": "{}", "message": "{}"}},
    {"errors": [{"message": "unknown {}"}], "trace_id": "{}"},
    {"error": "odd", "detail": "x" * 590 + " {}"},
    "{}",
    ["{}"],
    b"<html><title>{}</title></html>",
    b"no such thing: {}",
    b"x" * 995 + b" {}",
]


@pytest.mark.parametrize("secret", [SECRET, REFRESH])
@pytest.mark.parametrize("body", ECHOES, ids=range(len(ECHOES)))
@pytest.mark.parametrize("status", [200, 400, 401, 503])
async def test_echoed_secret(status, body, secret):
    """S1: for every shape, and for every cut of the text, no part of a sent secret is in the message."""
    if isinstance(body, bytes):
        filled = body.replace(b"{}", secret.encode())
    else:
        filled = json.dumps(body).replace("{}", json.dumps(secret)[1:-1]).encode()
    async with Wire(always(http(status, filled, {"content-type": "application/json"}))) as wire:
        with pytest.raises((GrantRejected, TransientRefreshError)) as caught:
            await source_of("plain", wire.url()).fetch(a_request())
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/o/token/", "AS/o/token/"),
        ("https://as.example.com/token?code=planted#planted", "https://as.example.com/token"),
        ("https://planted:planted@as.example.com/", "https://as.example.com/"),
        ("//as.example.com/t", "http://as.example.com/t"),
        ("http://[", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect(status, location, shown):
    """S2: a redirect is not followed, and the message says where to, without what may be secret."""
    headers = {} if location is None else {"Location": location}
    async with Wire(always(http(status, b"", headers))) as wire:
        with pytest.raises(TransientRefreshError) as caught:
            await source_of("plain", wire.url("/o/token")).fetch(a_request())
    said = str(caught.value).replace(wire.url(""), "AS")
    if shown is not None:
        assert said == f"AS answered {status} with a redirect to {shown!r}, which is not followed"
    assert said.startswith(f"AS answered {status} with a redirect")
    assert "planted" not in said
    assert not caught.value.ambiguous


@pytest.mark.parametrize("pattern", ["(", "[", "*"])
def test_pattern_of_a_rejection(pattern):
    """Bad input: a pattern that is no regular expression is told at construction."""
    with pytest.raises(ValueError, match="pattern must be a regular expression"):
        Rejection(pattern)


@pytest.mark.parametrize("call", ["get", "refresh"])
async def test_callers_are_told_who_refused(call):
    """F4: the error that a caller catches says which server answered, and with what status."""
    async with Wire(always(http(401, {"error": "invalid_client", "error_description": "unknown client"}))) as wire:
        client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="planted")
        async with TokenManager(ClientCredentials(client)) as tokens:
            for _ in range(2):
                with pytest.raises(GrantRejected, match=r"client \(http://127.0.0.1:\d+ answered 401\)") as caught:
                    await getattr(tokens, call)()
                assert (caught.value.origin, caught.value.status) == (wire.url("").rstrip("/"), 401)
