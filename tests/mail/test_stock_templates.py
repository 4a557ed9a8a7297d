"""Flask-Security's own mail templates, dropped into RECOVERY_TEMPLATE_DIR, are rendered and mailed."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import flask_security
import pytest
from support.mailbox import link_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User

STOCK = Path(flask_security.__file__).parent / "templates" / "security" / "email"
FEATURES = {
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_CONFIRMABLE": True,
    "SECURITY_REGISTERABLE": True,
    "SECURITY_USERNAME_RECOVERY": True,
    "SECURITY_UNIFIED_SIGNIN": True,
    "SECURITY_TOTP_SECRETS": {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
}
TEXTS = {
    "reset_instructions": "to reset your password.",
    "reset_notice": "Your password has been reset.",
    "change_notice": "Your password has been changed.",
    "confirmation_instructions": "to confirm your email address.",
    "username_recovery": "Your username is: alice",
    "us_instructions": "using the following code:",
    "welcome": "Welcome new@example.com!",
    "welcome_existing": "tried to register this email",
    "change_email_instructions": "to confirm your new email address.",
}


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    shutil.copytree(STOCK, tmp_path / "security" / "email")
    built: Site = make_site(**FEATURES, RECOVERY_TEMPLATE_DIR=str(tmp_path))
    built.change(User, confirmed_at=datetime(2026, 2, 28))
    return built


def mailed(site: Site, name: str) -> str:
    """Deliver what waits, and return the text of the mail that this template makes."""
    site.work()
    texts = [mail.get_body(("plain",)).get_content() for mail in site.mailbox.mails]
    [text] = [" ".join(text.split()) for text in texts if TEXTS[name] in " ".join(text.split())]
    return text


def test_stock_templates_of_a_reset(site: Site) -> None:
    site.ask()
    text = mailed(site, "reset_instructions")
    assert "will expire in 1 hour" in text
    link = link_in(site.mailbox.mails[-1])
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 200
    assert mailed(site, "reset_notice")


def test_stock_templates_of_other_requests(site: Site) -> None:
    site.visitor().post_json("/recover-username", json={"identity": "alice@example.com"})
    assert mailed(site, "username_recovery")
    with site.app.app_context():
        security = site.app.extensions["security"]
        user = security.datastore.find_user(username="alice")
        security.datastore.us_set(user, "email", security.totp_factory.generate_totp_secret())
        security.datastore.commit()
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice@example.com"})
    assert "Welcome alice@example.com!" in mailed(site, "us_instructions")
    site.change(User, confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice@example.com"})
    assert "/confirm/" in mailed(site, "confirmation_instructions")


def test_stock_templates_of_a_sign_up(site: Site) -> None:
    site.visitor().post_json("/register", json={"email": "new@example.com"})
    assert "/reset/" in mailed(site, "welcome")
    site.visitor().post_json("/register", json={"email": "alice@example.com"})
    assert mailed(site, "welcome_existing")


def test_stock_templates_of_changes(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.sign_in(password=OLD_PASSWORD)
    visitor.submit("/change-email", email="alice@example.net")
    assert "/change-email/" in mailed(site, "change_email_instructions")
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    visitor.submit("/change", password=OLD_PASSWORD, **fields)
    assert mailed(site, "change_notice")
