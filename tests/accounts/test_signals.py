"""Signals that Flask-Security documents: each is sent, or the reason why not is given here."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask_security import signals
from support.features import CODE_SIGN_IN, SECOND_FACTOR, confirm_addresses, enter_password, set_up_factor
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.mail.outbox import OutboxMessage

Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Every signal that is sent during the test, with its arguments; in place of the user, the address."""
    calls: Heard = []

    def receiver(name: str) -> Any:
        def receive(_app: Any, user: Any = None, **values: Any) -> None:
            calls.append((name, {**values, "user": user and user.email}))

        return receive

    with ExitStack() as stack:
        for name, signal in signals.signals.items():
            stack.enter_context(signal.connected_to(receiver(name)))
        yield calls


# The arguments that Flask-Security documents, besides the user.
DOCUMENTED = {
    "user-authenticated": {"authn_via"},
    "user-unauthenticated": set(),
    "user-failed-authn": {"auth_type", "tfa"},
    "user-registered": {"confirm_token", "confirmation_token", "form_data"},
    "user-not-registered": {"existing_email", "existing_username", "form_data"},
    "user-confirmed": set(),
    "confirm-instructions-sent": {"token", "confirmation_token"},
    "password-reset": set(),
    "password-changed": set(),
    "password-reset-instructions-sent": {"token", "reset_token"},
    "us-security-token-sent": {"method", "token", "login_token", "phone_number", "send_magic_link"},
    "us-profile-changed": {"methods", "delete"},
    "change-email-instructions-sent": {"new_email", "token"},
    "change-email": {"old_email"},
    "username-recovery-email-sent": set(),
}


def arguments(heard: Heard, name: str) -> dict[str, Any]:
    """Return the arguments of a signal that was sent once. They are those that Flask-Security documents."""
    [values] = [values for heard_name, values in heard if heard_name == name]
    assert values.keys() == DOCUMENTED[name] | {"user"}
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
    ("path", "signal"),
    [
        ("/reset", "password-reset-instructions-sent"),
        ("/confirm", "confirm-instructions-sent"),
        ("/recover-username", "username-recovery-email-sent"),
        ("/us-signin/send-code", "us-security-token-sent"),
    ],
)
def test_worker_announces_a_mail_once_the_relay_has_it(
    make_site: Any, heard: Heard, path: str, signal: str
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
    text = site.mailbox.mails[-1].get_body(("plain",)).get_content()
    assert all(values[name] in text for name in values if name.endswith("token"))


def test_change_of_address_is_announced_when_it_is_requested_and_when_it_is_confirmed(
    make_site: Any, heard: Heard
) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    visitor = site.visitor()
    assert visitor.sign_in()
    visitor.submit("/change-email", "/change-email", email="alice@new.example.com")
    values = arguments(heard, "change-email-instructions-sent")
    assert (values["user"], values["new_email"]) == ("alice@example.com", "alice@new.example.com")
    visitor.submit(f"/change-email/{values['token']}")
    values = arguments(heard, "change-email")
    assert values == {"user": "alice@new.example.com", "old_email": "alice@example.com"}


def test_change_of_a_sign_in_by_code_is_announced(make_site: Any, heard: Heard) -> None:
    site = confirm_addresses(make_site(**CODE_SIGN_IN))
    alice = site.visitor()
    assert alice.sign_in()
    answer = alice.post_json("/us-setup", json={"chosen_method": "email"})
    site.work()
    assert arguments(heard, "us-security-token-sent")["method"] == "email"
    code = arguments(heard, "us-security-token-sent")["token"]
    alice.post_json(f"/us-setup/{answer.json['response']['state']}", json={"passcode": code})
    values = {"user": "alice@example.com", "methods": ["email"], "delete": False}
    assert arguments(heard, "us-profile-changed") == values


def test_request_that_needs_a_sign_in_is_announced(make_site: Any, heard: Heard) -> None:
    assert make_site().visitor().post_json("/change", json={}).status_code == 401
    assert arguments(heard, "user-unauthenticated") == {"user": None}


@pytest.mark.parametrize(
    ("path", "field", "auth_type"),
    [
        ("/login", "password", "password"),
        ("/verify", "password", "password"),
        ("/us-signin", "passcode", "passcode"),
        ("/us-verify", "passcode", "passcode"),
    ],
)
def test_each_way_to_sign_in_announces_its_failure(
    make_site: Any, heard: Heard, path: str, field: str, auth_type: str
) -> None:
    site = confirm_addresses(make_site(**CODE_SIGN_IN))
    visitor = site.visitor()
    if path.endswith("verify"):
        assert visitor.sign_in()
    visitor.post_json(path, json={"identity": "alice", field: "wrong"}).close()
    values = {"user": "alice@example.com", "auth_type": auth_type, "tfa": False}
    assert arguments(heard, "user-failed-authn") == values


def test_wrong_code_of_a_second_factor_announces_its_failure(make_site: Any, heard: Heard) -> None:
    site = confirm_addresses(make_site(**SECOND_FACTOR))
    set_up_factor(site)
    enter_password(site).post_json("/tf-validate", json={"code": "000000"}).close()
    values = {"user": "alice@example.com", "auth_type": "code", "tfa": True}
    assert arguments(heard, "user-failed-authn") == values


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
    "refresh-tracker-created": "its view is Flask-Security's",
    "refresh-tracker-revoked": "its view is Flask-Security's",
    "tf-code-confirmed": "its view is Flask-Security's",
    "tf-profile-changed": "its view is Flask-Security's",
    "tf-security-token-sent": "its view is Flask-Security's",
    "tf-disabled": "its view is Flask-Security's",
    "wan-registered": "its view is Flask-Security's",
    "wan-deleted": "its view is Flask-Security's",
}


def test_every_signal_of_flask_security_is_sent_or_explained() -> None:
    """A new version's signal needs a test above, or a reason."""
    source = Path(__file__).read_text().partition("OTHERS =")[0].partition("def arguments")[2]
    tested = {name for name in signals.signals if f'"{name}"' in source}
    assert tested == DOCUMENTED.keys()
    assert signals.signals.keys() - tested == OTHERS.keys()
