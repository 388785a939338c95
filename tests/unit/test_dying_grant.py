"""
When a grant counts as about to die.
"""

from __future__ import annotations

import pytest

from evertoken import Token
from evertoken._model.key_status import dying_at
from evertoken._model.token_response import GRANT_EXPIRES_AT, GRANT_ISSUED_AT

NOW = 1_893_456_000.0
DAY = 86_400.0


@pytest.mark.parametrize(
    ("lifetime", "age", "left", "dies"),
    [
        # Two lifetimes of a token before its end, where that is more than a share of the grant's life.
        (3600.0, DAY / 4, 7300.0, None),
        (3600.0, DAY / 4, 7200.0, 7200.0),
        (3600.0, DAY / 4, 60.0, 60.0),
        (3600.0, DAY / 4, -60.0, -60.0),
        (60.0, 80.0 * DAY, 80.0 * DAY, None),
        (60.0, 80.0 * DAY, 0.1 * DAY, 0.1 * DAY),
        # A token whose lifetime is unknown.
        (None, 3.5, 1.5, None),
        (None, 6.5, 1.5, 1.5),
    ],
)
def test_a_grant_that_dies(lifetime, age, left, dies):
    """L2: a grant that dies soon is told in time, and one that lives long is not."""
    extra = {GRANT_EXPIRES_AT: NOW + left, GRANT_ISSUED_AT: NOW - age}
    expires_at = None if lifetime is None else NOW + lifetime
    token = Token("a", issued_at=NOW, expires_at=expires_at, refresh_token="r", extra=extra)
    assert dying_at(token, NOW) == (None if dies is None else NOW + dies)


@pytest.mark.parametrize(
    "extra",
    [{}, {GRANT_EXPIRES_AT: NOW + 60.0}, {GRANT_ISSUED_AT: NOW}, {GRANT_EXPIRES_AT: NOW + 60.0, GRANT_ISSUED_AT: NOW}],
)
def test_a_grant_that_is_put_off(extra):
    """L2: a grant whose end is unknown, or which each refresh prolongs, is not about to die."""
    token = Token("a", issued_at=NOW, expires_at=NOW + 3600.0, refresh_token="r", extra=extra)
    assert dying_at(token, NOW) is None
