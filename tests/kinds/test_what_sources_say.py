"""F4, K4: every result and exception of a source is judged by its content."""

from __future__ import annotations

import asyncio

import pytest
from tests.kinds.rotating import ask
from tests.machinery.scripted import Recorder, ScriptedSource

from evertoken import GrantRejected, TokenManager, TokenUnavailable, TransientRefreshError, events

plain = pytest.mark.asyncio(loop_factories=["virtual"])
NO = GrantRejected("invalid_grant")
BLIP = ConnectionError("blip")


def nested(error, depth):
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return error


def because(error):
    foreign = ValueError("wrapped")
    foreign.__cause__ = error
    return foreign


REJECTIONS = {
    "bare": NO,
    "in a group": ExceptionGroup("group", [NO]),
    "beside a blip": ExceptionGroup("group", [BLIP, NO]),
    "before a blip": ExceptionGroup("group", [NO, BLIP]),
    "deep in groups": nested(NO, 200),
    "in a base group": BaseExceptionGroup("group", [asyncio.CancelledError(), NO]),
    "as a cause": because(NO),
    "as a cause in a group": ExceptionGroup("group", [BLIP, because(NO)]),
    "a group as a cause": because(ExceptionGroup("group", [BLIP, NO])),
}
BLIPS = {
    "bare": BLIP,
    "ours": TransientRefreshError("blip"),
    "in a group": ExceptionGroup("group", [BLIP, ValueError()]),
    "deep in groups": nested(BLIP, 200),
    "in a base group": BaseExceptionGroup("group", [asyncio.CancelledError()]),
    "cancelled by itself": asyncio.CancelledError(),
    "stop": StopAsyncIteration(),
    "generator exit": GeneratorExit(),
    "timeout": TimeoutError(),
    "assertion": AssertionError(),
    "recursion": RecursionError(),
    "memory": MemoryError(),
}


@plain
@pytest.mark.parametrize("case", REJECTIONS)
async def test_rejections(clock, case):
    """F4: a rejection is one, however it is wrapped: one loud event, `GrantRejected`, and a slow probe."""
    source, recorder = ScriptedSource(clock), Recorder()
    source.error = REJECTIONS[case]
    async with TokenManager(source, clock=clock, observers=[recorder]) as tokens:
        with pytest.raises(GrantRejected):
            await tokens.get()
        await clock.advance(250.0)
        await ask(tokens)
        assert source.fetches == 1
        assert len(recorder.of(events.RefreshRejected)) == 1
        source.error = None
        await clock.advance(100.0)
        assert tokens.peek() is not None


@plain
@pytest.mark.parametrize("case", BLIPS)
async def test_failures_that_pass(clock, case):
    """F4: every other exception is transient: it is retried, and it ends neither the supervisor nor the loop."""
    source = ScriptedSource(clock)
    source.error = BLIPS[case]
    async with TokenManager(source, clock=clock) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        await clock.advance(20.0)
        assert source.fetches >= 2
        source.error = None
        await clock.advance(100.0)
        assert tokens.peek() is not None


@plain
@pytest.mark.parametrize("waits", [(30.0, 90.0), (90.0, 30.0), (None, 90.0), (0.0, 90.0)])
async def test_waits_in_a_group(clock, waits):
    """F3: of several waits that a server asks for, in a group, the longest one counts."""
    source = ScriptedSource(clock)
    source.error = ExceptionGroup("group", [TransientRefreshError("slow down", retry_after=one) for one in waits])
    async with TokenManager(source, clock=clock) as tokens:
        await ask(tokens)
        await clock.advance(85.0)
        await ask(tokens)
        assert source.fetches == 1


KNOWN = ["Bearer", "bearer", "BEARER", "bEaReR", None, "absent", "", "N_A", "JWT"]
UNKNOWN = ["mac", "MAC", "hawk", "Basic", "bearer mac", "Bearer,DPoP", "pop", "Bearer\r\nX: y"]


@plain
@pytest.mark.parametrize("said", [*KNOWN, *UNKNOWN], ids=repr)
@pytest.mark.parametrize("serving", [False, True])
async def test_token_types(clock, said, serving):
    """U1: a token whose type is not understood is not used (RFC 6749 section 7.1); the one in service stays."""
    source = ScriptedSource(clock, lifetime=100.0)
    async with TokenManager(source, clock=clock) as tokens:
        if serving:
            await tokens.get()
        fields = {"access_token": "typed", "expires_in": 600} | ({} if said == "absent" else {"token_type": said})
        source.answer = lambda _: fields
        if said in KNOWN:
            found = await tokens.refresh()
            assert found.access_token == "typed"
            assert found.token_type.lower() == "bearer"
        else:
            with pytest.raises(TokenUnavailable):
                await tokens.refresh()
            assert (tokens.peek() is not None) == serving
            assert not serving or tokens.peek().access_token == "token-1"


NOT_TOKENS = [
    None,
    0,
    True,
    b"token",
    [],
    ["a", 1.0],
    {},
    {"token": "x"},
    object(),
    ("a", "b", "c"),
    (1, 2.0),
    "",
    " ",
    "a b",
    "a\nb",
    "ü",
]


@plain
@pytest.mark.parametrize("answer", NOT_TOKENS, ids=[type(one).__name__ + str(at) for at, one in enumerate(NOT_TOKENS)])
async def test_what_is_no_token(clock, answer):
    """F4: a result that is not a token is a transient failure. Its message says so, and nobody sees it as a token."""
    source = ScriptedSource(clock)
    source.answer = lambda _: answer
    async with TokenManager(source, clock=clock) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        assert tokens.peek() is None
        source.answer = None
        await clock.advance(100.0)
        assert tokens.peek() is not None


class Keeps:
    """A source that hands its answer over early, as the one of a token endpoint does."""

    rotates = False

    def __init__(self, answer):
        self._answer = answer

    async def fetch(self, request):
        request.received(self._answer)
        return self._answer


@pytest.mark.parametrize(
    "answer",
    [
        {"access_token": "planted secret with a space", "expires_in": 60},
        {"access_token": "planted", "token_type": "unheard-of", "id_token": "planted-too"},
        {"no_token": "planted"},
        {"access_token": ["planted"]},
        ["planted"],
        None,
    ],
    ids=repr,
)
async def test_an_answer_that_cannot_be_read_is_in_no_frame(answer):
    """S1: no frame that the error of a caller reaches, by context or cause, holds the answer."""
    async with TokenManager(Keeps(answer)) as tokens:
        with pytest.raises(TokenUnavailable) as caught:
            await tokens.get()
    seen, left = [], [caught.value]
    while left:
        error = left.pop()
        seen.append(str(error))
        frame = error.__traceback__
        while frame is not None:
            if "/tests/" not in frame.tb_frame.f_code.co_filename:
                seen += [repr(value) for name, value in frame.tb_frame.f_locals.items() if name != "self"]
            frame = frame.tb_next
        left += [one for one in (error.__cause__, error.__context__) if one is not None]
    assert "planted" not in "".join(seen)
