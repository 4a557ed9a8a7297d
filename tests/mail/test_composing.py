"""Mail composition: contents, links, headers, and layout."""

import email
import email.policy
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any

import pytest
from looks.elements import elements_of
from support.mailbox import html_of, text_of
from support.outbox import LONG_AGO
from support.site import NEW_PASSWORD, PUBLIC_URL, Site, load_settings

from app import create_app
from app.mail import composing, flask_security_mails, outbox
from app.mail.outbox import OutboxMessage
from app.pages import samples
from app.web import i18n

CYRILLIC_SUBJECT = ("Ваш новый пароль " * 9).strip()


def parsed(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


# --- Contents ---


@pytest.mark.requirement("R12", "R19", "R21", "R22", "R35")
def test_instructions_and_notice_name_site_link_lifetime_source_and_what_to_do(make_site: Any) -> None:
    public_url = "https://id.example.com:8443/auth"
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=f"{public_url}/",
        RECOVERY_SITE_NAME="Größe 漢字",
        RECOVERY_SUPPORT_CONTACT="help@lagoon.example",
        RECOVERY_MAIL_REPLY_TO="Größe Hilfe <help@bücher.example>",
        MAIL_DEFAULT_SENDER="Größe <id@lagoon.example>",
    )
    link = site.new_link()
    for path in (link, link.replace("/auth", "")):  # the proxy may strip the prefix
        assert site.visitor().open(path).location.startswith("/auth/reset/~")
    browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0 <b>4</b>\x7f"}
    site.visitor().post_json(link, json={"password": NEW_PASSWORD}, headers=browser)
    site.change(email="thief@example.com")  # the notice goes to the address at the time of the reset
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]] * 2
    for mail, raw in zip(site.mailbox.mails, site.mailbox.raw, strict=True):
        assert raw.isascii()
        assert (mail["From"], mail["To"]) == ("Größe <id@lagoon.example>", "alice@example.com")
        assert mail["Reply-To"].replace('"', "") == "Größe Hilfe <help@xn--bcher-kva.example>"
        assert re.fullmatch(r"<[0-9a-f]{32}@id\.example\.com>", mail["Message-ID"])
        # Exchange heeds its own header, and not that of RFC 3834.
        assert (mail["Auto-Submitted"], mail["X-Auto-Response-Suppress"]) == ("auto-generated", "All")
        for part in (text_of(mail), html_of(mail)):
            assert ("Größe 漢字" in part, "help@lagoon.example" in part) == (True, True)
        urls = re.findall(r"\w+://[^\s\"'<>)]+", text_of(mail) + html_of(mail))
        urls += re.findall(r"(?:src|href|background|action)=[\"']?([^\"'\s>]+)", html_of(mail))
        strange = {url for url in urls if not url.startswith(public_url) or "?" in url}
        assert strange == {"mailto:help@lagoon.example"}
    instructions, notice = site.mailbox.mails
    assert instructions["Subject"] == "Reset your Größe 漢字 password"
    assert set(re.findall(r"https?://[^\s\"<]+/reset/[^\s\"<]+", html_of(instructions))) == {link}
    for part in (text_of(instructions), html_of(instructions)):
        assert ("in 1 hour" in part, "Didn't request this?" in part) == (True, True)
    assert notice["Subject"] == "A new password was set for your Größe 漢字 account"
    assert re.search(r"\w+ \d+, 20\d\d, \d+:\d\d:\d\d\s[AP]M UTC", text_of(notice))
    for text in ("127.0.0.1", "Browser: Firefox, Linux", "Wasn't you?"):
        assert text in text_of(notice)
    assert "Firefox, Linux" in html_of(notice)
    assert NEW_PASSWORD not in notice.as_string()
    assert not re.search(r"/reset/\S", text_of(notice))


@pytest.mark.requirement("R21")
def test_first_line_of_a_requested_mail_tells_when(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gmail threads mails with one subject, and folds in a later one all that an earlier one had, link included."""
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, RECOVERY_MAIL_DAILY_CAP=1)
    alice = site.visitor()
    alice.sign_in()
    for hour in (1, 2):
        now = datetime(2026, 2, 28, hour, tzinfo=UTC)
        clock = type("Clock", (datetime,), {"now": lambda _, now=now: now})
        for module in (outbox, flask_security_mails):
            monkeypatch.setattr(module, "datetime", clock)
        site.ask()
        alice.post_json("/change-email", json={"email": "alice@new.example.com"})
        site.work()
    assert site.messages()[-2]["state"] == "waiting"  # a postponed one does not tell when it was to be sent
    site.change(OutboxMessage, OutboxMessage.state == "waiting", quota="by an admin", due_at=LONG_AGO)
    site.work()
    for kind in ("/reset/", "/change-email/"):
        mails = [mail for mail in site.mailbox.mails if kind in text_of(mail)]
        assert [text_of(mail).splitlines()[0] for mail in mails] == [
            f"Requested: February 28, 2026, {hour}:00:00\u202fAM UTC · 127.0.0.1" for hour in (1, 2)
        ]
        for hour, mail in enumerate(mails, start=1):
            assert f"Requested: February 28, 2026, {hour}:00:00" in html_of(mail)


@pytest.mark.parametrize(
    ("username", "greeting"), [("alice", "Hello alice,"), ("visit.evil.example", "Hello,")]
)
def test_mail_greets_its_reader_and_tells_what_asked(site: Site, username: str, greeting: str) -> None:
    """A username that a mail program would turn into a link is left out."""
    site.change(username=username)
    browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"}
    site.visitor().post_json("/reset", json={"identity": "alice@example.com"}, headers=browser)
    site.work()
    [mail] = site.mailbox.mails
    first, _, second, *_ = text_of(mail).splitlines()
    assert (first.partition("UTC")[2], second) == (" · Firefox, Linux · 127.0.0.1", greeting)
    assert f">{greeting}</p>" in html_of(mail)
    assert re.findall(r'· <span dir="auto">(.*?)</span>', html_of(mail)) == ["Firefox, Linux", "127.0.0.1"]


# --- Links ---

FORWARDED = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil"}


@pytest.mark.requirement("R19", "R54")
def test_links_ignore_request_headers(site: Site) -> None:
    for host in ("evil.example", "127.0.0.1:80@evil.example"):
        answer: Any = site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Host": host})
        assert answer.status_code == 400
        assert PUBLIC_URL in answer.json["response"]["errors"][0]
    headers = {**FORWARDED, "Forwarded": "host=evil.example;proto=https"}
    site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
    site.work()
    assert site.last_link().startswith(f"{PUBLIC_URL}/reset/")


# --- Headers ---


def test_headers_encode_long_sender_and_subject_in_short_words(make_site: Any) -> None:
    """RFC 2047 §2 allows 75 characters for each encoded word, in any script."""
    name = "مرحبا بكم في خدمة استعادة كلمات المرور, لهذه «المؤسسة»"
    site: Site = make_site(MAIL_DEFAULT_SENDER=f'"{name}" <id@bücher.example>')
    with site.app.app_context():
        mail = composing.compose("a@example.com", CYRILLIC_SUBJECT, "Hello", "", "<1@example.com>")
        raw = mail.message().as_bytes()
    words = re.findall(rb"=\?\S+\?=", raw)
    assert max(len(word) for word in words) <= 75 < len(b"".join(words))
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    decoded = {header: str(make_header(decode_header(message[header]))) for header in ("From", "Subject")}
    assert decoded == {"From": f"{name} <id@xn--bcher-kva.example>", "Subject": CYRILLIC_SUBJECT}


def test_headers_keep_an_internationalized_address_unencoded(site: Site) -> None:
    """RFC 6532; an encoded word would be another address. The subject is encoded nevertheless."""
    address = f"{'почта' * 9}@bücher.example"
    with site.app.app_context():
        mail = composing.compose(address, CYRILLIC_SUBJECT, "Hello", "<p>Hello</p>", "<1@x>")
        raw = mail.message().as_bytes()
    head = raw.partition(b"\n\n")[0]
    assert f"\nTo: {'почта' * 9}@xn--bcher-kva.example\n".encode() in head
    assert b"\nSubject: =?utf-8?" in head
    assert max(map(len, raw.splitlines())) < 150
    assert parsed(raw)["Subject"] == CYRILLIC_SUBJECT


# --- Layout ---


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("a " * 1000, ("a " * 1000).strip()),
        ("see https://x.example/" + "y-" * 600, "see https://x.example/" + "y-" * 600),
        ("\n\none\n\n \n\n\ntwo\n", "one\n\ntwo"),
        ("- one\n  - two", "- one\n  - two"),
        ("When: now\nWhere: here", "When: now\nWhere: here"),
        (" \n", ""),
    ],
)
def test_text_keeps_its_lines_and_they_are_short_on_the_wire(site: Site, text: str, body: str) -> None:
    """Mail programs wrap lines for their window; relays break those of more than 998 characters (RFC 5322 §2.1.1)."""
    with site.app.app_context():
        raw = composing.compose("a@example.com", "S", text, "<p>x</p>", "<1@x>").message().as_bytes()
    part = parsed(raw).get_body(("plain",))
    assert (part.get_content().rstrip("\n") if part else "") == body
    assert max(map(len, raw.splitlines())) <= 78


@pytest.fixture(scope="module")
def mails() -> dict[str, composing.Mail]:
    """Every mail, composed from its sample."""
    overrides = {
        "RECOVERY_SUPPORT_CONTACT": "help@a.example",
        "RECOVERY_SITE_NAME": "A Site with a Long Name",
    }
    app = create_app(load_settings(**overrides), checked=False)
    with app.app_context(), samples.request_context():
        return {mail.name: samples.compose(mail) for mail in samples.MAILS}


def test_text_of_every_mail_has_the_link_of_its_button(mails: dict[str, composing.Mail]) -> None:
    count = 0
    for name, mail in mails.items():
        is_notice = name.endswith(("notice", "frozen", "settled", "alert"))
        assert mail.body.startswith("Hello" if is_notice else "Requested: February 28, 2026"), name
        assert "\n\n\n" not in mail.body, name
        for paragraph in mail.body.split("\n\n")[1:]:
            assert paragraph[0].isupper() or paragraph.split()[0] in mail.html, (name, paragraph)
        buttons = re.findall(r'<td class="press[^>]*><a href="([^"]+)"', mail.html)
        bare = re.findall(r'<p class="bare"[^>]*>[^<]+<br>\s*<a href="([^"]+)"[^>]*>([^<]+)</a>', mail.html)
        assert bare == [(url, url) for url in buttons], name
        assert all(url in mail.body for url in buttons), name
        assert len(buttons) <= 1, name
        count += len(buttons)
    assert count >= 8


@pytest.mark.requirement("R22")
def test_html_of_every_mail_has_inline_styles_and_loads_nothing(mails: dict[str, composing.Mail]) -> None:
    for name, mail in mails.items():
        for element in elements_of(mail.html):
            if element.attributes.get("class"):
                assert element.attributes.get("style"), (name, element)
        [style] = re.findall(r"<style>(@media.*?)</style>", mail.html, re.DOTALL)
        assert not re.sub(r"@media [^{]+\{([^{}]+\{[^{}]+\})+\s*\}", "", style).strip(), name
        for media in ("prefers-color-scheme: dark", "min-width: 600px"):
            assert mail.html.count(f"@media ({media})") == 1, name
        loads = r"<(img|link|script|iframe)\b|\bsrc=|url\(|@import|@font-face"
        assert not re.search(loads, mail.html), name
        # Outlook knows neither max-width nor a hidden preheader.
        assert mail.html.count("<!--[if mso]>") == mail.html.count("<![endif]-->") == 3, name
        assert '<!--[if mso]><table role="presentation" width="560"' in mail.html
        preheader = r'<div class="preheader" style="display:none;[^"]*mso-hide:all[^"]*">[^<]+</div>'
        assert re.search(preheader, mail.html), name


def test_mail_in_a_right_to_left_language() -> None:
    app = create_app(load_settings(), checked=False)
    [notice] = (mail for mail in samples.MAILS if mail.name == "reset_notice")
    with app.app_context(), i18n.use_language("ar"):
        html = samples.compose(notice).html
    assert '<html lang="ar" dir="rtl">' in html
    assert re.search(r'<td class="card"[^>]*text-align:right', html)
    assert re.search(r'<a [^>]*dir="ltr"[^>]*>http', html)
    assert "padding-left:16px" in html
