"""Settings that stop the start. Each refusal names the setting, its source and the remedy."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.site import SECRETS

import manage
from app import settings
from app.settings.problems import SettingsError

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com"}
TOTP = """ SECURITY_TOTP_SECRETS='{"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}'"""
OAUTH = " ".join(
    f"RECOVERY_MAIL_OAUTH_{name}"
    for name in ("URL=https://login.example.com/token", "CLIENT_ID=id", "CLIENT_SECRET=secret")
)
SMS = """SECURITY_TWO_FACTOR=true SECURITY_TWO_FACTOR_ENABLED_METHODS='["sms"]'""" + TOTP
SPA = "SECURITY_REDIRECT_BEHAVIOR=spa SECURITY_RESET_ERROR_VIEW=/problem"
SPA_CONFIRM = f"{SPA} SECURITY_RESET_VIEW=/r SECURITY_CONFIRMABLE=true SECURITY_CONFIRM_ERROR_VIEW=/c"
UNIFIED_BY_SMS = """SECURITY_UNIFIED_SIGNIN=true SECURITY_US_ENABLED_METHODS='["password", "sms"]'""" + TOTP
USERNAMES = """SECURITY_USER_IDENTITY_ATTRIBUTES='["username"]'"""
ADDRESSES = """SECURITY_USER_IDENTITY_ATTRIBUTES='["email"]'"""


def problems(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        settings.load(environ)
    return {problem.name: str(problem) for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("SECRET_KEY", "short", "too weak"),
        ("SECRET_KEY", "a" * 64, "too weak"),
        ("SECRET_KEY", "xyzzy" * 10, "22 random characters"),
        ("SECURITY_PASSWORD_SALT", SECRETS["FLASK_SECRET_KEY"], "same as SECRET_KEY"),
        ("RECOVERY_METRICS_TOKEN", "xyzzy", "22 random characters"),
        ("RECOVERY_METRICS_TOKEN", SECRETS["FLASK_SECRET_KEY"], "same as another secret"),
        ("RECOVERY_WEBHOOK_URL", "http://shop.example.com/hooks", "must be https"),
        ("RECOVERY_WEBHOOK_URL", "https://shop.example.com/hooks?x", "without ?"),
        ("RECOVERY_WEBHOOK_URL", "https://user:pw@shop.example.com/hooks", "whole URL"),
        ("RECOVERY_WEBHOOK_SECRET", "whsec_" + "xyzzy" * 8, "too weak"),
        ("RECOVERY_WEBHOOK_SECRET", "xyzzy" * 7, "24 to 64 random bytes in base64"),
        ("RECOVERY_WEBHOOK_SECRET", "whsec_kQ3b7HfXo1Zt9vYcRw5uJ2mNsEaL8pDg", "or set neither"),
        ("RECOVERY_PUBLIC_URL", "id.example.com", "whole URL"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com/?x", "without ?"),
        ("RECOVERY_PUBLIC_URL", "https://user:pw@id.example.com", "whole URL"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com:99999", "whole URL"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "5", "30 minutes"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "-1 days", "30 minutes"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "25 hours", "24 hours"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "0 seconds", "more than nothing"),
        ("COMPLETELY_DIFFERENT", "x", "unknown setting"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '["email", "email"]', "at most once"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", "email", "JSON"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '{"email": {}}', "give a list of names"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", "[]", "a list of names"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", "[1]", "tables with one name each"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '[{"email": {}, "username": {}}]', "tables with one name each"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '["email", {"email": {}}]', "at most once"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", '[{"badge": {}}]', "badge: give a mapper or a pattern"),
        (
            "SECURITY_USER_IDENTITY_ATTRIBUTES",
            '[{"badge": {"pattern": "x", "mapper": "a:b"}}]',
            "badge: give a mapper or a pattern",
        ),
        (
            "SECURITY_USER_IDENTITY_ATTRIBUTES",
            '[{"badge": {"pattern": "x", "case_insensitive": true}}]',
            "case_insensitive is for a mapper",
        ),
        (
            "SECURITY_USER_IDENTITY_ATTRIBUTES",
            '[{"email": {"case_insensitive": false}}]',
            "email: only the mapper and the label",
        ),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES.badge", '[{"badge": 1}]', "give a table"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES.badge.mapper", '[{"badge": {"mapper": "x"}}]', "module:name"),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES.badge.pattern", '[{"badge": {"pattern": "("}}]', "valid regular"),
        (
            "SECURITY_USER_IDENTITY_ATTRIBUTES.badge.normalize",
            '[{"badge": {"pattern": "x", "normalize": "title"}}]',
            "give 'upper', 'lower' or 'digits'",
        ),
        (
            "SECURITY_USER_IDENTITY_ATTRIBUTES.badge.regex",
            '[{"badge": {"regex": "x"}}]',
            "unknown setting",
        ),
        ("SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS", '{"argon2__memory": 3}', "nothing else"),
        ("SECURITY_TOKEN_MAX_AGE", "x", "30 minutes"),
        ("SQLALCHEMY_DATABASE_URI", "not a uri", "sqlite:///"),
        ("SQLALCHEMY_DATABASE_URI", "sqlite://", "give a file"),
        ("SQLALCHEMY_DATABASE_URI", "postgresql://me:a@xyzzy@127.0.0.1/x", "%40 for @"),
        ("REMEMBER_COOKIE_DURATION", "31 days", "at most 30 days"),
        ("MAIL_TIMEOUT", "0 seconds", "more than nothing"),
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", "POST", "JSON"),
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", '{"a": 1}', "list"),
        ("SECURITY_TRACKABLE", "perhaps", "true or false"),
        ("MAIL_DEFAULT_SENDER", "a@b.example\nBcc: c@d.example", "control characters"),
        ("RECOVERY_MAIL_CA", "/nowhere", "no such file"),
        ("RECOVERY_ACCENT", "red", "hex color"),
        ("RECOVERY_CLIENTS.web", '{"web": {"reset_view": "https://a.example.com/"}}', "reset_error_view"),
        ("SECURITY_TOTP_SECRETS", '{"x": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}', "number the secrets"),
        ("SECURITY_SEND_PASSWORD_CHANGE_EMAIL", "false", "the owner must be told"),
        ("SECURITY_LOGOUT_METHODS", '["GET"]', "no other site may sign users out"),
        ("SECURITY_AUTO_LOGIN_AFTER_CONFIRM", "true", "an emailed link must not sign anyone in"),
        ("SECURITY_DATETIME_FACTORY", "x", "cannot be set"),
        ("SECURITY_FRESHNESS", "15 minutes", "at most 5 minutes"),
        ("SECURITY_FRESHNESS_GRACE_PERIOD", "5 minutes", "a stolen session would renew it"),
        ("SECURITY_PASSWORD_SINGLE_HASH", '["argon2"]', "cannot be set"),
        ("RATELIMIT_STORAGE_URI", "localhost:6379", "redis://host:6379/0"),
        ("RATELIMIT_STORAGE_URI", "redis://127.0.0.1:abc/0", "redis://host:6379/0"),
        ("RECOVERY_LIMIT_SOURCE", "0 per minute", "30 per minute"),
        ("RECOVERY_LIMIT_SOURCE", "a few", "30 per minute"),
        ("RECOVERY_LIMIT_IDENTITY", "", "30 per minute"),
        ("RECOVERY_MAIL_HOURLY_MAX", "0", "at least 1"),
        (
            "RECOVERY_LANGUAGES",
            '["en", "nl"]',
            "no file nl.po in RECOVERY_TRANSLATION_DIR; there is ar, de, en",
        ),
        ("RECOVERY_LANGUAGES", '["en", "de", "de"]', "each at most once"),
        ("RECOVERY_LANGUAGES", "[]", "give at least 1"),
        ("RECOVERY_LANGUAGES", '["../../etc"]', "give a language such as de"),
        ("BABEL_DEFAULT_LOCALE", "klingon", "give a language such as de"),
        ("BABEL_DEFAULT_TIMEZONE", "Mars/Olympus", "give a time zone such as UTC or Europe/Berlin"),
        ("RECOVERY_LOGO", "/nowhere/logo.svg", "no such file"),
        ("RECOVERY_LOGO", __file__, "give a picture that browsers show"),
        ("RECOVERY_SECURITY_TXT", "/nowhere", "no such file"),
    ],
)
@pytest.mark.requirement("R12", "R19", "R20", "R23", "R46", "R63", "R65")
def test_refused_setting_in_environment(name: str, value: str, remedy: str) -> None:
    variable = "FLASK_" + name.partition(".")[0]
    refused = problems({**GOOD, variable: value})
    assert list(refused) == [name]
    assert remedy in refused[name]
    assert variable in refused[name]
    assert "SECRET" not in name or value not in refused[name]
    assert "xyzzy" not in refused[name]


@pytest.mark.parametrize(
    ("name", "remedy", "values"),
    [
        ("MAIL_USE_SSL", "choose one", "MAIL_USE_SSL=true MAIL_USE_TLS=true"),
        ("MAIL_USERNAME", "MAIL_PASSWORD", "MAIL_USERNAME=me"),
        ("RECOVERY_MAIL_OAUTH_URL", "set this together with", "RECOVERY_MAIL_OAUTH_CLIENT_ID=id"),
        (
            "RECOVERY_MAIL_OAUTH_URL",
            "_REFRESH_TOKEN",
            f"{OAUTH} MAIL_USERNAME=me RECOVERY_MAIL_OAUTH_CLIENT_SECRET=",
        ),
        ("MAIL_USERNAME", "RECOVERY_MAIL_OAUTH_URL", OAUTH),
        ("MAIL_USERNAME", "or set neither", f"{OAUTH} MAIL_USERNAME=me MAIL_PASSWORD=x"),
        ("MAIL_USE_TLS", "in the clear", "MAIL_SERVER=smtp.example.com"),
        ("RECOVERY_INBOX", "shows all mail to everyone: allowed only with", "RECOVERY_INBOX=true"),
        ("MAX_CONTENT_LENGTH", "RECOVERY_PASSWORD_LENGTH_MAX", "RECOVERY_PASSWORD_LENGTH_MAX=4096"),
        ("BABEL_DEFAULT_LOCALE", "one of RECOVERY_LANGUAGES", """RECOVERY_LANGUAGES='["de"]'"""),
        ("SECURITY_RESET_VIEW", "where links land", SPA),
        ("SECURITY_POST_CONFIRM_VIEW", "needed with SECURITY_REDIRECT_BEHAVIOR", SPA_CONFIRM),
        ("SECURITY_REFRESH_TOKEN_MAX_AGE", "not longer", "SECURITY_REFRESH_TOKEN_MAX_AGE='60 days'"),
        ("SECURITY_REGISTERABLE", "needs SECURITY_CONFIRMABLE", "SECURITY_REGISTERABLE=true"),
        (
            "SECURITY_REGISTERABLE",
            "needs email in",
            f"SECURITY_REGISTERABLE=true SECURITY_CONFIRMABLE=true {USERNAMES}",
        ),
        (
            "SECURITY_USERNAME_RECOVERY",
            "needs another kind in",
            f"SECURITY_USERNAME_RECOVERY=true {USERNAMES}",
        ),
        ("SECURITY_USERNAME_ENABLE", "needs username in", f"SECURITY_USERNAME_ENABLE=true {ADDRESSES}"),
        ("SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS", "SECURITY_TWO_FACTOR=true"),
        ("SECURITY_TWO_FACTOR_REQUIRED", "needs SECURITY_TWO_FACTOR", "SECURITY_TWO_FACTOR_REQUIRED=true"),
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", "one or more of auth", SMS.replace("sms", "pigeon")),
        ("SECURITY_SMS_SERVICE", "docs/features.md", SMS),
        ("SECURITY_SMS_SERVICE", "on this machine", f"SECURITY_SMS_SERVICE=file {SMS}"),
        ("SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS", "SECURITY_UNIFIED_SIGNIN=true"),
        ("SECURITY_US_ENABLED_METHODS", "password, and of authenticator, email", UNIFIED_BY_SMS),
        (
            "SECURITY_MULTI_FACTOR_RECOVERY_CODES",
            "RECOVERY_CODES_KEYS",
            "SECURITY_MULTI_FACTOR_RECOVERY_CODES=true SECURITY_WEBAUTHN=true",
        ),
        (
            "SECURITY_WEBAUTHN",
            "needs a name",
            "SECURITY_WEBAUTHN=true RECOVERY_PUBLIC_URL=https://203.0.113.7",
        ),
    ],
)
@pytest.mark.requirement("R65")
def test_refused_combination_of_settings(name: str, remedy: str, values: str) -> None:
    refused = problems({**GOOD, **dict(f"FLASK_{word}".split("=", 1) for word in shlex.split(values))})
    assert list(refused) == [name]
    assert remedy in refused[name]


@pytest.mark.parametrize(
    ("name", "value", "allowed_by"),
    [
        ("DEBUG", "1", {"FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000"}),
        ("TESTING", "true", {"FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000"}),
        ("MAIL_SERVER", "smtp.example.com", {"FLASK_RECOVERY_MAIL_IN_CLEAR": "true"}),
    ],
)
@pytest.mark.requirement("R23", "R66")
def test_refused_setting_is_allowed_by_another(name: str, value: str, allowed_by: dict[str, str]) -> None:
    refused = {"DEBUG": "FLASK_DEBUG", "MAIL_SERVER": "MAIL_USE_TLS"}.get(name, name)
    assert list(problems({**GOOD, f"FLASK_{name}": value})) == [refused]
    settings.load({**GOOD, f"FLASK_{name}": value, **allowed_by})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECURITY_CONFIRMABLE", True),
        ("SECURITY_CHANGE_EMAIL", True),
        ("SECURITY_USERNAME_RECOVERY", True),
        ("RECOVERY_OPERATOR", "op@example.com"),
    ],
)
def test_feature_that_needs_mail_is_refused_without_relay(name: str, value: Any) -> None:
    environ = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000"}
    with pytest.raises(SettingsError, match=f"{name} .*needs mail, and MAIL_SERVER is empty"):
        settings.load(environ, MAIL_SERVER="", **{name: value})
    settings.load(environ, MAIL_SERVER="", RECOVERY_INBOX=True, **{name: value})


MISTAKES_IN_FILE = {
    "RECOVERY_PUBLIC_URL": ("http://id.example.com", "must be https"),
    "RECOVERY_SITE_NAME": (7, "text, in quotes"),
    "RECOVERY_TRUSTED_PROXIES": (-1, "at least 0"),
    "RECOVERY_SUPPORT_CONTCT": ("x", "did you mean RECOVERY_SUPPORT_CONTACT?"),
    "recovery_operator": ("me@example.com", "RECOVERY_OPERATOR"),
    "RECOVERY_KEEP_LINKS": ("30 days", "at least 31 days"),
    "RECOVERY_KEEP_MAILS": ("30 days", "at least 31 days"),
    "RECOVERY_KEEP_DEAD_LETTERS": ("30 days", "at least 31 days"),
    "RECOVERY_KEEP_EVENTS": ("30 days", "at least 31 days"),
    "RECOVERY_MAIL_COOLDOWN": ("5 moments", "30 minutes"),
    "RECOVERY_MAIL_DAILY_CAP": (0, "at least 1"),
    "RECOVERY_PASSWORD_LENGTH_MAX": (63, "at least 64"),
    "RECOVERY_INBOX": ("maybe", "true or false"),
    "RECOVERY_LOG_FORMAT": ("jsno", "'text' or 'json'"),
    "RECOVERY_LIMIT_SOURCE": ("30 per fortnight", "30 per minute"),
    "RECOVERY_WORKER_POLL": ("5 minutes", "at most 30 seconds"),
    "RECOVERY_TEMPLATE_DIR": ("/nowhere", "there is no directory /nowhere"),
    "SECRET_KEY": ("xyzzy-changeme-xyzzy", "placeholder"),
    "SECRET_KEY_FALLBACKS": (["xyzzy"], "too weak"),
    "SECURITY_PASSWORD_SALT": ("xyzzy", "too weak"),
    "SECURITY_RESET_PASSWORD_WITHIN": (60, "30 minutes"),
    "SECURITY_RESET_PASSWORD_WITHN": ("1 hour", "did you mean SECURITY_RESET_PASSWORD_WITHIN?"),
    "SECURITY_RETURN_GENERIC_RESPONSES": (False, "who has an account"),
    "SECURITY_AUTO_LOGIN_AFTER_RESET": (True, "must not sign anyone in"),
    "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": (True, "form without token"),
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": (["short"], "must be a Fernet key"),
    "SECURITY_PASSWORD_LENGTH_MIN": (7, "at least 8"),
    "SECURITY_PASSWORD_HASH": ("bcrypt", "one scheme"),
    "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": ({"argon2__rounds": 1}, "argon2__memory_cost"),
    "SECURITY_PHONE_REGION_DEFAULT": ("UK", "ISO 3166"),
    "SECURITY_SMS_SERVICE": ("twilio", "module:Class"),
    "SECURITY_TOTP_SECRETS": ({"1": "short"}, "at least 22"),
    "SECURITY_TWO_FACTOR_RESCUE_EMAIL": (True, "get around"),
    "SECURITY_US_MFA_REQUIRED": ([], "second factor comes after"),
    "SECURITY_US_TOKEN_VALIDITY": (-1, "at least 30"),
    "SECURITY_USER_IDENTITY_ATTRIBUTES": (["emial"], "us_phone_number"),
    "SECURITY_LOGIN_USER_TEMPLATE": ("mine.html", "RECOVERY_TEMPLATE_DIR"),
    "MAIL_PORT": (True, "whole number"),
    "MAIL_SEVER": ("smtp.example.com", "MAIL_SERVER"),
    "MAIL_DEFAULT_SENDER": ("the team", "give an address"),
    "MAX_CONTENT_LENGTH": ("64 kB", "whole number"),
    "RATELIMIT_STORAGE_URI": ("redis://me:a@xyzzy@127.0.0.1/0", "%40 for @"),
    "SQLALCHEMY_DATABASE_URI": ("mysql://me:xyzzy@db/x", "postgresql://"),
    "SERVER_NAME": ("id.example.com", "RECOVERY_PUBLIC_URL"),
    "WTF_CSRF_CHECK_DEFAULT": (True, "every request itself"),
}


def run(*words: str, **environ: str) -> Result:
    result = CliRunner().invoke(manage.cli, words, env=environ)
    assert isinstance(result.exception, SystemExit), result.exception
    return result


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


@pytest.mark.requirement("R19", "R26", "R33", "R63", "R65")
def test_all_mistakes_in_file_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("".join(f"{name} = {toml(value)}\n" for name, (value, _) in MISTAKES_IN_FILE.items()))
    checked = run("check", "--format", "json", RECOVERY_CONFIG=str(file))
    config = run("config", "show", RECOVERY_CONFIG=str(file))
    for result in (checked, config, run("check", RECOVERY_CONFIG=str(file))):
        assert result.exit_code == 1
        assert "Traceback" not in result.stderr
        assert "xyzzy" not in result.stderr + result.stdout
    lines = {line.split()[1]: line for line in config.stderr.splitlines()}
    findings = {finding["setting"]: finding for finding in json.loads(checked.stdout)["findings"]}
    assert lines.keys() == findings.keys() == MISTAKES_IN_FILE.keys()
    for name, (_, remedy) in MISTAKES_IN_FILE.items():
        assert f"({file})" in lines[name]
        assert remedy in lines[name]
        assert findings[name]["id"] == "invalid-setting"
        assert findings[name]["origin"] == str(file)
        assert remedy in findings[name]["what"]


@pytest.mark.requirement("R65")
def test_problems_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('MAIL_PORT = "none"\nMAIL_SEVER = "x"\n')
    refused = problems({"RECOVERY_CONFIG": str(file), "FLASK_SECRET_KEY": "weak", "FLASK_MAIL_PROT": "25"})
    missing = {"SECURITY_PASSWORD_SALT", "RECOVERY_PUBLIC_URL"}
    assert refused.keys() == {"MAIL_PORT", "MAIL_SEVER", "SECRET_KEY", "MAIL_PROT", *missing}
    assert "not set" in refused["SECURITY_PASSWORD_SALT"]
    assert str(file) in refused["MAIL_SEVER"]


def test_unreadable_sources_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("this is = not TOML")
    refused = problems({**GOOD, "RECOVERY_CONFIG": str(broken)})
    assert list(refused) == ["RECOVERY_CONFIG"]
    assert str(broken) in refused["RECOVERY_CONFIG"]
    # The pair of MAIL_USERNAME and MAIL_PASSWORD is not called incomplete.
    environ = {"FLASK_MAIL_USERNAME": "me", "FLASK_MAIL_PASSWORD_FILE": "/nowhere"}
    refused = problems({**GOOD, **environ})
    assert list(refused) == ["MAIL_PASSWORD"]
    assert "FLASK_MAIL_PASSWORD_FILE" in refused["MAIL_PASSWORD"]
    assert "cannot read the file" in refused["MAIL_PASSWORD"]
