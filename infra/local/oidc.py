"""An OpenID provider for development: anyone may sign in as anyone, so it is bound to loopback unless told otherwise.

    python -m infra.local.oidc --port 9400 --user '{"sub": "dev-user", "email": "dev@example.test"}'

The provider is `oidc-provider-mock`, which accepts every client and ignores PKCE. This module adds PKCE (RFC 7636, S256
only) as a strict provider has it: an authorization request without a challenge is refused, a code is redeemed only with
the verifier of its challenge, and a failed attempt uses the code up.
"""

import argparse
import base64
import hashlib
import json
import logging
import os
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock  # type: ignore[import-untyped]  # ships no annotations
from flask import Flask, Response, jsonify, request
from oidc_provider_mock._storage import storage  # type: ignore[import-untyped]  # as above
from werkzeug.serving import make_server

from infra.local.ports import HOST

_AUTHORIZE_PATH = "/oauth2/authorize"
_REDEEM_PATH = "/oauth2/token"
_DISCOVERY_PATH = "/.well-known/openid-configuration"


def make_app(users: list[dict[str, str]]) -> Flask:
    """The provider with these users; each is an object of claims with at least `sub`."""
    known = [_user(**claims) for claims in users]
    app: Flask = oidc_provider_mock.app(user_claims=known)
    _know_everybody(app)
    _require_pkce(app)
    return app


def _know_everybody(app: Flask) -> None:
    """Give a user who signs in under a new name a verified address of that name: without one it cannot be invited."""

    def introduce() -> None:
        sub = request.form.get("sub", "") if request.path == _AUTHORIZE_PATH and request.method == "POST" else ""
        if sub and storage.get_user(sub) is None:
            email = sub if "@" in sub else f"{sub}@example.test"
            storage.store_user(_user(sub, email=email, email_verified=True, name=sub.partition("@")[0]))

    app.before_request(introduce)


def _user(sub: str, **claims: object) -> object:
    return oidc_provider_mock.User(sub=sub, claims=claims)


def _require_pkce(app: Flask) -> None:
    challenges: dict[str, str] = {}

    def check() -> tuple[Response, int] | None:
        if request.path == _AUTHORIZE_PATH:
            if request.args.get("code_challenge_method") != "S256" or not request.args.get("code_challenge"):
                return _refused("invalid_request", "a code_challenge with code_challenge_method=S256 is required")
        elif request.path == _REDEEM_PATH and request.form.get("grant_type") == "authorization_code":
            challenge = challenges.pop(request.form.get("code", ""), None)
            if challenge is None or _challenge_of(request.form.get("code_verifier", "")) != challenge:
                return _refused("invalid_grant", "the code_verifier does not belong to this code")
        return None

    def note(response: Response) -> Response:
        if request.path == _AUTHORIZE_PATH and request.method == "POST":
            for code in parse_qs(urlsplit(response.headers.get("Location", "")).query).get("code", []):
                challenges[code] = request.args["code_challenge"]
        elif request.path == _DISCOVERY_PATH:
            document = response.get_json()
            document["code_challenge_methods_supported"] = ["S256"]
            response.set_data(json.dumps(document))
        return response

    app.before_request(check)
    app.after_request(note)


def _refused(error: str, description: str) -> tuple[Response, int]:
    return jsonify({"error": error, "error_description": description}), 400


def _challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii", errors="replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.local.oidc", description="OpenID provider for development")
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; in a container, publish its port on loopback only"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", action="append", default=[], help="claims of a user as a JSON object with 'sub'")
    arguments = parser.parse_args()
    # Authlib refuses plain HTTP otherwise; the provider is bound to loopback.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line for every request otherwise
    app = make_app([json.loads(claims) for claims in arguments.user])
    make_server(arguments.host, arguments.port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
