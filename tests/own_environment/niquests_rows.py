"""
The row of niquests in the table of HTTP clients. The checks of these classes stand in `test_niquests.py`.

niquests replaces urllib3, which other tests need, so it has an environment of its own: `nox -s niquests`. This module
does not import it.
"""

from __future__ import annotations

from tests.clients.contract import Contract


class OfSession(Contract):
    name = "niquests.Session"
    extra = "niquests"
    lines = "session.auth = BearerAuth(tokens.handle())"
    without = 16
    blocking = True


class OfAsyncSession(Contract):
    name = "niquests.AsyncSession"
    extra = "niquests"
    lines = "session.auth = AsyncBearerAuth(tokens.handle())"
    without = 16


ADAPTERS: list[type[Contract]] = [OfSession, OfAsyncSession]
