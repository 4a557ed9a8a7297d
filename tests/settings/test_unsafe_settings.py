"""Settings of web/ that are invalid, or that would weaken a deployment, stop the start."""

from __future__ import annotations

from typing import Any

import pytest
from support.site import PUBLIC_URL, SECRETS

from app import settings
from app.settings.problems import SettingsError

DEPLOYMENT = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com"}


@pytest.mark.requirement("R23", "R65", "R66")
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TESTING", "true", "TESTING"),
        ("SECURITY_SEND_PASSWORD_CHANGE_EMAIL", "false", "SECURITY_SEND_PASSWORD_CHANGE_EMAIL"),
        ("SECURITY_LOGOUT_METHODS", '["GET"]', "SECURITY_LOGOUT_METHODS"),
        ("SECURITY_AUTO_LOGIN_AFTER_CONFIRM", "true", "SECURITY_AUTO_LOGIN_AFTER_CONFIRM"),
        ("SECURITY_DATETIME_FACTORY", "x", "SECURITY_DATETIME_FACTORY"),
        ("SECURITY_FRESHNESS", "2 days", "SECURITY_FRESHNESS"),
        ("SECURITY_PASSWORD_SINGLE_HASH", '["argon2"]', "SECURITY_PASSWORD_SINGLE_HASH"),
        ("RECOVERY_PASSWORD_LENGTH_MAX", "4096", "MAX_CONTENT_LENGTH"),
        ("RATELIMIT_STORAGE_URI", "localhost:6379", "RATELIMIT_STORAGE_URI"),
        ("RATELIMIT_STORAGE_URI", "redis://127.0.0.1:abc/0", "RATELIMIT_STORAGE_URI"),
        ("RECOVERY_LIMIT_SOURCE", "0 per minute", "RECOVERY_LIMIT_SOURCE"),
        ("RECOVERY_LIMIT_SOURCE", "a few", "RECOVERY_LIMIT_SOURCE"),
        ("RECOVERY_LIMIT_IDENTITY", "", "RECOVERY_LIMIT_IDENTITY"),
        ("RECOVERY_MAIL_HOURLY_MAX", "0", "RECOVERY_MAIL_HOURLY_MAX"),
        (
            "RECOVERY_LANGUAGES",
            '["en", "nl"]',
            "no file nl.po in RECOVERY_TRANSLATION_DIR; there is ar, de, en",
        ),
        ("RECOVERY_LANGUAGES", '["en", "de", "de"]', "each at most once"),
        ("RECOVERY_LANGUAGES", '["de"]', "BABEL_DEFAULT_LOCALE"),
        ("RECOVERY_LANGUAGES", "[]", "give at least 1"),
        ("RECOVERY_LANGUAGES", '["../../etc"]', "give a language such as de"),
        ("BABEL_DEFAULT_LOCALE", "klingon", "give a language such as de"),
        ("BABEL_DEFAULT_TIMEZONE", "Mars/Olympus", "give a time zone such as UTC or Europe/Berlin"),
        ("RECOVERY_LOGO", "/nowhere/logo.svg", "no such file"),
        ("RECOVERY_LOGO", __file__, "give a picture that browsers show"),
        ("RECOVERY_SECURITY_TXT", "/nowhere", "RECOVERY_SECURITY_TXT"),
    ],
)
def test_setting_that_is_unsafe_or_invalid_stops_the_start(name: str, value: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**DEPLOYMENT, f"FLASK_{name}": value})
    [problem] = caught.value.problems
    assert text in str(problem)


@pytest.mark.requirement("R23", "R66")
@pytest.mark.parametrize(
    ("setting", "name", "allowed_with"),
    [
        ({"FLASK_DEBUG": "1"}, "FLASK_DEBUG", {"FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}),
        ({"FLASK_TESTING": "true"}, "TESTING", {"FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}),
        ({"FLASK_MAIL_SERVER": "smtp.example.com"}, "MAIL_USE_TLS", {"FLASK_RECOVERY_MAIL_IN_CLEAR": "true"}),
    ],
)
def test_setting_for_this_machine_is_refused_in_a_deployment(
    setting: dict[str, str], name: str, allowed_with: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**DEPLOYMENT, **setting})
    assert [problem.name for problem in caught.value.problems] == [name]
    settings.load({**DEPLOYMENT, **setting, **allowed_with})
