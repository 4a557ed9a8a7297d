"""Reset links: unguessable tokens for one purpose, their lifetime, and the changes of an account that end them."""

import base64
import hmac
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask_security import change_email, confirmable, passwordless
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import select
from support.commands import run
from support.database import database_uri, delete_account, dump
from support.outbox import make_due
from support.recovery import code_of, problem_at
from support.redemption import redeem
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, load_settings

from app.accounts.models import User
from app.cli.admin import find_account
from app.db.clock import utcnow
from app.db.engine import db
from app.mail import outbox
from app.mail.outbox import OutboxMessage
from app.recovery import instructions
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)
NEW_KEY = "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5"
FIELDS = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}


def token_in(link: str) -> str:
    return link.rsplit("/", 1)[1]


def keyed_hash(token: str, key: str = SECRETS["FLASK_SECRET_KEY"]) -> str:
    [derived] = load_settings(SECRET_KEY=key).derive_keys("reset link look-up")
    return hmac.digest(derived, token.encode(), "sha256").hex()


def delay_mail(site: Site, identity: str) -> None:
    """Request a link whose first attempt to be sent fails, and that is due again."""
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask(identity)
    site.work()
    site.mailbox.refuse.clear()
    make_due(site)


@pytest.mark.requirement("R9", "R11", "R61")
def test_link_token_is_random_opaque_and_stored_hashed(site: Site) -> None:
    delay_mail(site, "alice")
    waiting = dump(site)  # the link is issued, and the mail with the token waits
    site.work()
    tokens = [token_in(link) for link in (site.last_link(), site.new_link())]
    assert [link["token_hash"] for link in site.links()] == [keyed_hash(token) for token in tokens]
    for content in (waiting, dump(site)):
        assert "reset_instructions" in content
        assert not any(token in content for token in tokens)
    with site.app.app_context():
        for number in range(1000):
            outbox.enqueue("reset_instructions", identity=f"nobody{number}")
        messages = db.session.scalars(select(OutboxMessage)).all()
        derived = {instructions.link_token(message) for message in messages}
        db.session.rollback()
    assert len(derived) == 1002
    assert {len(base64.urlsafe_b64decode(token + "=")) for token in derived} == {32}


@pytest.mark.requirement("R9")
def test_link_with_a_changed_token_is_refused(site: Site) -> None:
    link = site.new_link()
    for position in range(-43, 0, 7):
        other = "A" if link[position] != "A" else "B"
        tampered = link[:position] + other + (link[position + 1 :] if position != -1 else "")
        assert code_of(site, tampered) == "link_invalid"
    before = link.replace("/reset/", "/reset/.")
    for wrong in (f"{link}x", link[:-1], f"{link[:-1]}.", before, f"{link[:-5]}%20{link[-5:]}"):
        assert problem_at(site, wrong) == "link_invalid"
    assert code_of(site, link) == "redeemed"


@pytest.mark.requirement("R64")
def test_key_rotation_keeps_links_and_the_new_key_makes_new_ones(make_site: Any) -> None:
    site: Site = make_site()
    old_link = site.new_link()
    delay_mail(site, "bob")
    keys = {"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": [SECRETS["FLASK_SECRET_KEY"]]}
    rotated: Site = make_site(SQLALCHEMY_DATABASE_URI=database_uri(site), **keys)
    [attempted] = [link for link in site.links() if link["email"] == "bob@example.com"]
    rotated.work()  # the message that waited keeps its link
    assert keyed_hash(token_in(rotated.last_link())) == attempted["token_hash"]
    assert code_of(rotated, old_link) == "redeemed"
    rotated.work()
    token = token_in(rotated.new_link())
    [key] = load_settings(SECRET_KEY=NEW_KEY).derive_keys("reset link")
    nonce = site.messages()[-1]["nonce"]
    assert base64.urlsafe_b64decode(token + "=") == hmac.digest(key, nonce, "sha256")
    assert rotated.links()[-1]["token_hash"] == keyed_hash(token, NEW_KEY)


@pytest.mark.requirement("R10")
def test_token_of_another_feature_is_no_reset_link(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True, SECURITY_CHANGE_EMAIL=True)
    site.change(confirmed_at=LONG_AGO)
    with site.app.test_request_context(base_url=site.visitor().base):
        alice = find_account("alice")
        assert alice is not None
        stock = URLSafeTimedSerializer(site.app.secret_key or "", salt="reset-salt")  # as Flask-Security's
        tokens = {
            "confirm": confirmable.generate_confirmation_token(alice),
            "change-email": change_email._generate_token(alice, "thief@example.com"),
            "login": passwordless.generate_login_token(alice),
            "sign-in": alice.get_auth_token(),
            "stock reset": stock.dumps([alice.fs_uniquifier, "a hash"]),
        }
    for purpose, token in tokens.items():
        for by in ("form", "json"):
            assert not redeem(site, by, f"/reset/{token}"), purpose
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R10")
def test_other_fields_do_not_select_another_account(site: Site) -> None:
    others = {"email": "bob@example.com", "identity": "bob", "user_id": 2, "id": 2, "active": False}
    before = site.rows(User)
    url = site.new_link() + "?email=bob@example.com&user_id=2"
    assert site.visitor().post_json(url, json={**FIELDS, **others}).status_code == 200
    site.work()
    assert site.visitor().submit(site.new_link(), **FIELDS, **others).location == "/reset-done"
    after = site.rows(User)
    assert after[1:] == before[1:]
    changed = {key for key in before[0] if before[0][key] != after[0][key]}
    assert changed <= {"password", "fs_uniquifier", "update_datetime"}


@pytest.mark.requirement("R26", "R34", "R49", "R51")
def test_token_is_on_no_page_after_landing_and_a_refused_password_keeps_the_link(site: Site) -> None:
    visitor, link = site.visitor(), site.new_link()
    landing = visitor.open(link)
    assert landing.headers["Referrer-Policy"] == "no-referrer"
    short = visitor.set_password(landing.location, "short")
    assert (short.status_code, "at least 15 characters" in short.text) == (200, True)
    assert "a•••@example.com" in short.text
    other = visitor.set_password(landing.location, again=NEW_PASSWORD + "?")
    assert "The passwords don" in other.text
    done = visitor.set_password(landing.location)
    assert done.location == "/reset-done"
    pages = [landing, visitor.open(landing.location), short, other, done]
    pages += [visitor.open(path) for path in ("/", "/reset-done", "/reset", landing.location)]
    for page in pages:
        assert token_in(link) not in page.text + str(page.headers.get("Location"))
        for_password_managers = 'value="alice@example.com" autocomplete="username"'
        assert "alice@example.com" not in page.text.replace(for_password_managers, "")
    assert (pages[-1].status_code, "<input" in pages[-1].text) == (400, False)  # the Back button


@BOTH
@pytest.mark.requirement("R12", "R69")
def test_link_expires_after_the_configured_lifetime(make_site: Any) -> None:
    for settings, minutes in (({}, 60), ({"SECURITY_RESET_PASSWORD_WITHIN": "10 minutes"}, 10)):
        site: Site = make_site(**settings)
        link, visitor = site.new_link(), site.visitor()
        [row] = site.links()
        assert abs(row["expires_at"] - row["issued_at"] - timedelta(minutes=minutes)) < timedelta(seconds=1)
    handle = visitor.open(link).location
    site.change(ResetLink, expires_at=utcnow(-1))
    assert problem_at(site, link) == code_of(site, link) == "link_expired"
    assert "link_expired" in visitor.post_json(handle, json=FIELDS).text
    assert visitor.open(handle).status_code == 400
    assert site.password_works(OLD_PASSWORD)
    site.change(ResetLink, expires_at=utcnow(5))
    assert visitor.set_password(handle).location == "/reset-done"


@BOTH
@pytest.mark.requirement("R14")
def test_link_ends_when_another_is_redeemed_and_not_when_another_is_requested(site: Site) -> None:
    first, second, third = site.new_link(), site.new_link(), site.new_link()
    assert [site.visitor().open(link).status_code for link in (first, second, third)] == [303] * 3
    assert code_of(site, second) == "redeemed"
    for link in (first, third):
        assert problem_at(site, link) == code_of(site, link) == "link_superseded"


@BOTH
@pytest.mark.requirement("R15", "R16", "R17")
def test_link_ends_when_its_account_changes(site: Site) -> None:
    original = site.rows(User)[0]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"email": "alice@new.example.com"}, "link_revoked"),
        ({"password": "$argon2id$written directly"}, "link_revoked"),
        ({"password": None}, "account_unavailable"),
        ({"active": False}, "account_unavailable"),
    ]
    for change, code in changes:
        link, browser = site.new_link(), site.visitor()
        handle = browser.open(link).location
        site.change(User, User.username == "alice", **change)
        before = site.rows(User)
        assert problem_at(site, link) == code_of(site, link) == code
        assert browser.open(handle).status_code == 400
        assert site.rows(User) == before
        site.change(User, User.username == "alice", **{name: original[name] for name in change})
    delete_account(site)
    assert problem_at(site, link) == "link_invalid"


@pytest.mark.requirement("R16")
@BOTH
def test_link_does_not_come_back_with_an_account_that_was_deactivated(site: Site) -> None:
    link, of_bob = site.new_link(), site.new_link("bob")
    run(site, "users", "deactivate", "alice")
    assert problem_at(site, link) == code_of(site, link) == "account_unavailable"
    run(site, "users", "activate", "alice")
    assert problem_at(site, link) == code_of(site, link) == "link_revoked"
    assert code_of(site, of_bob) == "redeemed"
    site.work()  # mails the notices
    assert code_of(site, site.new_link()) == "redeemed"


@pytest.mark.requirement("R69")
def test_bad_link_says_why_and_sends_no_mail(site: Site) -> None:
    link, headings = site.new_link(), set()
    columns = ("redeemed_at", "superseded_at", "revoked_at", "expires_at")
    for url, column in ((link[:-1], "opened_at"), *((link, column) for column in columns)):
        before = site.links()[0][column]
        site.change(ResetLink, **{column: LONG_AGO})
        unchanged, page = dump(site), site.visitor().open(url)
        assert page.status_code == 400
        assert '<a class="button" href="/reset">' in page.text
        headings.add(page.text.split("<h1>")[1].split("</h1>")[0])
        assert site.work() == 0
        assert dump(site) == unchanged
        site.change(ResetLink, **{column: before})
    assert len(headings) == 5
    assert len(site.mailbox.mails) == 1
