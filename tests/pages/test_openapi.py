"""The description at /openapi.json is true: whatever is sent, the answer is one that it documents."""

from __future__ import annotations

import os
from datetime import UTC, datetime
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
from support.site import ROOT, Site, load_settings

from app.accounts.models import User
from app.pages import openapi

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "40"))  # `make fuzz` takes 500
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

SIGN_UP = {"SECURITY_CONFIRMABLE": True, "SECURITY_REGISTERABLE": True}

DOCUMENT = openapi.document(load_settings(**SIGN_UP))
CODES = DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"]
OPERATIONS = [
    (method.upper(), path)
    for path, calls in DOCUMENT["paths"].items()
    for method in calls
    if method != "parameters"
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("who", ["nobody", "alice"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.requirement("R7")
def test_every_answer_is_documented(make_site: Any, method: str, path: str, who: str) -> None:
    site: Site = make_site(**SIGN_UP)
    site.change(User, User.id > 0, confirmed_at=datetime.now(UTC).replace(tzinfo=None))
    headers = {"Accept": "application/json"}
    if who == "alice":
        login = {"identity": "alice", "password": "the old password of alice"}
        signed_in = site.visitor().post_json("/login?include_auth_token", json=login)
        headers["Authentication-Token"] = signed_in.json["response"]["user"]["authentication_token"]  # type: ignore[index]
    schema = schemathesis.openapi.from_wsgi("/openapi.json", site.app, base_url=site.visitor().base)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    given(case=schema[path][method].as_strategy())(send)()


def test_the_codes_are_those_of_the_readme() -> None:
    listed = next(
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| codes |")
    )
    assert set(listed.split("`")[1::2]) == set(CODES)
