"""Signals that Flask-Security documents: each is sent, or the reason why not is given here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask_security import signals
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

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


def test_sign_in_and_change_are_announced(make_site: Any, heard: Heard) -> None:
    visitor = make_site().visitor()
    assert visitor.sign_in(password=OLD_PASSWORD)
    assert arguments(heard, "user-authenticated")["authn_via"] == ["password"]
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    visitor.submit("/change", password=OLD_PASSWORD, **fields)
    assert arguments(heard, "password-changed")["user"] == "alice@example.com"
