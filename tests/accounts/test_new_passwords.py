"""The length of a new password, its normal form and its hash."""

import unicodedata

import pytest
from support.site import Site

from app.accounts.models import User


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("é" * 14, "at least 15"),
        ("e\u0301" * 14, "at least 15"),
        ("x" * 129, "at most 128"),
        ("x" * 20_000, "at most 128"),
        ("\ud800" * 15, "unsupported character"),
    ],
)
@pytest.mark.requirement("R26", "R27", "R28", "R32")
def test_new_password_is_refused_by_its_number_of_characters(site: Site, password: str, problem: str) -> None:
    body = {"password": password, "password_confirm": password}
    answer = site.visitor().post_json(site.new_link(), json=body)
    assert answer.status_code == 400
    assert answer.json is not None
    assert problem in answer.json["response"]["errors"][0]


@pytest.mark.requirement("R26", "R27", "R28", "R29")
def test_new_password_is_accepted_whole_in_either_normal_form(site: Site) -> None:
    longest = ("élèves-au-château, " + "à l'été où l'âne brait, " * 5)[:127] + "!"
    fifteen = "kfwmqzhtrbxpldv"  # no composition rules
    for password in (fifteen, longest, longest.replace("à", "a\u0300"), "pass phrase with 🗝 and spaces "):
        answer = site.visitor().post_json(site.new_link(), json={"password": password})
        assert answer.status_code == 200, password
        site.work()
        for form in ("NFC", "NFD"):
            assert site.password_works(unicodedata.normalize(form, password)), password
        assert not site.password_works(password[:-1]), password
        assert not site.password_works(password.strip() + "?"), password


@pytest.mark.requirement("R33")
def test_password_is_stored_as_argon2id(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    assert site.rows(User)[0]["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
