"""Flask-Security's own mail templates, dropped into RECOVERY_TEMPLATE_DIR, are rendered and mailed."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import flask_security
import pytest
from support.mailbox import link_in, text_of
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
PARTS = {  # what else is in the mail of a template
    "reset_instructions": "will expire in 1 hour",
    "confirmation_instructions": "/confirm/",
    "us_instructions": "Welcome alice@example.com!",
    "welcome": "/reset/",
    "change_email_instructions": "/change-email/",
}


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    shutil.copytree(STOCK, tmp_path / "security" / "email")
    built: Site = make_site(**FEATURES, RECOVERY_TEMPLATE_DIR=str(tmp_path))
    built.change(User, confirmed_at=datetime(2026, 2, 28))
    return built


def test_stock_templates_of_every_mail_are_rendered(site: Site) -> None:
    site.ask()
    site.visitor().post_json("/recover-username", json={"identity": "alice@example.com"})
    with site.app.app_context():
        security = site.app.extensions["security"]
        user = security.datastore.find_user(username="alice")
        security.datastore.us_set(user, "email", security.totp_factory.generate_totp_secret())
        security.datastore.commit()
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice@example.com"})
    for email in ("new@example.com", "alice@example.com"):
        site.visitor().post_json("/register", json={"email": email})
    visitor = site.visitor()
    assert visitor.sign_in("bob")
    visitor.submit("/change-email", email="bob@example.net")
    visitor.submit(
        "/change", password=OLD_PASSWORD, new_password=NEW_PASSWORD, new_password_confirm=NEW_PASSWORD
    )
    site.work()
    link = next(link_in(mail) for mail in site.mailbox.mails if mail["Subject"].startswith("Reset"))
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 200
    site.change(User, confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice@example.com"})
    site.work()
    texts = [" ".join(text_of(mail).split()) for mail in site.mailbox.mails]
    assert [name for name, sentence in TEXTS.items() if sum(sentence in text for text in texts) != 1] == []
    for name, part in PARTS.items():
        assert [part in text for text in texts if TEXTS[name] in text] == [True], name
