"""`manage.py check`: its output, its exit code, and the findings about a deployment.

`settings/test_advice.py`, `pages/test_template_checks.py` and `cli/test_live_checks.py` have the other findings.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from support import warm
from support.admin import uncounted
from support.servers import free_port
from support.site import ROOT, SECRETS, wait_for

import manage
from app import create_app, settings
from app.cli import check
from app.db.engine import db
from app.mail import heartbeat
from app.pages import health
from app.settings import checks
from doctor import dns_records

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
CREATE = ("users", "create", "email:a@example.com", "--password", "a long password it is", "--active")


class Configuration:
    """A configuration file in a folder, and the commands that read it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "mine.toml"

    def write(self, **values: Any) -> None:
        values = {**GOOD, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{self.folder}/check.db", **values}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None]
        self.file.write_text("".join(lines))
        self.file.chmod(0o600)

    def write_with_broken_template(self, **values: Any) -> None:
        path = self.folder / "templates/security/email/reset_notice.txt"
        path.parent.mkdir(parents=True)
        path.write_text("{{ oops }}")
        self.write(RECOVERY_TEMPLATE_DIR=str(self.folder / "templates"), **values)

    def run(self, *words: str, **environ: str) -> Any:
        return CliRunner().invoke(manage.cli, words, env={"RECOVERY_CONFIG": str(self.file), **environ})

    def upgrade(self) -> None:
        """Make the tables. Other tests of this process may have given User the column."""
        for words in (("db", "upgrade"), ("db", "add-identity", "employee_number")):
            assert self.run(*words).exit_code == 0

    @contextmanager
    def app(self) -> Iterator[None]:
        with create_app(settings.load({"RECOVERY_CONFIG": str(self.file)})).app_context():
            yield
            db.engine.dispose()

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
    configuration.write(RECOVERY_ACCENT="#ffd400", MAIL_DEFAULT_SENDER="me@localhost")
    lines = configuration.run("check").stdout.splitlines()
    assert lines[:6] == [
        f"error  sender-unreal  MAIL_DEFAULT_SENDER ({configuration.file})",
        "    The sender's address cannot receive mail.",
        "    Relays refuse such mail, or treat it as spam.",
        "    → Set the address that your relay lets you send from.",
        "",
        f"warning  accent-pale  RECOVERY_ACCENT ({configuration.file})",
    ]
    assert "4.5:1" in "".join(lines[6:])
    assert lines[-1] == "1 error, 1 warning."


def test_check_fail_level(configuration: Configuration) -> None:
    """Warnings can be silenced, errors cannot."""
    strictly = ("check", "--fail-level", "info")
    configuration.write()
    assert "The configuration is fine." in configuration.run(*strictly).stdout
    configuration.write(SECURITY_PASSWORD_LENGTH_MIN=8)
    codes = [configuration.run("check", *words).exit_code for words in ((), ("--fail-level", "warning"))]
    assert codes == [0, 1]
    configuration.write(SECURITY_PASSWORD_LENGTH_MIN=8, RECOVERY_SILENCED=["password-length"])
    result = configuration.run(*strictly)
    assert (result.exit_code, "Silenced: password-length" in result.stdout) == (0, True)
    silenced = ["sender-unreal", "accent-pale"]
    configuration.write(MAIL_DEFAULT_SENDER=None, RECOVERY_ACCENT="#ffd400", RECOVERY_SILENCED=silenced)
    by_id = configuration.findings(FLASK_RATELIMIT_ENABLED="false")
    assert {id: (finding["setting"], finding["origin"]) for id, finding in by_id.items()} == {
        "sender-unreal": ("MAIL_DEFAULT_SENDER", "config/default.toml"),
        "limits-off": ("RATELIMIT_ENABLED", "FLASK_RATELIMIT_ENABLED"),
    }


@pytest.mark.requirement("R63", "R65")
def test_start_is_refused_for_errors_and_logs_warnings(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RECOVERY_CONFIG", str(configuration.file))
    configuration.write_with_broken_template(MAIL_DEFAULT_SENDER="me@localhost")
    with pytest.raises(SystemExit) as exit_:
        create_app()
    assert exit_.value.code == settings.EXIT_REFUSED == 3  # gunicorn restarts a worker for ever at any other
    refusal, origin = capsys.readouterr().err, f"MAIL_DEFAULT_SENDER ({configuration.file})"
    for text_ in (origin, "[sender-unreal]", "reset_notice.txt", "[template-variable]"):
        assert text_ in refusal
    silenced = {"SECURITY_PASSWORD_LENGTH_MIN": 8, "RECOVERY_SILENCED": ["password-length"]}
    configuration.write(RATELIMIT_ENABLED=False, RECOVERY_ACCENT="#ffd400", **silenced)
    with create_app().app_context():
        checks.log_warnings()
        db.engine.dispose()
    logged = [id for id in ("limits-off", "accent-pale", "password-length") if f"[{id}]" in caplog.text]
    assert logged == ["limits-off", "accent-pale"]


def test_broken_template_stops_only_commands_that_render_it(configuration: Configuration) -> None:
    configuration.write_with_broken_template()
    configuration.upgrade()
    for words in (CREATE, ("outbox", "list")):
        assert configuration.run(*words).exit_code == 0
    for words in (("worker", "--once"), ("run",), ("mail", "send-test", "me@example.com")):
        result = configuration.run(*words)
        assert (result.exit_code, "reset_notice.txt" in result.output) == (1, True), words


def test_secrets_in_readable_files_are_found(configuration: Configuration) -> None:
    def readable(path: Path = configuration.file, **environ: str) -> dict[str, Any]:
        """Return the finding if others can read the file. If they cannot, there is none."""
        path.chmod(0o600)
        assert "secrets-readable" not in configuration.findings("--deploy", **environ)
        path.chmod(0o644)
        return configuration.findings("--deploy", **environ).get("secrets-readable", {})

    configuration.write()
    assert readable()
    configuration.write(SECRET_KEY=None)
    secret = configuration.folder / "key"
    secret.write_text(GOOD["SECRET_KEY"])
    assert readable(secret, FLASK_SECRET_KEY_FILE=str(secret))
    configuration.write(**WITHOUT_SECRETS)
    assert not readable(**SECRETS)
    configuration.write(SQLALCHEMY_DATABASE_URI="postgresql://me:xyzzy@127.0.0.1:1/x", **WITHOUT_SECRETS)
    found = readable(**SECRETS)
    assert found["setting"] == "SQLALCHEMY_DATABASE_URI"
    assert str(configuration.file) in found["hint"]


def test_deployment_is_fine_after_each_step_is_done(configuration: Configuration) -> None:
    configuration.write(RECOVERY_SECURITY_TXT=str(ROOT / "LICENSE"))
    assert configuration.findings("--deploy").keys() == {"migrations-missing"}
    assert not (configuration.folder / "check.db").exists()
    configuration.upgrade()
    assert configuration.findings("--deploy").keys() == {"worker-not-seen", "no-accounts"}
    assert configuration.run(*CREATE).exit_code == 0
    assert configuration.findings("--deploy").keys() == {"worker-not-seen"}
    with configuration.app():
        heartbeat.Heartbeat().beat()
    result = configuration.run("check", "--deploy", "--fail-level", "info")
    assert (result.exit_code, result.stdout) == (0, "The configuration is fine.\n")


def test_defects_of_the_database_are_found(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of /readyz, and of the schema."""
    configuration.write()
    configuration.upgrade()

    def found_after(statement: str) -> dict[str, dict[str, Any]]:
        with configuration.app():
            db.session.execute(text(statement))
            db.session.commit()
        return configuration.findings("--deploy")

    with configuration.app():
        heartbeat.Heartbeat().beat()
    held = found_after("UPDATE worker_heartbeat SET trouble = 'MAIL_USERNAME: refused'")
    assert held.keys() == {"no-accounts", "no-security-txt", "mail-held"}
    assert "MAIL_USERNAME: refused" in held["mail-held"]["why"] + held["mail-held"]["what"]
    assert "goes out when it is back" in held["mail-held"]["hint"]  # an outage needs no restart
    with monkeypatch.context() as sick:
        state = {"problems": list(health.PROBLEMS), "reason": None}
        sick.setattr(health, "check", lambda: state)
        ids = {"mail-held", "mail-refused", "mail-late", "webhook-late", "worker-not-seen", "outbox-full"}
        ids |= {"mail-budget-spent", "database-away", "database-read-only", "accounts-away"}
        assert ids <= configuration.findings("--deploy").keys()
    assert "migrations-unknown" in found_after("UPDATE sparekey_version SET version_num = '9999'")
    assert "migrations-missing" in found_after("DELETE FROM sparekey_version")


@pytest.mark.parametrize("to", ["alice", "a@b, c@d", "a@example.com\nDATA", "a@corp.local"])
def test_recipient_that_is_no_address_is_refused(configuration: Configuration, to: str) -> None:
    configuration.write()
    result = configuration.run("check", "--to", to)
    assert (result.exit_code, "not an email address" in result.output) == (2, True)


def test_recipient_may_have_a_domain_that_the_settings_allow(configuration: Configuration) -> None:
    configuration.write(
        RECOVERY_SPECIAL_USE_DOMAINS=["local"], MAIL_SERVER="127.0.0.1", MAIL_PORT=free_port()
    )
    assert "relay-refuses" in configuration.findings("--to", "a@corp.local")


def test_check_looks_at_all_else_beside_a_name_that_cannot_be_imported(configuration: Configuration) -> None:
    configuration.write(RECOVERY_EXTENSIONS=["nowhere:extend"], MAIL_DEFAULT_SENDER="me@localhost")
    findings = configuration.findings()
    assert findings.keys() == {"invalid-setting", "sender-unreal"}
    assert "nowhere:extend cannot be imported" in findings["invalid-setting"]["what"]
    assert "database, and services were not checked" in configuration.run("check").output


@pytest.mark.requirement("R65")
def test_check_looks_at_all_else_beside_wrong_settings(configuration: Configuration) -> None:
    """But not at what may follow: without MAIL_USERNAME and SECURITY_TWO_FACTOR, nobody knows what fits them."""
    configuration.write(
        RECOVERY_ACCENT="teal",
        MAIL_USE_TLS=True,
        MAIL_USE_SSL=True,
        MAIL_USERNAME=7,
        MAIL_PASSWORD="a password",
        MAIL_DEFAULT_SENDER=7,
        SECURITY_TWO_FACTOR="perhaps",
        SECURITY_TWO_FACTOR_REQUIRED=True,
        RECOVERY_MAIL_COOLDOWN="2 hours",
        RECOVERY_TRUSTED_PROXIES=0,
        RECOVERY_SILENCED=["no-security-txt"],
    )
    shown = json.loads(configuration.run("check", "--deploy", "--format", "json").stdout)
    wrong = {one["setting"]: one["what"] for one in shown["findings"] if one["id"] == "invalid-setting"}
    names = ["MAIL_DEFAULT_SENDER", "MAIL_USERNAME", "MAIL_USE_SSL", "RECOVERY_ACCENT", "SECURITY_TWO_FACTOR"]
    assert sorted(wrong) == names
    assert wrong["RECOVERY_ACCENT"] == 'give a hex color such as "#0b6e66"'
    assert wrong["MAIL_USE_SSL"] == "choose one of MAIL_USE_TLS and MAIL_USE_SSL"
    others = {one["id"] for one in shown["findings"]} - {"invalid-setting"}
    assert others == {"cooldown-outlasts-link", "proxies-undeclared"}
    assert shown["silenced"] == ["no-security-txt"]
    output = configuration.run("check", "--deploy").stdout
    assert "Correct the settings first. Templates, database, and services were not checked." in output
    configuration.file.write_text("RECOVERY_ACCENT = teal")  # an unreadable file is reported alone
    assert [one["setting"] for one in configuration.findings("--deploy").values()] == ["RECOVERY_CONFIG"]


LOCAL = {"FLASK_DEBUG": "1", "FLASK_RECOVERY_PUBLIC_URL": "http://localhost:5000"}
ODD_ENGINE = {"FLASK_SQLALCHEMY_ENGINE_OPTIONS": '{"foo": "xyzzy"}'}


@pytest.mark.parametrize(
    ("uri", "environ", "ids", "reason"),
    [
        ("sqlite:////nonexistent/x.db", {}, {"database-away"}, "there is no directory /nonexistent"),
        ("sqlite:////proc", {}, {"database-away"}, "unable to open database file"),
        ("sqlite:///{root}/LICENSE", {}, {"database-away"}, "file is not a database"),
        ("sqlite:///{folder}/new.db", {}, {"migrations-missing"}, "not there yet"),
        ("postgresql://me@127.0.0.1:{port}/x", {}, {"database-away"}, "refused"),
        ("sqlite:///{folder}/new.db", ODD_ENGINE, {"not-bootable"}, ""),
        ("sqlite:///{folder}/new.db", LOCAL, {"debug-on"}, ""),
    ],
)
def test_check_finds_faults_of_database_and_environment(
    configuration: Configuration, uri: str, environ: dict[str, str], ids: set[str], reason: str
) -> None:
    places = {"folder": configuration.folder, "root": ROOT, "port": free_port()}
    configuration.write(SQLALCHEMY_DATABASE_URI=uri.format(**places))
    found = configuration.findings("--deploy", **environ)
    assert ids <= found.keys()
    assert any(reason in found[id]["what"] for id in ids)
    assert len(found.keys() & {"database-away", "migrations-missing", "database-read-only"}) <= 1


def test_gunicorn_logs_findings_about_its_processes_once(configuration: Configuration) -> None:
    configuration.write()
    configuration.upgrade()
    path = configuration.folder / "log"
    sizes = ("--workers", "2", "--threads", "20", "--bind", f"127.0.0.1:{free_port()}")
    environ = {**uncounted(), "RECOVERY_CONFIG": str(configuration.file)}
    with path.open("w") as log:
        server = warm.start(("-m", "gunicorn", *sizes, "app:create_app()"), environ, None, log)
    try:
        wait_for(lambda: "[threads-few]" in path.read_text(), seconds=30)
    finally:
        server.terminate()
        server.wait(timeout=20)
    logged = sorted(re.findall(r"\[([a-z]+-[a-z-]+)\]", path.read_text()))
    assert logged == ["hashes-undivided", "limits-in-memory", "threads-few"]


def test_each_finding_is_documented_with_the_option_that_it_needs() -> None:
    """findings.toml has those of --deploy and of --live in sections of their own."""
    sections = re.split(r"^# --- (.+) ---$", (ROOT / "app/settings/findings.toml").read_text(), flags=re.M)
    options = dict.fromkeys(dns_records.KINDS, "`--live`")
    for title, part in zip(sections[1::2], sections[2::2], strict=True):
        option = "`--deploy`" if "deployment" in title else "`--live`" if "services" in title else ""
        options |= dict.fromkeys(re.findall(r"^\[([a-z-]+)\]$", part, re.MULTILINE), option)
    options |= {"accounts-rehearsal": "`--live`", "not-bootable": "", check.INVALID: ""}
    options |= dict.fromkeys(("hashes-undivided", "limits-in-memory", "threads-few"), "gunicorn")
    page = (ROOT / "docs/configure.md").read_text()
    assert dict(re.findall(r"^\| `([a-z-]+)` \| \w+ \| .* \| ?(.*?) ?\|$", page, re.MULTILINE)) == options


def test_every_finding_is_documented_and_tested() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/configure.md").read_text(), re.MULTILINE)
    known = check.KINDS | dns_records.KINDS
    kinds = [(kind.id, kind.severity) for kind in known.values()]
    assert sorted(rows) == sorted([*kinds, (check.INVALID, "error")])
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = {id: id.removeprefix("translation-") for id in known}  # as test_translations.py writes them
    assert [id for id, name in names.items() if not re.search(f'"({id}|{name})"', tests)] == []
