"""Findings about settings that are valid and unwise, or incomplete in a public deployment."""

from typing import Any

import pytest
from support.site import load_settings

from app.settings.advice import check_deployment, check_settings

GOOD: dict[str, Any] = {
    "RECOVERY_PUBLIC_URL": "https://id.example.com",
    "RECOVERY_SUPPORT_CONTACT": "help@example.com",
    "RECOVERY_OPERATOR": "operator@example.com",
    "RECOVERY_SECURITY_TXT": __file__,
    "RECOVERY_TRUSTED_PROXIES": 1,
    "MAIL_DEFAULT_SENDER": "no-reply@example.com",
}
TWO_FACTORS: dict[str, Any] = {
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator"],
    "SECURITY_TOTP_SECRETS": {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
}
WITHOUT_MAIL = {"MAIL_SERVER": "", "RECOVERY_OPERATOR": ""}
IN_CLEAR = {"RECOVERY_MAIL_IN_CLEAR": True, "MAIL_SERVER": "smtp.example.com"}


def findings(server: dict[str, Any] | None = None, **values: Any) -> set[str]:
    settings = load_settings(**{**GOOD, **values})
    advice = check_settings(settings) + (check_deployment(settings, **server) if server is not None else [])
    return {finding.id for finding in advice}


def database(uri: str) -> dict[str, str]:
    return {"SQLALCHEMY_DATABASE_URI": uri}


@pytest.mark.parametrize(
    ("ids", "values"),
    [
        ({"cooldown-outlasts-link"}, {"RECOVERY_MAIL_COOLDOWN": "1 hour"}),
        ({"alarm-too-late"}, {"RECOVERY_READY_MAIL_AGE": "1 hour"}),
        ({"password-length"}, {"SECURITY_PASSWORD_LENGTH_MIN": 14}),
        ({"limits-off"}, {"RATELIMIT_ENABLED": False}),
        ({"auth-by-name"}, {"RECOVERY_AUTH": "email"}),
        ({"auth-by-name"}, {"RECOVERY_AUTH": "username"}),
        ({"no-cooldown"}, {"RECOVERY_MAIL_COOLDOWN": "0 seconds"}),
        ({"usernames-look-alike"}, {"RECOVERY_USERNAME_ASCII": False}),
        ({"sender-unreal"}, {"MAIL_DEFAULT_SENDER": "me@localhost"}),
        ({"link-life-short"}, {"SECURITY_RESET_PASSWORD_WITHIN": "9 minutes", "RECOVERY_READY_MAIL_AGE": "1 minute"}),
        ({"relay-in-clear"}, IN_CLEAR),
        ({"port-wants-tls"}, {"MAIL_PORT": 465, "MAIL_USE_TLS": True}),
        ({"port-wants-tls"}, {"MAIL_PORT": 2465, "MAIL_USE_TLS": True}),
        ({"port-wants-starttls"}, {"MAIL_PORT": 25, "MAIL_USE_SSL": True}),
        ({"port-wants-starttls"}, {"MAIL_PORT": 587, "MAIL_USE_SSL": True}),
        ({"database-in-clear"}, database("postgresql://me:pw@db.example.com/x")),
        ({"database-in-clear"}, database("postgresql:///x?hostaddr=10.0.0.5")),
        ({"database-in-clear"}, database("postgresql:///x?host=/tmp,db.example.com")),
        ({"redis-in-clear"}, {"RATELIMIT_STORAGE_URI": "redis://:pw@cache.example.com/0"}),
        ({"second-factor-by-mail"}, {**TWO_FACTORS, "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"]}),
        ({"no-mail"}, WITHOUT_MAIL),
        ({"no-mail", "nobody-to-ask"}, {**WITHOUT_MAIL, "RECOVERY_SUPPORT_CONTACT": ""}),
        ({"old-keys"}, {"SECRET_KEY_FALLBACKS": ["zKq4wX1mP8vT0rJ7yB5nD2sG9hL6cF3b"]}),
    ],
)  # fmt: skip
def test_unwise_setting_is_the_only_finding(ids: set[str], values: dict[str, Any]) -> None:
    assert findings(**values) == ids


@pytest.mark.parametrize(
    "values",
    [
        {},
        {**TWO_FACTORS, "SECURITY_TWO_FACTOR_REQUIRED": True, "SECURITY_PASSWORD_LENGTH_MIN": 8},
        {"RECOVERY_MAIL_IN_CLEAR": True, "MAIL_SERVER": "127.0.0.1"},
        {**IN_CLEAR, "MAIL_USE_TLS": True},
        database("postgresql://me:pw@127.0.0.1/x"),
        database("postgresql:///x?host=/run/postgresql"),
        database("postgresql://me:pw@db.example.com/x?sslmode=verify-full"),
        {"RATELIMIT_STORAGE_URI": "rediss://:pw@cache.example.com/0"},
        {"RATELIMIT_STORAGE_URI": "redis://localhost:6379/0"},
        {"MAIL_DEFAULT_SENDER": "sparekey@mailhost"},
        {"RECOVERY_USERNAME_ASCII": False, "SECURITY_USER_IDENTITY_ATTRIBUTES": ["email"]},
        {"MAIL_PORT": 465, "MAIL_USE_SSL": True},
        {"MAIL_PORT": 587, "MAIL_USE_TLS": True},
        {"MAIL_PORT": 10465, "MAIL_USE_TLS": True},
    ],
    ids=lambda values: ", ".join(values)[:60],
)
def test_good_setting_has_no_finding(values: dict[str, Any]) -> None:
    assert findings({}, **values) == set()


@pytest.mark.parametrize(
    ("id", "server", "values"),
    [
        ("proxies-undeclared", {}, {"RECOVERY_TRUSTED_PROXIES": 0}),
        ("no-operator", {}, {"RECOVERY_OPERATOR": ""}),
        ("no-support-contact", {}, {"RECOVERY_SUPPORT_CONTACT": ""}),
        ("no-security-txt", {}, {"RECOVERY_SECURITY_TXT": ""}),
        ("url-on-this-machine", {}, {"RECOVERY_PUBLIC_URL": "http://[::1]"}),
        ("limits-in-memory", {"processes": 4}, {"RECOVERY_HASHES_AT_ONCE": 1}),
        ("hashes-undivided", {"processes": 4}, {"RATELIMIT_STORAGE_URI": "redis://127.0.0.1/0"}),
        ("threads-few", {"threads": 127}, {}),
        ("debug-on", {"debug": True}, {}),
    ],
)
def test_defect_of_deployment_is_the_only_finding(id: str, server: Any, values: dict[str, Any]) -> None:
    assert findings(server, **values) == {id}


def test_demo_is_no_deployment() -> None:
    demo = {"RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000", "RECOVERY_INBOX": True}
    assert findings(**demo) == set()
    assert {"url-on-this-machine", "inbox-on"} <= findings({}, **demo)
