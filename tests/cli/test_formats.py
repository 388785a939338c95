"""The text formats of `get`, to the letter, for each kind of token."""

from __future__ import annotations

import json

import pytest

from evertoken import Token
from evertoken.cli.formats import FORMATS, Form
from evertoken.sources.aws import AwsCredentials

NOW = 1_893_456_000.0
BEARER = Token("abc-123", issued_at=NOW, expires_at=NOW + 90.7, scope="a b", refresh_token="planted-refresh")
ENDLESS = Token("abc-123", issued_at=NOW, token_type="DPoP")
AWS = AwsCredentials.of("AKIA", "key/+", "session", issued_at=NOW, expires_at=NOW + 90.7)
AWS_FOR_EVER = AwsCredentials.of("AKIA", "key/+", issued_at=NOW)

V1, BETA = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"


@pytest.mark.parametrize(
    ("form", "token", "text"),
    [
        (Form("token"), BEARER, "abc-123\n"),
        (Form("header"), BEARER, "Authorization: Bearer abc-123\n"),
        (Form("header"), ENDLESS, "Authorization: DPoP abc-123\n"),
        (Form("netrc", "git.example.com"), BEARER,
         "machine git.example.com\n  login oauth2\n  password abc-123\n"),
        (Form("netrc", "git.example.com", "x-access-token"), BEARER,
         "machine git.example.com\n  login x-access-token\n  password abc-123\n"),
    ],
)  # fmt: skip
def test_text(form, token, text):
    """A format that is plain text is this text."""
    assert form.text(token, NOW, {}) == text


@pytest.mark.parametrize(
    ("form", "token", "fields"),
    [
        ("json", BEARER, {"access_token": "abc-123", "token_type": "Bearer", "expires_in": 90, "expires_at": NOW + 90.7,
                          "scope": "a b", "issued_at": NOW, "fingerprint": BEARER.fingerprint}),
        ("json", ENDLESS, {"access_token": "abc-123", "token_type": "DPoP", "issued_at": NOW,
                           "fingerprint": ENDLESS.fingerprint}),
        ("json", AWS, {"access_token": "AKIA", "token_type": "AWS4-HMAC-SHA256", "secret_access_key": "key/+",
                       "session_token": "session", "expires_in": 90, "expires_at": NOW + 90.7, "issued_at": NOW,
                       "fingerprint": AWS.fingerprint}),
        ("exec-credential", BEARER, {"apiVersion": V1, "kind": "ExecCredential",
                                     "status": {"token": "abc-123", "expirationTimestamp": "2030-01-01T00:01:30Z"}}),
        ("exec-credential", ENDLESS, {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "abc-123"}}),
        ("aws-process", AWS, {"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "key/+",
                              "SessionToken": "session", "Expiration": "2030-01-01T00:01:30Z"}),
        ("aws-process", AWS_FOR_EVER, {"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "key/+"}),
    ],
)  # fmt: skip
def test_json(form, token, fields):
    """A format that is JSON has these fields in one line, and never the refresh token."""
    text = Form(form).text(token, NOW, {})
    assert json.loads(text) == fields
    assert (text.count("\n"), text[-1], "planted" in text) == (1, "\n", False)


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("", V1),
        ("{", V1),
        ("[]", V1),
        ("{}", V1),
        (f'{{"apiVersion": "{V1}"}}', V1),
        (f'{{"apiVersion": "{BETA}"}}', BETA),
    ],
)
def test_the_version_that_kubectl_asks_for(told, version):
    """The version is the one that kubectl asks for in KUBERNETES_EXEC_INFO."""
    text = Form("exec-credential").text(BEARER, NOW, {"KUBERNETES_EXEC_INFO": told} if told else {})
    assert json.loads(text)["apiVersion"] == version


@pytest.mark.parametrize(
    ("form", "token", "says"),
    [
        *[(name, AWS, f"AWS credentials cannot be written as {name}: use aws-process or json")
          for name in FORMATS if name not in {"aws-process", "json"}],
        ("aws-process", BEARER, "aws-process is for a source of the kind aws, and this one gives another token"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(form, token, says):
    """A token that has no such form is told, without the token (S1)."""
    with pytest.raises(ValueError, match=says) as caught:
        Form(form, "host").text(token, NOW, {})
    assert "key/+" not in str(caught.value)


def test_a_version_that_is_not_known():
    """A version of kubectl that is not known is told."""
    with pytest.raises(ValueError, match=r"kubectl asks for 'client\.authentication\.k8s\.io/v9'"):
        Form("exec-credential").text(
            BEARER, NOW, {"KUBERNETES_EXEC_INFO": '{"apiVersion": "client.authentication.k8s.io/v9"}'}
        )
