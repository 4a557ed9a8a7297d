"""/openapi.json describes every response."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.features import CONFIRMATION, SECOND_FACTOR, confirm_addresses, set_up_factor
from support.mailbox import code_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, load_settings

from app.pages import openapi

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "15"))  # `make fuzz` takes 500
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FEATURES = {**CONFIRMATION, "SECURITY_REGISTERABLE": True, "RECOVERY_AUTH": "id", "RECOVERY_CODE": True}
DOCUMENT = openapi.document(load_settings(**FEATURES))
METHODS = [(method, path) for path, calls in DOCUMENT["paths"].items() for method in calls]
OPERATIONS = [(method.upper(), path) for method, path in METHODS if method != "parameters"]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("is_signed_in", [False, True], ids=["signed-out", "signed-in"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.requirement("R7")
def test_openapi_describes_every_response(make_site: Any, method: str, path: str, is_signed_in: bool) -> None:
    site: Site = make_site(**FEATURES)
    confirm_addresses(site)
    headers = {"Accept": "application/json"}
    if is_signed_in:
        login = {"identity": "alice", "password": OLD_PASSWORD}
        answer: Any = site.visitor().post_json("/login?include_auth_token", json=login)
        headers["Authentication-Token"] = answer.json["response"]["user"]["authentication_token"]
    schema = schemathesis.openapi.from_wsgi("/openapi.json", site.app, base_url=site.visitor().base)

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip
    def send(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    given(case=schema[path][method].as_strategy())(send)()


def resolve(node: Any) -> Any:
    """Return a part of the description with its references replaced."""
    if isinstance(node, dict) and "$ref" in node:
        target = DOCUMENT
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        return resolve(target)
    if isinstance(node, dict):
        return {key: resolve(value) for key, value in node.items()}
    return [resolve(item) for item in node] if isinstance(node, list) else node


def properties(schema: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the schema of each property."""
    for name, value in schema.get("properties", {}).items():
        yield ".".join((*path, name)), value
        yield from properties(value, *path, name)


def schemas() -> Iterator[tuple[str, Any]]:
    for method, path in OPERATIONS:
        operation = resolve(DOCUMENT["paths"][path][method.lower()])
        parts = {"answer": operation["responses"]["200"], "body": operation.get("requestBody", {})}
        for part, content in parts.items():
            if "content" in content:
                yield f"{method} {path} {part}", content["content"]["application/json"]["schema"]


def test_openapi_explains_every_field() -> None:
    for name, schema in schemas():
        for path, value in properties(schema):
            if path not in ("meta", "response", "response.user"):
                assert len(value.get("description", "").split()) > 1, (name, path)
                assert "type" in value or "enum" in value, (name, path)


def documented(method: str, path: str, part: str = "answer") -> set[str]:
    return {field for field, _ in properties(dict(schemas())[f"{method} {path} {part}"])}


def fields_of(value: Any, *path: str) -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {field for key in value for field in (".".join((*path, key)), *fields_of(value[key], *path, key))}


@pytest.mark.parametrize("second_factor", [False, True])
def test_openapi_names_every_field_of_real_answers(make_site: Any, second_factor: bool) -> None:
    site: Site = make_site(**(SECOND_FACTOR if second_factor else {"RECOVERY_CODE": True}))
    if second_factor:
        set_up_factor(site)
    alice, as_json, token = site.visitor(), {"Accept": "application/json"}, "?include_auth_token"
    new = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    login = {"email": "alice", "password": OLD_PASSWORD, "remember": True}
    answers = {
        ("GET", "/reset"): alice.open("/reset", headers=as_json),
        ("GET", "/reset/{token}"): alice.open(site.new_link(), headers=as_json),
        ("GET", "/login"): alice.open("/login", headers=as_json),
        ("POST", "/login"): alice.post_json(f"/login{token}", json=login),
    }
    if not second_factor:
        request_id = site.ask().json["response"]["request_id"]
        site.work()
        code = {"request_id": request_id, "code": code_in(site.mailbox.mails[-1])}
        answers |= {
            ("POST", "/reset"): site.ask("bob"),
            ("POST", "/reset/code"): site.visitor().post_json("/reset/code", json=code),
            ("GET", "/me"): alice.open("/me"),
            ("GET", "/change"): alice.open("/change", headers=as_json),
            ("POST", "/verify"): alice.post_json(f"/verify{token}", json={"password": OLD_PASSWORD}),
            ("POST", "/change"): alice.post_json(f"/change{token}", json=new),
        }
        assert "response.user.authentication_token" in fields_of(answers["POST", "/login"].json)
        assert "user" in alice.open("/login", headers=as_json).json["response"]
    for (method, path), answer in answers.items():
        assert answer.status_code == 200, (method, path)
        assert fields_of(answer.json) <= documented(method, path), (method, path)


def test_openapi_names_both_names_of_an_identity_and_the_client_of_a_sign_up(make_site: Any) -> None:
    site = confirm_addresses(make_site(**FEATURES))
    for path, body, status in (
        ("/reset", {"identity": "alice"}, 200),
        ("/reset", {"email": "alice"}, 200),
        ("/login", {"email": "alice", "password": OLD_PASSWORD}, 200),
        ("/login", {"identity": "alice", "email": "alice", "password": OLD_PASSWORD}, 400),
        ("/register", {"email": "new@example.com"}, 200),
        ("/register", {"email": "new@example.com", "client": "nowhere"}, 400),
    ):
        assert body.keys() <= documented("POST", path, "body")
        assert site.visitor().post_json(path, json=body).status_code == status, (path, body)


def test_openapi_lists_the_error_codes_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    documented = next(line for line in lines if line.startswith("| codes |"))
    assert set(documented.split("`")[1::2]) == set(DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"])
