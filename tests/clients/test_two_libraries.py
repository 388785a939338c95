"""The auth that `auth()` makes is one of httpx and one of httpx2, and loads neither for the sake of the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

MADE = "from evertoken import TokenManager\nauth = TokenManager(lambda: 'token').auth()\n"
CHECKS = "httpx2.Client(auth=auth).close(); httpx.Client(auth=auth).close(); print(isinstance(auth, httpx2.Auth))"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (f"{MADE}import httpx, httpx2; {CHECKS}", "True"),
        (f"import httpx2, httpx\n{MADE}{CHECKS}", "True"),
        (f"{MADE}import httpx\nisinstance(auth, int)\nimport httpx2; {CHECKS}", "True"),
        (f"{MADE}import httpx, sys; httpx.Client(auth=auth).close(); print('httpx2' in sys.modules)", "False"),
        # A module that another thread is still loading does not count as loaded.
        (f"{MADE}import sys, types; sys.modules['httpx2'] = types.ModuleType('a'); print(isinstance(auth, int))",
         "False"),
        (f"{MADE}import httpx2, copy; print(copy.deepcopy(auth) is auth, type(auth).__name__, repr(auth)[:10])",
         "True BearerAuth BearerAuth"),
    ],
)  # fmt: skip
def test_in_whatever_order_they_are_imported(program, said):
    """
    U1: the clients of both libraries take it, imported in any order. A program with httpx alone loads nothing else.
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == (said, "")
