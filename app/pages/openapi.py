"""The OpenAPI description of the JSON API, served at /openapi.json. A test holds the app to it."""

from __future__ import annotations

from typing import Any

from ..settings.schema import Settings

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
CODES = """
    account_unavailable conflict csrf_failed internal_error invalid_request link_expired link_invalid
    link_revoked link_superseded link_used mail_not_configured not_found not_signed_in origin_not_allowed
    password_breached password_common password_mismatch password_too_long password_too_short
    password_unchanged rate_limited sign_in_failed unavailable
""".split()  # noqa: SIM905  # reads as a list
# What any call may be answered with, besides what is its own.
ALWAYS = {
    "400": "Refused: `error_code` says why.",
    "403": "Its Origin is not configured.",
    "404": "There is no such page.",
    "405": "Not that method.",
    "411": "The length of the body is not said.",
    "413": "The body is too long.",
    "429": "Asked too often; `Retry-After` says for how many seconds.",
    "503": "The database can not be used now (`Retry-After`: for how many seconds), or no mail is sent.",
}


def document(settings: Settings) -> Json:
    """OpenAPI 3.1, with this deployment's address and password rules in it."""
    paths = {
        "/reset": {
            "get": _call("What may be typed, and how long a password must be", answer="Policy"),
            "post": _call("Ask for a link. The answer is the same for everybody", body="Ask"),
        },
        "/reset/{token}": {
            "parameters": [_in_path("token")],
            "get": _call("Whether a link is good, and until when", answer="Link"),
            "post": _call("Set a new password with a link", body="NewPassword"),
        },
        "/login": {
            "get": _call("What signing in needs, or who is signed in", answer="Anything"),
            "post": _call("Sign in; with ?include_auth_token, for a token", body="SignIn", answer="Anything"),
        },
        "/logout": {"post": _call("Sign out", body="Nothing")},
        "/change": {
            "get": _call("Whether somebody is signed in", answer="Anything", inside=True),
            "post": _call("Change the password", body="Change", answer="Anything", inside=True),
        },
        "/language": {
            "post": _call("Choose the language of one's mails", body="Language", inside=True),
        },
        "/verify": {"post": _call("Type the password again", body="Verify", answer="Anything", inside=True)},
    }
    if settings.SECURITY_REGISTERABLE:
        paths["/register"] = {
            "get": _call("How long a password must be", answer="Policy"),
            "post": _call("Sign up. The answer is the same whoever has an account", body="SignUp"),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{settings.RECOVERY_SITE_NAME}: password recovery", "version": "1"},
        "servers": [{"url": settings.RECOVERY_PUBLIC_URL}],
        "paths": paths,
        "components": {
            "schemas": _schemas(settings),
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authentication-Token"}},
        },
    }


def _schemas(settings: Settings) -> Json:
    least, most = settings.SECURITY_PASSWORD_LENGTH_MIN, settings.RECOVERY_PASSWORD_LENGTH_MAX
    password = {"type": "string", "description": f"{least} to {most} characters"}
    client = {"enum": [*settings.RECOVERY_CLIENTS, "browser", "default"]}
    sign_in = {"identity": TEXT, "password": TEXT, "remember": {"type": "boolean"}}
    change = {"password": TEXT, "new_password": password, "new_password_confirm": password}
    requests = {
        "Ask": _object({"identity": TEXT, "client": client}, "identity"),
        "NewPassword": _object({"password": password, "password_confirm": password}, "password"),
        "SignUp": _object({"email": TEXT, "username": TEXT}, "email"),
        "SignIn": _object(sign_in, "identity", "password"),
        "Change": _object(change, *change),
        "Verify": _object({"password": TEXT}, "password"),
        "Language": _object({"language": {"enum": ["", *settings.RECOVERY_LANGUAGES]}}, "language"),
        "Nothing": {"type": "object"},
    }
    return {**requests, **_answers()}


def _answers() -> Json:
    return {
        "Anything": _envelope({"type": "object"}),
        "Empty": _envelope({"type": "object", "maxProperties": 0}),
        "Policy": _envelope(
            _object(
                {
                    "identity_attributes": {"type": "array", "items": TEXT},
                    "password_length_min": {"type": "integer"},
                    "password_length_max": {"type": "integer"},
                    "password_blocklist": {"type": "boolean"},
                    "sends_mail": {"type": "boolean"},
                    "support_contact": TEXT,
                },
                "identity_attributes",
                "password_length_min",
                "password_length_max",
            )
        ),
        "Link": _envelope(_object({"expires_at": {"type": "string", "format": "date-time"}}, "expires_at")),
        "Refusal": _envelope(
            _object(
                {
                    "error_code": {"enum": CODES},
                    "errors": {"type": "array", "items": TEXT},
                    "field_errors": {"type": "object"},
                },
                "error_code",
                "errors",
            )
        ),
    }


def _call(summary: str, *, body: str | None = None, answer: str = "Empty", inside: bool = False) -> Json:
    answers = {"200": _content("Well", answer)}
    answers |= {status: _content(text, "Refusal") for status, text in ALWAYS.items()}
    call: Json = {"summary": summary, "responses": answers}
    if body:
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    if inside:
        call["security"] = [{"token": []}]
        answers["401"] = _content("Nobody is signed in.", "Refusal")
        answers["409"] = _content("The account has changed meanwhile.", "Refusal")
    return call


def _content(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(properties: Json, *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


def _envelope(response: Json) -> Json:
    meta = _object({"code": {"type": "integer"}}, "code")
    return _object({"meta": meta, "response": response}, "meta", "response")


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}}
