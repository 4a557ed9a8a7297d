"""New passwords: their length, normal form and hash, and the policy: common ones, and names."""

import random
import string
import time
import unicodedata
from typing import Any

import pytest
from support.commands import run
from support.mailbox import text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from app.accounts.common_passwords import reason_guessed
from app.accounts.models import User

COMMON = [
    "123456789012345", "123456789987654321", "aaaaaaaaaaaaaaaa", "abcabcabcabcabcabc", "passwordpassword",
    "PassWord PassWord", "P@ssw0rdP@ssw0rd", "P@ssw0rd P@ssw0rd", "password123456789", "!!password1234!!",
    "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", "iloveyou iloveyou", "monkeymonkey1monkey", "abcdefghijklmno", "qwertyuiopasdfgh",
    "poiuytrewqlkjhgf", "1qaz2wsx3edc4rfv", "1q2w3e4r5t6y7u8i9o0p", "correcthorsebatterystaple",
    "Correct Horse Battery Staple!", "c0rrect-h0rse-battery-staple", "To be, or not to be",
    "aaaaaaaaaaaaaab", "111111111111112", "20260101202601012026", "lalalalalololalala", "１１１１１１１１１１１１１１２",
    "abcabcabcabcabc1", "abbabaabbaababba", "1 2 3 4 5 6 7 8 9 10", "a-b-c-d-e-f-g-h-i-j", "zxcvbnmasdfghjkl",
    "zq4vbzq4vbzq4vb", "x7Kq9ZpLx7Kq9ZpL",
]  # fmt: skip
STRONG = [
    NEW_PASSWORD, OLD_PASSWORD, "gravel orbit pickle lantern", "ein Dorf am Rand der Karte", "Tr0mbone&Kayak#Quince",
    "kfwmqzhtrbxpldv", "830174926518347", "9f86d081884c7d65", "Zx9!pQ4#mL7@vB2", "my password is a tall green horse",
    "Jahrgang 1974 war kein guter Wein", "31 ducks, 12 geese and 1999 swans", "密码密码很长的一句话没有人会猜到它",
    "пять синих китов едут на юг", "sea-shells-by-the-sea-shore-7", "banana bandana cabana savannah", "monkey 8317492649174",
    "Mississippi 4 ever, Tennessee never", "U2FsdGVkX19vbGtnQ3", "abcd is where the alphabet song begins", "!}#(%&^*)_+{>?<~[;",
    "qwerty is what my first keyboard said", "🦊🌵🎺🧊🪁🧶🦉🍄🛶🎲🪐🧲🫖🦔🎻🥨",
]  # fmt: skip


@pytest.mark.parametrize("password", COMMON)
@pytest.mark.requirement("R30")
def test_password_that_is_guessed_first_is_recognized(password: str) -> None:
    assert reason_guessed(password, []) == "PASSWORD_COMMON"


@pytest.mark.requirement("R29", "R30")
def test_strong_password_is_not_common() -> None:
    names, seeded = (
        ["Sparekey", "id.example.com", "alice@example.com", "alice", "+14155550123"],
        random.Random(22),
    )
    vocabulary = [word for word in sorted(FREQUENCY_LISTS["english_wikipedia"]) if 4 <= len(word) <= 9]
    phrases = [seeded.choice(" -.,_1").join(seeded.sample(vocabulary, 5)) for _ in range(1000)]
    signs = string.ascii_letters + string.digits + string.punctuation
    made = [
        "".join(seeded.choices(alphabet, k=18))
        for alphabet in (signs, string.ascii_lowercase)
        for _ in range(500)
    ]
    for password in (*STRONG, *phrases, *made):
        assert reason_guessed(password, names) is None, password


@pytest.mark.requirement("R30")
def test_password_about_the_account_or_the_site_is_recognized() -> None:
    names = ["alwine@brackwede.example", "alwine", "", "Brackwede"]
    simple = (names[0], "ALWINE.brackwede.example", "brackwedebrackwede", "alwine1234!!!", "brackwede2024")
    repeated = ("Brackwede2026Brackwede", "alwine-1-alwine-2-alwine-3", "2026 brackwede 2026 brackwede")
    about = dict.fromkeys((*simple, *repeated), names)
    about |= {"мария.иванова2024": ["мария.иванова"], "密码密码12345678": ["密码密码"]}
    for password, own in about.items():
        assert reason_guessed(password, own) == "PASSWORD_ABOUT_YOU", password
        assert reason_guessed(password, []) is None, password
    assert reason_guessed("my name is alwine, and that is all", names) is None


@pytest.mark.requirement("R30", "R34")
def test_reset_refuses_what_is_guessed_first_each_with_its_reason(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="The Example Bookshop")
    link = site.new_link()

    def redeem(password: str) -> Any:
        return site.visitor().post_json(link, json={"password": password}).json["response"]  # type: ignore[index]

    reasons = {
        "too common. Try a few unrelated words": ["aaaaaaaaaaaaaab", "correct horse battery staple"],
        "this site's name": ["the example bookshop!", "alice@example.com", "+14155550123+14155550123"],
    }
    for reason, passwords in reasons.items():
        for password in passwords:
            refusal = redeem(password)
            assert refusal["error_code"] == "password_common", password
            assert reason in refusal["field_errors"]["password"][0]
    assert "too common" in site.visitor().set_password(link, "passwordpassword").text
    assert redeem("a password \ud800 of no text")["error_code"] == "invalid_request"
    assert site.events().count("password_refused") == 6  # not for what is no text
    assert redeem(OLD_PASSWORD) == {}  # the current one may be set again


@pytest.mark.requirement("R8", "R30")
def test_change_refuses_common_passwords_and_the_current_one(site: Site) -> None:
    visitor = site.visitor()
    visitor.sign_in()

    def change(password: str) -> str:
        fields = {"new_password": password, "new_password_confirm": password}
        return visitor.submit("/change", password=OLD_PASSWORD, **fields).text

    assert "different from your current one" in change(OLD_PASSWORD)
    for password in ("passwordpassword", "alice@example.com"):
        assert "Try a few unrelated words" in change(password)
    assert site.password_works(OLD_PASSWORD)
    change(NEW_PASSWORD)
    site.work()
    notice = " ".join(text_of(site.mailbox.mails[-1]).split())
    assert "Your old password no longer works" in notice  # a reset's notice says otherwise


def test_change_in_json_has_the_codes_of_a_reset_and_names_the_new_password(site: Site) -> None:
    visitor = site.visitor()
    visitor.sign_in()
    for fields, code, field in (
        ({"new_password": OLD_PASSWORD}, "password_unchanged", "new_password"),
        ({"new_password": "short"}, "password_too_short", "new_password"),
        ({"new_password_confirm": "another one"}, "password_mismatch", "new_password_confirm"),
        ({"new_password": "", "new_password_confirm": ""}, "invalid_request", "new_password"),
        ({"password": "wrong"}, "invalid_request", "password"),
    ):
        body = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, **fields}
        body.setdefault("new_password_confirm", body["new_password"])
        answer: Any = visitor.post_json("/change", json=body)
        assert answer.json["response"]["error_code"] == code
        assert list(answer.json["response"]["field_errors"]) == [field]
    assert site.events().count("password_refused") == 2


def test_missing_password_is_one_problem(site: Site) -> None:
    answer: Any = site.visitor().post_json(site.new_link(), json={})
    assert list(answer.json["response"]["field_errors"]) == ["password"]


@pytest.mark.requirement("R26", "R27", "R28", "R32")
def test_new_password_is_refused_by_its_number_of_characters(site: Site) -> None:
    link = site.new_link()
    for password, problem in (
        ("é" * 14, "at least 15"),
        ("e\u0301" * 14, "at least 15"),
        ("x" * 129, "at most 128"),
        ("x" * 20_000, "at most 128"),
        ("\ud800" * 15, "unsupported character"),
    ):
        answer: Any = site.visitor().post_json(link, json={"password": password})
        assert answer.status_code == 400
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


@pytest.mark.requirement("R8", "R17", "R30", "R43")
def test_commands_refuse_common_passwords_repeat_none_and_a_change_ends_links(site: Site) -> None:
    link = site.new_link()
    for password in ("passwordpassword", "alice@example.com", "too short", NEW_PASSWORD):
        is_good = password == NEW_PASSWORD
        change = run(site, "users", "change_password", "alice", "--password", password, fails=not is_good)
        assert password not in change.output
        assert site.password_works(password) is is_good
    assert (
        NEW_PASSWORD not in run(site, "users", "create", "c@example.com", "--password", NEW_PASSWORD).output
    )
    assert site.visitor().open(link).status_code == 400


@pytest.mark.requirement("R32")
def test_password_policy_is_fast_for_huge_input(site: Site) -> None:
    for password in ("e\u0301" * 2_000_000, "\u0301" * 5_000_000, "\x00" * 1_000_000, "a" * 1_000_000):
        start = time.monotonic()
        with site.app.app_context():
            reasons, _ = site.app.extensions["security"].password_util.validate(password, False)
        assert reasons
        assert time.monotonic() - start < 1
