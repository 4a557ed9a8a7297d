"""Signals that Flask-Security documents: each is sent, or the reason why not is given here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask_security import signals
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.mail.outbox import OutboxMessage

Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Every signal that is sent during the test, with its arguments; in place of the user, the address."""
    calls: Heard = []

    def receiver(name: str) -> Any:
        def receive(_app: Any, user: Any, **values: Any) -> None:
            calls.append((name, {**values, "user": user and user.email}))

        return receive

    with ExitStack() as stack:
        for name, signal in signals.signals.items():
            stack.enter_context(signal.connected_to(receiver(name)))
        yield calls


def arguments(heard: Heard, name: str) -> dict[str, Any]:
    [values] = [values for heard_name, values in heard if heard_name == name]
    return values


def test_failed_sign_in_is_announced_after_the_answer_for_accounts_only(make_site: Any, heard: Heard) -> None:
    site: Site = make_site()
    for identity in ("nobody", "alice"):
        answer = site.visitor().post_json("/login", json={"identity": identity, "password": "wrong"})
        assert answer.status_code == 400
        assert heard == []
        answer.close()  # the server does so when the answer is on its way
    values = arguments(heard, "user-failed-authn")
    assert (values["user"], values["auth_type"], values["tfa"]) == ("alice@example.com", "password", False)


def test_link_that_confirms_an_address_announces_it(make_site: Any, heard: Heard) -> None:
    site: Site = make_site(SECURITY_REGISTERABLE=True, SECURITY_CONFIRMABLE=True)
    site.visitor().post_json("/register", json={"email": "new@example.com"})
    site.work()
    assert arguments(heard, "user-registered")["user"] == "new@example.com"
    assert site.visitor().post_json(site.last_link(), json={"password": NEW_PASSWORD}).status_code == 200
    assert arguments(heard, "user-confirmed")["user"] == "new@example.com"
    assert arguments(heard, "password-reset")["user"] == "new@example.com"


def test_sign_up_with_the_address_of_an_account_is_announced(make_site: Any, heard: Heard) -> None:
    site: Site = make_site(SECURITY_REGISTERABLE=True, SECURITY_CONFIRMABLE=True)
    site.change(User, confirmed_at=datetime(2026, 2, 28))
    site.visitor().post_json("/register", json={"email": "alice@example.com"})
    site.work()
    values = {"existing_email": True, "existing_username": False, "form_data": {}}
    assert arguments(heard, "user-not-registered") == {"user": "alice@example.com", **values}


def test_sign_in_and_change_are_announced(make_site: Any, heard: Heard) -> None:
    visitor = make_site().visitor()
    assert visitor.sign_in(password=OLD_PASSWORD)
    assert arguments(heard, "user-authenticated")["authn_via"] == ["password"]
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    visitor.submit("/change", password=OLD_PASSWORD, **fields)
    assert arguments(heard, "password-changed")["user"] == "alice@example.com"


FEATURES = {
    "SECURITY_CONFIRMABLE": True,
    "SECURITY_USERNAME_RECOVERY": True,
    "SECURITY_UNIFIED_SIGNIN": True,
    "SECURITY_TOTP_SECRETS": {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
}


@pytest.mark.parametrize(
    ("path", "signal", "names"),
    [
        ("/reset", "password-reset-instructions-sent", {"token", "reset_token"}),
        ("/confirm", "confirm-instructions-sent", {"token", "confirmation_token"}),
        ("/recover-username", "username-recovery-email-sent", set()),
        (
            "/us-signin/send-code",
            "us-security-token-sent",
            {"method", "token", "login_token", "phone_number", "send_magic_link"},
        ),
    ],
)
def test_worker_announces_a_mail_once_the_relay_has_it(
    make_site: Any, heard: Heard, path: str, signal: str, names: set[str]
) -> None:
    site: Site = make_site(**FEATURES)
    site.change(User, confirmed_at=None if path == "/confirm" else datetime(2026, 2, 28))
    with site.app.app_context():
        security = site.app.extensions["security"]
        user = security.datastore.find_user(username="alice")
        security.datastore.us_set(user, "email", security.totp_factory.generate_totp_secret())
        security.datastore.commit()
    heard.clear()
    site.mailbox.refuse["RCPT"] = "451 later"
    site.visitor().post_json(path, json={"identity": "alice@example.com"})
    site.visitor().post_json(path, json={"identity": "nobody@example.com"})
    site.work()
    assert heard == []
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, due_at=datetime(2026, 2, 28))
    site.work()
    values = arguments(heard, signal)
    assert values.pop("user") == "alice@example.com"
    assert values.keys() == names
    text = site.mailbox.mails[-1].get_body(("plain",)).get_content()
    assert all(values[name] in text for name in names if name.endswith("token"))


def test_receiver_that_fails_sends_no_mail_twice(make_site: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_app: Any, **_: Any) -> None:
        raise RuntimeError("no licence")

    site: Site = make_site()
    with signals.reset_password_instructions_sent.connected_to(fail):
        site.ask()
        assert (site.work(), site.work()) == (1, 0)
    assert len(site.mailbox.mails) == 1
    assert "a receiver of password-reset-instructions-sent failed" in caplog.text


# Sent by Flask-Security's own views, or tested with the feature, or of a feature that Sparekey refuses.
OTHERS = {
    "login-instructions-sent": "SECURITY_PASSWORDLESS is refused",
    "username-changed": "SECURITY_CHANGE_USERNAME is refused",
    "user-unauthenticated": "Flask-Security sends it with each answer 401",
    "refresh-tracker-created": "its view is Flask-Security's",
    "refresh-tracker-revoked": "its view is Flask-Security's",
    "tf-code-confirmed": "its view is Flask-Security's",
    "tf-profile-changed": "its view is Flask-Security's",
    "tf-security-token-sent": "its view is Flask-Security's",
    "tf-disabled": "its view is Flask-Security's",
    "us-profile-changed": "its view is Flask-Security's",
    "wan-registered": "its view is Flask-Security's",
    "wan-deleted": "its view is Flask-Security's",
    "change-email-instructions-sent": "its view is Flask-Security's",
    "change-email": "its view is Flask-Security's",
}


def test_every_signal_of_flask_security_is_sent_or_explained() -> None:
    """A new version's signal needs a test above, or a reason."""
    source = Path(__file__).read_text().partition("OTHERS =")[0]
    tested = {name for name in signals.signals if f'"{name}"' in source}
    assert signals.signals.keys() - tested - OTHERS.keys() == set()
