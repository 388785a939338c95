"""FetchRequest: which refresh token is presented."""

from __future__ import annotations

import pytest

from evertoken import FetchRequest, Token
from evertoken._model.fetch_request import MAX_ORIGINS
from evertoken._model.token import origin_of

INITIAL, KEPT = "initial-s3cr3t", "kept-s3cr3t"
OWN, OTHER = origin_of(INITIAL), origin_of("another")
WITH = Token("a", issued_at=0.0, refresh_token=KEPT)
WITHOUT = Token("a", issued_at=0.0)
BARE = Token("", issued_at=0.0, expires_at=0.0, refresh_token=KEPT)
FULL = tuple(origin_of(str(number)) for number in range(MAX_ORIGINS))


@pytest.mark.parametrize(
    ("current", "origins", "presented", "anew", "after"),
    [
        (None, (), INITIAL, False, (OWN,)),
        (None, (OTHER,), INITIAL, False, (OTHER, OWN)),
        (None, (OWN,), INITIAL, False, (OWN,)),
        (WITHOUT, (), INITIAL, False, (OWN,)),
        (WITHOUT, (OTHER,), INITIAL, False, (OTHER, OWN)),
        (WITHOUT, (OWN,), INITIAL, False, (OWN,)),
        # The first refresh token of the grant is unknown: put(), or an old record.
        (WITH, (), KEPT, False, (OWN,)),
        (WITH, (OWN,), KEPT, False, (OWN,)),
        (WITH, (OWN, OTHER), KEPT, False, (OWN, OTHER)),
        (WITH, (OTHER, OWN), KEPT, False, (OTHER, OWN)),
        (BARE, (OWN,), KEPT, False, (OWN,)),
        (WITH, (OTHER,), INITIAL, True, (OTHER, OWN)),
        (BARE, (OTHER,), INITIAL, True, (OTHER, OWN)),
        (WITH, FULL, INITIAL, True, (*FULL[1:], OWN)),
        (WITH, (*FULL[1:], OWN), KEPT, False, (*FULL[1:], OWN)),
    ],
)
def test_which_refresh_token_is_presented(current, origins, presented, anew, after):
    """K6: a configured refresh token that the grant has not taken into account is a new login, and is presented."""
    request = FetchRequest("key", current, 5.0, origins=origins)
    assert not request.began_anew
    # A source may ask again, as after a nonce was asked for.
    for _ in range(3):
        assert request.refresh_token_for(INITIAL) == presented
        assert request.began_anew is anew
        assert request.origins == after
    assert "s3cr3t" not in repr(request)


def test_two_configurations_in_turn():
    """K6: members that are configured differently do not take the grant from each other again and again."""
    origins: tuple[str, ...] = ()
    anew = []
    current: Token | None = None
    for initial in ("one", "two", "one", "two", "one"):
        request = FetchRequest(None, current, 5.0, origins=origins)
        request.refresh_token_for(initial)
        anew.append(request.began_anew)
        current, origins = WITH, request.origins
    assert anew == [False, True, False, False, False]
