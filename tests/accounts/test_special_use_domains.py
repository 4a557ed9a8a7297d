"""Addresses in networks of their own: at special-use domains and at hosts without a dot."""

from typing import Any

import pytest
from support.site import BOTH, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts.identities import normalize_identity
from app.settings.problems import SettingsError

INSIDE = {
    "RECOVERY_SPECIAL_USE_DOMAINS": ["local", "localhost"],
    "SECURITY_EMAIL_VALIDATOR_ARGS": {"globally_deliverable": False},
}


@BOTH
@pytest.mark.parametrize("address", ["alice@corp.local", "root@localhost", "ops@server"])
def test_account_inside_a_network_gets_its_link_and_signs_in(make_site: Any, address: str) -> None:
    site: Site = make_site(
        **INSIDE, MAIL_DEFAULT_SENDER="no-reply@server", RECOVERY_OPERATOR="root@localhost"
    )
    create = ["users", "create", f"email:{address}", "--password", OLD_PASSWORD, "--active"]
    assert site.app.test_cli_runner().invoke(args=create).exit_code == 0
    site.new_link(address)
    assert site.mailbox.envelopes == [[address]]
    assert site.visitor().set_password(site.last_link()).location == "/reset-done"
    assert site.password_works("a brand new password for alice", address)


def test_lifting_a_domain_lifts_no_other(make_site: Any) -> None:
    with make_site(RECOVERY_SPECIAL_USE_DOMAINS=["local"]).app.app_context():
        for address, is_accepted in {
            "alice@corp.local": True,
            "alice@corp.localhost": False,
            "alice@corp.invalid": False,
            "alice@local": False,  # without a dot
        }.items():
            assert (normalize_identity("email", address) == address) is is_accepted, address
    with make_site().app.app_context():
        assert normalize_identity("email", "alice@corp.local") is None


@BOTH
@pytest.mark.parametrize(
    ("argument", "typed", "stored"),
    [
        ("allow_quoted_local", '"al ice"@example.com', '"al ice"@example.com'),
        ("allow_domain_literal", "alice@[192.0.2.1]", "alice@[192.0.2.1]"),
        ("allow_display_name", "Alice <alice2@example.com>", "alice2@example.com"),
        ("test_environment", "alice@test", "alice@test"),
    ],
)
def test_argument_of_the_validator_is_honored(make_site: Any, argument: str, typed: str, stored: str) -> None:
    with make_site().app.app_context():
        assert normalize_identity("email", typed) is None
    site: Site = make_site(SECURITY_EMAIL_VALIDATOR_ARGS={argument: True})
    site.change(email=None if stored is None else stored)
    site.new_link(typed)
    assert site.mailbox.envelopes == [[stored]]
    assert site.password_works(OLD_PASSWORD, typed)


def test_arguments_turn_no_dns_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dns.resolver.Resolver.resolve", lambda *_, **__: 1 / 0)
    with create_app(load_settings(SECURITY_EMAIL_VALIDATOR_ARGS={"strict": True})).app_context():
        assert normalize_identity("email", "alice@example.org") == "alice@example.org"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"SECURITY_EMAIL_VALIDATOR_ARGS": {"check_deliverability": True}}, "DNS is never asked"),
        ({"SECURITY_EMAIL_VALIDATOR_ARGS": {"check_deliverability": False}}, "DNS is never asked"),
        ({"SECURITY_EMAIL_VALIDATOR_ARGS": {"allow_everything": True}}, "give arguments of email-validator"),
        ({"SECURITY_EMAIL_VALIDATOR_ARGS": "strict"}, "write it as JSON"),
        ({"RECOVERY_SPECIAL_USE_DOMAINS": ["corp.local"]}, "give 'arpa', 'invalid', 'local', 'localhost'"),
        ({"RECOVERY_SPECIAL_USE_DOMAINS": "local"}, "write it as JSON"),
    ],
)
def test_bad_value_is_refused_with_a_message(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**settings)
