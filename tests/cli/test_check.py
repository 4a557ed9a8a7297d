"""`manage.py check`: its output, its exit code, and the findings about a deployment.

`settings/test_advice.py`, `pages/test_template_checks.py` and `cli/test_live_checks.py` have the other findings.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from support import servers, warm
from support.admin import uncounted
from support.site import ROOT, SECRETS, wait_for

import manage
from app import create_app, settings
from app.accounts.models import User
from app.cli import check
from app.db.engine import db
from app.mail import heartbeat, outbox
from app.recovery.link import issue
from app.settings import checks
from app.settings.schema import Settings

GOOD: dict[str, Any] = {
    "RECOVERY_PUBLIC_URL": "https://id.example.com",
    "RECOVERY_SUPPORT_CONTACT": "help@example.com",
    "RECOVERY_OPERATOR": "operator@example.com",
    "RECOVERY_TRUSTED_PROXIES": 1,
    "MAIL_DEFAULT_SENDER": "no-reply@example.com",
    "SECRET_KEY": SECRETS["FLASK_SECRET_KEY"],
    "SECURITY_PASSWORD_SALT": SECRETS["FLASK_SECURITY_PASSWORD_SALT"],
}
WITHOUT_SECRETS = {"SECRET_KEY": None, "SECURITY_PASSWORD_SALT": None}


@dataclass
class Configuration:
    """A configuration file in a folder, and the commands that read it."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "mine.toml"

    def write(self, **values: Any) -> None:
        values = {**GOOD, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{self.folder}/check.db", **values}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None]
        self.file.write_text("".join(lines))
        self.file.chmod(0o600)

    def write_template(self, name: str, content: str) -> dict[str, str]:
        """Write a mail's template, and return the setting that leads to it."""
        path = self.folder / "templates/security/email" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
        return {"RECOVERY_TEMPLATE_DIR": str(self.folder / "templates")}

    def run(self, *words: str, **environ: str) -> Any:
        environ = {"RECOVERY_CONFIG": str(self.file), **environ}
        return CliRunner().invoke(manage.cli, list(words), env=environ)

    def upgrade(self) -> None:
        """Make the tables. Other tests of this process may have given User the column."""
        for words in (("db", "upgrade"), ("db", "add-identity", "employee_number")):
            assert self.run(*words).exit_code == 0

    def load(self) -> Settings:
        return settings.load({"RECOVERY_CONFIG": str(self.file)})

    def findings(self, *words: str, **environ: str) -> dict[str, dict[str, Any]]:
        """The findings by id. The exit code must fit them."""
        result = self.run("check", "--format", "json", *words, **environ)
        assert "Traceback" not in result.output
        assert "xyzzy" not in result.output
        findings = {finding["id"]: finding for finding in json.loads(result.stdout)["findings"]}
        assert result.exit_code == any(finding["severity"] == "error" for finding in findings.values())
        return findings


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    for name in list(os.environ):
        if name.startswith(("FLASK_", "RECOVERY_", "WEB_")):
            monkeypatch.delenv(name)
    return Configuration(tmp_path)


def test_check_text_output(configuration: Configuration) -> None:
    configuration.write(RECOVERY_MAIL_COOLDOWN="2 hours", MAIL_DEFAULT_SENDER="me@localhost")
    assert configuration.run("check").stdout.splitlines() == [
        f"error  sender-unreal  MAIL_DEFAULT_SENDER ({configuration.file})",
        "    The sender's address cannot receive mail.",
        "    Relays refuse such mail, or treat it as spam.",
        "    → Set the address that your relay lets you send from.",
        "",
        f"warning  cooldown-outlasts-link  RECOVERY_MAIL_COOLDOWN ({configuration.file})",
        "    A user whose link has expired may have to wait for another.",
        "    An account gets one email per cool-down, but its link expires sooner.",
        "    → Set it to less than SECURITY_RESET_PASSWORD_WITHIN.",
        "",
        "1 error, 1 warning.",
    ]


def test_check_fail_level(configuration: Configuration) -> None:
    configuration.write()
    assert "The configuration is fine." in configuration.run("check", "--fail-level", "info").stdout
    configuration.write(SECURITY_PASSWORD_LENGTH_MIN=8)
    assert configuration.run("check").exit_code == 0
    assert configuration.run("check", "--fail-level", "warning").exit_code == 1


def test_check_names_the_source_of_a_setting(configuration: Configuration) -> None:
    configuration.write(MAIL_DEFAULT_SENDER=None, RECOVERY_ACCENT="#ffd400")
    by_id = configuration.findings(FLASK_RATELIMIT_ENABLED="false")
    assert {id: (finding["setting"], finding["origin"]) for id, finding in by_id.items()} == {
        "sender-unreal": ("MAIL_DEFAULT_SENDER", "config/default.toml"),
        "accent-pale": ("RECOVERY_ACCENT", str(configuration.file)),
        "limits-off": ("RATELIMIT_ENABLED", "FLASK_RATELIMIT_ENABLED"),
    }
    assert "4.5:1" in by_id["accent-pale"]["what"] + by_id["accent-pale"]["hint"]


def test_check_silences_warnings_and_no_errors(configuration: Configuration) -> None:
    configuration.write(SECURITY_PASSWORD_LENGTH_MIN=8, RECOVERY_SILENCED=["password-length"])
    result = configuration.run("check", "--fail-level", "info")
    assert result.exit_code == 0
    assert "Silenced: password-length" in result.stdout
    configuration.write(MAIL_DEFAULT_SENDER="me@localhost", RECOVERY_SILENCED=["sender-unreal"])
    assert configuration.findings().keys() == {"sender-unreal"}


@pytest.mark.requirement("R63", "R65")
def test_start_is_refused_for_errors_and_logs_warnings(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RECOVERY_CONFIG", str(configuration.file))
    template = configuration.write_template("reset_notice.txt", "{{ oops }}")
    configuration.write(MAIL_DEFAULT_SENDER="me@localhost", **template)
    with pytest.raises(SystemExit) as exit_:
        create_app()
    assert exit_.value.code == settings.EXIT_REFUSED
    refusal = capsys.readouterr().err
    assert f"MAIL_DEFAULT_SENDER ({configuration.file})" in refusal
    assert "[sender-unreal]" in refusal
    assert "reset_notice.txt" in refusal
    assert "[template-variable]" in refusal
    configuration.write(
        RATELIMIT_ENABLED=False,
        RECOVERY_ACCENT="#ffd400",
        SECURITY_PASSWORD_LENGTH_MIN=8,
        RECOVERY_SILENCED=["password-length"],
    )
    with create_app().app_context():
        checks.log_warnings()
        db.engine.dispose()
    assert "[limits-off]" in caplog.text
    assert "[accent-pale]" in caplog.text
    assert "password-length" not in caplog.text


def test_broken_template_stops_only_commands_that_render_it(configuration: Configuration) -> None:
    configuration.write(**configuration.write_template("reset_notice.txt", "{{ oops }}"))
    configuration.upgrade()
    create = ("users", "create", "email:a@example.com", "--password", "a long password it is")
    for words in (create, ("outbox", "list")):
        assert configuration.run(*words).exit_code == 0
    for words in (("worker", "--once"), ("run",), ("mail", "send-test", "me@example.com")):
        result = configuration.run(*words)
        assert (result.exit_code, "reset_notice.txt" in result.output) == (1, True), words


def test_secrets_in_readable_files_are_found(configuration: Configuration) -> None:
    def is_open(mode: int, path: Path, **environ: str) -> bool:
        path.chmod(mode)
        return "secrets-readable" in configuration.findings("--deploy", **environ)

    configuration.write()
    assert not is_open(0o600, configuration.file)
    assert is_open(0o644, configuration.file)
    configuration.write(SECRET_KEY=None)
    secret = configuration.folder / "key"
    secret.write_text(GOOD["SECRET_KEY"])
    assert not is_open(0o600, secret, FLASK_SECRET_KEY_FILE=str(secret))
    assert is_open(0o644, secret, FLASK_SECRET_KEY_FILE=str(secret))
    configuration.write(**WITHOUT_SECRETS)
    assert not is_open(0o644, configuration.file, **SECRETS)
    configuration.write(SQLALCHEMY_DATABASE_URI="postgresql://me:xyzzy@127.0.0.1:1/x", **WITHOUT_SECRETS)
    configuration.file.chmod(0o644)
    by_id = configuration.findings("--deploy", **SECRETS)
    assert by_id["secrets-readable"]["setting"] == "SQLALCHEMY_DATABASE_URI"
    assert str(configuration.file) in by_id["secrets-readable"]["hint"]
    assert "database-away" in by_id


@pytest.mark.parametrize(
    ("environ", "ids"),
    [
        ({"FLASK_SQLALCHEMY_ENGINE_OPTIONS": '{"foo": "xyzzy"}'}, {"not-bootable"}),
        ({"WEB_CONCURRENCY": "4"}, {"hashes-undivided", "limits-in-memory"}),
        ({"FLASK_DEBUG": "1", "FLASK_RECOVERY_PUBLIC_URL": "http://localhost:5000"}, {"debug-on"}),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_check_reads_the_environment(
    configuration: Configuration, environ: dict[str, str], ids: set[str]
) -> None:
    configuration.write()
    assert ids <= configuration.findings("--deploy", **environ).keys()


def test_deployment_is_fine_after_each_step_is_done(configuration: Configuration) -> None:
    configuration.write(RECOVERY_SECURITY_TXT=str(ROOT / "LICENSE"))
    assert configuration.findings("--deploy").keys() == {"migrations-missing"}
    assert not (configuration.folder / "check.db").exists()
    configuration.upgrade()
    assert configuration.findings("--deploy").keys() == {"worker-not-seen", "no-accounts"}
    create = ("users", "create", "email:alice@example.com", "--password", "alice will forget this")
    assert configuration.run(*create, "--active").exit_code == 0
    assert configuration.findings("--deploy").keys() == {"worker-not-seen"}
    with create_app(configuration.load()).app_context():
        heartbeat.Heartbeat().beat()
        db.engine.dispose()
    result = configuration.run("check", "--deploy", "--fail-level", "info")
    assert (result.exit_code, result.stdout) == (0, "The configuration is fine.\n")


def test_defects_of_the_database_are_found(configuration: Configuration) -> None:
    configuration.write(RECOVERY_MAIL_WAITING_MAX=2, RECOVERY_MAIL_HOURLY_MAX=1)
    configuration.upgrade()

    def ids_after(statement: str) -> set[str]:
        db.session.execute(text(statement))
        db.session.commit()
        return set(configuration.findings("--deploy"))

    with create_app(configuration.load()).app_context():
        heartbeat.Heartbeat().beat()
        outbox.enqueue("reset_instructions", identity="alice", client="browser")
        db.session.commit()
        assert configuration.findings("--deploy").keys() == {"no-accounts", "no-security-txt"}
        assert "mail-held" in ids_after("UPDATE worker_sign SET trouble = 'MAIL_USERNAME: refused'")
        aside = "refused_at = created_at, refused_domain = 'example.com', reason = 'MAIL_SERVER: no'"
        assert "mail-refused" in ids_after(f"UPDATE outbox_message SET {aside}")
        an_hour_ago = "datetime(created_at, '-1 hour')"
        assert "mail-late" in ids_after(f"UPDATE outbox_message SET created_at = {an_hour_ago}")
        assert "webhook-late" in ids_after("UPDATE outbox_message SET kind = 'webhook'")
        assert "webhook-late" not in ids_after("UPDATE outbox_message SET kind = 'reset_instructions'")
        stale = "datetime(seen_at, '-1 hour')"
        assert "worker-not-seen" in ids_after(f"UPDATE worker_sign SET seen_at = {stale}")
        for identity in ("bob", "carol"):
            outbox.enqueue("reset_instructions", identity=identity, client="browser")
        user = User(email="alice@example.com", active=True, fs_uniquifier="alice")
        db.session.add(user)
        db.session.flush()
        issue(user, "browser", "a token", user.link_life, db.session.get(outbox.OutboxMessage, 1))
        db.session.commit()
        assert {"outbox-full", "mail-budget-spent"} <= configuration.findings("--deploy").keys()
        assert "migrations-unknown" in ids_after("UPDATE sparekey_version SET version_num = '9999'")
        assert "migrations-missing" in ids_after("DELETE FROM sparekey_version")
        db.engine.dispose()


@pytest.mark.requirement("R65")
def test_check_looks_at_all_else_beside_wrong_settings(configuration: Configuration) -> None:
    configuration.write(
        RECOVERY_ACCENT="teal",
        MAIL_USE_TLS=True,
        MAIL_USE_SSL=True,
        MAIL_PASSWORD="a password without a name",
        RECOVERY_MAIL_COOLDOWN="2 hours",
        RECOVERY_TRUSTED_PROXIES=0,
        RECOVERY_SILENCED=["no-security-txt"],
    )
    result = configuration.run("check", "--deploy", "--format", "json")
    shown = json.loads(result.stdout)
    wrong = {
        found["setting"]: found["what"] for found in shown["findings"] if found["id"] == "invalid-setting"
    }
    assert wrong == {
        "RECOVERY_ACCENT": 'give a hex color such as "#0b6e66"',
        "MAIL_USE_SSL": "choose one of MAIL_USE_TLS and MAIL_USE_SSL",
        "MAIL_USERNAME": "set this together with MAIL_PASSWORD (or RECOVERY_MAIL_OAUTH_URL), or set neither",
    }
    others = {found["id"] for found in shown["findings"]} - {"invalid-setting"}
    assert others == {"cooldown-outlasts-link", "proxies-undeclared"}
    assert shown["silenced"] == ["no-security-txt"]
    text = configuration.run("check", "--deploy").stdout
    assert "Correct the settings first. Templates, database, and services were not checked." in text


def test_check_reports_nothing_that_follows_from_a_wrong_setting(configuration: Configuration) -> None:
    """With MAIL_SERVER and SECURITY_TWO_FACTOR unknown, nobody knows whether these fit."""
    configuration.write(
        MAIL_SERVER="smtp example com",
        MAIL_USERNAME=7,
        MAIL_PASSWORD="a password",
        SECURITY_TWO_FACTOR="perhaps",
        SECURITY_TWO_FACTOR_REQUIRED=True,
        SECURITY_CONFIRMABLE=True,
    )
    findings = json.loads(configuration.run("check", "--format", "json").stdout)["findings"]
    assert {found["setting"] for found in findings} == {"MAIL_SERVER", "MAIL_USERNAME", "SECURITY_TWO_FACTOR"}


def test_check_reports_an_unreadable_file_alone(configuration: Configuration) -> None:
    configuration.file.write_text("RECOVERY_ACCENT = teal")
    findings = json.loads(configuration.run("check", "--deploy", "--format", "json").stdout)["findings"]
    assert [found["setting"] for found in findings] == ["RECOVERY_CONFIG"]


@pytest.mark.parametrize(
    ("uri", "id", "reason"),
    [
        ("sqlite:////nonexistent/x.db", "database-away", "there is no directory /nonexistent"),
        ("sqlite:////proc", "database-away", "unable to open database file"),
        ("sqlite:///{root}/LICENSE", "database-away", "file is not a database"),
        ("sqlite:///{folder}/new.db", "migrations-missing", "not there yet"),
        ("postgresql://me@127.0.0.1:{port}/x", "database-away", "refused"),
    ],
)
def test_each_fault_of_a_database_has_words_of_its_own(
    configuration: Configuration, uri: str, id: str, reason: str
) -> None:
    places = {"folder": configuration.folder, "root": ROOT, "port": servers.free_port()}
    configuration.write(SQLALCHEMY_DATABASE_URI=uri.format(**places))
    found = configuration.findings("--deploy")
    assert reason in found[id]["what"]
    assert len(found.keys() & {"database-away", "migrations-missing", "database-read-only"}) == 1


def test_gunicorn_logs_findings_about_its_processes_once(configuration: Configuration) -> None:
    configuration.write()
    configuration.upgrade()
    path = configuration.folder / "log"
    sizes = ("--workers", "2", "--threads", "20", "--bind", f"127.0.0.1:{servers.free_port()}")
    environ = {**uncounted(), "RECOVERY_CONFIG": str(configuration.file)}
    with path.open("w") as log:
        server = warm.start(("-m", "gunicorn", *sizes, "app:create_app()"), environ, None, log)
    try:
        wait_for(lambda: "[threads-few]" in path.read_text(), seconds=30)
    finally:
        server.terminate()
        server.wait(timeout=20)
    for id in ("limits-in-memory", "hashes-undivided", "threads-few"):
        assert path.read_text().count(f"[{id}]") == 1
    assert "no-operator" not in path.read_text()


def test_every_finding_is_documented_and_tested() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/configure.md").read_text(), re.MULTILINE)
    kinds = [(kind.id, kind.severity) for kind in check.KINDS.values()]
    assert sorted(rows) == sorted([*kinds, (check.INVALID, "error")])
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = {id: id.removeprefix("translation-") for id in check.KINDS}  # as test_translations.py writes them
    assert [id for id, name in names.items() if f'"{name}"' not in tests] == []
