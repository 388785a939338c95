"""L1, U5: a program ends within seconds, however it leaves its manager behind; so does a fork of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from evertoken import TokenManager, run_in_background

PROGRAMS = {
    "a fork leaves the block": """
        with run_in_background(manager) as tokens:
            tokens.get_sync()
            child = os.fork()
            if child == 0:
                try:
                    tokens.get_sync(min_ttl=1.0)
                except RuntimeError:
                    pass
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert tokens.get_sync().access_token == "token"
        """,
    "a fork starts one of its own": """
        with run_in_background(manager) as tokens:
            tokens.get_sync()
            child = os.fork()
            if child == 0:
                with run_in_background(manager) as own:
                    assert own.get_sync(min_ttl=1.0).access_token == "token"
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
    "a fork raises in the block": """
        try:
            with run_in_background(manager) as tokens:
                child = os.fork()
                if child == 0:
                    raise KeyError
                assert os.waitpid(child, 0)[1] == 0
        except KeyError:
            sys.exit(0)
        """,
    "never left": """
        block = run_in_background(manager)
        block.__enter__()
        assert manager.get_sync().access_token == "token"
        """,
    "never left, with a hung source": """
        hung = TokenManager(lambda: time.sleep(600), close_grace=0.1)
        block = run_in_background(hung)
        block.__enter__()
        time.sleep(0.3)
        """,
    "never left, with threads that wait": """
        hung = TokenManager(lambda: time.sleep(600), close_grace=0.1)
        block = run_in_background(hung)
        block.__enter__()
        threading.Thread(target=lambda: hung.get_sync(timeout=500.0), daemon=True).start()
        time.sleep(0.3)
        """,
    "left by sys.exit": """
        with run_in_background(manager) as tokens:
            tokens.get_sync()
            sys.exit(0)
        """,
    "asked in atexit": """
        import atexit
        block = run_in_background(manager)
        block.__enter__()
        def ask():
            try:
                manager.get_sync(min_ttl=1e9, timeout=1.0)
            except Exception:
                pass
        atexit.register(ask)
        """,
    "a fork of an async program": """
        async def main():
            async with manager:
                await manager.get()
                child = os.fork()
                if child == 0:
                    try:
                        manager.get_sync(min_ttl=1.0)
                    except RuntimeError:
                        os._exit(0)
                    os._exit(1)
                assert os.waitpid(child, 0)[1] == 0
                await manager.get()
        asyncio.run(main())
        """,
    "asyncio.run ends without a close": """
        async def main():
            await manager.start()
            await manager.get()
        asyncio.run(main())
        asyncio.run(main())
        """,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends(program):
    """L1, U5: a program ends within seconds, however it leaves its manager behind."""
    head = """
        import asyncio, os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        from evertoken import TokenManager, run_in_background
        manager = TokenManager(lambda: ("token", 600.0))
        """
    source = textwrap.dedent(head) + textwrap.dedent(PROGRAMS[program])
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=40.0, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_the_block_is_left_by_an_error(error):
    """L1: every exception inside the block of `run_in_background` comes out of it, and the manager is closed."""
    manager = TokenManager(lambda: "token")
    with pytest.raises(error), run_in_background(manager):
        raise error
    assert manager.snapshot().state == "closed"
