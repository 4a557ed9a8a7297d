"""Settings: the layers, the limits, and every mistake named at once."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.admin import inherited
from support.site import PUBLIC_URL, ROOT, SECRETS, Site

import manage
from app import create_app, settings
from app.db.audit import RecoveryEvent
from app.settings.forced import flask_config
from app.settings.problems import SettingsError

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}


def problems_of(environ: dict[str, str], **overrides: Any) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        settings.load(environ, **overrides)
    return {problem.name: str(problem) for problem in caught.value.problems}


def test_later_layers_win_and_are_remembered(tmp_path: Path) -> None:
    mine, secret = tmp_path / "mine.toml", tmp_path / "secret"
    mine.write_text('RECOVERY_SITE_NAME = "File"\nMAIL_SERVER = "file"\nMAIL_USERNAME = "u"\n')
    secret.write_text("from a secret file\n")
    reading = settings.examine(
        {
            **GOOD,
            "RECOVERY_CONFIG": str(mine),
            "FLASK_MAIL_SERVER": "environment",
            "FLASK_MAIL_USE_TLS": "true",
            "FLASK_MAIL_PASSWORD_FILE": str(secret),
        }
    )
    loaded, origins = reading.settings, reading.origins
    assert loaded is not None
    assert loaded.RECOVERY_SITE_NAME == "File"
    assert loaded.MAIL_SERVER == "environment"
    assert loaded.MAIL_PASSWORD == "from a secret file"
    assert loaded.MAIL_PORT == 25
    assert origins["MAIL_PORT"] == "config/default.toml"
    assert origins["RECOVERY_SITE_NAME"] == str(mine)
    assert origins["MAIL_SERVER"] == "FLASK_MAIL_SERVER"
    assert origins["MAIL_PASSWORD"] == "FLASK_MAIL_PASSWORD_FILE"


def test_the_environment_is_text_and_becomes_what_is_declared() -> None:
    loaded = settings.load(
        {
            **GOOD,
            "FLASK_RATELIMIT_ENABLED": "false",
            "FLASK_MAIL_PORT": "587",
            "FLASK_SECURITY_RESET_PASSWORD_WITHIN": "90 seconds",
            "FLASK_SECURITY_USER_IDENTITY_ATTRIBUTES": '["username"]',
            "FLASK_SECURITY_TRACKABLE": "true",
            "FLASK_SECURITY_CONFIRM_EMAIL_WITHIN": "3 days",
            "FLASK_SECURITY_RECOVERABLE": "true",
            "FLASK_APP": "app",
            "FLASK_RUN_PORT": "5001",
            "FLASK_DEBUG": "1",
        }
    )
    assert loaded.RATELIMIT_ENABLED is False
    assert loaded.MAIL_PORT == 587
    assert timedelta(seconds=90) == loaded.SECURITY_RESET_PASSWORD_WITHIN
    assert loaded.SECURITY_USER_IDENTITY_ATTRIBUTES == ["username"]
    config = flask_config(loaded)
    assert config["SECURITY_TRACKABLE"] is True
    assert config["SECURITY_CONFIRM_EMAIL_WITHIN"] == timedelta(days=3)
    assert "APP" not in config
    assert "DEBUG" not in config


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("SECRET_KEY", "short", "too weak"),
        ("SECRET_KEY", "a" * 64, "too weak"),
        ("SECRET_KEY", "change-me-please-change-me-please", "placeholder"),
        ("SECURITY_PASSWORD_SALT", SECRETS["FLASK_SECRET_KEY"], "same as SECRET_KEY"),
        ("RECOVERY_PUBLIC_URL", "http://id.example.com", "must be https"),
        ("RECOVERY_PUBLIC_URL", "id.example.com", "whole URL"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com/?x", "without ?"),
        ("RECOVERY_PUBLIC_URL", "https://user:pw@id.example.com", "whole URL"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "5", "30 minutes"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "25 hours", "24 hours"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "0 seconds", "more than nothing"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "-1 days", "30 minutes"),
        ("SECURITY_RESET_PASSWORD_WITHN", "1 hour", "SECURITY_RESET_PASSWORD_WITHIN"),
        ("RECOVERY_SITENAME", "x", "RECOVERY_SITE_NAME"),
        ("COMPLETELY_DIFFERENT", "x", "unknown setting"),
        ("SECURITY_PASSWORD_LENGTH_MIN", "7", "8"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '["emial"]', "us_phone_number"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '["email", "email"]', "at most once"),
        ("SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS", '{"argon2__memory": 3}', "nothing else"),
        ("SECURITY_PASSWORD_HASH", "plaintext", "one scheme"),
        ("SECURITY_TOKEN_MAX_AGE", "x", "30 minutes"),
        ("SQLALCHEMY_DATABASE_URI", "mysql://u:hunter2@h/n", "postgresql://"),
        ("SQLALCHEMY_DATABASE_URI", "not a uri", "sqlite:///"),
        ("REMEMBER_COOKIE_DURATION", "31 days", "at most 30 days"),
        ("MAIL_TIMEOUT", "0 seconds", "more than nothing"),
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", "POST", "JSON"),
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", '{"a": 1}', "list"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com:99999", "whole URL"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", "email", "JSON"),
        ("SECURITY_RETURN_GENERIC_RESPONSES", "false", "who has an account"),
        ("SECURITY_AUTO_LOGIN_AFTER_RESET", "true", "sign anybody in"),
        ("SERVER_NAME", "id.example.com", "RECOVERY_PUBLIC_URL"),
        ("SECURITY_TRACKABLE", "perhaps", "true or false"),
        ("SECURITY_LOGIN_WITHIN", "soon", "30 minutes"),
        ("MAIL_PORT", "smtp", "whole number"),
        ("MAIL_USE_SSL", "true", "MAIL_USE_TLS"),
        ("MAIL_USERNAME", "me", "MAIL_PASSWORD"),
        ("MAIL_DEFAULT_SENDER", "nobody", "give an address"),
        ("RECOVERY_MAIL_CA", "/nowhere", "no such file"),
        ("MAIL_DEFAULT_SENDER", "a@b.example\nBcc: c@d.example", "control characters"),
        ("RECOVERY_TRUSTED_PROXIES", "-1", "0"),
        ("RECOVERY_ACCENT", "red", "hex color"),
        ("SECURITY_TOTP_SECRETS", '{"x": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}', "number the secrets"),
    ],
)
@pytest.mark.requirement("R12", "R19", "R20", "R26", "R33", "R46", "R63", "R65")
def test_a_mistake_is_named_with_its_origin_and_remedy(name: str, value: str, hint: str) -> None:
    problems = problems_of({**GOOD, "FLASK_MAIL_USE_TLS": "true", f"FLASK_{name}": value})
    assert list(problems) == [name]
    assert hint in problems[name]
    assert f"FLASK_{name}" in problems[name]
    assert "SECRET" not in name or value not in problems[name]


@pytest.mark.requirement("R65")
def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('MAIL_PORT = "none"\nMAIL_SEVER = "x"\nSECURITY_PASSWORD_LENGTH_MIN = 3\n')
    problems = problems_of({"RECOVERY_CONFIG": str(mine), "FLASK_SECRET_KEY": "weak"})
    assert set(problems) == {
        "MAIL_PORT",
        "MAIL_SEVER",
        "SECURITY_PASSWORD_LENGTH_MIN",
        "SECRET_KEY",
        "SECURITY_PASSWORD_SALT",
        "RECOVERY_PUBLIC_URL",
    }
    assert "not set" in problems["SECURITY_PASSWORD_SALT"]
    assert str(mine) in problems["MAIL_SEVER"]


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("this is = not TOML")
    assert "broken.toml" in problems_of({**GOOD, "RECOVERY_CONFIG": str(broken)})["RECOVERY_CONFIG"]
    assert (
        "cannot read the file"
        in problems_of({**GOOD, "FLASK_MAIL_PASSWORD_FILE": "/nowhere"})["MAIL_PASSWORD"]
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.com",
        "http://127.0.0.2:5000",
        "http://localhost",
        "http://[::1]:81",
        "http://sparekey.localhost",
    ],
)
def test_public_urls_that_are_fine(url: str) -> None:
    assert url == settings.load({**GOOD, "FLASK_RECOVERY_PUBLIC_URL": url + "/"}).RECOVERY_PUBLIC_URL


def test_the_inbox_is_for_this_machine_only() -> None:
    wrong = {**GOOD, "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com", "FLASK_RECOVERY_INBOX": "true"}
    assert "shows all mail to everybody" in problems_of(wrong)["RECOVERY_INBOX"]


@pytest.mark.parametrize(
    ("command", "code"), [(["manage.py", "routes"], 1), (["-c", "import app; app.create_app()"], 3)]
)
@pytest.mark.requirement("R63")
def test_a_start_without_secrets_is_refused_in_plain_lines(command: list[str], code: int) -> None:
    environ = {
        **inherited(),
        "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL,
        "FLASK_SECRET_KEY": "hunter2",
    }
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert ended.returncode == code
    assert ended.stderr.splitlines()[0] == "Sparekey cannot start:"
    assert len(ended.stderr.splitlines()) == 3
    assert "SECRET_KEY (FLASK_SECRET_KEY): too weak" in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    ("url", "secure"), [("https://id.example.com", True), ("http://127.0.0.1:5000", False)]
)
@pytest.mark.requirement("R44")
def test_cookies_follow_the_scheme_of_the_public_url(make_site: Any, url: str, secure: bool) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=url)
    answer = site.visitor().submit(
        "/login", identity="alice", password="the old password of alice", remember="y"
    )
    cookies = answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 3  # session, remembered, known
    for cookie in cookies:
        assert cookie.startswith("__Host-sparekey_") is secure
        assert ("Secure" in cookie) is secure
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/;" in cookie + ";"
        assert "Domain" not in cookie
    config = site.app.config
    for name in ("CSRF", "TWO_FACTOR_VALIDITY", "REFRESH_TOKEN"):
        assert config[f"SECURITY_{name}_COOKIE"]["secure"] is secure


@pytest.mark.requirement("R54")
def test_only_declared_proxies_are_believed(make_site: Any) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 203.0.113.10"}
    for hops, source in ((0, "127.0.0.1"), (1, "203.0.113.10"), (2, "203.0.113.9")):
        site: Site = make_site(RECOVERY_TRUSTED_PROXIES=hops)
        site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
        assert site.rows(RecoveryEvent)[0]["source"] == source


# --- the command line -------------------------------------------------------------------------

MISTAKES = {
    "RECOVERY_PUBLIC_URL": ("http://id.example.com", "must be https"),
    "RECOVERY_SITE_NAME": (7, "text, in quotes"),
    "RECOVERY_TRUSTED_PROXIES": (-1, "at least 0"),
    "RECOVERY_SUPPORT_CONTCT": ("x", "did you mean RECOVERY_SUPPORT_CONTACT?"),
    "RECOVERY_MAIL_COOLDOWN": ("5", "30 minutes"),
    "RECOVERY_MAIL_DAILY_CAP": (0, "at least 1"),
    "RECOVERY_PASSWORD_LENGTH_MAX": (63, "at least 64"),
    "RECOVERY_INBOX": ("maybe", "true or false"),
    "SECRET_KEY": ("xyzzy-changeme-xyzzy", "placeholder"),
    "SECRET_KEY_FALLBACKS": (["xyzzy"], "too weak"),
    "SECURITY_PASSWORD_SALT": ("xyzzy", "too weak"),
    "SECURITY_RESET_PASSWORD_WITHIN": ("48 hours", "at most 24 hours"),
    "SECURITY_RESET_PASSWORD_WITHN": ("1 hour", "did you mean SECURITY_RESET_PASSWORD_WITHIN?"),
    "SECURITY_RETURN_GENERIC_RESPONSES": (False, "who has an account"),
    "SECURITY_AUTO_LOGIN_AFTER_RESET": (True, "sign anybody in"),
    "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": (True, "form without token"),
    "SECURITY_PASSWORD_LENGTH_MIN": (6, "at least 8"),
    "SECURITY_PASSWORD_HASH": ("bcrypt", "one scheme"),
    "SECURITY_PHONE_REGION_DEFAULT": ("Germany", "ISO 3166"),
    "MAIL_PORT": (99999, "at most 65535"),
    "MAIL_DEFAULT_SENDER": ("the team", "give an address"),
    "SQLALCHEMY_DATABASE_URI": ("mysql://me:xyzzy@db/x", "postgresql://"),
    "SERVER_NAME": ("id.example.com", "RECOVERY_PUBLIC_URL"),
}


def run(*words: str, **environ: str) -> Result:
    ended = CliRunner().invoke(manage.cli, words, env=environ)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended


@pytest.mark.requirement("R63", "R65")
def test_every_planted_mistake_is_named_in_one_run(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, (value, _) in MISTAKES.items()))
    checked = run("check", "--format", "json", RECOVERY_CONFIG=str(mine))
    shown = run("config", "show", RECOVERY_CONFIG=str(mine))
    for ended in (checked, shown, run("check", RECOVERY_CONFIG=str(mine))):
        assert ended.exit_code == 1
        assert "Traceback" not in ended.stderr
        assert "xyzzy" not in ended.stderr + ended.stdout
    said = {line.split()[1]: line for line in shown.stderr.splitlines()}
    found = {finding["setting"]: finding for finding in json.loads(checked.stdout)["findings"]}
    assert said.keys() == found.keys() == MISTAKES.keys()
    for name, (_, remedy) in MISTAKES.items():
        assert f"({mine})" in said[name]
        assert remedy in said[name], said[name]
        assert found[name]["origin"] == str(mine)
        assert remedy in found[name]["what"]


@pytest.mark.requirement("R61")
def test_config_show_tells_values_and_origins_and_hides_secrets() -> None:
    secrets = {
        **GOOD,
        "FLASK_MAIL_USERNAME": "me",
        "FLASK_MAIL_PASSWORD": "hunter2",
        "FLASK_SQLALCHEMY_DATABASE_URI": "postgresql://me:hunter2@db/sparekey",
        "FLASK_SECURITY_TOTP_SECRETS": '{"1": "hunter2 and twenty more"}',
    }
    ended = run("config", "show", **secrets)
    assert ended.exit_code == 0
    assert "hunter2" not in ended.stdout
    assert SECRETS["FLASK_SECRET_KEY"] not in ended.stdout
    assert "MAIL_PORT = 25  # config/default.toml" in ended.stdout
    assert 'MAIL_PASSWORD = "(hidden)"  # FLASK_MAIL_PASSWORD' in ended.stdout
    assert "postgresql://me:***@db/sparekey" in ended.stdout
    as_json = json.loads(run("config", "show", "--format", "json", **secrets).stdout)
    assert as_json["problems"] == []
    assert {"name": "MAIL_USERNAME", "value": "me", "origin": "FLASK_MAIL_USERNAME"} in as_json["settings"]


@pytest.mark.parametrize("name", ["production", "development", "spa"])
def test_the_examples_are_whole(name: str) -> None:
    with_secrets = {**SECRETS, "RECOVERY_CONFIG": str(ROOT / "config" / f"{name}.toml")}
    if name == "production":
        with_secrets["FLASK_MAIL_PASSWORD"] = "from a secret file"
    create_app(settings.load(with_secrets))
