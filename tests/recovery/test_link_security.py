"""Reset tokens and links: unguessable, for one purpose, and dead once they or their account end."""

import base64
import hmac
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask_security import change_email, confirmable, passwordless
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import select
from support.database import dump
from support.redemption import redeem
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, csrf_token, load_settings

from app.accounts.datastore import find_account
from app.accounts.models import User
from app.db.clock import utcnow
from app.db.engine import db
from app.mail import outbox
from app.mail.outbox import OutboxMessage
from app.recovery import instructions
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)


def token_in(link: str) -> str:
    return link.rsplit("/", 1)[1]


# --- tokens -----------------------------------------------------------------------------------------


@pytest.mark.requirement("R9")
def test_reset_token_does_not_repeat_in_a_thousand(site: Site) -> None:
    with site.app.app_context():
        for number in range(1000):
            outbox.enqueue("reset_instructions", identity=f"nobody{number}")
        messages = db.session.scalars(select(OutboxMessage)).all()
        tokens = {instructions.link_token(message) for message in messages}
        db.session.rollback()
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {43}  # 256 bits


@pytest.mark.requirement("R64")
def test_reset_token_is_derived_from_new_key_during_rotation(make_site: Any) -> None:
    new = "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5"
    site: Site = make_site(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]])
    token = token_in(site.new_link())
    [key] = load_settings(SECRET_KEY=new).derive_keys("reset link")
    nonce = site.messages()[0]["nonce"]
    assert base64.urlsafe_b64decode(token + "=") == hmac.digest(key, nonce, "sha256")


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
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD, **others}
    assert site.visitor().post_json(url, json=fields).status_code == 200
    site.work()
    assert site.visitor().submit(site.new_link(), **fields).location == "/reset-done"
    after = site.rows(User)
    assert after[1:] == before[1:]
    changed = {key for key in before[0] if before[0][key] != after[0][key]}
    assert changed <= {"password", "fs_uniquifier", "update_datetime"}


@pytest.mark.requirement("R11", "R61")
def test_live_token_is_not_in_database(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("alice")
    site.work()
    waiting = dump(site)  # the link is issued, and the mail with the token waits
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)
    site.work()
    for content in (waiting, dump(site)):
        assert "reset_instructions" in content
        assert token_in(site.last_link()) not in content


@pytest.mark.requirement("R49", "R51")
def test_token_is_on_no_page_after_landing(site: Site) -> None:
    for by in ("form", "json"):
        visitor, link = site.visitor(), site.new_link()
        landing = visitor.open(link)
        assert landing.headers["Referrer-Policy"] == "no-referrer"
        pages = [landing, visitor.open(landing.location), visitor.set_password(landing.location, "short")]
        if by == "json":
            visitor.post_json(link, json={"password": NEW_PASSWORD})
        else:
            pages.append(visitor.set_password(landing.location))
        site.work()
        pages += [visitor.open(path) for path in ("/", "/reset-done", "/reset", landing.location)]
        for page in pages:
            assert token_in(link) not in page.text + str(page.headers.get("Location"))
            for_password_managers = 'value="alice@example.com" autocomplete="username"'
            assert "alice@example.com" not in page.text.replace(for_password_managers, "")
        assert pages[-1].status_code == 400  # the Back button
        assert "<input" not in pages[-1].text


# --- the end of a link ------------------------------------------------------------------------------


@pytest.mark.requirement("R12")
def test_reset_link_works_until_it_expires_and_no_longer(site: Site) -> None:
    link, visitor = site.new_link(), site.visitor()
    [row] = site.links()
    assert row["expires_at"] - row["issued_at"] == timedelta(hours=1)
    form = visitor.open(link, follow_redirects=True)
    handle = form.request.path
    site.change(ResetLink, expires_at=utcnow(-1))
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert "link_expired" in visitor.post_json(handle, json=fields).text
    assert "link_expired" in visitor.post_json(handle, data={**fields, "csrf_token": csrf_token(form)}).text
    assert visitor.open(link).status_code == visitor.open(handle).status_code == 400
    assert site.password_works(OLD_PASSWORD)
    site.change(ResetLink, expires_at=utcnow(5))
    assert redeem(site, "form", link)


@pytest.mark.requirement("R69")
def test_bad_link_says_why_and_sends_no_mail(site: Site) -> None:
    link = site.new_link()

    def heading(url: str) -> str:
        page = site.visitor().open(url)
        assert page.status_code == 400
        assert '<a class="button" href="/reset">' in page.text
        return page.text.split("<h1>")[1].split("</h1>")[0]

    headings = {heading(link[:-1])}
    for column in ("expires_at", "redeemed_at", "superseded_at", "revoked_at"):
        before = site.links()[0][column]
        site.change(ResetLink, **{column: LONG_AGO})
        headings.add(heading(link))
        site.change(ResetLink, **{column: before})
    assert len(headings) == 5
    site.change(ResetLink, expires_at=LONG_AGO)
    unchanged = dump(site)
    assert {site.visitor().open(link).status_code for _ in range(20)} == {400}
    assert site.work() == 0
    assert dump(site) == unchanged
    assert len(site.mailbox.mails) == 1
