"""
An authorization server that others wrote: django-oauth-toolkit, in a process of its own.

Run as a script it migrates a database in a temporary folder, makes a client for each grant and one grant with a
refresh token, prints where and who they are as a line of JSON, and serves until it is killed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socketserver
import sys
import tempfile
import uuid
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django
from django.conf import settings

# Characters that RFC 6749 section 2.3.1 wants form-encoded before they are put together for Basic.
MACHINE_ID = "machine+client/1"
MACHINE_SECRET = "s3 cret:&=%é"
LOGIN_ID = "login-client"
LOGIN_SECRET = "another-s3cret"
PASSWORD_ID = "password-client"
ALICE = ("alice", "wonder land&=é")

GRANTS = 3


def configure(folder: str, lifetime: int) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/db.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        LOGGING_CONFIG=None,
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": lifetime,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "ROTATE_REFRESH_TOKEN": True,
            "SCOPES": {"read": "Read", "write": "Write"},
        },
        # Client secrets are hashed like passwords; a strong hash would only slow the tests down.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="django_server",
        SECRET_KEY="of no use to anyone",
        USE_TZ=True,
    )
    django.setup()


def populate() -> list[str]:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.utils import timezone
    from oauth2_provider.models import AccessToken, Application, RefreshToken

    call_command("migrate", verbosity=0)
    alice = get_user_model().objects.create_user(ALICE[0], password=ALICE[1])
    Application.objects.create(
        name="password",
        client_id=PASSWORD_ID,
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_PASSWORD,
    )
    Application.objects.create(
        name="machine",
        client_id=MACHINE_ID,
        client_secret=MACHINE_SECRET,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )
    login = Application.objects.create(
        name="login",
        client_id=LOGIN_ID,
        client_secret=LOGIN_SECRET,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="https://app.example.com/callback",
    )
    refresh_tokens = [f"first-refresh-token-{number}" for number in range(GRANTS)]
    for number, refresh_token in enumerate(refresh_tokens):
        access_token = AccessToken.objects.create(
            user=alice,
            application=login,
            token=f"first-access-token-{number}",
            expires=timezone.now() + dt.timedelta(seconds=60),
            scope="read write",
        )
        RefreshToken.objects.create(
            user=alice, application=login, token=refresh_token, access_token=access_token, token_family=uuid.uuid4()
        )
    return refresh_tokens


def __getattr__(name: str) -> Any:
    # Django asks for this once it is configured; the views cannot be imported before.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.http import HttpRequest, HttpResponse, JsonResponse
    from django.urls import include, path
    from oauth2_provider.oauth2_backends import get_oauthlib_core
    from oauth2_provider.urls import base_urlpatterns, metadata_urlpatterns

    def me(request: HttpRequest) -> HttpResponse:
        valid, found = get_oauthlib_core().verify_request(request, scopes=["read"])
        if valid:
            return JsonResponse({"client_id": found.client.client_id})
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    return [
        path("o/", include((base_urlpatterns, "oauth2_provider"))),
        path("", include((metadata_urlpatterns, "metadata"))),
        path("me", me),
    ]


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so the base class has it
        """Print nothing: what stands on the standard output is read by a test."""


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    lifetime = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        sys.modules["django_server"] = sys.modules[__name__]
        configure(folder, lifetime)
        refresh_tokens = populate()
        from django.core.wsgi import get_wsgi_application

        with Threaded(("127.0.0.1", 0), Quiet) as server:
            server.set_app(get_wsgi_application())
            url = f"http://127.0.0.1:{server.server_port}"
            print(json.dumps({"url": url, "refresh_tokens": refresh_tokens}), flush=True)  # noqa: T201 - for the test to read
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()


if __name__ == "__main__":
    main()
