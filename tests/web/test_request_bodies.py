"""Bodies of the wrong type, shape or size are refused at every view, before any work is done."""

import io
import json
import time
from typing import Any

import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, Visitor, csrf_token

from app.accounts import identity_mappers

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=a"
PART = "--a\r\nContent-Disposition: form-data; name=a\r\n\r\n"
MARKUP = "{{7331*7331}}<b>x</b>${7331*7331}'\"&{{config}}" * 9

# A valid body for each view.
BODIES: dict[str, dict[str, Any]] = {
    "/login": {"identity": "alice", "password": OLD_PASSWORD, "next": "/", "remember": False},
    "/reset": {"identity": "alice", "client": "default"},
    "/reset/<token>": {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD},
    "/change": dict.fromkeys(("new_password", "new_password_confirm"), NEW_PASSWORD) | {"password": OLD_PASSWORD},
    "/verify": {"password": OLD_PASSWORD, "next": "/"},
}  # fmt: skip
NOT_TEXT = [True, 5, float("nan"), {"a": 1}, [[]], [5, "x"]]


def client_for(site: Site, path: str) -> tuple[Visitor, str]:
    """Return a client that may use the view, and the real URL."""
    visitor = site.visitor()
    if path in ("/change", "/verify"):
        assert visitor.sign_in()
    return visitor, site.new_link() if path == "/reset/<token>" else path


# --- JSON ---


@pytest.mark.requirement("R7", "R32", "R66")
def test_json_field_that_is_not_one_text_is_refused(site: Site) -> None:
    for path, body in BODIES.items():
        visitor, url = client_for(site, path)
        for field in body.keys() - {"remember"}:
            values = [*NOT_TEXT]
            if field in ("password", "new_password"):
                values += [
                    [body[field], "another password altogether"],
                    "\ud800" * 600,
                    "\0" * 20,
                    "x" * 9_000,
                ]
            for value in values:
                answer = visitor.post_json(url, json={**body, field: value})
                assert answer.status_code == 400, (path, field, value)
                assert answer.json["response"]["error_code"], (path, field, value)
            answer = visitor.post_json(url, json={**body, field: MARKUP})
            assert "7331*7331" not in answer.text, (path, field)  # no error repeats input
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R7")
def test_malformed_json_is_refused_by_every_view(site: Site) -> None:
    bodies = ["[1,2]", '"x"', "5", "true", "null", "{", "[" * 60_000]
    bodies += ['{"next": 5}', '{"next": {}}', '{"next": "http://["}']
    visitor = site.visitor()
    visitor.sign_in()
    for path in ("/login", "/reset", "/verify", "/change", "/reset/" + "x" * 43, "/logout"):
        for method in ("GET", "POST"):
            for body in bodies:
                answer = visitor.open(path, method=method, data=body, content_type=JSON)
                assert answer.status_code in (400, 405), (path, method, body[:20])
                assert answer.json["response"]["error_code"], (path, method, body[:20])
    assert visitor.is_signed_in()


# --- forms ---


@pytest.mark.requirement("R7")
def test_form_with_two_values_or_a_file_for_a_text_is_refused(site: Site) -> None:
    for path, fields in BODIES.items():
        visitor, url = client_for(site, path)
        page = visitor.open(url, follow_redirects=True)
        for field in fields.keys() & {"identity", "password", "new_password"}:
            for value in ([fields[field], "another altogether"], (io.BytesIO(b"x" * 20), "x.txt")):
                data = {"csrf_token": csrf_token(page), **fields, field: value}
                answer = visitor.post_json(page.request.path, data=data, content_type="multipart/form-data")
                assert answer.status_code in (200, 400), (path, field)  # the form again, and no redirect
    assert len(site.messages()) == 1  # the mail that brought the link
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R6", "R7")
def test_body_that_contradicts_its_content_type_is_refused(site: Site) -> None:
    form, text = "identity=alice", '{"identity": "alice"}'
    kinds = [
        (FORM, text),
        ("text/plain; application/json", text),
        (f"{FORM}, application/json", text),
        ("", text),
    ]
    kinds += [(f"{JSON}, {FORM}", form), (JSON, form), (f"{JSON}; charset=\xff", form)]
    for content_type, body in (*kinds, ("multipart/form-data; boundary=application/json", text)):
        answer = site.visitor().post_json("/reset", data=body, content_type=content_type)
        assert answer.status_code == 400, (content_type, body)
    assert site.messages() == []


# --- size and cost ---

EXPENSIVE = {
    FORM: ["&" * 65_000, "a&" * 32_000, "%" * 65_000, "identity=alice&" * 4_000],
    MULTIPART: [f"{PART}\r\n" * 1_200, PART + "\r" * 65_000, "--a" + "\r\n" * 32_000],
    "multipart/form-data; boundary=" + "a" * 5_000: ["--a"],
    "multipart/form-data": ["--a"],
    JSON: [
        "[" * 65_000, '{"a":' * 13_000, '{"identity":' + "1" * 60_000 + "}", '{"identity": 1e999999999}',
        json.dumps({f"k{number}": number for number in range(4_000)}), '{"identity": "' + "\\u0000" * 10_000 + '"}',
    ],
}  # fmt: skip


@pytest.mark.requirement("R32")
def test_body_that_is_expensive_to_parse_is_refused_at_once(site: Site) -> None:
    for content_type, body in ((kind, body) for kind, bodies in EXPENSIVE.items() for body in bodies):
        for path in ("/login", "/reset", "/reset/x"):
            began = time.perf_counter()
            answer = site.visitor().post_json(path, data=body, content_type=content_type)
            assert time.perf_counter() - began < 1.5, (path, content_type, body[:20])
            assert answer.status_code in (400, 413), (path, content_type, body[:20])
    assert site.messages() == []


@pytest.mark.requirement("R7", "R32")
def test_identity_length_is_checked_before_normalization(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute in site.app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"]:
        for details in attribute.values():
            monkeypatch.setitem(details, "mapper", lambda text: pytest.fail(f"{len(text)} characters"))
    for length in (identity_mappers.IDENTITY_LENGTH_MAX + 1, 9_000):
        for path in ("/reset", "/login"):
            body = {"identity": "e" + "\u0301" * length, "password": "x"}
            assert site.visitor().post_json(path, json=body).status_code == 400


@pytest.mark.requirement("R32")
def test_long_password_is_accepted_quickly(site: Site) -> None:
    """A strength estimator may fail above 72 characters, or take seconds."""
    for password in ("p4ssw0rd or h4x0r " * 5 + "!?", "a" * 30 + " B, c and d are letters." * 3):
        link, began = site.new_link(), time.monotonic()
        assert site.visitor().post_json(link, json={"password": password}).status_code == 200
        assert time.monotonic() - began < 2
        assert site.password_works(password)
        site.work()
