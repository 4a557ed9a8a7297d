"""The password policy: patterns, common passwords, and names of the account and the site."""

import random
import re
import string
import time
from typing import Any

import pytest
from support.mailbox import text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site

from app.accounts import common_passwords


@pytest.mark.parametrize(
    "password",
    [
        "123456789012345", "123456789987654321", "aaaaaaaaaaaaaaaa", "abcabcabcabcabcabc", "passwordpassword",
        "PassWord PassWord", "P@ssw0rdP@ssw0rd", "P@ssw0rd P@ssw0rd", "password123456789", "!!password1234!!",
        "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", "iloveyou iloveyou", "monkeymonkey1monkey", "abcdefghijklmno", "qwertyuiopasdfgh",
        "poiuytrewqlkjhgf", "1qaz2wsx3edc4rfv", "1q2w3e4r5t6y7u8i9o0p",
    ],
)  # fmt: skip
@pytest.mark.requirement("R30")
def test_common_password_is_recognized(password: str) -> None:
    assert common_passwords.is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        "my password is a tall green horse",
        "monkey 8317492649174",
        "gravel orbit pickle lantern",
        "🦊🌵🎺🧊🪁🧶🦉🍄🛶🎲🪐🧲🫖🦔🎻🥨",
        "!}#(%&^*)_+{>?<~[;",
        "kfwmqzhtrbxpldv",
        "密码密码很长的一句话没有人会猜到它",
        NEW_PASSWORD,
    ],
)
@pytest.mark.requirement("R29", "R30")
def test_password_with_common_parts_is_compared_as_a_whole(password: str) -> None:
    assert not common_passwords.is_common(password)


PATTERNS = [
    *(
        "aaaaaaaaaaaaaab",
        "111111111111112",
        "20260101202601012026",
        "31.12.1999-01/01/2000",
        "aaabbbcccdddeee",
    ),
    *("abcdefghabcdefg", "x7Kq9ZpLx7Kq9ZpL", "zxcvbnmasdfghjkl", "qqwweerrttyyuuii", "1 2 3 4 5 6 7 8 9 10"),
    *(
        "abcabcabcabcabc1",
        "01234567899876543",
        "lalalalalololalala",
        "a-b-c-d-e-f-g-h-i-j",
        "１１１１１１１１１１１１１１２",
    ),
]


@pytest.mark.parametrize("password", PATTERNS)
@pytest.mark.requirement("R30")
def test_password_pattern_is_recognized(password: str) -> None:
    assert common_passwords.is_pattern(password)
    assert common_passwords.reason_guessed(password, [])


@pytest.mark.parametrize(
    "password",
    [
        "correcthorsebatterystaple",
        "Correct Horse Battery Staple!",
        "c0rrect-h0rse-battery-staple",
        "To be, or not to be",
    ],
)
@pytest.mark.requirement("R30")
def test_famous_phrase_is_common(password: str) -> None:
    assert common_passwords.reason_guessed(password, []) == "PASSWORD_COMMON"


STRONG = [
    *(
        NEW_PASSWORD,
        OLD_PASSWORD,
        "gravel orbit pickle lantern",
        "ein Dorf am Rand der Karte",
        "Tr0mbone&Kayak#Quince",
    ),
    *(
        "kfwmqzhtrbxpldv",
        "830174926518347",
        "9f86d081884c7d65",
        "Zx9!pQ4#mL7@vB2",
        "my password is a tall green horse",
    ),
    *(
        "Jahrgang 1974 war kein guter Wein",
        "31 ducks, 12 geese and 1999 swans",
        "密码密码很长的一句话没有人会猜到它",
    ),
    *(
        "пять синих китов едут на юг",
        "sea-shells-by-the-sea-shore-7",
        "banana bandana cabana savannah",
        "Mississippi 4 ever, Tennessee never",
    ),
    *(
        "U2FsdGVkX19vbGtnQ3",
        "abcd is where the alphabet song begins",
        "qwerty is what my first keyboard said",
    ),
]


@pytest.mark.requirement("R29", "R30")
def test_strong_password_is_no_pattern_and_not_common() -> None:
    names = ["Sparekey", "id.example.com", "alice@example.com", "alice", "+14155550123"]
    words = (ROOT / "tests" / "accounts" / "test_passwords.py").read_text() + common_passwords.__doc__
    seeded = random.Random(22)
    vocabulary = sorted({word.lower() for word in re.findall(r"[a-zA-Z]{4,9}", words) if len(set(word)) > 2})
    assert len(vocabulary) > 200
    phrases = [seeded.choice(" -.,_1").join(seeded.sample(vocabulary, 5)) for _ in range(1000)]
    signs = string.ascii_letters + string.digits + string.punctuation
    made = [
        "".join(seeded.choices(alphabet, k=18))
        for alphabet in (signs, string.ascii_lowercase)
        for _ in range(500)
    ]
    for password in (*STRONG, *phrases, *made):
        assert common_passwords.reason_guessed(password, names) is None, password


@pytest.mark.requirement("R30")
def test_password_about_the_account_or_the_site_is_recognized() -> None:
    names = ["alice@example.com", "alice", "", "Example"]
    simple = (*names[:1], "ALICE.example.com", "alicealicealice", "alice1234!!!", "example2024")
    for password in (*simple, "Example2026Example", "alice-1-alice-2-alice-3", "2026 example 2026 example"):
        assert common_passwords.is_about(password, names), password
    for name, password in (("мария.иванова", "мария.иванова2024"), ("密码密码", "密码密码12345678")):
        assert common_passwords.is_about(password, [name]), password
    assert not common_passwords.is_about("my name is alice, and that is all", names)


@pytest.mark.requirement("R30", "R34")
def test_reset_refuses_common_passwords_and_says_how_to_do_better(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="The Example Bookshop")
    link = site.new_link()

    def redeem(password: str) -> Any:
        return site.visitor().post_json(link, json={"password": password}).json["response"]  # type: ignore[index]

    site_name, number = "the example bookshop!", "+14155550123+14155550123"
    for password in ("passwordpassword", "alice@example.com", site_name, number):
        refusal = redeem(password)
        assert refusal["error_code"] == "password_common", password
        assert "Try a few unrelated words" in refusal["field_errors"]["password"][0]
    assert "too common" in site.visitor().set_password(link, "passwordpassword").text
    assert redeem("a password \ud800 of no text")["error_code"] == "invalid_request"
    assert site.events().count("password_refused") == 5  # not for what is no text
    assert redeem(OLD_PASSWORD) == {}  # the current one may be set again


@pytest.mark.requirement("R30", "R34")
def test_reset_refuses_what_is_guessed_first_each_with_its_reason(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="Sparekey")
    link = site.new_link()
    pattern, common, about = (
        "contains repetition, a sequence, or a date",
        "too common",
        "this site's name",
    )
    for password, reason in {
        "aaaaaaaaaaaaaab": pattern,
        "111111111111112": pattern,
        "20260101202601012026": pattern,
        "correcthorsebatterystaple": common,
        "correct horse battery staple": common,
        "Sparekey2026Sparekey": about,
    }.items():
        answer: Any = site.visitor().post_json(link, json={"password": password}).json
        refusal = answer["response"]
        assert refusal["error_code"] == "password_common", password
        assert reason in refusal["field_errors"]["password"][0]
    assert site.visitor().post_json(link, json={"password": STRONG[2]}).status_code == 200


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


@pytest.mark.requirement("R8", "R17", "R30")
def test_command_line_refuses_common_passwords_and_a_change_ends_links(site: Site) -> None:
    link, runner = site.new_link(), site.app.test_cli_runner()
    for password in ("passwordpassword", "alice@example.com", "too short", NEW_PASSWORD):
        result = runner.invoke(args=["users", "change_password", "alice", "--password", password])
        assert (result.exit_code == 0) is (password == NEW_PASSWORD), result.output
        assert site.password_works(password) is (password == NEW_PASSWORD)
    assert site.visitor().open(link).status_code == 400


@pytest.mark.requirement("R32")
def test_password_policy_is_fast_for_huge_input(site: Site) -> None:
    for password in ("e\u0301" * 2_000_000, "\u0301" * 5_000_000, "\x00" * 1_000_000, "a" * 1_000_000):
        start = time.monotonic()
        with site.app.app_context():
            reasons, _ = site.app.extensions["security"].password_util.validate(password, False)
        assert reasons
        assert time.monotonic() - start < 1
