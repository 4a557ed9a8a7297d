"""Reset links: their tokens, their lifetime, and the changes of an account that end them."""

import base64
import hmac
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.recovery import code_of, problem_at
from support.site import BOTH, OLD_PASSWORD, SECRETS, Site

from app import settings
from app.accounts.models import User
from app.db.clock import utcnow
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)


def look_up_hash(site: Site, token: str) -> str:
    with site.app.app_context():
        [key] = settings.current().derive_keys("reset link look-up")
    return hmac.digest(key, token.encode(), "sha256").hex()


@pytest.mark.requirement("R9", "R11")
def test_link_token_is_random_opaque_and_stored_hashed(site: Site) -> None:
    tokens = {site.new_link().rsplit("/", 1)[1] for _ in range(5)}
    assert len(tokens) == 5
    assert all(len(base64.urlsafe_b64decode(token + "=")) == 32 for token in tokens)
    assert {link["token_hash"] for link in site.links()} == {look_up_hash(site, token) for token in tokens}
    dump = str([site.links(), site.messages(), site.events()])
    assert not any(token in dump for token in tokens)


@pytest.mark.requirement("R9")
def test_link_with_a_changed_token_is_refused(site: Site) -> None:
    link = site.new_link()
    for position in range(-43, 0, 7):
        other = "A" if link[position] != "A" else "B"
        tampered = link[:position] + other + (link[position + 1 :] if position != -1 else "")
        assert code_of(site, tampered) == "link_invalid"
    assert problem_at(site, link + "x") == "link_invalid"
    assert code_of(site, link) == "redeemed"


@BOTH
@pytest.mark.requirement("R12", "R69")
def test_link_expires_after_the_configured_lifetime(make_site: Any) -> None:
    site: Site = make_site(SECURITY_RESET_PASSWORD_WITHIN="10 minutes")
    link = site.new_link()
    [row] = site.links()
    lifetime = row["expires_at"] - row["issued_at"]
    assert abs(lifetime - timedelta(minutes=10)) < timedelta(seconds=1)
    site.change(ResetLink, expires_at=utcnow(5))
    assert site.visitor().open(link).status_code == 303
    site.change(ResetLink, expires_at=utcnow(-1))
    assert problem_at(site, link) == code_of(site, link) == "link_expired"
    assert site.password_works(OLD_PASSWORD)


@BOTH
@pytest.mark.requirement("R14")
def test_link_ends_when_another_is_redeemed_and_not_when_another_is_requested(site: Site) -> None:
    first, second, third = site.new_link(), site.new_link(), site.new_link()
    for link in (first, second, third):
        assert site.visitor().open(link).status_code == 303
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
    with site.app.app_context():
        db.session.delete(db.session.query(User).filter_by(username="alice").one())
        db.session.commit()
    assert problem_at(site, link) == "link_invalid"


@pytest.mark.requirement("R64")
def test_link_outlives_the_rotation_of_the_secret_key(make_site: Any) -> None:
    site: Site = make_site()
    old_link = site.new_link()
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("bob")
    site.work()
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)
    with site.app.app_context():
        uri = str(db.engine.url)
    rotated: Site = make_site(
        SQLALCHEMY_DATABASE_URI=uri,
        SECRET_KEY="a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5",
        SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]],
    )
    [attempted] = [link for link in site.links() if link["email"] == "bob@example.com"]
    rotated.work()  # the message that waited keeps its link
    assert look_up_hash(site, rotated.last_link().rsplit("/", 1)[1]) == attempted["token_hash"]
    assert code_of(rotated, old_link) == "redeemed"
