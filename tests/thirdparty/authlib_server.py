"""
An authorization server of another's making: Authlib, in a process of its own, for signed requests.

Run as a script it makes a key pair for each algorithm, prints where it is and the private keys as a line of JSON, and
serves until it is killed. Each client is named after the algorithm that it signs with.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import django
from django.conf import settings

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
SECRET = "a-secret-of-more-than-thirty-two-octets"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class Client:
    """A client with a key, or with a secret that signs."""

    client_id: str
    key: Any
    user_id: str = "nobody"

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_client_secret(self, client_secret: str) -> bool:
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in {"client_assertion_jwt", "none"}

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in {"client_credentials", JWT_BEARER}


def __getattr__(name: str) -> Any:
    # Django asks for this once it is configured; the views cannot be imported before.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    server = CLIENTS["server"]
    return [path("token", csrf_exempt(server.create_token_response))]


CLIENTS: dict[str, Any] = {}


def populate() -> dict[str, str]:
    from authlib.integrations.django_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import ClientCredentialsGrant
    from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
    from joserfc import jwk
    from joserfc.jws import JWSRegistry

    # It takes what RFC 7518 recommends, and more only if told.
    JWSRegistry.recommended.extend(set(ALGORITHMS) - set(JWSRegistry.recommended))
    private = {}
    for algorithm in ALGORITHMS:
        made: Any
        if algorithm == "EdDSA":
            made = jwk.OKPKey.generate_key("Ed25519", {"alg": algorithm})
        elif algorithm.startswith("ES"):
            made = jwk.ECKey.generate_key("P-256" if algorithm == "ES256" else "P-384", {"alg": algorithm})
        else:
            made = jwk.RSAKey.generate_key(2048, {"alg": algorithm})
        CLIENTS[algorithm] = Client(algorithm, made)
        private[algorithm] = made.as_pem(private=True).decode()
    CLIENTS["HS256"] = Client("HS256", jwk.OctKey.import_key(SECRET, {"alg": "HS256"}))
    seen: set[str] = set()

    class Assertion(JWTBearerClientAssertion):  # type: ignore[misc]  # it ships no types
        def get_audiences(self) -> list[str]:
            return [CLIENTS["url"] + "/token"]

        def validate_jti(self, claims: Any, jti: str) -> bool:
            fresh = jti not in seen
            seen.add(jti)
            return fresh

        def resolve_client_public_key(self, client: Client) -> Any:
            return client.key

    class Grant(JWTBearerGrant):  # type: ignore[misc]  # it ships no types
        TOKEN_ENDPOINT_AUTH_METHODS = ["none"]  # noqa: RUF012 - its own

        def get_audiences(self) -> list[str]:
            return [CLIENTS["url"] + "/token"]

        def resolve_issuer_client(self, issuer: str) -> Client | None:
            return CLIENTS.get(issuer)

        def resolve_client_public_key(self, client: Client) -> Any:
            return client.key

        def authenticate_user(self, subject: str) -> Any:
            return subject if subject == "alice" else None

        def has_granted_permission(self, client: Client, user: str) -> bool:
            return True

    class Server(AuthorizationServer):  # type: ignore[misc]  # it ships no types
        def query_client(self, client_id: str) -> Client | None:
            return CLIENTS.get(client_id)

        def save_token(self, token: Any, request: Any) -> None:
            """Keep nothing: the only question is whether the nonce is given."""

    class Machine(ClientCredentialsGrant):  # type: ignore[misc]  # it ships no types
        TOKEN_ENDPOINT_AUTH_METHODS = ["client_assertion_jwt"]  # noqa: RUF012 - its own

    server = Server(None, None)
    server.register_client_auth_method("client_assertion_jwt", Assertion())
    server.register_grant(Machine)
    server.register_grant(Grant)
    CLIENTS["server"] = server
    return private


def main() -> None:
    from tests.thirdparty.django_server import Quiet, Threaded

    sys.modules["tests.thirdparty.authlib_server"] = sys.modules[__name__]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF="tests.thirdparty.authlib_server",
        SECRET_KEY="of no use to anyone",
    )
    django.setup()
    private = populate()
    from django.core.wsgi import get_wsgi_application

    with Threaded(("127.0.0.1", 0), Quiet) as server:
        server.set_app(get_wsgi_application())
        CLIENTS["url"] = f"http://127.0.0.1:{server.server_port}"
        told = {"url": CLIENTS["url"], "keys": private, "secret": SECRET}
        print(json.dumps(told), flush=True)  # noqa: T201 - for the test to read
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
