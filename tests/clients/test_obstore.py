"""obstore's stores for Azure, Google and S3 against a server on loopback that looks at the token."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import obstore
import pytest
from obstore.exceptions import UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store
from tests.clients.sdk_contract import SdkContract, Service
from tests.sources.wire import Asked, Wire, http

from evertoken.clients.obstore import BearerProvider, S3Provider, is_refusal
from evertoken.sources.aws import AwsCredentials

OBJECT = {"ETag": '"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}


class Objects(Service):
    """An object store that looks at the token. The field of S3 names the key, and has the session token beside it."""

    url: str

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        field = asked.headers.get("authorization", "")
        key = re.search(r"Credential=AKIA-(secret-\d+)/", field)
        if self.accepts(key[1] if key else field.removeprefix("Bearer ")):
            return http(200, b"" if asked.method == "HEAD" else b"hello", OBJECT)
        if key:
            return http(400, b"<Error><Code>ExpiredToken</Code></Error>")
        return http(401, b"<Error><Code>InvalidAuthenticationInfo</Code></Error>")


class _Obstore(SdkContract):
    extra = "obstore"
    library: ClassVar[str | None] = "obstore"
    heals = (
        "obstore does not report a refusal, and the caller gets its error. `attempt` around the call heals it, "
        "with `refused=is_refusal`"
    )
    # It raises this error for every failure of its provider, and names the failure in the text.
    unavailable: ClassVar[tuple[type[Exception], ...]] = (UnauthenticatedError,)
    refusal = staticmethod(is_refusal)

    @contextlib.asynccontextmanager
    async def server(self):
        objects = Objects()
        async with Wire(objects.answer) as wire:
            objects.url = wire.url("")
            yield objects

    def given(self, handle) -> Any:
        return BearerProvider(handle)

    def store(self, given: Any, url: str) -> Any:
        options = {"client_options": {"allow_http": True}, "credential_provider": given}
        return AzureStore("c", account_name="a", endpoint=url, retry_config={"max_retries": 0}, **options)

    @contextlib.asynccontextmanager
    async def client(self, given, server) -> AsyncIterator[Any]:
        store = self.store(given, server.url)

        async def call() -> None:
            await (await obstore.get_async(store, "a.txt")).bytes_async()

        yield call


class TestAzureStore(_Obstore):
    name = "obstore.store.AzureStore"
    lines = "AzureStore(..., credential_provider=BearerProvider(tokens.handle()))"
    without = 4


class TestAzureStoreWithoutLoop(_Obstore):
    name = "obstore.store.AzureStore, without a loop"
    lines = "AzureStore(..., credential_provider=BearerProvider(tokens.handle()))"
    without = 4
    blocking = True
    differs: ClassVar = {
        "test_no_token_on_the_loop": "obstore raises `UnauthenticatedError` with the text of the `RuntimeError`"
    }

    async def test_no_token_on_the_loop(self):
        """U5: The call raises at once, and says why in the text."""
        async with self.setting(ConnectionError("down")) as at, self.using(at) as call:
            with pytest.raises(UnauthenticatedError, match="RuntimeError: blocking here would stop"):
                call()
            assert at.server.shown == []

    @contextlib.asynccontextmanager
    async def client(self, given, server) -> AsyncIterator[Any]:
        store = self.store(given, server.url)
        yield lambda: obstore.get(store, "a.txt").bytes()


class TestGCSStore(_Obstore):
    name = "obstore.store.GCSStore"
    lines = "GCSStore(..., credential_provider=BearerProvider(tokens.handle()))"
    without = 4

    def store(self, given: Any, url: str) -> Any:
        options = {"client_options": {"allow_http": True}, "credential_provider": given}
        return GCSStore("b", base_url=url, retry_config={"max_retries": 0}, **options)


class TestS3Store(_Obstore):
    name = "obstore.store.S3Store"
    lines = "S3Store(..., credential_provider=S3Provider(tokens.handle()))"
    without = 7

    def given(self, handle) -> Any:
        return S3Provider(handle)

    def token(self, number):
        return AwsCredentials.of(f"AKIA-secret-{number}", "key", f"session-secret-{number}", expires_at=4e9)

    def store(self, given: Any, url: str) -> Any:
        options = {"client_options": {"allow_http": True}, "credential_provider": given}
        return S3Store("b", endpoint=url, region="eu-west-1", retry_config={"max_retries": 0}, **options)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "TokenRefreshRequired"])
@pytest.mark.parametrize("status", [400, 403])
async def test_what_s3_says_of_a_key_that_has_ended(code, status):
    """U1: S3 answers 400 or 403, which obstore raises as errors of several types: the code is what tells."""
    error = await s3_error(status, code)
    assert is_refusal(error)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "InvalidArgument"), (404, "NoSuchBucket")])
async def test_other_errors_of_s3_are_no_refusal(status, code):
    """U1: a policy that forbids, or a request that is wrong, costs no fetch."""
    assert not is_refusal(await s3_error(status, code))


def test_errors_of_others_are_no_refusal():
    """U1: text alone tells nothing."""
    assert not is_refusal(ValueError("<Code>ExpiredToken</Code>"))


async def s3_error(status: int, code: str) -> Exception:
    async def answer(asked: Asked, writer: Any) -> bytes:
        return http(status, f"<Error><Code>{code}</Code></Error>".encode())

    def provider() -> Any:
        return {"access_key_id": "a", "secret_access_key": "b", "expires_at": None}

    async with Wire(answer) as wire:
        options: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
        store = S3Store("b", endpoint=wire.url(""), region="eu-west-1", credential_provider=provider, **options)
        with pytest.raises(Exception, match=r"a\.txt") as caught:
            await obstore.get_async(store, "a.txt")
    return caught.value
