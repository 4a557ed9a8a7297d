"""/openapi.json describes every response."""

from __future__ import annotations

import os
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
from support.site import OLD_PASSWORD, ROOT, Site, load_settings

from app.accounts.models import User
from app.pages import openapi

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "25"))  # `make fuzz` takes 500
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FEATURES = {"SECURITY_CONFIRMABLE": True, "SECURITY_REGISTERABLE": True, "RECOVERY_AUTH": "id"}
DOCUMENT = openapi.document(load_settings(**FEATURES))
OPERATIONS = [
    (method.upper(), path)
    for path, calls in DOCUMENT["paths"].items()
    for method in calls
    if method != "parameters"
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("is_signed_in", [False, True], ids=["signed-out", "signed-in"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.requirement("R7")
def test_openapi_describes_every_response(make_site: Any, method: str, path: str, is_signed_in: bool) -> None:
    site: Site = make_site(**FEATURES)
    site.change(User, User.id > 0, confirmed_at=User.create_datetime)
    headers = {"Accept": "application/json"}
    if is_signed_in:
        login = {"identity": "alice", "password": OLD_PASSWORD}
        answer: Any = site.visitor().post_json("/login?include_auth_token", json=login)
        headers["Authentication-Token"] = answer.json["response"]["user"]["authentication_token"]
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


def test_openapi_lists_the_error_codes_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    documented = next(line for line in lines if line.startswith("| codes |"))
    assert set(documented.split("`")[1::2]) == set(DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"])
