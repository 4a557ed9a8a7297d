"""Registration. The worker makes the account, and its password is set with the mailed link."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from support.database import database_uri
from support.features import REGISTRATION, confirm_addresses
from support.mailbox import html_of, link_in, text_of
from support.recovery import code_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site
from werkzeug.test import TestResponse

from app.accounts.datastore import AccountDatastore
from app.accounts.models import User
from app.db.clock import utcnow
from app.mail import composing
from app.pages import health
from app.recovery.link import ResetLink


@pytest.fixture
def site(make_site: Any) -> Site:
    return confirm_addresses(make_site(**REGISTRATION))


def register(site: Site, email: str = "dora@example.com", **fields: str) -> TestResponse:
    answer = site.visitor().submit("/register", "/register", email=email, **fields)
    site.work()
    return answer


@pytest.mark.requirement("R25")
def test_registration_creates_the_account_and_the_link_confirms_it(site: Site) -> None:
    accounts = len(site.rows(User))
    answer = site.visitor().submit("/register", "/register", email="Dora@Example.com", username="Dora")
    assert answer.location.endswith("/check-mail?after=sign-up")
    assert len(site.rows(User)) == accounts  # the worker makes it
    site.work()
    assert "Finish signing up" in site.mailbox.mails[-1]["Subject"]
    for method in ("HEAD", "GET"):  # as mail scanners do
        site.visitor().open(site.last_link(), method=method, follow_redirects=True)
    assert site.rows(User)[-1]["confirmed_at"] is None
    assert site.visitor().set_password(site.last_link()).status_code == 302
    assert site.rows(User)[-1]["confirmed_at"]
    for identity in ("dora@example.com", "dora"):
        assert site.password_works(NEW_PASSWORD, identity)
    assert "registered" in site.events()
    site.work()
    site.new_link("dora")


@pytest.mark.parametrize("email", ["dora@example.com", "alice@example.com"])
def test_registration_locks_nobody_out_while_its_mail_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """On SQLite. A lock for new addresses alone would show in the time of other requests."""
    uri, write, written = database_uri(site).removeprefix("sqlite:///"), composing.write, []

    def write_beside_another(*args: Any, **values: Any) -> composing.Mail:
        with closing(sqlite3.connect(uri, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        written.append(args[1])
        return write(*args, **values)

    monkeypatch.setattr(composing, "write", write_beside_another)
    register(site, email)
    assert written == ["welcome" if email.startswith("dora") else "welcome_existing"]


@pytest.mark.requirement("R69")
def test_registration_is_repeated_for_a_link_that_has_expired(site: Site, make_site: Any) -> None:
    """A request for a reset link sends an account nothing that is not confirmed."""
    register(site)
    link, uri = site.last_link(), site.app.config["SQLALCHEMY_DATABASE_URI"]
    assert "Choose a password" in site.visitor().open(link, follow_redirects=True).text
    site.change(ResetLink, expires_at=utcnow(-1))
    page = site.visitor().open(link).text
    assert "Sign up again" in page
    assert 'href="/register">Sign up</a>' in page
    closed = make_site(**{**REGISTRATION, "SECURITY_REGISTERABLE": False}, SQLALCHEMY_DATABASE_URI=uri)
    assert 'href="/reset">Request a new link</a>' in closed.visitor().open(link).text
    confirm_addresses(site)
    assert "Request a new link" in site.visitor().open(link).text


@pytest.mark.requirement("R1")
@pytest.mark.parametrize(
    ("account", "mail"),
    [
        ({"active": True}, "You already have an account"),
        ({"confirmed_at": None}, "/reset/"),  # imported, or made by an admin
        ({"confirmed_at": None, "active": False}, None),
    ],
)
def test_registration_of_a_known_address_changes_no_account(site: Site, account: Any, mail: Any) -> None:
    site.change(**account)
    before = site.rows(User)
    answer = register(site, "alice@example.com", username="dora")
    assert answer.location.endswith("/check-mail?after=sign-up")
    assert site.rows(User) == before
    texts = [text_of(message) for message in site.mailbox.mails]
    assert [mail is not None and mail in text for text in texts] == [True] * bool(mail)
    assert any("/reset/" in text for text in texts) is (mail == "/reset/")


@BOTH
@pytest.mark.requirement("R14")
@pytest.mark.parametrize("username", ["alice", None], ids=["named", "nameless"])
def test_registration_by_a_stranger_changes_no_unconfirmed_account(site: Site, username: Any) -> None:
    site.change(confirmed_at=None, username=username)
    before = site.rows(User)
    body = {"email": "alice@example.com", "username": "pwned1", "us_phone_number": "+14155559999"}
    body |= {
        "password": "a stranger's password",
        "language": "de",
        "active": True,
        "confirmed_at": "2026-01-01",
    }
    assert site.visitor().post_json("/register", json=body).status_code == 200
    site.work()
    assert site.rows(User) == before
    register(site, username="alice" if username is None else "pwned1")  # the name is free for others
    assert "is taken" not in text_of(site.mailbox.mails[-1])
    assert site.rows(User)[: len(before)] == before
    assert site.rows(User)[-1]["username"] is None


@pytest.mark.requirement("R14")
def test_registration_tells_a_taken_username_by_mail_alone_and_keeps_none_for_a_stranger(site: Site) -> None:
    for name in ("stranger", "dora"):
        assert register(site, username=name).location == register(site, username="Alice").location
    texts = list(map(text_of, site.mailbox.mails))
    assert ["The username alice is taken" in text for text in texts] == [False, True] * 2
    first, _, third, _ = map(link_in, site.mailbox.mails)
    assert code_of(site, third) == "redeemed"
    assert code_of(site, first) == "link_superseded"
    assert site.password_works(NEW_PASSWORD, "dora")
    assert site.password_works(OLD_PASSWORD, "alice")


def test_registration_sets_a_username_with_its_link_and_only_where_there_is_none(site: Site) -> None:
    for username, password in (("alice", NEW_PASSWORD), (None, "yet another password of alice")):
        site.change(confirmed_at=None, username=username)
        register(site, "alice@example.com", username="ally")
        site.visitor().set_password(site.last_link(), password)
        assert site.password_works(password, username or "ally")
        assert site.password_works(password, "ally") is (username is None)
        site.work()


def test_registration_gives_a_username_to_the_first_who_redeems(site: Site, monkeypatch: Any) -> None:
    for name in ("dora", "dorothy", "doreen"):
        register(site, f"{name}@example.com", username="dora")
    first, second, last = (link_in(mail) for mail in site.mailbox.mails)
    assert code_of(site, last) == "redeemed"
    with monkeypatch.context() as patch:  # the other request has not committed yet
        patch.setattr(AccountDatastore, "find_user", lambda *_, **__: None)
        assert code_of(site, second) == "conflict"
    assert [code_of(site, link) for link in (second, first)] == ["redeemed", "redeemed"]
    assert [row["username"] for row in site.rows(User)[-3:]] == [None, None, "dora"]
    assert site.password_works(NEW_PASSWORD, "dora@example.com")


COOLDOWN, MAXIMUM = {"RECOVERY_MAIL_COOLDOWN": "5 minutes"}, {"RECOVERY_MAIL_HOURLY_MAX": 1}


@pytest.mark.requirement("R55", "R56")
@pytest.mark.parametrize(
    ("settings", "names", "mailed"),
    [(COOLDOWN, "dora Dora dora+1 alice alice+1 dora", ["dora", "alice"]), (MAXIMUM, "dora emil dora emil", ["dora"])],
)  # fmt: skip
def test_registration_mail_keeps_its_quotas(make_site: Any, settings: Any, names: str, mailed: Any) -> None:
    site = confirm_addresses(make_site(**REGISTRATION, **settings))
    for name in names.split():
        register(site, f"{name}@example.com")
    assert [mail["To"].removesuffix("@example.com") for mail in site.mailbox.mails] == mailed
    assert (site.messages()[-1]["state"] == "waiting") is ("emil" in names)
    assert len(site.rows(User)) == 5


@BOTH
@pytest.mark.requirement("R56")
def test_registration_floods_delay_no_reset(make_site: Any) -> None:
    """Sign-ups have an hourly quota and half of the outbox for themselves, and a reset comes first."""
    settings = {"RECOVERY_MAIL_HOURLY_MAX": 3, "RECOVERY_MAIL_WAITING_MAX": 10}
    site = confirm_addresses(make_site(**REGISTRATION, **settings))
    for number in range(10):
        site.visitor().post_json("/register", json={"email": f"made-up-{number}@example.com"})
    site.ask("bob")
    site.work()
    recipients = [mail["To"] for mail in site.mailbox.mails]
    assert recipients == ["bob@example.com", *(f"made-up-{number}@example.com" for number in range(3))]
    site.ask("alice")
    site.work()
    assert site.mailbox.mails[-1]["To"] == "alice@example.com"
    waiting = [row["kind"] for row in site.messages() if row["state"] == "waiting"]
    assert waiting == ["registration"] * 2
    with site.app.app_context():
        assert health.check()["problems"] == ["no_worker", "mail_budget_spent"]


@BOTH
def test_registration_mails_only_the_typed_spelling_of_an_address(site: Site) -> None:
    """PostgreSQL lowers É, SQLite does not."""
    for email in ("É@example.com", "é@example.com"):
        register(site, email)
    assert site.mailbox.envelopes in ([["É@example.com"]], [["É@example.com"], ["é@example.com"]])


def test_registration_names_the_invalid_field(site: Site) -> None:
    for field, value, message in (
        ("email", "no address", "Enter your email address."),
        ("email", "", "Enter your email address."),
        ("username", "d d", "Use at least one letter and no unsupported characters."),
        ("username", "d" * 65, "Use 1 to 64 characters."),
    ):
        body = {"email": "dora@example.com", field: value}
        page = register(site, **body)
        assert page.status_code == 400
        assert message in page.text
        assert body["email"] in page.text
        json = site.visitor().post_json("/register", json=body)
        assert json.status_code == 400
        assert message in str(json.json["response"]["field_errors"])  # type: ignore[index]
    for field in ("email", "username", "identity"):
        for bad in (7, ["a"], {"a": 1}, "\ud800"):
            body = {"email": "dora@example.com", "username": "dora", field: bad}
            assert site.visitor().post_json("/register", json=body).status_code == 400, (field, bad)
    assert site.messages() == []


def test_registration_by_json(site: Site, make_site: Any) -> None:
    program = site.visitor()
    policy = program.open("/register", headers={"Accept": "application/json"}).json["response"]  # type: ignore[index]
    assert policy["password_length_min"] == 15
    answer = program.post_json("/register", json={"email": "dora@example.com", "username": None})
    assert (answer.status_code, answer.json["response"]) == (200, {})  # type: ignore[index]
    site.work()
    program.set_password(site.last_link())
    assert site.password_works(NEW_PASSWORD, "dora@example.com")
    assert "/register" in program.open("/openapi.json").json["paths"]  # type: ignore[index]
    assert "/register" not in make_site().visitor().open("/openapi.json").json["paths"]
    assert program.sign_in()
    assert program.open("/register").status_code == 302


def test_email_of_a_sign_up_names_the_username_that_its_link_gives(make_site: Any) -> None:
    """A stranger may have chosen it, and the owner's own sign-up brings no second email at once."""
    site: Site = make_site(**REGISTRATION, RECOVERY_MAIL_COOLDOWN="5 minutes")
    register(site, username="stranger1")
    register(site, username="mine")
    [mail] = site.mailbox.mails
    for text in (text_of(mail), html_of(mail)):
        assert "stranger1" in text.partition("username is:")[2]


def test_email_of_a_sign_up_holds_no_name_that_mail_programs_would_link(make_site: Any) -> None:
    site: Site = make_site(**REGISTRATION, SECURITY_USERNAME_ALLOWED_CHARS=["L", "N", "P", "S"])
    register(site, username="www.evil.example")
    [mail] = site.mailbox.mails
    assert "evil" not in text_of(mail) + html_of(mail)
