"""Requests that are signed while the clock of this machine is off: T3, by the Date of the refusal, and once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import httpx2
import pytest
from tests.clients.aws_service import SECRET, AwsService

from evertoken import TokenManager
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.sources.aws import AwsCredentials

LIBRARIES = {"httpx": (httpx, for_httpx), "httpx2": (httpx2, for_httpx2)}
HOUR = 3600.0


@pytest.fixture(params=LIBRARIES)
def lib(request) -> Any:
    return LIBRARIES[request.param]


class Keys:
    """A source that counts, whose keys are never out of time."""

    def __init__(self) -> None:
        self.fetches = 0

    async def __call__(self) -> AwsCredentials:
        self.fetches += 1
        return AwsCredentials.of("AKIDEXAMPLE", SECRET, "session")


def an_answer(status: int, body: str, *more: str, date: str | None = "{date}") -> str:
    lines = [f"HTTP/1.1 {status} No", *more, *([] if date is None else [f"Date: {date}"])]
    return "\r\n".join([*lines, "", body])


S3 = (
    "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is "
    "too large.</Message></Error>"
)
EXPIRED = "Signature expired: 20260101T000000Z is now earlier than 20260101T003000Z (20260101T003500Z - 5 min.)"
EARLY = "Signature not yet current: 20260101T010000Z is still later than 20260101T000500Z (20260101T000000Z + 5 min.)"
JSON = '{{"__type": "com.amazon.coral.service#{code}", "message": "{said}"}}'
XML = "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{said}</Message></Error></ErrorResponse>"
NO_MATCH = "The request signature we calculated does not match the signature you provided."
NO_KEYS = "AWS was not able to validate the provided access credentials"

ABOUT_THE_TIME = {
    "S3": an_answer(403, S3),
    "JSON, expired": an_answer(400, JSON.format(code="InvalidSignatureException", said=EXPIRED)),
    "JSON, early": an_answer(403, JSON.format(code="InvalidSignatureException", said=EARLY)),
    "message alone": an_answer(403, f'{{"message": "{EXPIRED}"}}'),
    "query, expired": an_answer(403, XML.format(code="SignatureDoesNotMatch", said=EXPIRED)),
    "query, early": an_answer(403, XML.format(code="SignatureDoesNotMatch", said=EARLY)),
    "RequestExpired": an_answer(400, XML.format(code="RequestExpired", said="Request has expired.")),
    "RequestExpiredException": an_answer(400, JSON.format(code="RequestExpiredException", said="")),
    "RequestInTheFuture": an_answer(401, XML.format(code="RequestInTheFuture", said="")),
    "header alone": an_answer(403, "", "x-amzn-ErrorType: RequestTimeTooSkewedException"),
    # These say nothing of a time: by the Date it is the clock.
    "AuthFailure": an_answer(401, XML.format(code="AuthFailure", said=NO_KEYS)),
    "SignatureDoesNotMatch": an_answer(403, XML.format(code="SignatureDoesNotMatch", said=NO_MATCH)),
    "InvalidSignatureException": an_answer(403, "", "x-amzn-ErrorType: InvalidSignatureException"),
    "nothing": an_answer(403, ""),
}


@pytest.mark.parametrize("ahead", [-30 * 24 * HOUR, -HOUR, -400.0, 400.0, HOUR, 56 * 365 * 24 * HOUR])
@pytest.mark.parametrize("answer", ABOUT_THE_TIME)
async def test_time_is_learnt(answer, ahead):
    """T3: a request that is refused for its time is signed by the service's clock and sent once more."""
    source = Keys()
    async with AwsService("execute-api", ahead=ahead) as aws, TokenManager(source) as tokens:
        aws.answer = ABOUT_THE_TIME[answer]
        auth = for_httpx.SigV4Auth(tokens.handle(), service="execute-api", region="us-east-1")
        async with httpx.AsyncClient(auth=auth) as client:
            assert (await client.post(f"{aws.url}/a", content=b"body")).status_code == 200
            # The next request uses the learnt clock.
            assert (await client.post(f"{aws.url}/b", content=b"body")).status_code == 200
    assert aws.refusals == ["InvalidSignatureException: Signature expired", "", ""]
    assert [received.body for received in aws.received] == [b"body"] * 3
    assert source.fetches == 1


@pytest.mark.parametrize("service", ["execute-api", "s3"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_time_of_each_method(lib, service, method):
    """T3: async and sync, for each method, also for HEAD, whose refusal has no body."""
    library, ours = lib
    async with AwsService(service, ahead=HOUR) as aws, TokenManager(Keys()) as tokens:
        async with library.AsyncClient() as client:
            auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
            assert (await client.request(method, f"{aws.url}/a b?c=d,e", auth=auth)).status_code == 200

        def in_thread() -> None:
            auth = ours.SigV4Auth(tokens.handle(), service=service, region="us-east-1")
            with library.Client(auth=auth) as client:
                for _ in range(2):
                    assert client.request(method, f"{aws.url}/a").status_code == 200

        await asyncio.to_thread(in_thread)
    assert [bool(refused) for refused in aws.refusals] == [True, False, True, False, False]


async def test_clock_that_is_set_right(lib):
    """T3: once the clock is right again, the next refusal says so, and all is as before."""
    library, ours = lib
    async with AwsService("s3") as aws, TokenManager(Keys()) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            for aws.ahead in (HOUR, -HOUR, 0.0):
                assert (await client.put(f"{aws.url}/a", content=b"body")).status_code == 200
    assert [bool(refused) for refused in aws.refusals] == [True, False] * 3


async def test_many_at_once(lib):
    """T3: requests that are refused together are each sent once more, and no credentials are fetched for it."""
    library, ours = lib
    source = Keys()
    async with AwsService("s3", ahead=-HOUR) as aws, TokenManager(source) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            answers = await asyncio.gather(*(client.get(f"{aws.url}/{number}") for number in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(aws.received) <= 40
    assert source.fetches == 1


NOT_ABOUT_THE_TIME = {
    "denied": (HOUR, an_answer(403, XML.format(code="AccessDenied", said="Access Denied"))),
    "denied, in JSON": (HOUR, an_answer(400, JSON.format(code="AccessDeniedException", said="no"))),
    "no match, and the clock is right": (0.0, an_answer(403, XML.format(code="SignatureDoesNotMatch", said=NO_MATCH))),
    "no match, a minute off": (60.0, an_answer(403, XML.format(code="SignatureDoesNotMatch", said=NO_MATCH))),
    "nothing, and the clock is right": (0.0, an_answer(403, "")),
    "no Date": (HOUR, an_answer(403, S3, date=None)),
    "unreadable Date": (HOUR, an_answer(403, S3, date="yesterday")),
    "a Date in another era": (HOUR, an_answer(403, S3, date="Mon, 01 Jan 1500 00:00:00 GMT")),
    "a Date in an era to come": (HOUR, an_answer(403, S3, date="Fri, 31 Dec 9999 23:59:59 GMT")),
    "another status": (HOUR, an_answer(404, S3)),
    "a failure of the service": (HOUR, an_answer(500, S3)),
}


@pytest.mark.parametrize("answer", NOT_ABOUT_THE_TIME)
async def test_other_refusals(lib, answer):
    """T3: a refusal for anything else, or without a time to go by, is the caller's at once, and teaches nothing."""
    library, ours = lib
    ahead, said = NOT_ABOUT_THE_TIME[answer]
    async with AwsService("s3", ahead=ahead) as aws, TokenManager(Keys()) as tokens:
        aws.answer = said
        auth = ours.SigV4Auth(tokens.handle(), service="other", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            assert (await client.get(f"{aws.url}/a")).status_code == int(said.split()[1])
            assert len(aws.received) == 1
            aws.service, aws.ahead = "other", 0.0
            assert (await client.get(f"{aws.url}/a")).status_code == 200


@pytest.mark.parametrize("answer", ["S3", "nothing"])
async def test_once_more_and_no_more(lib, answer):
    """T3: a service that refuses every time gets two requests, and the caller its answer."""
    library, ours = lib
    source = Keys()
    async with AwsService("never", ahead=HOUR) as aws, TokenManager(source) as tokens:
        aws.answer = ABOUT_THE_TIME[answer]
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            assert (await client.get(f"{aws.url}/a")).status_code == 403
    assert len(aws.received) == 2
    assert source.fetches == 1


async def test_body_that_cannot_be_sent_again(lib):
    """U3: a body that was not read is not sent twice: the refusal is the caller's, and the next request is right."""
    library, ours = lib

    async def parts() -> Any:
        yield b"body"

    headers = {"Content-Length": "4", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    async with AwsService("s3", ahead=HOUR) as aws, TokenManager(Keys()) as tokens:
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth) as client:
            assert (await client.put(f"{aws.url}/a", content=parts(), headers=headers)).status_code == 403
            assert (await client.put(f"{aws.url}/a", content=parts(), headers=headers)).status_code == 200
    assert aws.refusals == ["RequestTimeTooSkewed", ""]


async def test_another_origin_teaches_nothing(lib):
    """U4: the refusal of another origin, after a redirect, changes neither the clock nor the request."""
    library, ours = lib
    async with AwsService("s3", ahead=HOUR) as stranger, AwsService("s3") as aws, TokenManager(Keys()) as tokens:
        stranger.answer = ABOUT_THE_TIME["S3"]
        aws.elsewhere = f"{stranger.url}/a"
        auth = ours.SigV4Auth(tokens.handle(), service="s3", region="us-east-1")
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            assert (await client.get(f"{aws.url}/a")).status_code == 403
            aws.elsewhere = None
            assert (await client.get(f"{aws.url}/b")).status_code == 200
    assert aws.refusals == ["", ""]
    assert len(stranger.received) == 1
    assert not stranger.last.all(b"authorization")
