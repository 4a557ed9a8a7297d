"""`manage.py check`: what is wrong is named before users find out, with its origin and remedy.

And whatever is an error stops the start, in the same words.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import flask_security
import pytest
from click.testing import CliRunner
from sqlalchemy import text
from support import servers, warm
from support.admin import inherited, uncounted
from support.mailbox import Mailbox
from support.site import ROOT, SECRETS, wait_for

import manage
from app import create_app, settings
from app.accounts import breaches
from app.accounts.models import User
from app.cli import check, live_checks
from app.db.engine import db
from app.mail import heartbeat, outbox
from app.recovery.link import issue
from app.settings import checks
from doctor import dns_records

EMAIL = "security/email/"
READ_AT_IMPORT = {"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"}  # by gunicorn
GOOD: dict[str, Any] = {
    "RECOVERY_PUBLIC_URL": "https://id.example.com",
    "RECOVERY_SUPPORT_CONTACT": "help@example.com",
    "RECOVERY_OPERATOR": "operator@example.com",
    "RECOVERY_TRUSTED_PROXIES": 1,
    "MAIL_DEFAULT_SENDER": "no-reply@example.com",
    "SECRET_KEY": SECRETS["FLASK_SECRET_KEY"],
    "SECURITY_PASSWORD_SALT": SECRETS["FLASK_SECURITY_PASSWORD_SALT"],
}
INSTRUCTIONS = {
    ending: (ROOT / f"templates/security/email/reset_instructions{ending}").read_text()
    for ending in (".subject.txt", ".txt", ".html")
}
FORGOT = (ROOT / "templates/security/forgot_password.html").read_text()
LINK = '{{ url_for("security.reset_password", token=reset_token, _external=True) }}'


@dataclass
class Place:
    """A configuration in a file, and a directory for templates."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, settings: dict[str, Any], templates: dict[str, str | bytes] | None = None) -> None:
        for name, content in (templates or {}).items():
            path = self.folder / "templates" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if templates:
            settings = {**settings, "RECOVERY_TEMPLATE_DIR": str(self.folder / "templates")}
        given = {**GOOD, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{self.folder}/check.db", **settings}
        lines = [f"{name} = {_toml(value)}\n" for name, value in given.items() if value is not None]
        (self.folder / "mine.toml").write_text("".join(lines))
        (self.folder / "mine.toml").chmod(0o600)

    def types(self, *words: str, **environ: str) -> Any:
        env = {"RECOVERY_CONFIG": str(self.folder / "mine.toml"), **self.environ, **environ}
        if READ_AT_IMPORT & env.keys():
            return _in_a_process(*words, **env)
        return CliRunner().invoke(manage.cli, list(words), env=env)

    def starts(self, *words: str) -> warm.Running:
        """A process that stays. It writes its log into the folder."""
        environ = {**uncounted(), "RECOVERY_CONFIG": str(self.folder / "mine.toml")}
        with (self.folder / "log").open("w") as log:
            return warm.start(words, environ, None, log)

    def finds(self, *words: str, **environ: str) -> dict[str, dict[str, Any]]:
        """The findings by id, as JSON; the exit code must fit them."""
        ended = self.types("check", "--format", "json", *words, **environ)
        assert "Traceback" not in ended.output
        assert "xyzzy" not in ended.output
        found = {finding["id"]: finding for finding in json.loads(ended.stdout)["findings"]}
        assert ended.exit_code == any(finding["severity"] == "error" for finding in found.values())
        return found


def _in_a_process(*words: str, **environ: str) -> Any:
    command = [sys.executable, "manage.py", *words]
    ended = subprocess.run(command, cwd=ROOT, env={**inherited(), **environ}, capture_output=True, text=True)
    return SimpleNamespace(
        stdout=ended.stdout, output=ended.stdout + ended.stderr, exit_code=ended.returncode
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in list(os.environ):
        if name.startswith(("FLASK_", "RECOVERY_", "GUNICORN_", "WEB_")):
            monkeypatch.delenv(name)
    return Place(tmp_path)


@dataclass(frozen=True)
class Mistake:
    """What an admin did, and what must be said about it."""

    did: str
    id: str
    name: str  # the setting or file that is named
    remedy: str  # words of the remedy
    settings: dict[str, Any] = field(default_factory=dict)
    templates: dict[str, str | bytes] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def wrong(name: str, value: Any, remedy: str, **others: Any) -> Mistake:
    """A value that is refused."""
    return Mistake(f"{name} = {value!r}", "invalid-setting", name, remedy, {name: value, **others})


def unwise(id: str, name: str, remedy: str, *words: str, **settings: Any) -> Mistake:
    return Mistake(f"{name}: {settings}", id, name, remedy, settings, words=words)


def spoilt(did: str, id: str, remedy: str, **files: str | bytes) -> Mistake:
    """A mail or page of the admin's own: `txt`, `html` and `subject` are of the instructions."""
    names = {
        "txt": f"{EMAIL}reset_instructions.txt",
        "html": f"{EMAIL}reset_instructions.html",
        "subject": f"{EMAIL}reset_instructions.subject.txt",
        "forgot": "security/forgot_password.html",
        "typo": f"{EMAIL}reset_instruction.txt",
        "verify": "security/verify.html",
    }
    templates = {names[file]: content for file, content in files.items()}
    return Mistake(did, id, next(iter(templates)), remedy, templates=templates)


MISTAKES = [
    # typos
    wrong("RECOVERY_SITENAME", "Us", "RECOVERY_SITE_NAME"),
    wrong("MAIL_SEVER", "smtp.example.com", "MAIL_SERVER"),
    wrong("SECURITY_RESET_PASSWORD_WITHN", "1 hour", "SECURITY_RESET_PASSWORD_WITHIN"),
    wrong("recovery_operator", "me@example.com", "RECOVERY_OPERATOR"),
    wrong("SECURITY_USER_IDENTITY_ATTRIBUTES", ["emial"], "us_phone_number"),
    wrong("RECOVERY_LOG_FORMAT", "jsno", "'text' or 'json'"),
    Mistake("a variable", "invalid-setting", "MAIL_PROT", "MAIL_PORT", environ={"FLASK_MAIL_PROT": "25"}),
    unwise("silenced-in-vain", "RECOVERY_SILENCED", "no-cooldown", RECOVERY_SILENCED=["no-cooldwon"]),
    # units
    wrong("SECURITY_RESET_PASSWORD_WITHIN", 60, "30 minutes"),
    wrong("SECURITY_RESET_PASSWORD_WITHIN", "60 min", "30 minutes"),
    wrong("SECURITY_RESET_PASSWORD_WITHIN", "2 days", "24 hours"),
    wrong("RECOVERY_MAIL_COOLDOWN", "5m", "30 minutes"),
    wrong("MAX_CONTENT_LENGTH", "64 kB", "whole number"),
    wrong("RECOVERY_LIMIT_SOURCE", "30 per fortnight", "30 per minute"),
    wrong("RECOVERY_WORKER_POLL", "5 minutes", "at most 30 seconds"),
    wrong("MAIL_PORT", True, "whole number"),
    # contradictions
    wrong("MAIL_USE_SSL", True, "choose one", MAIL_USE_TLS=True),
    wrong("MAIL_USERNAME", "me", "MAIL_PASSWORD"),
    wrong("MAIL_USE_TLS", False, "in the clear", MAIL_SERVER="smtp.example.com"),
    wrong("RECOVERY_INBOX", True, "on this machine"),
    Mistake(
        "SQLite for two machines",
        "invalid-setting",
        "SQLALCHEMY_DATABASE_URI",
        "PostgreSQL",
        {"RECOVERY_MACHINES": 2},
    ),
    Mistake(
        "SPA without views",
        "invalid-setting",
        "SECURITY_RESET_VIEW",
        "where links land",
        {"SECURITY_REDIRECT_BEHAVIOR": "spa", "SECURITY_RESET_ERROR_VIEW": "/problem"},
    ),
    wrong("RECOVERY_CLIENTS", {"web": {"reset_view": "https://app.example.com/"}}, "reset_error_view"),
    wrong("SECURITY_REFRESH_TOKEN_MAX_AGE", "60 days", "not longer than REMEMBER_COOKIE_DURATION"),
    unwise("cooldown-outlasts-link", "RECOVERY_MAIL_COOLDOWN", "shorter", RECOVERY_MAIL_COOLDOWN="2 hours"),
    unwise("alarm-too-late", "RECOVERY_READY_MAIL_AGE", "shorter", RECOVERY_READY_MAIL_AGE="3 hours"),
    # secrets, and what protects them
    wrong("SECRET_KEY", "xyzzy", "22 random characters"),
    wrong("SECRET_KEY", "xyzzy" * 10, "22 random characters"),
    wrong("SECRET_KEY", "change-me-xyzzy-change-me", "placeholder"),
    wrong("SECURITY_PASSWORD_SALT", GOOD["SECRET_KEY"], "same as SECRET_KEY"),
    wrong("SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS", {"argon2__rounds": 1}, "argon2__memory_cost"),
    wrong("SECURITY_PASSWORD_LENGTH_MIN", 6, "at least 8"),
    wrong("SECURITY_AUTO_LOGIN_AFTER_RESET", True, "must not sign anybody in"),
    wrong("WTF_CSRF_CHECK_DEFAULT", True, "every request itself"),
    unwise("password-length", "SECURITY_PASSWORD_LENGTH_MIN", "15", SECURITY_PASSWORD_LENGTH_MIN=8),
    unwise("limits-off", "RATELIMIT_ENABLED", "true", RATELIMIT_ENABLED=False),
    unwise("no-cooldown", "RECOVERY_MAIL_COOLDOWN", "5 minutes", RECOVERY_MAIL_COOLDOWN="0 seconds"),
    unwise("usernames-look-alike", "RECOVERY_USERNAME_ASCII", "true", RECOVERY_USERNAME_ASCII=False),
    # addresses
    wrong("RECOVERY_PUBLIC_URL", "http://id.example.com", "must be https"),
    wrong("MAIL_DEFAULT_SENDER", "the team", "give an address"),
    unwise("sender-unreal", "MAIL_DEFAULT_SENDER", "relay lets you", MAIL_DEFAULT_SENDER=None),
    unwise(
        "database-in-clear",
        "SQLALCHEMY_DATABASE_URI",
        "sslmode=verify-full",
        SQLALCHEMY_DATABASE_URI="postgresql://me:xyzzy@db.example.com/x",
    ),
    unwise(
        "redis-in-clear",
        "RATELIMIT_STORAGE_URI",
        "rediss://",
        RATELIMIT_STORAGE_URI="redis://:xyzzy@cache.example.com/0",
    ),
    unwise(
        "relay-in-clear",
        "RECOVERY_MAIL_IN_CLEAR",
        "MAIL_USE_TLS",
        RECOVERY_MAIL_IN_CLEAR=True,
        MAIL_SERVER="smtp.example.com",
    ),
    unwise(
        "link-life-short", "SECURITY_RESET_PASSWORD_WITHIN", "15", SECURITY_RESET_PASSWORD_WITHIN="6 minutes"
    ),
    unwise("accent-pale", "RECOVERY_ACCENT", "4.5:1", RECOVERY_ACCENT="#ffd400"),
    unwise(
        "second-factor-by-mail",
        "SECURITY_TWO_FACTOR_ENABLED_METHODS",
        "out",
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["email"],
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
    ),
    wrong("SECURITY_REGISTERABLE", True, "needs SECURITY_CONFIRMABLE"),
    wrong("SECURITY_TWO_FACTOR", True, "needs SECURITY_TOTP_SECRETS"),
    wrong("SECURITY_UNIFIED_SIGNIN", True, "needs SECURITY_TOTP_SECRETS"),
    wrong("SECURITY_TOTP_SECRETS", {"1": "short"}, "at least 22"),
    wrong(
        "SECURITY_TWO_FACTOR_ENABLED_METHODS",
        ["pigeon"],
        "one or more of authenticator, email, sms",
        SECURITY_TWO_FACTOR=True,
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
    ),
    wrong(
        "SECURITY_US_ENABLED_METHODS",
        ["password", "sms"],
        "password, and of authenticator, email",
        SECURITY_UNIFIED_SIGNIN=True,
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
    ),
    wrong(
        "SECURITY_SMS_SERVICE",
        "",
        "docs/features.md",
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["sms"],
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
    ),
    wrong(
        "SECURITY_SMS_SERVICE",
        "file",
        "on this machine",
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["sms"],
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
    ),
    wrong("SECURITY_MULTI_FACTOR_RECOVERY_CODES", True, "RECOVERY_CODES_KEYS", SECURITY_WEBAUTHN=True),
    wrong("SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS", ["short"], "must be a Fernet key"),
    wrong("SECURITY_TWO_FACTOR_REQUIRED", True, "needs SECURITY_TWO_FACTOR"),
    wrong("SECURITY_US_TOKEN_VALIDITY", -1, "from 30 to 600"),
    wrong("SECURITY_SMS_SERVICE", "twilio", "module:Class"),
    wrong(
        "SECURITY_REGISTERABLE",
        True,
        "needs email in",
        SECURITY_CONFIRMABLE=True,
        SECURITY_USER_IDENTITY_ATTRIBUTES=["username"],
    ),
    wrong(
        "SECURITY_USERNAME_ENABLE",
        True,
        "needs username in",
        SECURITY_USER_IDENTITY_ATTRIBUTES=["email"],
    ),
    wrong(
        "SECURITY_POST_CONFIRM_VIEW",
        None,
        "needed with SECURITY_REDIRECT_BEHAVIOR",
        SECURITY_CONFIRMABLE=True,
        SECURITY_REDIRECT_BEHAVIOR="spa",
        SECURITY_RESET_VIEW="/r",
        SECURITY_RESET_ERROR_VIEW="/e",
        SECURITY_CONFIRM_ERROR_VIEW="/c",
    ),
    wrong("SECURITY_US_MFA_REQUIRED", [], "second factor comes after"),
    wrong("SECURITY_WEBAUTHN", True, "needs a name", RECOVERY_PUBLIC_URL="https://203.0.113.7"),
    wrong("SECURITY_TWO_FACTOR_RESCUE_EMAIL", True, "get around"),
    unwise(
        "no-mail",
        "MAIL_SERVER",
        "relay",
        MAIL_SERVER="",
        MAIL_USERNAME=None,
        MAIL_PASSWORD=None,
        RECOVERY_OPERATOR="",
        RECOVERY_SUPPORT_CONTACT="help@example.com",
    ),
    unwise(
        "nobody-to-ask",
        "RECOVERY_SUPPORT_CONTACT",
        "telephone",
        MAIL_SERVER="",
        MAIL_USERNAME=None,
        MAIL_PASSWORD=None,
        RECOVERY_OPERATOR="",
        RECOVERY_SUPPORT_CONTACT="",
    ),
    # templates
    wrong("RECOVERY_TEMPLATE_DIR", "/nowhere", "there is no directory /nowhere"),
    spoilt("an open block", "template-broken", "remove it", html=INSTRUCTIONS[".html"] + "{% if x %}"),
    spoilt(
        "a foreign variable", "template-variable", "reset_token", txt=INSTRUCTIONS[".txt"] + "{{ user.name }}"
    ),
    spoilt(
        "a foreign variable in a branch",
        "template-variable",
        "reset_token",
        txt=INSTRUCTIONS[".txt"] + "{% if not settings.MAIL_PORT %}{{ username }}{% endif %}",
    ),
    spoilt(
        "a setting that is none",
        "template-setting",
        "config show",
        html=INSTRUCTIONS[".html"].replace("<p>", "<p>{{ settings.SITE }}", 1),
    ),
    spoilt(
        "no link in the text", "template-without-link", "token=reset_token", txt="Hello, see the other part."
    ),
    spoilt(
        "no link in the HTML",
        "template-without-link",
        "token=reset_token",
        html=INSTRUCTIONS[".html"].replace("token=reset_token", "token=objection"),
    ),
    spoilt("no way to object", "template-without-objection", "objections.land", txt=f"Hello, {LINK}"),
    spoilt("no text at all", "template-empty", "remove it", txt="{# later #}"),
    spoilt("a subject of two lines", "template-subject", "one line", subject="Reset\nyour password"),
    spoilt("no subject", "template-empty", "remove it", subject=""),
    spoilt(
        "a file that is not there",
        "template-broken",
        "remove it",
        html='{% extends "security/mine.html" %}',
    ),
    spoilt(
        "what Python can not do",
        "template-broken",
        "remove it",
        txt=INSTRUCTIONS[".txt"].replace("Hello", "") + "{% block footer %}{{ 1 / 0 }}{% endblock %}",
    ),
    spoilt("another encoding", "template-broken", "remove it", txt="Grüße".encode("latin-1")),
    spoilt(
        "a block that is not there",
        "template-block-unused",
        "content",
        txt='{% extends "shipped/security/email/reset_instructions.txt" %}{% block contents %}x{% endblock %}',
    ),
    spoilt(
        "a page that extends itself",
        "template-broken",
        "shipped/security/forgot_password.html",
        forgot='{% extends "security/forgot_password.html" %}',
    ),
    spoilt("a typo in the file's name", "template-replaces-nothing", "Give it the name", typo="Hello"),
    spoilt(
        "a form without its token",
        "template-without-field",
        "forgot_password.html",
        forgot=FORGOT.replace("{{ forgot_password_form.hidden_tag() }}", ""),
    ),
    spoilt(
        "another content without the form",
        "template-without-field",
        "forgot_password.html",
        forgot='{% extends "shipped/security/forgot_password.html" %}{% block content %}Soon.{% endblock %}',
    ),
    spoilt(
        "a form without its box",
        "template-without-field",
        "lacks email",
        forgot=FORGOT.replace("forgot_password_form.email,", "forgot_password_form.submit,"),
    ),
    spoilt(
        "a foreign variable in a page",
        "template-variable",
        "forgot_password_form",
        forgot=FORGOT.replace("<h1>", "<h1>{{ username }}"),
    ),
    spoilt(
        "a style in the page",
        "template-blocked",
        "Remove it",
        forgot=FORGOT.replace("<h1>", '<h1 style="color:red">'),
    ),
    spoilt(
        "a script from elsewhere",
        "template-blocked",
        "nonce",
        forgot=FORGOT.replace("<h1>", '<script src="https://cdn.example.com/a.js"></script><h1>'),
    ),
    spoilt(
        "an image from elsewhere",
        "template-remote",
        "Remove it",
        html=INSTRUCTIONS[".html"].replace("<p>", '<p><img src="https://t.example.com/p.png" alt="">', 1),
    ),
    spoilt("a page of Flask-Security's", "template-broken", "remove it", verify="{% block content %}"),
    # what only a deployment must not do
    unwise(
        "proxies-undeclared", "RECOVERY_TRUSTED_PROXIES", "how many", "--deploy", RECOVERY_TRUSTED_PROXIES=0
    ),
    unwise("no-operator", "RECOVERY_OPERATOR", "that is read", "--deploy", RECOVERY_OPERATOR=""),
    unwise(
        "no-support-contact", "RECOVERY_SUPPORT_CONTACT", "telephone", "--deploy", RECOVERY_SUPPORT_CONTACT=""
    ),
    unwise(
        "url-on-this-machine",
        "RECOVERY_PUBLIC_URL",
        "reach",
        "--deploy",
        RECOVERY_PUBLIC_URL="http://127.0.0.1:5000",
    ),
    Mistake(
        "four processes",
        "limits-in-memory",
        "RATELIMIT_STORAGE_URI",
        "redis://",
        environ={"WEB_CONCURRENCY": "4"},
        words=("--deploy",),
    ),
    Mistake(
        "four processes that hash",
        "hashes-undivided",
        "RECOVERY_HASHES_AT_ONCE",
        "Divide",
        environ={"GUNICORN_CMD_ARGS": "--workers 4"},
        words=("--deploy",),
    ),
    Mistake(
        "64 threads",
        "threads-many",
        "",
        "--threads 15",
        environ={"GUNICORN_CMD_ARGS": "--threads=64"},
        words=("--deploy",),
    ),
    Mistake(
        "everybody's headers",
        "forwarded-from-anybody",
        "",
        "and FORWARDED_ALLOW_IPS",
        environ={"FORWARDED_ALLOW_IPS": "*"},
        words=("--deploy",),
    ),
    Mistake(
        "debugging",
        "debug-on",
        "",
        "Remove the setting",
        environ={"FLASK_DEBUG": "1"},
        settings={"RECOVERY_PUBLIC_URL": "http://localhost:5000"},
        words=("--deploy",),
    ),
]


# The start uses the same checks: once for each kind of finding is enough.
FIRST_OF_ITS_KIND = [next(one for one in MISTAKES if one.id == id) for id in {one.id for one in MISTAKES}]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.id} {mistake.did}"[:80])
@pytest.mark.requirement("R63", "R65")
def test_a_mistake_is_named_with_origin_and_remedy_and_starts_not_in_silence(
    place: Place,
    mistake: Mistake,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.write(mistake.settings, mistake.templates)
    place.environ.update(mistake.environ)
    found = place.finds(*mistake.words)
    assert mistake.id in found, found
    finding = found[mistake.id]
    assert finding["what"]
    assert mistake.name in f"{finding['where']} {finding['setting']}"
    assert mistake.remedy in f"{finding['what']} {finding['hint']}"
    if mistake.name and finding["setting"] == mistake.name:
        places = (str(place.folder / "mine.toml"), f"FLASK_{mistake.name}", "config/default.toml", "not set")
        assert finding["origin"] in places
    if mistake in FIRST_OF_ITS_KIND and not mistake.words:
        _starts_not_in_silence(place, finding, capsys, caplog, monkeypatch)


def _starts_not_in_silence(
    place: Place, finding: dict[str, Any], capsys: Any, caplog: Any, monkeypatch: Any
) -> None:
    """An error stops the start in plain words; the rest is a line in the log."""
    monkeypatch.setenv("RECOVERY_CONFIG", str(place.folder / "mine.toml"))
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    said = finding["where"] or finding["setting"]
    if finding["severity"] == "error":
        with pytest.raises(SystemExit) as ended:
            create_app()
        assert ended.value.code == settings.EXIT_REFUSED
        assert said in (shown := capsys.readouterr().err)
        assert "xyzzy" not in shown
    elif finding["id"] != "silenced-in-vain":
        with create_app().app_context():
            checks.log_warnings()
            db.engine.dispose()
        assert said in caplog.text
        assert finding["id"] in caplog.text


def test_there_are_enough_mistakes_and_of_every_kind() -> None:
    planted = {mistake.id for mistake in MISTAKES}
    assert len(MISTAKES) >= 40
    of_others = {*dns_records.KINDS} | {
        *("database-away", "migrations-missing", "migrations-unknown", "no-accounts"),
        *("worker-not-seen", "mail-held", "mail-late", "outbox-full", "mail-budget-spent"),
        *("relay-refuses", "redis-away", "breaches-away"),
    }
    elsewhere = {
        "not-bootable",
        "gunicorn-variables",
        "old-keys",
        "client-on-another-site",
        "inbox-on",
        "secrets-readable",
        "no-security-txt",
        *(name for name in check.KINDS if name.startswith("translation-")),  # in test_words
    }
    assert set(check.KINDS) - planted == of_others | elsewhere


def test_people_read_it_in_lines(place: Place) -> None:
    place.write({"RECOVERY_MAIL_COOLDOWN": "2 hours", "MAIL_DEFAULT_SENDER": "me@localhost"})
    assert place.types("check").stdout.splitlines() == [
        f"error  sender-unreal  MAIL_DEFAULT_SENDER ({place.folder}/mine.toml)",
        "    The sender's address cannot receive mail.",
        "    Relays refuse such mail, or treat it as spam.",
        "    → Set the address that your relay lets you send from.",
        "",
        f"warning  cooldown-outlasts-link  RECOVERY_MAIL_COOLDOWN ({place.folder}/mine.toml)",
        "    A user whose link has expired may have to wait for another.",
        "    An account gets one mail within the cool-down, and its link expires earlier.",
        "    → Set it shorter than SECURITY_RESET_PASSWORD_WITHIN.",
        "",
        "1 error, 1 warning.",
    ]


def test_a_good_configuration_has_no_findings(place: Place) -> None:
    place.write({})
    assert place.finds() == {}
    assert "The configuration is fine." in place.types("check").stdout


def test_what_is_known_is_silenced_by_its_id_and_an_error_is_not(place: Place) -> None:
    place.write({"SECURITY_PASSWORD_LENGTH_MIN": 8, "RECOVERY_SILENCED": ["password-length"]})
    shown = place.types("check", "--fail-level", "info")
    assert shown.exit_code == 0
    assert "Silenced: password-length" in shown.stdout
    place.write({"MAIL_DEFAULT_SENDER": "me@localhost", "RECOVERY_SILENCED": ["sender-unreal"]})
    assert place.finds().keys() == {"sender-unreal", "silenced-in-vain"}


def test_the_strict_fail_at_warnings(place: Place) -> None:
    place.write({"SECURITY_PASSWORD_LENGTH_MIN": 8})
    assert place.types("check").exit_code == 0
    assert place.types("check", "--fail-level", "warning").exit_code == 1


def test_notes_for_who_knows_already(place: Place) -> None:
    """What is no mistake, and still good to know."""
    place.write(
        {
            "SECRET_KEY_FALLBACKS": ["zKq4wX1mP8vT0rJ7yB5nD2sG9hL6cF3b"],
            "RECOVERY_CLIENTS": {
                "near": {"origins": ["https://app.example.com"]},
                "far": {"origins": ["https://app.example.org"]},
            },
        }
    )
    found = place.finds()
    assert found.keys() == {"old-keys", "client-on-another-site"}
    assert {finding["severity"] for finding in found.values()} == {"info"}
    place.write({"RECOVERY_CLIENTS": {"near": {"origins": ["https://app.example.com"]}}})
    assert place.finds() == {}
    spa = {
        "SECURITY_REDIRECT_BEHAVIOR": "spa",
        "SECURITY_RESET_VIEW": "/a",
        "SECURITY_RESET_ERROR_VIEW": "/b",
    }
    for host, found in (("app.example.com", set()), ("app.example.org", {"client-on-another-site"})):
        place.write({**spa, "SECURITY_REDIRECT_HOST": host})
        assert place.finds().keys() == found


def test_a_secret_that_everybody_can_read_is_told(place: Place) -> None:
    place.write({})
    assert "secrets-readable" not in place.finds("--deploy")
    (place.folder / "mine.toml").chmod(0o644)
    assert "secrets-readable" in place.finds("--deploy")
    secret = place.folder / "key"
    secret.write_text(GOOD["SECRET_KEY"])
    place.write({"SECRET_KEY": None})
    for mode, is_open in ((0o600, False), (0o644, True)):
        secret.chmod(mode)
        assert ("secrets-readable" in place.finds("--deploy", FLASK_SECRET_KEY_FILE=str(secret))) is is_open


def test_a_password_in_an_address_is_a_secret_too(place: Place) -> None:
    place.write(
        {
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{place.folder}/x.db",
            "SECRET_KEY": None,
            "SECURITY_PASSWORD_SALT": None,
        }
    )
    (place.folder / "mine.toml").chmod(0o644)
    secrets = SECRETS
    assert "secrets-readable" not in place.finds("--deploy", **secrets)
    uri = "postgresql://me:xyzzy@127.0.0.1:1/x"
    place.write({"SQLALCHEMY_DATABASE_URI": uri, "SECRET_KEY": None, "SECURITY_PASSWORD_SALT": None})
    (place.folder / "mine.toml").chmod(0o644)
    found = place.finds("--deploy", **secrets)["secrets-readable"]
    assert found["setting"] == "SQLALCHEMY_DATABASE_URI"
    assert str(place.folder / "mine.toml") in found["hint"]


def test_a_file_that_can_not_be_read_is_named_where_it_is(place: Place) -> None:
    place.write({"MAIL_USERNAME": "me", "MAIL_USE_TLS": True})
    nowhere = str(place.folder / "nowhere")
    ended = place.types("check", "--format", "json", FLASK_MAIL_PASSWORD_FILE=nowhere)
    [found] = json.loads(ended.stdout)["findings"]  # and not that the pair is not whole
    assert (found["setting"], found["origin"]) == ("MAIL_PASSWORD", "FLASK_MAIL_PASSWORD_FILE")
    (place.folder / "mine.toml").write_text("MAIL_PORT = [")
    [found, *_] = json.loads(place.types("check", "--format", "json", **SECRETS).stdout)["findings"]
    assert found["origin"] == str(place.folder / "mine.toml")


def test_the_demo_is_not_a_deployment(place: Place) -> None:
    place.write({"RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000", "RECOVERY_INBOX": True})
    assert place.finds() == {}
    assert {"url-on-this-machine", "inbox-on"} <= place.finds("--deploy").keys()


def test_a_deployment_grows_until_nothing_is_missing(place: Place, mailbox: Mailbox) -> None:
    """The admin's way: tables, an account, a worker; each step ends a finding."""
    place.write({"RECOVERY_SECURITY_TXT": str(ROOT / "LICENSE"), "MAIL_PORT": mailbox.port})
    assert place.finds("--deploy").keys() == {"migrations-missing"}
    assert place.types("db", "upgrade").exit_code == 0
    assert place.finds("--deploy").keys() == {"worker-not-seen", "no-accounts"}
    made = place.types(
        "users", "create", "email:alice@example.com", "--password", "alice will forget this", "--active"
    )
    assert made.exit_code == 0, made.output
    assert place.finds("--deploy").keys() == {"worker-not-seen"}
    worker = place.starts("manage.py", "worker")
    try:
        wait_for(lambda: "worker-not-seen" not in place.finds("--deploy"), seconds=20)
        shown = place.types("check", "--deploy", "--fail-level", "info")
        assert (shown.exit_code, shown.stdout) == (0, "The configuration is fine.\n")
    finally:
        worker.terminate()
        worker.wait(timeout=20)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE sparekey_version SET version_num = '9999'", "migrations-unknown"),
        ("DELETE FROM sparekey_version", "migrations-missing"),
        ("UPDATE worker_sign SET trouble = 'MAIL_USERNAME: refused'", "mail-held"),
        ("UPDATE worker_sign SET seen_at = datetime(seen_at, '-1 hour')", "worker-not-seen"),
        ("UPDATE outbox_message SET created_at = datetime(created_at, '-1 hour')", "mail-late"),
    ],
)
def test_what_goes_wrong_in_a_deployment_is_told(place: Place, statement: str, expected: str) -> None:
    place.write({})
    assert place.types("db", "upgrade").exit_code == 0
    with create_app(settings.load({"RECOVERY_CONFIG": str(place.folder / "mine.toml")})).app_context():
        heartbeat.Heartbeat().beat()
        outbox.enqueue("reset_instructions", identity="alice", client="browser")
        db.session.commit()
        assert {"worker-not-seen", "mail-held", "mail-late", "migrations-missing"}.isdisjoint(
            place.finds("--deploy")
        )
        db.session.execute(text(statement))
        db.session.commit()
        found = place.finds("--deploy")
        db.engine.dispose()
    assert expected in found, found


def test_more_than_may_wait_is_told(place: Place) -> None:
    place.write({"RECOVERY_MAIL_WAITING_MAX": 1, "RECOVERY_MAIL_HOURLY_MAX": 1})
    assert place.types("db", "upgrade").exit_code == 0
    with create_app(settings.load({"RECOVERY_CONFIG": str(place.folder / "mine.toml")})).app_context():
        for identity in ("alice", "bob"):
            outbox.enqueue("reset_instructions", identity=identity, client="browser")
        user = User(email="alice@example.com", active=True, fs_uniquifier="alice")
        db.session.add(user)
        db.session.flush()
        issue(user, "browser", "a token", message_id=1)
        db.session.commit()
        db.engine.dispose()
    assert {"outbox-full", "mail-budget-spent"} <= place.finds("--deploy").keys()


def test_a_database_that_is_away_is_a_finding(place: Place) -> None:
    uri = f"postgresql://me:xyzzy@127.0.0.1:{servers.free_port()}/x"
    place.write({"SQLALCHEMY_DATABASE_URI": uri})
    assert "database-away" in place.finds("--deploy")
    assert "xyzzy" not in place.types("check", "--deploy").output


@dataclass
class NameServer:
    """A DNS server on this machine, with TXT records only. Without an answer for a name it keeps silent."""

    records: dict[str, list[str]] = field(default_factory=dict)
    is_silent: bool = False

    @contextmanager
    def serves(self) -> Iterator[dns.resolver.Resolver]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=self._answer_all, args=(listening,))
            thread.start()
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers, resolver.port = ["127.0.0.1"], listening.getsockname()[1]
            try:
                yield resolver
            finally:
                listening.sendto(b"", listening.getsockname())
                thread.join()

    def _answer_all(self, listening: socket.socket) -> None:
        while True:
            packet, asker = listening.recvfrom(4096)
            if not packet:
                return
            if not self.is_silent:
                listening.sendto(self._answer(dns.message.from_wire(packet)), asker)

    def _answer(self, query: dns.message.Message) -> bytes:
        name = query.question[0].name
        answer = dns.message.make_response(query)
        texts = self.records.get(name.to_text(omit_final_dot=True))
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            quoted = [json.dumps(text) for text in texts]
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *quoted))
        return answer.to_wire()


WELL_KNOWN = {
    "mail.example.com": ["v=spf1 include:relay.example.net -all", "something else"],
    "s1._domainkey.mail.example.com": ["v=DKIM1; k=rsa; p=MIIB"],
    "_dmarc.example.com": ["v=DMARC1; p=reject"],
}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({}, set()),
        ({"mail.example.com": ["unrelated"]}, {"spf-missing"}),
        ({"mail.example.com": None}, {"sender-domain-missing"}),
        ({"mail.example.com": []}, {"spf-missing"}),
        ({"mail.example.com": ["v=spf1 -all", "v=spf1 mx -all"]}, {"spf-twice"}),
        ({"mail.example.com": ["v=spf1 +all"]}, {"spf-open"}),
        ({"s1._domainkey.mail.example.com": None}, {"dkim-missing"}),
        ({"s1._domainkey.mail.example.com": ["v=DKIM1; p="]}, {"dkim-missing"}),
        ({"_dmarc.example.com": None}, {"dmarc-missing"}),
        ({"_dmarc.example.com": ["v=DMARC1; p=none; rua=mailto:me@example.com"]}, {"dmarc-none"}),
        ({"_dmarc.mail.example.com": ["v=DMARC1; p=none"]}, {"dmarc-none"}),
    ],
)
@pytest.mark.requirement("R24")
def test_the_records_of_the_senders_domain_are_looked_up(
    place: Place,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    records: dict[str, list[str] | None],
    expected: set[str],
) -> None:
    known = {name: texts for name, texts in {**WELL_KNOWN, **records}.items() if texts is not None}
    place.write(
        {"MAIL_DEFAULT_SENDER": "Us <no-reply@mail.example.com>", "MAIL_PORT": mailbox.port}
        | {"RECOVERY_DKIM_SELECTOR": "s1"}
    )
    with NameServer(known).serves() as resolver:
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        assert place.finds("--live").keys() == expected


def test_dns_that_keeps_silent_costs_seconds_and_is_told(
    place: Place, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_records, "DNS_SECONDS", 0.3)
    place.write({"MAIL_PORT": mailbox.port})
    with NameServer(is_silent=True).serves() as resolver:
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        found = place.finds("--live")
    assert found.keys() == {"dns-away"}
    assert "example.com" in found["dns-away"]["what"]


@pytest.mark.parametrize(
    ("broken", "setting", "words"),
    [
        ({"MAIL_PORT": 1}, "MAIL_SERVER", "cannot be reached"),
        ({"MAIL_USE_TLS": True}, "MAIL_USE_TLS", "STARTTLS"),
        ({"MAIL_DEFAULT_SENDER": "refused@example.com"}, "MAIL_DEFAULT_SENDER", "refuses this sender"),
    ],
)
def test_the_relay_is_asked(
    place: Place,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    broken: dict[str, Any],
    setting: str,
    words: str,
) -> None:
    if setting == "MAIL_DEFAULT_SENDER":
        mailbox.refuse["MAIL"] = "550 no"
    place.write({"MAIL_PORT": mailbox.port, **broken})
    with NameServer(
        {"example.com": ["v=spf1 -all"], "_dmarc.example.com": ["v=DMARC1; p=reject"]}
    ).serves() as dns_:
        monkeypatch.setattr(dns.resolver, "default_resolver", dns_)
        found = place.finds("--live")
    assert found.keys() == {"relay-refuses", "dkim-unknown"}
    assert found["relay-refuses"]["setting"] == setting
    assert words in found["relay-refuses"]["what"]


def test_redis_and_the_breach_service_are_asked(
    place: Place, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(
        {
            "MAIL_PORT": mailbox.port,
            "MAIL_DEFAULT_SENDER": "me@localhost",
            "RECOVERY_PUBLIC_URL": "http://localhost:5000",
            "RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{servers.free_port()}/0",
            "SECURITY_PASSWORD_CHECK_BREACHED": "best-effort",
            "RECOVERY_BREACHES_URL": f"http://127.0.0.1:{servers.free_port()}",
        }
    )
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
    assert place.finds("--live").keys() == {"redis-away", "breaches-away"}
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)


def test_gunicorn_warns_of_what_only_it_knows(place: Place) -> None:
    """At its start, in its log: how many processes there are, and what follows."""
    place.write({})
    assert place.types("db", "upgrade").exit_code == 0
    log = place.folder / "log"
    sizes = ("--workers", "2", "--threads", "20", "--bind", f"127.0.0.1:{servers.free_port()}")
    server = place.starts("-m", "gunicorn", *sizes, "app:create_app()")
    try:
        wait_for(lambda: "[threads-many]" in log.read_text(), seconds=30)
    finally:
        server.terminate()
        server.wait(timeout=20)
    said = log.read_text()
    for id in ("limits-in-memory", "hashes-undivided", "threads-many"):
        assert said.count(f"[{id}]") == 1, said
    assert "no-operator" not in said


def test_every_finding_stands_in_the_docs() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/configure.md").read_text(), re.MULTILINE)
    known = [(kind.id, kind.severity) for kind in check.KINDS.values()]
    assert sorted(rows) == sorted([*known, (check.INVALID, "error")])


REAL = "{{ reset_token }}"
GOOD_OVERRIDES = {
    "an include that may be missing": ("check_mail.html", '{% include "brand.html" ignore missing %}Look.'),
    "a choice of includes": ("check_mail.html", '{% include ["a.html", "security/_menu.html"] %}'),
    "a default": ("check_mail.html", '{{ note|default("") }}{% if note is defined %}{{ note }}{% endif %}'),
    "what the request may hold": (
        "check_mail.html",
        '{% if request.args.embed %}x{% endif %}{{ session.lang or "" }}{{ g.x or "" }}{{ request.cookies.theme }}',
    ),
    "a loop": (
        "check_mail.html",
        "{% for x in [1, 2] %}{% if loop.previtem %}{{ x }}{% endif %}{% endfor %}",
    ),
    "a macro": (
        "check_mail.html",
        "{% macro m(a, b) %}{{ a }}{% if b %}{{ b }}{% endif %}{% endmacro %}{{ m(1) }}",
    ),
    "a set": (
        "check_mail.html",
        '{% set x = 1 %}{% with y = x %}{{ y }}{% endwith %}{{ _fsdomain("Login") }}',
    ),
    "a base with a name that one page sets": (
        "base.html",
        (ROOT / "templates/security/base.html")
        .read_text()
        .replace(
            "<body>", '<body class="{{ section|default("a") }}">{% if request_id is defined %}{% endif %}'
        ),
    ),
    "a form under another name": (
        "forgot_password.html",
        "{% set f = forgot_password_form %}<form>{{ f.csrf_token }}{{ f.email }}</form>",
    ),
    "a form by hand": (
        "forgot_password.html",
        '<form><input name="csrf_token" value="{{ csrf_token() }}"><input name="identity"></form>',
    ),
    "a form in a loop": (
        "forgot_password.html",
        "<form>{% for field in forgot_password_form %}{{ field }}{% endfor %}</form>",
    ),
    "words around the form": (
        "forgot_password.html",
        '{% extends "shipped/security/forgot_password.html" %}{% block content %}{{ super() }}Hi!{% endblock %}',
    ),
    "scripts beside the form": (
        "login_user.html",
        '{% extends "shipped/security/login_user.html" %}'
        "{% block scripts %}<script {{ script_nonce() }}>go()</script>{% endblock %}"
        '{% from "security/_macros.html" import script_nonce with context %}',
    ),
    "quotes within quotes": ("check_mail.html", '<p title="{{ _("Do it on style ones") }}">Look.</p>'),
    "a page that is never shown": ("register_user.html", "{{ oops }}"),
    "a home that leads on": ("home.html", '<a href="https://app.example.com/">Go on</a>'),
    "an app's own scheme": (
        "email/reset_instructions.txt",
        f"myapp://reset?token={REAL} {{{{ objection }}}}",
    ),
    "a link in a link": (
        "email/reset_instructions.txt",
        'https://go.example/?u={{ ("https://id.example.com/reset/" ~ reset_token)|urlencode }} {{ objection }}',
    ),
    "a code in two halves": ("email/two_factor_instructions.txt", "{{ token[:3] }} {{ token[3:] }}"),
    "who asked, in a mail of Flask-Security's": ("email/change_notice.txt", "From {{ request.remote_addr }}"),
    "whose account": (
        "email/change_notice.txt",
        '{{ user.create_datetime.strftime("%Y") }} {{ user.id + 0 }}',
    ),
    "notes": ("README.txt", "Mine. {{ not a template"),
}


@pytest.mark.parametrize("what", GOOD_OVERRIDES)
def test_a_good_file_of_ones_own_stops_nothing(place: Place, what: str) -> None:
    name, content = GOOD_OVERRIDES[what]
    place.write({"SECURITY_TWO_FACTOR": False}, {f"security/{name}": content})
    found = place.finds()
    assert found.keys() <= {"template-replaces-nothing"}, found
    assert (what == "notes") == bool(found)


def test_every_template_of_flask_security_may_be_copied(place: Place) -> None:
    """As its documentation tells; those that mail links are another matter: Sparekey's links are its own."""
    folder = Path(flask_security.__file__).parent / "templates"
    ours = ("base.html", "reset_instructions", "reset_notice", "confirmation_", "forgot_password", "_m")
    copied = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*.*")
        if not path.name.startswith(ours)
    }
    assert len(copied) > 30
    place.write({}, copied)
    assert [one for one in place.finds().values() if one["severity"] == "error"] == []


GOOD_SETTINGS = [
    {"SECURITY_PASSWORD_LENGTH_MIN": 8, "SECURITY_TWO_FACTOR": True, "SECURITY_TWO_FACTOR_REQUIRED": True}
    | {"SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator"], "SECURITY_TOTP_ISSUER": "Us"}
    | {"SECURITY_TOTP_SECRETS": {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFzMKLxXYiZu9B"}},
    {"RECOVERY_MAIL_IN_CLEAR": True, "MAIL_SERVER": "127.0.0.1"},
    {"RECOVERY_MAIL_IN_CLEAR": True, "MAIL_SERVER": "smtp.example.com", "MAIL_USE_TLS": True},
    {"SQLALCHEMY_DATABASE_URI": "postgresql://me:xyzzy@127.0.0.1/x"},
    {"SQLALCHEMY_DATABASE_URI": "postgresql:///x?host=/run/postgresql"},
    {"SQLALCHEMY_DATABASE_URI": "postgresql://me:xyzzy@db.example.com/x?sslmode=verify-full"},
    {"RATELIMIT_STORAGE_URI": "rediss://:xyzzy@cache.example.com/0"},
    {"RATELIMIT_STORAGE_URI": "redis://localhost:6379/0"},
    {"MAIL_DEFAULT_SENDER": "sparekey@mailhost"},
    {"RECOVERY_USERNAME_ASCII": False, "SECURITY_USER_IDENTITY_ATTRIBUTES": ["email"]},
]


@pytest.mark.parametrize("good", GOOD_SETTINGS, ids=str)
def test_a_good_setting_is_not_complained_of(place: Place, good: dict[str, Any]) -> None:
    place.write(good)
    assert place.finds() == {}


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql:///x?hostaddr=10.0.0.5",
        "postgresql:///x?host=/tmp,db.example.com",
        "postgresql://db.example.com/x",
    ],
)
def test_a_database_far_away_is_seen_however_it_is_written(place: Place, uri: str) -> None:
    place.write({"SQLALCHEMY_DATABASE_URI": uri})
    assert place.finds().keys() == {"database-in-clear"}


def test_a_broken_template_stops_who_shows_it_and_nobody_else(place: Place) -> None:
    """An admin's other tools work while a mail is broken."""
    place.write({}, {f"{EMAIL}reset_notice.txt": "{{ oops }}"})
    assert place.types("db", "upgrade").exit_code == 0
    assert (
        place.types("users", "create", "email:a@example.com", "--password", "a long password it is").exit_code
        == 0
    )
    assert place.types("outbox", "list").exit_code == 0
    for words in (["worker", "--once"], ["run"], ["mail", "send-test", "me@example.com"]):
        ended = place.types(*words)
        assert (ended.exit_code, "reset_notice.txt" in ended.output) == (1, True), words


def test_links_into_other_folders_are_followed(place: Place) -> None:
    elsewhere = place.folder / "elsewhere" / "email"
    elsewhere.mkdir(parents=True)
    (elsewhere / "reset_instructions.txt").write_text("no link")
    (place.folder / "templates").mkdir()
    (place.folder / "templates/security").symlink_to(place.folder / "elsewhere")
    (elsewhere / "loop").symlink_to(elsewhere)
    place.write({"RECOVERY_TEMPLATE_DIR": str(place.folder / "templates")})
    assert "template-without-link" in place.finds()


@pytest.mark.parametrize(
    ("settings", "environ", "id"),
    [
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"foo": "xyzzy"}}, {}, "not-bootable"),
        ({}, {"GUNICORN_CMD_ARGS": "--workers 'x"}, "gunicorn-variables"),
        ({}, {"GUNICORN_CMD_ARGS": "--help"}, "gunicorn-variables"),
        ({}, {"WEB_CONCURRENCY": "auto"}, "gunicorn-variables"),
        ({"SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE": "a\nb"}, {}, "template-subject"),
        ({"SECURITY_CHANGE_EMAIL": True, "SECURITY_CHANGE_EMAIL_SUBJECT": ""}, {}, "template-empty"),
        ({"SECURITY_LOGIN_USER_TEMPLATE": "mine.html"}, {}, "invalid-setting"),
        ({"SQLALCHEMY_DATABASE_URI": "sqlite://"}, {}, "invalid-setting"),
        ({"SQLALCHEMY_DATABASE_URI": "postgresql://me:a@xyzzy@127.0.0.1/x"}, {}, "invalid-setting"),
        ({"RATELIMIT_STORAGE_URI": "redis://me:a@xyzzy@127.0.0.1/0"}, {}, "invalid-setting"),
    ],
    ids=str,
)
def test_what_would_fail_later_is_found(
    place: Place, settings: dict[str, Any], environ: dict[str, str], id: str
) -> None:
    place.write(settings)
    place.environ.update(environ)
    assert id in place.finds("--deploy")


def test_looking_makes_no_database(place: Place) -> None:
    place.write({})
    assert "migrations-missing" in place.finds("--deploy")
    assert not (place.folder / "check.db").exists()


def test_a_redis_that_drips_is_not_waited_for(
    place: Place, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_checks, "LOOK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.write(
            {
                "MAIL_PORT": mailbox.port,
                "MAIL_DEFAULT_SENDER": "me@localhost",
                "RECOVERY_PUBLIC_URL": "http://localhost:5000",
                "RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{silent.getsockname()[1]}/0",
            }
        )
        assert place.finds("--live").keys() == {"redis-away"}
