"""S1: nothing that a public call raises, and nothing that holds a secret, shows one to an error reporter."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from typing import Any

import httpx
import pytest
from tests.leaks import scenes
from tests.leaks.cases import IN_SCENES, WITHOUT, constructors, methods, public
from tests.leaks.planted import SECRETS, oauth_client, request, secrets_in, token
from tests.leaks.run import Report, all_cases, look_at_values, prepared, walk
from tests.leaks.walker import chain, shown, written

from evertoken import Answer, FetchRequest, Token, TokenManager
from evertoken._model.guarded import Guarded, Hidden, cut, guarded
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken

SECRET = SECRETS["client-secret"]
# One of so many is walked here; `python -m tests.leaks` walks all.
EVERY = 53


def test_nothing_is_found():
    """S1: a sample of all calls, with every kind of secret planted, shows none in frames, chains, logs and values."""
    report = Report()
    with prepared(report) as folder:
        walk(all_cases(folder, every=EVERY), report)
        look_at_values(folder, report)
    assert report.found == {}, str(report)
    assert report.calls > 150
    assert report.exceptions > 100
    assert report.logged > 500
    assert len(report.planted) >= 12, str(report.planted)


def test_every_public_name_is_walked():
    """S1: a public name that nobody planted a secret in fails here, with the name of its parameter."""
    report = Report()
    with prepared(report) as folder:
        walked = {case.name.partition("(")[0] for case in constructors(folder)}
    named = {name for name, thing in public().items() if thing.__name__ not in IN_SCENES}
    assert named <= walked
    in_scenes = {case.name.partition(":")[0].partition(" ")[0] for case in (*scenes.managers(), *scenes.clients())}
    assert {name.partition(".")[0] for name in in_scenes} == IN_SCENES
    unknown = [name for name in WITHOUT if not WITHOUT[name] or _missing(name)]
    assert unknown == []


def _missing(name: str) -> bool:
    module, _, last = name.rpartition(".")
    try:
        return not hasattr(__import__(module, fromlist=[last]), last)
    except ImportError:
        return True


async def asked_directly():
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(503)))
    await RefreshToken(oauth_client(client), SECRETS["refresh-token"]).fetch(request())


async def cancelled_by_a_timeout():
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    async with asyncio.timeout(0):
        await ClientCredentials(oauth_client(client)).fetch(request())


async def in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(asked_directly())


async def a_function_of_the_user():
    def load() -> str:
        raise LookupError

    client = OAuthClient(token_endpoint="https://as.example/token", client_id="app", client_secret=load)
    await ClientCredentials(client).fetch(request())


async def no_token_put():
    async with TokenManager(lambda: (SECRETS["returned"], 60.0)) as manager:
        wrong: Any = SECRETS["access-token"]
        await manager.put(wrong)


@pytest.mark.parametrize(
    "call",
    [asked_directly, cancelled_by_a_timeout, in_a_group, a_function_of_the_user, no_token_put],
    ids=lambda call: call.__name__,
)
async def test_the_line_of_the_call_is_seen(call):
    """S1: the traceback still has the caller's own line, the type and the message, and no secret."""
    with pytest.raises(BaseException) as info:
        await call()
    seen = {frame.name for one in chain(info.value) for frame in traceback.extract_tb(one.__traceback__)}
    assert call.__name__ in seen
    assert {kind for _, text in shown(info.value) for kind in secrets_in(text)} == set()


async def test_a_function_of_the_user_is_named():
    """The place where a user's own function failed is in a note, for its frame is not in the traceback."""
    with pytest.raises(LookupError) as info:
        await a_function_of_the_user()
    (note,) = info.value.__notes__
    assert note.startswith("raised at test_leaks.py:")
    assert note.endswith(" in load")


def raising(kind: str) -> BaseException:
    """Return an exception that came through a frame with a secret in it."""
    held = SECRET
    try:
        try:
            raise ValueError(len(held))
        except ValueError as error:
            if kind == "cause":
                raise KeyError("effect") from error
            if kind == "suppressed context":
                raise KeyError("effect") from None
            if kind == "group":
                raise ExceptionGroup("several", [error, OSError("another")])  # noqa: B904
            raise KeyError("effect")  # noqa: B904
    except Exception as error:  # noqa: BLE001 - to be looked at
        return error


@pytest.mark.parametrize("kind", ["cause", "context", "suppressed context", "group"])
def test_a_cut_chain_has_no_frames(kind):
    """S1: no exception of the chain keeps a traceback; causes and members of groups stay."""
    error = cut(raising(kind))
    assert all(one.__traceback__ is None and one.__context__ is None for one in chain(error))
    assert len(chain(error)) == {"cause": 2, "group": 3}.get(kind, 1)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: {"key": inner},
        lambda inner: [inner],
        lambda inner: type("Plain", (), {"__init__": lambda self: setattr(self, "value", inner)})(),
        lambda inner: type("Slots", (), {"__slots__": ("value",)}),
    ],
    ids=["mapping", "list", "attributes", "class"],
)
def test_the_walker_sees_what_it_should(wrap, depth):
    """The serialiser finds a secret three levels deep, so that an empty report means something."""
    value: object = SECRET
    for _ in range(depth):
        value = wrap(value)
    found = {kind for _, text in written(value) for kind in secrets_in(text)}
    assert found == (set() if inspect.isclass(value) else {"client-secret"})


def test_the_walker_sees_frames():
    """The reporters find a secret in a frame of the library that nothing guards."""
    namespace: dict[str, Any] = {}
    code = "def leak(secret):\n    raise LookupError\n"
    exec(compile(code, "library.py", "exec"), namespace)  # a file outside the tests
    leak = namespace["leak"]
    with pytest.raises(LookupError) as info:
        leak(SECRET)
    ways = {where.partition(" ")[0] for where, text in shown(info.value) if SECRET in text}
    assert {"LookupError", "capture_locals", "rich"} <= ways
    with pytest.raises(LookupError) as info:
        guarded(leak)(SECRET)
    assert [where for where, text in shown(info.value) if SECRET in text] == []


@pytest.mark.parametrize("kind", [Token, Answer, FetchRequest, Hidden, OAuthClient, RefreshToken, ClientCredentials])
def test_no_slot_is_listed(kind):
    """S1: a serialiser that goes by `__slots__`, `vars` or dataclass fields finds no secret in these."""
    listed = {name for one in kind.__mro__ for name in getattr(one, "__slots__", ()) if issubclass(one, Guarded)}
    assert listed <= {"__dict__", "__weakref__"}


async def test_guarded_methods_keep_their_kind():
    """A guarded object is still called, awaited, iterated and described as before."""

    class Kinds(Guarded):
        @classmethod
        def made(cls) -> str:
            """Return the name."""
            return cls.__name__

        @staticmethod
        def still(value: int) -> int:
            return value

        async def later(self, value: int = 1) -> int:
            return value

        async def items(self):
            for number in range(3):
                yield number

    thing = Kinds()
    assert (thing.made(), thing.still(2), await thing.later()) == ("Kinds", 2, 1)
    assert [item async for item in thing.items()] == [0, 1, 2]
    assert inspect.iscoroutinefunction(thing.later)
    assert str(inspect.signature(thing.later)) == "(value: 'int' = 1) -> 'int'"
    assert Kinds.made.__doc__ == "Return the name."
    assert vars(thing) == {}


async def test_threads_hand_back_what_shows_nothing(caplog):
    """S1: in debug mode asyncio logs what slow callbacks are given: results and errors of threads show nothing."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    caplog.set_level(logging.DEBUG)

    def fail() -> str:
        raise RuntimeError(SECRETS["returned"])

    async with TokenManager(lambda: (SECRETS["returned"], 60.0)) as manager:
        await manager.get()
    client = OAuthClient(token_endpoint="https://as.example/token", client_id="app", client_secret=fail)
    with pytest.raises(RuntimeError):
        await ClientCredentials(client).fetch(request())
    assert "Executing" in caplog.text
    assert secrets_in(caplog.text) == set()


def test_methods_are_found_by_inspection():
    """The list of calls is made from the classes, inherited methods and class methods included."""
    assert {"fetch", "revoke"} <= set(methods(RefreshToken))
    assert "for_provider" in methods(OAuthClient)
    assert token().refresh_token == SECRETS["refresh-token"]
