"""Signals that Flask-Security documents: each is sent, or the reason why not is given here."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask_security import signals
from support.features import (
    ALL_FEATURES,
    confirm_addresses,
    enter_password,
    set_up_code_sign_in,
    set_up_factor,
)
from support.mailbox import link_in, text_of
from support.outbox import make_due
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User

ALICE, MOVED, NEW = "alice@example.com", "alice@new.example.com", "new@example.com"
Heard = list[tuple[str, dict[str, Any]]]
SITE = {**ALL_FEATURES, "RECOVERY_PUBLIC_URL": "http://localhost:5000"}


@pytest.fixture
def site(make_site: Any) -> Site:
    return confirm_addresses(make_site(**SITE))


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
# Sent by Flask-Security's own views, or of a feature that Sparekey refuses.
OTHERS = {
    "login-instructions-sent", "username-changed", "refresh-tracker-created", "refresh-tracker-revoked", "tf-code-confirmed",
    "tf-profile-changed", "tf-security-token-sent", "tf-disabled", "wan-registered", "wan-deleted",
}  # fmt: skip


def arguments(heard: Heard, name: str) -> dict[str, Any]:
    """Return the arguments of a signal that was sent once. They are those that Flask-Security documents."""
    [values] = [values for heard_name, values in heard if heard_name == name]
    assert values.keys() == DOCUMENTED[name] | {"user"}
    return values


def test_every_signal_of_flask_security_is_sent_or_explained() -> None:
    """A new version's signal needs a test below, or a reason."""
    assert signals.signals.keys() == DOCUMENTED.keys() | OTHERS
    source = Path(__file__).read_text().partition("def test_")[2]
    assert [name for name in DOCUMENTED if f'"{name}"' not in source] == []


def test_failed_sign_in_is_announced_after_the_answer_for_accounts_only(site: Site, heard: Heard) -> None:
    for identity in ("nobody", "alice"):
        answer = site.visitor().post_json("/login", json={"identity": identity, "password": "wrong"})
        assert answer.status_code == 400
        assert heard == []
        answer.close()  # the server does so when the answer is on its way
    assert arguments(heard, "user-failed-authn") == {"user": ALICE, "auth_type": "password", "tfa": False}


def test_each_way_to_sign_in_announces_its_failure(site: Site, heard: Heard) -> None:
    for path, field in {"/verify": "password", "/us-signin": "passcode", "/us-verify": "passcode"}.items():
        visitor = site.visitor()
        if path.endswith("verify"):
            assert visitor.sign_in()
        heard.clear()
        visitor.post_json(path, json={"identity": "alice", field: "wrong"}).close()
        assert arguments(heard, "user-failed-authn") == {"user": ALICE, "auth_type": field, "tfa": False}
    heard.clear()
    set_up_factor(site)
    enter_password(site).post_json("/tf-validate", json={"code": "000000"}).close()
    assert arguments(heard, "user-failed-authn") == {"user": ALICE, "auth_type": "code", "tfa": True}


def test_sign_up_is_announced_and_its_link_confirms_the_address(site: Site, heard: Heard) -> None:
    for address in (NEW, ALICE):
        site.visitor().post_json("/register", json={"email": address})
    site.work()
    assert arguments(heard, "user-registered")["user"] == NEW
    values = {"existing_email": True, "existing_username": False, "form_data": {}}
    assert arguments(heard, "user-not-registered") == {"user": ALICE, **values}
    [link] = [mail for mail in site.mailbox.mails if mail["To"] == NEW]
    assert site.visitor().post_json(link_in(link), json={"password": NEW_PASSWORD}).status_code == 200
    assert arguments(heard, "user-confirmed")["user"] == NEW
    assert arguments(heard, "password-reset")["user"] == NEW


def test_sign_in_and_changes_are_announced(site: Site, heard: Heard) -> None:
    assert site.visitor().post_json("/change", json={}).status_code == 401
    assert arguments(heard, "user-unauthenticated") == {"user": None}
    visitor = site.visitor()
    assert visitor.sign_in(password=OLD_PASSWORD)
    assert arguments(heard, "user-authenticated")["authn_via"] == ["password"]
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    visitor.submit("/change", password=OLD_PASSWORD, **fields)
    assert arguments(heard, "password-changed")["user"] == ALICE
    setup: Any = visitor.post_json("/us-setup", json={"chosen_method": "email"}).json
    site.work()
    sent = arguments(heard, "us-security-token-sent")
    assert sent["method"] == "email"
    visitor.post_json(f"/us-setup/{setup['response']['state']}", json={"passcode": sent["token"]})
    assert arguments(heard, "us-profile-changed") == {"user": ALICE, "methods": ["email"], "delete": False}
    visitor.submit("/change-email", "/change-email", email=MOVED)
    sent = arguments(heard, "change-email-instructions-sent")
    assert (sent["user"], sent["new_email"]) == (ALICE, MOVED)
    visitor.submit(f"/change-email/{sent['token']}")
    assert arguments(heard, "change-email") == {"user": MOVED, "old_email": ALICE}


def test_worker_announces_a_mail_once_the_relay_has_it(site: Site, heard: Heard) -> None:
    set_up_code_sign_in(site)
    for path, signal in {
        "/reset": "password-reset-instructions-sent",
        "/recover-username": "username-recovery-email-sent",
        "/us-signin/send-code": "us-security-token-sent",
        "/confirm": "confirm-instructions-sent",
    }.items():
        if path == "/confirm":
            site.change(User, confirmed_at=None)
        heard.clear()
        site.mailbox.refuse["RCPT"] = "451 later"
        for identity in (ALICE, "nobody@example.com"):
            site.visitor().post_json(path, json={"identity": identity})
        site.work()
        assert heard == []
        site.mailbox.refuse.clear()
        make_due(site)
        site.work()
        values = arguments(heard, signal)
        assert values.pop("user") == ALICE
        text = text_of(site.mailbox.mails[-1])
        assert all(values[name] in text for name in values if name.endswith("token"))


def test_receiver_that_fails_sends_no_mail_twice(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_app: Any, **_: Any) -> None:
        raise RuntimeError("no licence")

    with signals.reset_password_instructions_sent.connected_to(fail):
        site.ask()
        assert (site.work(), site.work()) == (1, 0)
    assert len(site.mailbox.mails) == 1
    assert "a receiver of password-reset-instructions-sent failed" in caplog.text
