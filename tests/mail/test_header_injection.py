"""Input and settings cannot add a header, a recipient or markup to a mail or page."""

import re
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import String
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, SECRETS, Site, load_settings

from app.accounts.identities import IdentityError
from app.accounts.models import User
from app.settings.library_settings import all_settings
from app.settings.problems import SettingsError

EVIL = "evil@evil.example"
HEADERS = ["Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"]
HEADERS += ["X-Auto-Response-Suppress"]
LINE_ENDS = ("\r\n", "\n", "\r", "\x85", "\u2028")
LINES = [f"{end}Bcc: {EVIL}{end}{end}" for end in LINE_ENDS]
ALL_LINES = "".join(LINES)


def headers_in(raw: bytes) -> list[str]:
    """Return a mail's header names as a relay reads them that accepts any line ending."""
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    return sorted(
        line.split(b":")[0].decode() for line in re.split(rb"[\r\n]+", head) if line[:1] not in (b" ", b"\t")
    )


def assert_own_headers(site: Site, *recipients: str) -> None:
    """Fail unless the mails so far went to these recipients alone, with our headers alone."""
    assert {tuple(headers_in(raw)) for raw in site.mailbox.raw} == {tuple(HEADERS)}
    assert {recipient for envelope in site.mailbox.envelopes for recipient in envelope} == {*recipients}


# --- headers ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R20")
def test_line_break_in_request_header_adds_no_header(site: Site) -> None:
    """No server lets one through; if one does, it is text."""
    names = ("HTTP_USER_AGENT", "HTTP_ACCEPT_LANGUAGE", "HTTP_X_MAILER")
    evil = {"environ_overrides": dict.fromkeys(names, f"Evil{ALL_LINES}<b>x</b>")}
    visitor = site.visitor()
    assert visitor.post_json("/reset", json={"identity": "alice"}, **evil).status_code == 200
    site.work()
    new = {"password": f"{NEW_PASSWORD}{LINES[0]}"}
    assert visitor.post_json(site.last_link(), json=new, **evil).status_code == 200
    site.work()
    assert len(site.mailbox.raw) == 2
    assert_own_headers(site, "alice@example.com")


@pytest.mark.parametrize(
    "name",
    ['"Alice, Bob" <x@evil.example>', "To: x; y: (z)", "Schlüssel 🔑 " + "a" * 200],
    ids=["a mailbox", "a group", "non-ASCII"],
)
@pytest.mark.requirement("R20")
def test_name_with_header_syntax_adds_no_header(make_site: Any, name: str) -> None:
    display_name = name.replace('"', "").partition("<")[0]
    site: Site = make_site(
        RECOVERY_SITE_NAME=name, MAIL_DEFAULT_SENDER=f'"{display_name}" <no-reply@example.com>'
    )
    site.new_link()
    assert name in site.mailbox.mails[0]["Subject"]
    assert_own_headers(site, "alice@example.com")


# Text of any kind is fine in these, because they reach no header.
FREE = {
    "SECRET_KEY": SECRETS["FLASK_SECRET_KEY"],
    "SECURITY_PASSWORD_SALT": SECRETS["FLASK_SECURITY_PASSWORD_SALT"],
    "RECOVERY_ACCOUNTS_SALT": "vB3nM8kQ2xR7tY5wZ1pL9dF4",
    "RECOVERY_METRICS_TOKEN": "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x",
}


@pytest.mark.requirement("R20")
def test_line_break_in_any_text_of_the_configuration_is_refused_or_reaches_no_header(make_site: Any) -> None:
    accepted, defaults = set(), load_settings()
    names = set(filter(str.isupper, all_settings().model_fields))
    encoded = f"=?utf-8?q?x=0aBcc=3a_{EVIL.replace('@', '=40')}?="
    starts = [start + LINES[0] for start in ("/x", f"x <{EVIL}>", '"x')]
    for text in (*(f"{{}}{line}" for line in LINES), *starts, f'"x{LINES[0]}" <{EVIL}>'):
        values = {name: text.format(getattr(defaults, name, None) or "x") for name in names}
        with pytest.raises(SettingsError) as refusal:
            load_settings(**values)
        for name in names - {problem.name.partition(".")[0] for problem in refusal.value.problems}:
            with suppress(SettingsError):
                load_settings(**{name: values[name]})
                accepted.add(name)
    for values in ({"RECOVERY_SITE_NAME": encoded}, {"MAIL_DEFAULT_SENDER": f"{encoded} <a@example.com>"}):
        with pytest.raises(SettingsError, match="encoded words"):
            load_settings(**values)
    database, service = {"SQLALCHEMY_DATABASE_URI"}, {"SECURITY_SMS_SERVICE"}  # of no use then
    assert accepted - database - service == set(FREE)
    site: Site = make_site(**{name: f"{text}{LINES[0]}" for name, text in FREE.items()})
    alice = site.visitor()
    assert alice.set_password(site.new_link()).status_code == 302
    site.work()
    assert alice.sign_in(password=NEW_PASSWORD)
    pages = [alice.open(path) for path in ("/", "/login", "/metrics", "/reset", "/change")]
    assert [page for page in pages if "evil" in str(page.headers)] == []
    assert_own_headers(site, "alice@example.com")


@pytest.mark.requirement("R20")
def test_line_break_in_any_field_of_an_account_adds_no_header_and_no_recipient(make_site: Any) -> None:
    """A script may write to the database without the model, which refuses or cleans every identity."""
    site: Site = make_site(SECURITY_TRACKABLE=True)
    before = site.rows(User)[0]
    columns = [name for name, column in User.__table__.columns.items() if isinstance(column.type, String)]
    assert {"email", "username", "us_phone_number", "language", "last_login_ip"} <= {*columns}
    addresses = [("email", f"{end}B:evil{end}") for end in LINE_ENDS]
    for name, line in [*((name, ALL_LINES) for name in columns if name != "email"), *addresses]:
        site.change(User, User.id == before["id"], **{name: f"{before[name] or 'x'}{line}"})
        identity = "alice" if name == "email" else "alice@example.com"
        visitor = site.visitor()
        answers = [visitor.post_json("/reset", json={"identity": identity})]
        site.work()
        answers.append(visitor.post_json("/login", json={"identity": identity, "password": OLD_PASSWORD}))
        answers.append(visitor.open("/"))
        assert [answer for answer in answers if answer.status_code >= 500] == [], name
        assert [answer for answer in answers if "evil" in str(answer.headers)] == [], name
        site.change(User, User.id == before["id"], **{name: before[name]})
    reasons = {row["reason"] for row in site.messages()}
    assert "its address contains unprintable characters" in reasons
    assert_own_headers(site, "alice@example.com")
    with site.app.app_context():
        for name in ("email", "username", "us_phone_number"):
            for line in LINES:
                with pytest.raises(IdentityError):
                    User(**{name: f"{before[name]}{line}"})


@pytest.mark.requirement("R18", "R20")
def test_mail_goes_to_stored_address_and_not_to_its_decoded_form(site: Site) -> None:
    """An encoded word in a local part is a mailbox of its own; decoded, the first is Alice's."""
    for local_part in ("=61lice", "x=40evil.example=2c", "x=40evil.example=3e"):
        stored = f"=?utf-8?q?{local_part}?=@example.com"
        site.change(User, User.username == "bob", email=stored)
        site.ask("bob")
        site.work()
        assert [envelope for envelope in site.mailbox.envelopes if envelope != [stored]] == []
        assert [raw for raw in site.mailbox.raw if f"To: {stored}\r\n".encode() not in raw] == []
        site.mailbox.envelopes.clear()
        site.mailbox.raw.clear()


# --- templates and markup ---------------------------------------------------------------------------

MARKUP = "{{7331*7331}}<b>x</b>${7331*7331}{% raw %}#{7331*7331}<%= 7331*7331 %>'\"&{{config}}"
PRODUCT = "53743561"  # of 7331 and 7331, if a template engine has read it


@pytest.mark.requirement("R21", "R35")
def test_markup_is_text_in_both_parts_of_a_mail(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME=MARKUP, RECOVERY_SUPPORT_CONTACT=MARKUP)
    browser = {"User-Agent": f"Evil {MARKUP}"}
    answer = site.visitor().post_json(site.new_link(), json={"password": NEW_PASSWORD}, headers=browser)
    assert answer.status_code == 200
    site.work()
    assert len(site.mailbox.mails) == 2
    for mail in site.mailbox.mails:
        types = [part.get_content_type() for part in mail.walk()]
        assert types == ["multipart/alternative", "text/plain", "text/html"]
        assert MARKUP in mail["Subject"]
        assert "<b>" not in html_of(mail)
        for part in (text_of(mail), unescape(html_of(mail))):
            assert " ".join(part.split()).count(MARKUP) >= 2  # the site and whom to ask; lines may wrap
            assert f"{PUBLIC_URL}/not-me/" in part
            assert "Evil" not in part  # only known names of browsers are shown
        readable = re.sub(r"https?://\S+", "", text_of(mail)).replace(f"{mail['Date']}", "")
        assert PRODUCT not in readable.split("When:")[0]
        assert OLD_PASSWORD not in mail.as_string()


@pytest.mark.requirement("R53")
def test_markup_is_text_on_every_page(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME=MARKUP)
    address = "{{7331*7331}}${7331*7331}'&|`x`@example.com"  # a valid mailbox
    site.change(User, User.username == "bob", email=address)
    bob = site.visitor()
    assert bob.sign_in("bob")
    assert "{{7331*7331}}${7331*7331}&#39;&amp;|`x`@example.com" in bob.open("/").text
    visitor = site.visitor()
    pages = [
        visitor.open(f"/login?next=/{quote(MARKUP)}"),
        visitor.submit("/login", identity=MARKUP, password=MARKUP, next=f"/{MARKUP}"),
        visitor.submit("/reset", identity=MARKUP * 9),
        visitor.open(f"/reset/{quote(MARKUP, safe='')}"),
        visitor.open(f"/nowhere/{quote(MARKUP)}"),
        visitor.open("/login", headers={"Host": "{{7331*7331}}.example"}),
        visitor.open(f"/reset?error={quote(MARKUP)}&code={quote(MARKUP)}&title={quote(MARKUP)}"),
    ]
    for page in pages:
        assert page.status_code in (200, 400, 404)
        assert "<b>" not in page.text
        assert PRODUCT not in re.sub(r'value="[^"]+"', "", page.text)
    site.new_link("bob")
    assert site.mailbox.envelopes == [[address]]
    assert "{•••@example.com" in bob.open(site.last_link(), follow_redirects=True).text
