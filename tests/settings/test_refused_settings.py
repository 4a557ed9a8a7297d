"""Settings that would weaken a protection, fail later or leak a secret stop the start, and are named with a remedy."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from support.site import ROOT, SECRETS

import manage
from app import settings
from app.settings.problems import SettingsError

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com"}
TOTP = """ SECURITY_TOTP_SECRETS='{"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}'"""
OAUTH = " ".join(
    f"RECOVERY_MAIL_OAUTH_{name}"
    for name in ("URL=https://login.example.com/token", "CLIENT_ID=id", "CLIENT_SECRET=secret")
)
LOGO = ROOT / "app/pages/static/sparekey.svg"
CODE_KEYS = f"""SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS='["{Fernet.generate_key().decode()}"]'"""
SMS = """SECURITY_TWO_FACTOR=true SECURITY_TWO_FACTOR_ENABLED_METHODS='["sms"]'""" + TOTP
SPA = "SECURITY_REDIRECT_BEHAVIOR=spa SECURITY_RESET_ERROR_VIEW=/problem"
SPA_CONFIRM = f"{SPA} SECURITY_RESET_VIEW=/r SECURITY_CONFIRMABLE=true SECURITY_CONFIRM_ERROR_VIEW=/c"
USERNAMES = """SECURITY_USER_IDENTITY_ATTRIBUTES='["username"]'"""
ADDRESSES = """SECURITY_USER_IDENTITY_ATTRIBUTES='["email"]'"""


def problems(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        settings.load(environ)
    return {problem.name: str(problem) for problem in caught.value.problems}


KINDS = "SECURITY_USER_IDENTITY_ATTRIBUTES"
OPTIONS = '{"argon2__memory_cost": %s, "argon2__rounds": %s, "argon2__parallelism": %s}'
# By names of settings: a part of the message, and values that are refused with it.
REFUSED: dict[str, dict[str, list[str]]] = {
    "COMPLETELY_DIFFERENT WTF_CSRF_ENABLED SESSION_COOKIE_SECURE": {"unknown setting": ["false"]},
    # Secrets
    "SECRET_KEY": {"too weak: give at least 22 random characters": ["short", "a" * 64, "xyzzy" * 10]},
    "SECURITY_PASSWORD_SALT": {"same as SECRET_KEY": [SECRETS["FLASK_SECRET_KEY"]]},
    "RECOVERY_METRICS_TOKEN": {"22 random characters": ["xyzzy"], "same as another secret": [SECRETS["FLASK_SECRET_KEY"]]},
    "RECOVERY_WEBHOOK_SECRET": {
        "too weak": ["whsec_" + "xyzzy" * 8], "24 to 64 random bytes in base64": ["xyzzy" * 7],
        "or set neither": ["whsec_kQ3b7HfXo1Zt9vYcRw5uJ2mNsEaL8pDg"],
    },
    "SECURITY_TOTP_SECRETS": {"number the secrets": ['{"x": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}']},
    # URLs, hosts and addresses
    "RECOVERY_PUBLIC_URL": {
        "give a whole URL": [
            "id.example.com", "https://user:pw@id.example.com", "https://id.example.com:99999", "https://id.example.com:abc",
            "https://id.exa mple.com", "https://h.example/a b", "https://h.example//evil.example", "https://h.example/über",
        ],
        "without ?": ["https://id.example.com/?x"],
    },
    "RECOVERY_WEBHOOK_URL": {
        "must be https, because anyone on the way can read http": ["http://shop.example.com/hooks"], "without ?": ["https://shop.example.com/hooks?x"],
        "whole URL": ["https://user:pw@shop.example.com/hooks"],
    },
    "SQLALCHEMY_DATABASE_URI": {
        "give sqlite:///file.db or postgresql://": ["not a uri", "postgresql+psycopg2://h/n"], "give a file": ["sqlite://"],
        "%40 for @": ["postgresql://me:a@xyzzy@127.0.0.1/x"],
    },
    "RATELIMIT_STORAGE_URI": {"redis://host:6379/0": ["localhost:6379", "redis://127.0.0.1:abc/0"]},
    "MAIL_SERVER": {"give a host name": ["x" * 64 + ".example", "smtp.example.com:587", "https://smtp.example.com", "::1::"]},
    "SECURITY_USERNAME_MAX_LENGTH": {"64": ["65"]},
    "RECOVERY_MAIL_EHLO": {
        "give a name": ["id.example.com\r\nRSET", "id.example.com\n", "my host", "bücher.example", "[::1]"],
    },
    "MAIL_DEFAULT_SENDER": {"give an address": ["", "the team"]},
    "MAIL_DEFAULT_SENDER RECOVERY_MAIL_REPLY_TO": {
        "give an address": ["help", "a@b.example, c@d.example", "jürgen@example.com"], "control": ["a@b.example\nBcc: c@d.example"],
    },
    "SECURITY_LOGIN_URL": {"start with a slash": ["signin"]},
    # Times and numbers
    "SECURITY_RESET_PASSWORD_WITHIN": {
        "30 minutes": ["5", "-1 days"], "at most 24 hours": ["25 hours"], "more than nothing": ["0 seconds"],
    },
    "SECURITY_TOKEN_MAX_AGE": {"30 minutes": ["x"], "not longer than REMEMBER_COOKIE_DURATION": ["31 days"]},
    "PERMANENT_SESSION_LIFETIME REMEMBER_COOKIE_DURATION": {"30 minutes": ["3600"], "at most 30 days": ["31 days"]},
    "SECURITY_FRESHNESS": {"at most 5 minutes": ["15 minutes"]},
    "RECOVERY_MAIL_COOLDOWN": {"30 minutes": ["5 moments"], "at most 366 days": ["2500000 days", "99999999999 days"]},
    "RECOVERY_WORKER_POLL": {"more than nothing, at most 30 seconds": ["0 seconds", "5 minutes"]},
    "MAIL_TIMEOUT": {"more than nothing": ["0 seconds"]},
    "RECOVERY_KEEP_LINKS RECOVERY_KEEP_MAILS RECOVERY_KEEP_DEAD_LETTERS RECOVERY_KEEP_EVENTS": {"at least 31 days": ["30 days"]},
    "RECOVERY_LIMIT_SOURCE RECOVERY_LIMIT_IDENTITY": {"30 per minute": ["0 per minute", "a few", "30 per fortnight", ""]},
    "RECOVERY_MAIL_HOURLY_MAX RECOVERY_MAIL_DAILY_CAP": {"at least 1": ["0"]},
    "SECURITY_PASSWORD_LENGTH_MIN": {"at most 64": ["200"]},
    "RECOVERY_PASSWORD_LENGTH_MAX": {"at least 64": ["63"]},
    "SECURITY_US_TOKEN_VALIDITY": {"at least 30": ["-1"]},
    "MAX_CONTENT_LENGTH": {"whole number": ["64 kB"]},
    # Identities
    KINDS: {
        "JSON": ["email"], "at most once": ['["email", "email"]', '["email", {"email": {}}]'],
        "a list of names": ['{"email": {}}', "[]", "[1]"], "tables with one name each": ['[{"email": {}, "username": {}}]'],
        "badge: give a mapper or a pattern": ['[{"badge": {}}]', '[{"badge": {"pattern": "x", "mapper": "a:b"}}]'],
        "case_insensitive is for a mapper": ['[{"badge": {"pattern": "x", "case_insensitive": true}}]'],
        "email: only the mapper and the label": ['[{"email": {"case_insensitive": false}}]'],
    },
    f"{KINDS}.badge": {"give a table": ['[{"badge": 1}]']},
    f"{KINDS}.badge.mapper": {"module:name": ['[{"badge": {"mapper": "x"}}]']},
    f"{KINDS}.badge.pattern": {"valid regular": ['[{"badge": {"pattern": "("}}]']},
    f"{KINDS}.badge.normalize": {"give 'upper', 'lower' or 'digits'": ['[{"badge": {"pattern": "x", "normalize": "title"}}]']},
    f"{KINDS}.badge.regex": {"unknown setting": ['[{"badge": {"regex": "x"}}]']},
    "SECURITY_EMAIL_VALIDATOR_ARGS": {
        "DNS is never asked": ['{"check_deliverability": true}', '{"check_deliverability": false}'],
        "give arguments of email-validator": ['{"allow_everything": true}'], "write it as JSON": ["strict"],
    },
    "RECOVERY_SPECIAL_USE_DOMAINS": {"give 'arpa', 'invalid', 'local', 'localhost'": ['["corp.local"]'], "JSON": ["local"]},
    "SECURITY_PHONE_REGION_DEFAULT": {"ISO 3166": ["UK"]},
    # Protections
    "SECURITY_API_ENABLED_METHODS": {"who has an account": ['["basic"]']},
    "SECURITY_FRESHNESS_GRACE_PERIOD": {"a stolen session would renew it": ["5 minutes"]},
    "SECURITY_LOGIN_USER_TEMPLATE": {"RECOVERY_TEMPLATE_DIR": ["mine.html"]},
    "SECURITY_PASSWORD_CHECK_BREACHED": {"'strict'": ["stirct"]},
    "SECURITY_PASSWORD_HASH": {"the one scheme": ["plaintext", "bcrypt", "sha256_crypt"]},
    "SECURITY_PASSWORD_SCHEMES": {"no scheme accepts plain": ['["argon2", "plaintext"]', '["argon2", "des_crypt"]']},
    "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {
        "nothing else": ['{"argon2__memory": 3}', '{"bcrypt__rounds": 4}'], "argon2__rounds": ['{"argon2__memory_cost": 19456}'],
        "OWASP": [OPTIONS % (8192, 2, 1), OPTIONS % (19456, 1, 1)], "whole numbers": [OPTIONS % ('"19456"', 2, 1)],
        "does not take this": [OPTIONS % (19456, 2, 0), OPTIONS % (19456, 2, 5000)],
    },
    # Files, texts and choices
    "RECOVERY_MAIL_CA": {"no such file": ["/nowhere", "/etc"], "contains no certificates": ["/etc/passwd"]},
    "RECOVERY_TEMPLATE_DIR": {"there is no directory /nowhere": ["/nowhere"]},
    "RECOVERY_LOGO": {"no such file": ["/nowhere/logo.svg"], "give a picture that browsers show": [__file__]},
    "RECOVERY_SECURITY_TXT": {"no such file": ["/nowhere"]},
    "RECOVERY_SITE_NAME": {"must not be empty": [" "], "one line": ["two\u2028lines"], "not UTF-8": ["\udcff"]},
    "RECOVERY_ACCENT": {"hex color": ["red"]},
    "RECOVERY_CLIENTS.web": {"reset_error_view": ['{"web": {"reset_view": "https://a.example.com/"}}']},
    "RECOVERY_LANGUAGES": {
        "no file nl.po in RECOVERY_TRANSLATION_DIR; there is ar, de, en": ['["en", "nl"]'], "at most once": ['["en", "de", "de"]'],
        "give at least 1": ["[]"], "give a language such as de": ['["../../etc"]'],
    },
    "RECOVERY_LOG_FORMAT": {"'text' or 'json'": ["jsno"]},
    "BABEL_DEFAULT_LOCALE": {"give a language such as de": ["klingon"]},
    "BABEL_DEFAULT_TIMEZONE": {"give a time zone such as UTC or Europe/Berlin": ["Mars/Olympus"]},
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": {
        "JSON": ["POST"], "list": ['{"a": 1}'], "at least 1": ["[]"], "give 'authenticator', 'email' or 'sms'": ['["pigeon"]'],
    },
    "SECURITY_US_ENABLED_METHODS": {
        '"password" is always one': ['["email"]'], "give 'password', 'authenticator' or 'email'": ['["password", "sms"]'],
    },
    "SECURITY_SMS_SERVICE": {"module:Class": ["twilio"]},
    "SECURITY_TRACKABLE TESTING RECOVERY_INBOX": {"true or false": ["perhaps"]},
    "SQLALCHEMY_ENGINE_OPTIONS": {"write it as JSON": ["junk"]},
}  # fmt: skip
CASES = [
    (name, value, remedy)
    for names, remedies in REFUSED.items()
    for name in names.split()
    for remedy, values in remedies.items()
    for value in values
]


@pytest.mark.parametrize(("name", "value", "remedy"), CASES)
@pytest.mark.requirement("R12", "R19", "R20", "R23", "R33", "R46", "R63", "R65")
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
        ("RECOVERY_MAIL_OAUTH_URL", "_REFRESH_TOKEN", f"{OAUTH} MAIL_USERNAME=me RECOVERY_MAIL_OAUTH_CLIENT_SECRET="),
        ("MAIL_USERNAME", "RECOVERY_MAIL_OAUTH_URL", OAUTH),
        ("MAIL_USERNAME", "or set neither", f"{OAUTH} MAIL_USERNAME=me MAIL_PASSWORD=x"),
        ("MAIL_USE_TLS", "in the clear", "MAIL_SERVER=smtp.example.com"),
        ("SECURITY_EMAIL_PLAINTEXT", "an email needs text or HTML", "SECURITY_EMAIL_PLAINTEXT=false SECURITY_EMAIL_HTML=false"),
        ("MAIL_USE_TLS", "the password would travel in the clear", "MAIL_SERVER=smtp.example.com MAIL_USERNAME=me MAIL_PASSWORD=x"),
        ("RECOVERY_INBOX", "shows all mail to everyone: allowed only with", "RECOVERY_INBOX=true"),
        ("RECOVERY_CHALLENGE", "needs RATELIMIT_ENABLED", "RECOVERY_CHALLENGE=always RATELIMIT_ENABLED=false"),
        ("RECOVERY_LOGO_DARK", "needs RECOVERY_LOGO", f"RECOVERY_LOGO_DARK={LOGO}"),
        ("MAX_CONTENT_LENGTH", "RECOVERY_PASSWORD_LENGTH_MAX", "RECOVERY_PASSWORD_LENGTH_MAX=4096"),
        ("BABEL_DEFAULT_LOCALE", "one of RECOVERY_LANGUAGES", """RECOVERY_LANGUAGES='["de"]'"""),
        ("SECURITY_RESET_VIEW", "where links land", SPA),
        ("SECURITY_POST_CONFIRM_VIEW", "needed with SECURITY_REDIRECT_BEHAVIOR", SPA_CONFIRM),
        ("SECURITY_REFRESH_TOKEN_MAX_AGE", "not longer", "SECURITY_REFRESH_TOKEN_MAX_AGE='60 days'"),
        ("SECURITY_REGISTERABLE", "needs SECURITY_CONFIRMABLE", "SECURITY_REGISTERABLE=true"),
        ("SECURITY_REGISTERABLE", "needs email in", f"SECURITY_REGISTERABLE=true SECURITY_CONFIRMABLE=true {USERNAMES}"),
        ("SECURITY_USERNAME_RECOVERY", "needs another kind in", f"SECURITY_USERNAME_RECOVERY=true {USERNAMES}"),
        ("SECURITY_USERNAME_ENABLE", "needs username in", f"SECURITY_USERNAME_ENABLE=true {ADDRESSES}"),
        ("SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS", "SECURITY_TWO_FACTOR=true"),
        ("SECURITY_TWO_FACTOR_REQUIRED", "needs SECURITY_TWO_FACTOR", "SECURITY_TWO_FACTOR_REQUIRED=true"),
        ("SECURITY_SMS_SERVICE", "docs/features.md", SMS),
        ("SECURITY_SMS_SERVICE", "on this machine", f"SECURITY_SMS_SERVICE=file {SMS}"),
        ("SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS", "SECURITY_UNIFIED_SIGNIN=true"),
        ("SECURITY_MULTI_FACTOR_RECOVERY_CODES", "RECOVERY_CODES_KEYS", f"SECURITY_MULTI_FACTOR_RECOVERY_CODES=true SECURITY_WEBAUTHN=true {TOTP}"),
        ("SECURITY_MULTI_FACTOR_RECOVERY_CODES", "needs SECURITY_TWO_FACTOR or", f"SECURITY_MULTI_FACTOR_RECOVERY_CODES=true {CODE_KEYS} {TOTP}"),
        ("SECURITY_MULTI_FACTOR_RECOVERY_CODES", "needs SECURITY_TOTP_SECRETS", f"SECURITY_MULTI_FACTOR_RECOVERY_CODES=true SECURITY_WEBAUTHN=true {CODE_KEYS}"),
        ("SECURITY_WEBAUTHN", "needs a name", "SECURITY_WEBAUTHN=true RECOVERY_PUBLIC_URL=https://203.0.113.7"),
    ],
)  # fmt: skip
@pytest.mark.requirement("R65")
def test_refused_combination_of_settings(name: str, remedy: str, values: str) -> None:
    refused = problems({**GOOD, **dict(f"FLASK_{word}".split("=", 1) for word in shlex.split(values))})
    assert list(refused) == [name]
    assert remedy in refused[name]


@pytest.mark.parametrize(
    ("variable", "value", "refused", "allowed_by"),
    [
        ("DEBUG", "1", "FLASK_DEBUG", {"FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000"}),
        ("TESTING", "true", "TESTING", {"FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000"}),
        ("MAIL_SERVER", "smtp.example.com", "MAIL_USE_TLS", {"FLASK_RECOVERY_MAIL_IN_CLEAR": "true"}),
    ],
)
@pytest.mark.requirement("R23", "R66")
def test_refused_setting_is_allowed_by_another(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, refused: str, allowed_by: dict[str, str]
) -> None:
    monkeypatch.setenv(f"FLASK_{variable}", value)  # where Flask reads FLASK_DEBUG
    environ = {**GOOD, f"FLASK_{variable}": value}
    assert list(problems(environ)) == [refused]
    settings.load({**environ, **allowed_by})


def test_features_that_need_mail_are_refused_without_relay() -> None:
    names = ["SECURITY_CONFIRMABLE", "SECURITY_CHANGE_EMAIL", "SECURITY_USERNAME_RECOVERY"]
    environ = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000", "FLASK_MAIL_SERVER": ""}
    environ |= {f"FLASK_{name}": "true" for name in names} | {"FLASK_RECOVERY_OPERATOR": "op@example.com"}
    codes = f"""SECURITY_UNIFIED_SIGNIN=true SECURITY_TWO_FACTOR=true SECURITY_TWO_FACTOR_ENABLED_METHODS='["email"]' {TOTP}"""
    environ |= dict(f"FLASK_{word}".split("=", 1) for word in shlex.split(codes))
    refused = problems(environ)
    methods = {"SECURITY_TWO_FACTOR_ENABLED_METHODS", "SECURITY_US_ENABLED_METHODS"}
    assert refused.keys() == {*names, *methods, "RECOVERY_OPERATOR"}
    assert all("mail, and MAIL_SERVER is empty" in message for message in refused.values())
    settings.load({**environ, "FLASK_RECOVERY_INBOX": "true"})


MISTAKES_IN_FILE = {
    "RECOVERY_PUBLIC_URL": ("http://id.example.com", "must be https"),
    "RECOVERY_SITE_NAME": (7, "text, in quotes"),
    "RECOVERY_TRUSTED_PROXIES": (-1, "at least 0"),
    "RECOVERY_CONFIG": ("other.toml", "is RECOVERY_CONFIG, without FLASK_"),
    "RECOVERY_SUPPORT_CONTCT": ("x", "did you mean RECOVERY_SUPPORT_CONTACT?"),
    "recovery_operator": ("me@example.com", "RECOVERY_OPERATOR"),
    "SECRET_KEY": ("xyzzy-changeme-xyzzy", "placeholder"),
    "SECRET_KEY_FALLBACKS": (["xyzzy"], "too weak"),
    "SECURITY_PASSWORD_SALT": ("xyzzy", "too weak"),
    "SECURITY_RESET_PASSWORD_WITHIN": (60, "30 minutes"),
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": (["short"], "must be a Fernet key"),
    "SECURITY_PASSWORD_LENGTH_MIN": (7, "at least 8"),
    "SECURITY_TOTP_SECRETS": ({"1": "short"}, "at least 22"),
    "SECURITY_USER_IDENTITY_ATTRIBUTES": (["emial"], "us_phone_number"),
    "MAIL_PORT": (True, "whole number"),
    "MAIL_SEVER": ("smtp.example.com", "MAIL_SERVER"),
    "RATELIMIT_STORAGE_URI": ("redis://me:a@xyzzy@127.0.0.1/0", "%40 for @"),
    "SQLALCHEMY_DATABASE_URI": ("mysql://me:xyzzy@db/x", "postgresql://"),
}


def run(*words: str, **environ: str) -> Result:
    result = CliRunner().invoke(manage.cli, words, env=environ)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
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
        assert "Traceback" not in result.stderr
        assert "xyzzy" not in result.stderr + result.stdout
    lines = {line.split()[1]: line for line in config.stderr.splitlines()}
    findings = {finding["setting"]: finding for finding in json.loads(checked.stdout)["findings"]}
    assert lines.keys() == findings.keys() == MISTAKES_IN_FILE.keys()
    for name, (_, remedy) in MISTAKES_IN_FILE.items():
        assert f"({file})" in lines[name]
        assert remedy in lines[name]
        assert (findings[name]["id"], findings[name]["origin"]) == ("invalid-setting", str(file))
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


def test_unreadable_secret_is_named_alone() -> None:
    """The pair of MAIL_USERNAME and MAIL_PASSWORD is not called incomplete."""
    refused = problems({**GOOD, "FLASK_MAIL_USERNAME": "me", "FLASK_MAIL_PASSWORD_FILE": "/nowhere"})
    assert list(refused) == ["MAIL_PASSWORD"]
    assert "FLASK_MAIL_PASSWORD_FILE" in refused["MAIL_PASSWORD"]
    assert "cannot read the file" in refused["MAIL_PASSWORD"]


@pytest.mark.requirement("R63")
def test_start_without_secrets_is_refused_in_plain_lines() -> None:
    stderr = run(
        "routes", FLASK_RECOVERY_PUBLIC_URL="https://id.example.com", FLASK_SECRET_KEY="xyzzy"
    ).stderr
    first, key, salt = stderr.splitlines()
    assert first == "Sparekey cannot start:"
    assert "SECRET_KEY (FLASK_SECRET_KEY): too weak" in key
    assert "SECURITY_PASSWORD_SALT (not set): needed" in salt
    assert "xyzzy" not in stderr


@pytest.mark.requirement("R63")
def test_placeholder_secrets_of_the_docs_are_refused() -> None:
    places = (
        "README.md",
        "Makefile",
        "docs/**/*.*",
        "config/*.toml",
        "app/**/*.py",
        "doctor/**/*.py",
        "examples/*/*.*",
    )
    pages = [
        page
        for place in places
        for page in ROOT.glob(place)
        if page.is_file() and page.suffix not in (".png", ".pyc")
    ]
    assignment = re.compile(r"(SECRET_KEY|PASSWORD_SALT)\s*=\s*[\"']?([^\s\"'#]*)")
    placeholders = [match for page in pages for match in assignment.findall(page.read_text())]
    assert len(placeholders) > 1
    for name, value in placeholders:
        with pytest.raises(SettingsError, match=name):
            settings.load({**SECRETS, f"FLASK_{'SECURITY_' * (name[0] == 'P')}{name}": value})


@pytest.mark.requirement("R61", "R63")
def test_secret_in_place_of_its_file_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({"FLASK_SECRET_KEY_FILE": "the-secret-itself-0123456789"})
    assert "the-secret-itself" not in str(caught.value)


LEAKS = """
mail_password = "xyzzy"
MAIL_PASSWRD = "xyzzy"
RECOVERY_SITE_NAME = 2020-01-01
RECOVERY_PUBLIC_URL = "https://me:xyzzy@id.example.com"
SQLALCHEMY_DATABASE_URI = "postgresql:///db?password=xyzzy"
[SQLALCHEMY_ENGINE_OPTIONS.connect_args]
password = "xyzzy"
[mail]
password = "xyzzy"
"""


@pytest.mark.requirement("R61")
def test_config_show_hides_misplaced_secrets(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(LEAKS)
    environ = {**SECRETS, "RECOVERY_CONFIG": str(file), "FLASK_DATABASE_URL": "postgresql://u:xyzzy@h/n"}
    for form in ("text", "json"):
        ended = run("config", "show", "--format", form, **environ)
        assert "MAIL_PASSWRD" in ended.output
        assert "xyzzy" not in ended.output
