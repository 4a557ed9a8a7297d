"""What the two mails say, to whom, and what no request can make them say."""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header
from typing import Any

import pytest
from support.mailbox import html_of, link_in, text_of
from support.site import NEW_PASSWORD, Site

from app.mail import composing


def instructions(site: Site) -> Any:
    site.new_link()
    return site.mailbox.mails[-1]


def notice(site: Site, **headers: str) -> Any:
    link = site.new_link()
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    site.visitor().post_json(link, json=body, headers=headers)
    site.work()
    return site.mailbox.mails[-1]


@pytest.mark.requirement("R12", "R21")
def test_the_instructions_say_what_a_person_needs(make_site: Any) -> None:
    site: Site = make_site(
        RECOVERY_SITE_NAME="Blue Lagoon",
        RECOVERY_SUPPORT_CONTACT="help@lagoon.example",
        MAIL_DEFAULT_SENDER="Lagoon <id@lagoon.example>",
    )
    mail = instructions(site)
    assert mail["Subject"] == "Reset your Blue Lagoon password"
    assert mail["From"] == "Lagoon <id@lagoon.example>"
    assert mail["To"] == "alice@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<[0-9a-f]{32}@127\.0\.0\.1>", mail["Message-ID"])
    for words in (text_of(mail), html_of(mail)):
        assert "Blue Lagoon" in words
        assert "within 1 hour" in words
        assert "You did not ask?" in words
        assert "help@lagoon.example" in words
    assert set(re.findall(r"https?://[^\s\"<]+/reset/[^\s\"<]+", html_of(mail))) == {link_in(mail)}


@pytest.mark.requirement("R21", "R35")
def test_the_notice_says_when_from_where_and_what_to_do(site: Site) -> None:
    mail = notice(site, **{"User-Agent": "Netscape <b>4</b>\x7f"})
    assert mail["To"] == "alice@example.com"
    assert mail["Subject"] == "Your Sparekey password was changed"
    assert re.search(r"\w+ \d+, 20\d\d, \d+:\d\d:\d\d\s[AP]M UTC", text_of(mail))
    assert "127.0.0.1" in text_of(mail)
    assert "Netscape <b>4</b>" in text_of(mail)
    assert "Netscape &lt;b&gt;4&lt;/b&gt;" in html_of(mail)
    assert "That was not you?" in text_of(mail)
    assert NEW_PASSWORD not in mail.as_string()
    assert not re.search(r"/reset/\S", text_of(mail))


@pytest.mark.requirement("R35")
def test_the_notice_goes_where_the_account_was_when_it_was_reset(site: Site) -> None:
    link = site.new_link()
    site.visitor().post_json(link, json={"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD})
    site.change(email="thief@example.com")
    site.work()
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]


@pytest.mark.requirement("R22")
def test_nothing_in_a_mail_is_loaded_from_elsewhere(site: Site) -> None:
    for mail in (instructions(site), notice(site)):
        assert not re.search(r"<(img|link|script|iframe)\b|\bsrc=|url\(", html_of(mail))
        assert all(
            url.startswith("http://127.0.0.1:5000")
            for url in re.findall(r"https?://[^\s\"<]+", html_of(mail))
        )


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:80@evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil"},
        {"Forwarded": "host=evil.example;proto=https"},
    ],
)
@pytest.mark.requirement("R19", "R54")
def test_no_header_reaches_a_link(site: Site, headers: dict[str, str]) -> None:
    answer = site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
    if "Host" in headers:
        assert answer.status_code == 400
        assert "http://127.0.0.1:5000" in answer.json["response"]["errors"][0]  # type: ignore[index]
        site.ask()
    site.work()
    assert site.last_link().startswith("http://127.0.0.1:5000/reset/")


@pytest.mark.requirement("R19")
def test_links_keep_the_public_urls_port_and_path(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com:8443/auth/")
    link = site.new_link()
    assert link.startswith("https://id.example.com:8443/auth/reset/")
    for path in (link, link.replace("/auth", "")):  # whether or not the proxy strips the prefix
        landing = site.visitor().open(path)
        assert landing.location.startswith("/auth/reset/~")


def test_a_long_name_of_the_sender_and_a_long_subject_hold_no_word_that_is_too_long(make_site: Any) -> None:
    """RFC 2047 §2 allows 75 characters for each, in whatever script."""
    name, subject = "مرحبا بكم في خدمة استعادة كلمات المرور, لهذه «المؤسسة»", "Ваш новый пароль " * 9
    site: Site = make_site(MAIL_DEFAULT_SENDER=f'"{name}" <id@bücher.example>')
    with site.app.app_context():
        mail = composing.compose("a@example.com", subject, "Hello", "", "<1@example.com>")
        raw = mail.message().as_bytes()
    words = re.findall(rb"=\?\S+\?=", raw)
    assert max(len(word) for word in words) <= 75 < len(b"".join(words))
    read = email.message_from_bytes(raw, policy=email.policy.compat32)
    shown = {header: str(make_header(decode_header(read[header]))) for header in ("From", "Subject")}
    assert shown == {"From": f"{name} <id@xn--bcher-kva.example>", "Subject": subject.strip()}


def test_an_address_of_other_letters_stands_in_its_header_as_it_is(site: Site) -> None:
    """RFC 6532; an encoded word would be another address. The headers beside it are encoded all the same."""
    address, subject = f"{'почта' * 9}@bücher.example", ("Ваш новый пароль " * 9).strip()
    with site.app.app_context():
        raw = composing.compose(address, subject, "Hello", "<p>Hello</p>", "<1@x>").message().as_bytes()
    head = raw.partition(b"\n\n")[0]
    assert f"\nTo: {'почта' * 9}@xn--bcher-kva.example\n".encode() in head
    assert b"\nSubject: =?utf-8?" in head
    assert max(map(len, raw.splitlines())) < 150
    assert email.message_from_bytes(raw, policy=email.policy.default)["Subject"] == subject


def test_each_mail_keeps_its_own_links(site: Site) -> None:
    links: list[set[str]] = []
    for name in ("alice", "bob"):
        site.ask(name)
        site.work()
        mail = site.mailbox.mails[-1]
        found = set(re.findall(r"https?://[^\s\"<]+/(?:reset|not-me)/[\w-]+", html_of(mail)))
        assert found == set(re.findall(r"https?://\S+/(?:reset|not-me)/[\w-]+", text_of(mail)))
        assert len(found) == 2
        links.append(found)
    assert not links[0] & links[1]
