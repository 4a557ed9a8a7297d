"""Settings: their sources, the types of their values, and their effect on cookies and proxies."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.site import OLD_PASSWORD, PUBLIC_URL, ROOT, SECRETS, Site, load_settings

from app import create_app, settings
from app.db.audit import RecoveryEvent
from app.settings.forced import flask_config

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    file, secret = tmp_path / "mine.toml", tmp_path / "secret"
    file.write_text('RECOVERY_SITE_NAME = "File"\nMAIL_SERVER = "file"\nMAIL_USERNAME = "u"\n')
    secret.write_text("from a secret file\n")
    environ = {"FLASK_MAIL_SERVER": "environment", "FLASK_MAIL_PASSWORD": "x", "FLASK_MAIL_USE_TLS": "true"}
    files = {"RECOVERY_CONFIG": str(file), "FLASK_MAIL_PASSWORD_FILE": str(secret)}
    reading = settings.examine({**GOOD, **environ, **files})
    expected = {
        "MAIL_PORT": (25, "config/default.toml"),
        "RECOVERY_SITE_NAME": ("File", str(file)),
        "MAIL_SERVER": ("environment", "FLASK_MAIL_SERVER"),
        "MAIL_PASSWORD": ("from a secret file", "FLASK_MAIL_PASSWORD_FILE"),
    }
    assert {name: (getattr(reading.settings, name), reading.origins[name]) for name in expected} == expected


def test_environment_text_gets_the_declared_type() -> None:
    environ = {
        "RATELIMIT_ENABLED": "false",
        "MAIL_PORT": "587",
        "SECURITY_RESET_PASSWORD_WITHIN": "90 seconds",
        "SECURITY_USER_IDENTITY_ATTRIBUTES": '["username"]',
        "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": '{"argon2__memory_cost": 9216, "argon2__rounds": 4, "argon2__parallelism": 2}',
        "SECURITY_TRACKABLE": "true",
        "SECURITY_CONFIRM_EMAIL_WITHIN": "3 days",
        "SECURITY_RECOVERABLE": "true",  # a value that is forced anyway
        "APP": "app",
        "RUN_PORT": "5001",
        "DEBUG": "1",
    }  # fmt: skip
    loaded = settings.load({**GOOD, **{f"FLASK_{name}": value for name, value in environ.items()}})
    assert (loaded.RATELIMIT_ENABLED, loaded.MAIL_PORT) == (False, 587)
    assert timedelta(seconds=90) == loaded.SECURITY_RESET_PASSWORD_WITHIN
    assert [*loaded.SECURITY_USER_IDENTITY_ATTRIBUTES] == ["username"]
    config = flask_config(loaded)
    assert config["SECURITY_TRACKABLE"] is True
    assert config["SECURITY_CONFIRM_EMAIL_WITHIN"] == timedelta(days=3)
    assert not {"APP", "DEBUG", "RUN_PORT"} & config.keys()


@pytest.mark.parametrize(
    ("value", "normalized"),
    [
        ("https://id.example.com:443", "https://id.example.com"),
        ("https://ID.Example.com/", "https://id.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
        ("http://127.0.0.2:5000", "http://127.0.0.2:5000"),
        ("http://sparekey.localhost", "http://sparekey.localhost"),
        ("https://bücher.example:443", "https://xn--bcher-kva.example"),
    ],
)
def test_public_url_is_https_or_local_and_normalized_as_browsers_do(value: str, normalized: str) -> None:
    assert normalized == load_settings(RECOVERY_PUBLIC_URL=value).RECOVERY_PUBLIC_URL


@pytest.mark.parametrize("name", ["production", "development", "spa"])
def test_example_configuration_starts(name: str) -> None:
    environ = {**SECRETS, "RECOVERY_CONFIG": str(ROOT / "config" / f"{name}.toml")}
    if name == "production":
        environ["FLASK_MAIL_PASSWORD"] = "from a secret file"
    create_app(settings.load(environ))


@pytest.mark.parametrize(("url", "secure"), [("https://id.example.com", True), (PUBLIC_URL, False)])
@pytest.mark.requirement("R44")
def test_cookies_follow_the_scheme_of_the_public_url(make_site: Any, url: str, secure: bool) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=url)
    answer = site.visitor().submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 3  # session, remembered, known
    for cookie in cookies:
        assert (cookie.startswith("__Host-sparekey_"), "Secure" in cookie) == (secure, secure)
        assert all(part in f"{cookie};" for part in ("HttpOnly", "SameSite=Lax", "Path=/;"))
        assert "Domain" not in cookie
    for name in ("CSRF", "TWO_FACTOR_VALIDITY", "REFRESH_TOKEN"):
        assert site.app.config[f"SECURITY_{name}_COOKIE"]["secure"] is secure


@pytest.mark.requirement("R54")
def test_forwarded_address_counts_for_declared_proxies_only(make_site: Any) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 203.0.113.10"}
    for hops, source in ((0, "127.0.0.1"), (1, "203.0.113.10"), (2, "203.0.113.9")):
        site: Site = make_site(RECOVERY_TRUSTED_PROXIES=hops)
        site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
        assert site.rows(RecoveryEvent)[0]["source"] == source


@pytest.mark.parametrize("host", ["", "smtp.example.com", "127.0.0.1", "2001:db8::25", "::1"])
def test_mail_server_is_a_name_or_an_address(host: str) -> None:
    needed = {"RECOVERY_SUPPORT_CONTACT": "help@example.com", "RECOVERY_MAIL_IN_CLEAR": True}
    assert host == load_settings(MAIL_SERVER=host, **needed).MAIL_SERVER
