"""Token exchange (RFC 8693), with parents that are keys of the same manager."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import pytest
from tests.sources.wire import Wire, always, granted, http

from evertoken import FetchRequest, GrantRejected, RefreshPolicy, Token, TokenManager, TokenUnavailable
from evertoken.sources import ClientCredentials, OAuthClient, TokenExchange

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


async def test_what_is_sent(tmp_path):
    """RFC 8693 section 2.1: subject and actor with their types, and the requested type."""
    (tmp_path / "actor").write_text("actor-token\n")
    async with Wire(always(granted())) as wire:
        source = TokenExchange(
            OAuthClient(token_endpoint=wire.url()),
            "subject-token",
            subject_token_type="urn:ietf:params:oauth:token-type:jwt",
            actor_token=tmp_path / "actor",
            requested_token_type=ACCESS_TOKEN,
            audience="https://api.example.com",
        )
        await source.fetch(FetchRequest(None, None, 5.0))
        assert dict(wire.asked[0].form) == {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": "subject-token",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "actor_token": "actor-token",
            "actor_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": "https://api.example.com",
        }


async def test_parent_is_made_valid_first_and_caps_the_child():
    """K4: the parent's token is the subject token, and the child does not outlive it."""

    async def answer(asked, _writer):
        form = dict(asked.form)
        if form["grant_type"] == "client_credentials":
            return granted(access_token="parent-token", expires_in=600)
        assert form["subject_token"] == "parent-token"
        return granted(access_token="child-token", expires_in=3600)

    async with Wire(answer) as wire:
        parent = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        tokens = TokenManager({"parent": parent, "child": _child(wire, lambda: tokens)})
        async with tokens:
            child = await tokens.get("child")
            assert child.access_token == "child-token"
            elder = tokens.peek("parent")
            assert elder is not None
            assert child.expires_at is not None
            assert elder.expires_at is not None
            assert child.expires_at <= elder.expires_at


@pytest.mark.parametrize("fields", [{"expires_in": 60}, {"expires_in": None, "access_token": "JWT"}])
async def test_a_child_that_dies_first(fields):
    """T1: what the answer says of the child's life counts, if that is shorter, an `exp` in it too."""
    exp = time.time() + 60.0
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode().rstrip("=")
    if fields.get("access_token"):
        fields = {**fields, "access_token": f"e30.{claims}.c2ln"}

    class Parent:
        async def get(self):
            return Token("parent", issued_at=time.time(), expires_at=time.time() + 600.0)

    async with Wire(always(granted(**fields))) as wire, TokenManager(_exchange(Parent(), wire)) as tokens:
        token = await tokens.get()
    assert token.expires_at == pytest.approx(exp, abs=2.0)


@pytest.mark.parametrize(("default", "lives"), [(None, 600.0), (60.0, 60.0), (6000.0, 600.0)])
async def test_a_child_that_does_not_say(default, lives):
    """T1: where the answer says nothing the configured default counts, and the parent's end in any case."""

    class Parent:
        async def get(self):
            return Token("parent", issued_at=time.time(), expires_at=time.time() + 600.0)

    policy = RefreshPolicy(default_lifetime=default)
    async with Wire(always(http(200, {"access_token": "opaque"}))) as wire:
        async with TokenManager(_exchange(Parent(), wire), policy=policy) as tokens:
            assert (await tokens.get()).expires_at == pytest.approx(time.time() + lives, abs=5.0)


def _exchange(parent, wire):
    return TokenExchange(OAuthClient(token_endpoint=wire.url()), parent)


def _child(wire, manager):
    class Parent:
        async def get(self):
            return await manager().get("parent")

    return TokenExchange(OAuthClient(token_endpoint=wire.url()), Parent())


async def test_parent_by_a_handle_of_the_same_manager():
    """F4: a handle is a parent; its rejection is the child's, by its code, though the child was never refused."""

    async def answer(asked, _writer):
        form = dict(asked.form)
        if form["grant_type"] == "client_credentials":
            return problem or granted(access_token="parent-token", expires_in=600)
        return granted(access_token=f"for-{form['scope']}-of-{form['subject_token']}")

    problem = b""
    async with Wire(answer) as wire:
        client = {"token_endpoint": wire.url(), "client_id": "svc", "client_secret": "s3cret"}
        tokens = TokenManager(
            source_for=lambda user: (
                TokenExchange(OAuthClient(**client), tokens.handle(""), scope=user)
                if user
                else ClientCredentials(OAuthClient(**client))
            )
        )
        async with tokens:
            assert (await tokens.get("alice")).access_token == "for-alice-of-parent-token"
            assert (await tokens.get("bob")).access_token == "for-bob-of-parent-token"
            await tokens.revoke("")
            problem = http(401, {"error": "invalid_client"})
            with pytest.raises(GrantRejected):
                await tokens.refresh("")
            # A signed-out key stays so if the attempt to begin anew is rejected.
            with pytest.raises(GrantRejected, match="signed out"):
                await tokens.get("carol")
    assert [dict(asked.form)["grant_type"] for asked in wire.asked].count("client_credentials") == 2


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [(400, "invalid_grant", GrantRejected), (503, "later", TokenUnavailable)],
)
async def test_failure_of_the_parent_is_the_child_s(status, error, raised):
    """F4: a rejected parent rejects the child; one that is only away makes it unavailable."""
    async with Wire(always(http(status, {"error": error}))) as wire:
        parent = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        tokens = TokenManager({"parent": parent, "child": _child(wire, lambda: tokens)})
        async with tokens:
            with pytest.raises(raised):
                await tokens.get("child")
        assert not any("subject_token" in dict(asked.form) for asked in wire.asked)


@pytest.mark.parametrize("role", ["subject_token", "actor_token"])
@pytest.mark.parametrize("error", ["invalid_grant", "invalid_request"])
async def test_parent_revoked_early(role, error):
    """F4: a parent whose token was revoked before its end is told so, once, and the child has its new one."""
    granted_to, asked_for = [], []

    async def answer(asked, _writer):
        form = dict(asked.form)
        if form["grant_type"] == "client_credentials":
            granted_to.append(f"parent-{len(granted_to)}")
            return granted(access_token=granted_to[-1], expires_in=600)
        asked_for.append(form[role])
        revoked = form[role] == "parent-0" and len(asked_for) > 1
        return http(400, {"error": error}) if revoked else granted(access_token=f"child-of-{form[role]}")

    async with Wire(answer) as wire:
        client = {"token_endpoint": wire.url(), "client_id": "svc", "client_secret": "s3cret"}
        tokens = TokenManager(
            source_for=lambda key: (
                TokenExchange(OAuthClient(**client), **{"subject_token": "static", role: tokens.handle("parent")})
                if key == "child"
                else ClientCredentials(OAuthClient(**client))
            )
        )
        async with tokens:
            assert (await tokens.get("child")).access_token == "child-of-parent-0"
            assert (await tokens.refresh("child")).access_token == "child-of-parent-1"
            parent = tokens.peek("parent")
            assert parent is not None
            assert parent.access_token == "parent-1"
    assert asked_for == ["parent-0", "parent-0", "parent-1"]
    assert granted_to == ["parent-0", "parent-1"]


@pytest.mark.parametrize(
    ("error", "exchanges", "parents"), [("invalid_grant", 2, 2), ("invalid_target", 1, 1), ("invalid_client", 1, 1)]
)
async def test_child_that_is_rejected_itself(error, exchanges, parents):
    """F4: an exchange that is rejected with a new parent too ends there, and one that is to blame itself sooner."""

    async def answer(asked, _writer):
        fine = dict(asked.form)["grant_type"] == "client_credentials"
        return granted(access_token=f"parent-{len(wire.asked)}") if fine else http(400, {"error": error})

    async with Wire(answer) as wire:
        client = {"token_endpoint": wire.url(), "client_id": "svc", "client_secret": "s3cret"}
        tokens = TokenManager(
            source_for=lambda key: (
                TokenExchange(OAuthClient(**client), tokens.handle("parent"))
                if key == "child"
                else ClientCredentials(OAuthClient(**client))
            )
        )
        async with tokens:
            with pytest.raises(GrantRejected, match=error):
                await tokens.get("child")
            assert tokens.peek("parent") is not None
    grants = [dict(asked.form)["grant_type"] for asked in wire.asked]
    assert grants.count("client_credentials") == parents
    assert len(grants) == exchanges + parents


@pytest.mark.parametrize("with_word", [False, True])
async def test_parent_that_has_no_other(with_word):
    """F4: where a parent cannot be told, or has no other token, the rejection is the child's at once."""

    class Parent:
        async def get(self):
            return Token("parent", issued_at=time.time(), expires_at=time.time() + 600.0)

    parent = Parent()
    if with_word:

        async def refused(token):
            assert token.access_token == "parent"

        parent.refused = refused
    async with Wire(always(http(400, {"error": "invalid_grant"}))) as wire:
        with pytest.raises(GrantRejected, match="invalid_grant"):
            await _exchange(parent, wire).fetch(FetchRequest(None, None, 5.0))
    assert len(wire.asked) == 1


async def test_many_children_of_one_parent_do_not_stand_in_its_way():
    """F6: more children than there are places for fetches wait for their parent, which still gets one."""
    async with Wire(always(granted(expires_in=600))) as wire:
        parent = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        keys = range(40)
        sources = {number: _child(wire, lambda: tokens) for number in keys}
        tokens: TokenManager = TokenManager({"parent": parent, **sources}, concurrency=2)
        async with tokens, asyncio.timeout(20):
            await asyncio.gather(*(tokens.get(number) for number in keys))
