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
LINES = [f"{line_end}Bcc: {EVIL}{line_end}{line_end}" for line_end in LINE_ENDS]
QUOTED = f'"x{LINES[0]}" <{EVIL}>'


def headers_in(raw: bytes) -> list[str]:
    """Return a mail's header names as a relay reads them that accepts any line ending."""
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    return sorted(
        line.split(b":")[0].decode() for line in re.split(rb"[\r\n]+", head) if line[:1] not in (b" ", b"\t")
    )


# --- headers ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R20")
def test_line_break_in_field_is_refused(site: Site) -> None:
    visitor = site.visitor()
    for line in LINES:
        for identity in (
            f"alice{line}x",
            f"alice@example.com{line}x",
            f'"a{line}"@example.com',
            f"+14155550123{line}x",
        ):
            assert visitor.post_json("/reset", json={"identity": identity}).status_code == 400
            assert visitor.submit("/reset", identity=identity).status_code == 400
            login = visitor.post_json("/login", json={"identity": identity, "password": "x"})
            assert login.status_code == 400
        assert visitor.post_json("/reset", json={"identity": "alice", "client": line}).status_code == 400
        assert "Bcc" not in visitor.open(f"/login?next=/{quote(line)}").headers
    assert site.messages() == []


@pytest.mark.requirement("R20")
def test_line_break_in_user_agent_adds_no_header(site: Site) -> None:
    """No server lets one through; if one does, it is text."""
    for line in LINES:
        names = ("HTTP_USER_AGENT", "HTTP_ACCEPT_LANGUAGE", "HTTP_X_MAILER")
        options: Any = {
            "json": {"password": f"{NEW_PASSWORD}{line}"},
            "environ_overrides": dict.fromkeys(names, f"Evil{line}<b>x</b>"),
        }
        assert site.visitor().post_json(site.new_link(), **options).status_code == 200
        site.work()
    assert len(site.mailbox.raw) == 2 * len(LINES)
    assert {tuple(headers_in(raw)) for raw in site.mailbox.raw} == {tuple(HEADERS)}
    assert site.mailbox.envelopes == [["alice@example.com"]] * 2 * len(LINES)


NAMES = {
    "a mailbox": '"Alice, Bob" <x@evil.example>',
    "a group": "To: x; y: (z)",
    "non-ASCII": "Schlüssel 🔑 " + "a" * 200,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.requirement("R20")
def test_site_name_with_header_syntax_adds_no_header(make_site: Any, name: str) -> None:
    display_name = name.replace('"', "").partition("<")[0]
    site: Site = make_site(
        RECOVERY_SITE_NAME=name, MAIL_DEFAULT_SENDER=f'"{display_name}" <no-reply@example.com>'
    )
    site.new_link()
    assert name in site.mailbox.mails[0]["Subject"]
    assert headers_in(site.mailbox.raw[0]) == HEADERS
    assert site.mailbox.envelopes == [["alice@example.com"]]


ENCODED_LINE = f"=?utf-8?q?x=0aBcc=3a_{EVIL.replace('@', '=40')}?="


@pytest.mark.parametrize(
    "overrides",
    [
        {"RECOVERY_SITE_NAME": ENCODED_LINE},
        {"MAIL_DEFAULT_SENDER": f"{ENCODED_LINE} <no-reply@example.com>"},
    ],
    ids=["site", "sender"],
)
@pytest.mark.requirement("R20")
def test_encoded_line_break_in_setting_adds_no_header(make_site: Any, overrides: dict[str, str]) -> None:
    try:
        site: Site = make_site(**overrides)
    except SettingsError:
        return  # refused: as good
    site.ask()
    site.work()
    assert [raw for raw in site.mailbox.raw if headers_in(raw) != HEADERS] == []


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
    for text in (*(start + line for line in LINES for start in ("{}", "/x", f"x <{EVIL}>", '"x')), QUOTED):
        values = {name: text.format(getattr(defaults, name, None) or "x") for name in names}
        with pytest.raises(SettingsError) as refusal:
            load_settings(**values)
        for name in names - {problem.name.partition(".")[0] for problem in refusal.value.problems}:
            with suppress(SettingsError):
                load_settings(**{name: values[name]})
                accepted.add(name)
    database, service = {"SQLALCHEMY_DATABASE_URI"}, {"SECURITY_SMS_SERVICE"}  # of no use then
    assert accepted - database - service == set(FREE)
    site: Site = make_site(**{name: f"{text}{LINES[0]}" for name, text in FREE.items()})
    alice = site.visitor()
    assert alice.set_password(site.new_link()).status_code == 302
    site.work()
    assert alice.sign_in(password=NEW_PASSWORD)
    pages = [alice.open(path) for path in ("/", "/login", "/metrics", "/reset", "/change")]
    assert [page for page in pages if "evil" in str(page.headers)] == []
    assert {tuple(headers_in(raw)) for raw in site.mailbox.raw} == {tuple(HEADERS)}


@pytest.mark.requirement("R20")
def test_line_break_in_any_field_of_an_account_adds_no_header_and_no_recipient(make_site: Any) -> None:
    """A script may write to the database without the model, which refuses or cleans every identity."""
    site: Site = make_site(SECURITY_TRACKABLE=True)
    before = site.rows(User)[0]
    columns = {
        name: column.type.length or 99
        for name, column in User.__table__.columns.items()
        if isinstance(column.type, String)
    }
    assert {"email", "username", "us_phone_number", "language", "last_login_ip"} <= set(columns)
    for name, length in columns.items():
        for line_end in LINE_ENDS:
            value = f"{before[name] or 'x'}"[: length - 10] + f"{line_end}B:evil{line_end}"
            site.change(User, User.id == before["id"], **{name: value})
            identity = "alice" if name == "email" else "alice@example.com"
            visitor = site.visitor()
            answers = [visitor.post_json("/reset", json={"identity": identity})]
            site.work()
            answers.append(visitor.post_json("/login", json={"identity": identity, "password": OLD_PASSWORD}))
            answers.append(visitor.open("/"))
            assert [answer for answer in answers if answer.status_code >= 500] == [], name
            assert [answer for answer in answers if "evil" in str(answer.headers)] == [], name
            site.change(User, User.id == before["id"], **{name: before[name]})
    assert {tuple(headers_in(raw)) for raw in site.mailbox.raw} == {tuple(HEADERS)}
    assert {recipient for envelope in site.mailbox.envelopes for recipient in envelope} == {
        "alice@example.com"
    }
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
    link = site.new_link()
    answer = site.visitor().post_json(
        link, json={"password": NEW_PASSWORD}, headers={"User-Agent": f"Evil {MARKUP}"}
    )
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
        readable = re.sub(r"https?://\S+", "", text_of(mail)).replace(f"{mail['Date']}", "")
        assert PRODUCT not in readable.split("When:")[0]
        assert OLD_PASSWORD not in mail.as_string()
    notice = site.mailbox.mails[1]
    for part in (text_of(notice), unescape(html_of(notice))):
        assert "Evil" not in part  # only known names of browsers are shown
        assert "UTC" in part


@pytest.mark.requirement("R22")
def test_every_url_in_mail_is_public_and_without_query(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    site.work()
    assert len(site.mailbox.mails) == 2
    for mail in site.mailbox.mails:
        urls = re.findall(r"\w+://[^\s\"'<>)]+", text_of(mail) + html_of(mail))
        urls += re.findall(r"(?:src|href|background|action)=[\"']?([^\"'\s>]+)", html_of(mail))
        assert urls
        assert [url for url in urls if not url.startswith(PUBLIC_URL) or "?" in url] == []


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
