"""`manage.py config`, and the reference of settings that it shows: `config/default.toml`."""

import json
import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result
from support.fst_settings import GROUPS, SPA, named, settings_of
from support.site import PUBLIC_URL, ROOT, SECRETS

import manage
from app import settings
from app.cli import config_reference as reference
from app.cli.config import in_toml
from app.settings import forced, library_settings, schema, sources

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}
SCHEMA, ENTRIES = reference.schema(), reference.entries()
TIMEOUT = {"FLASK_SECURITY_WAN_REGISTER_TIMEOUT": "1000"}  # no effect without SECURITY_WEBAUTHN


def config(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(manage.cli, ["config", *words], env={**GOOD, **environ})


def explain(name: str, **environ: str) -> str:
    """Return the output on one line."""
    result = config("explain", name, **environ)
    assert result.exit_code == 0, name
    return " ".join(result.output.split())


@pytest.mark.requirement("R61")
def test_config_show_hides_secrets() -> None:
    environ = {
        "FLASK_MAIL_USERNAME": "me",
        "FLASK_MAIL_PASSWORD": "hunter2",
        "FLASK_SQLALCHEMY_DATABASE_URI": "postgresql://me:hunter2@db/sparekey",
        "FLASK_SECURITY_TOTP_SECRETS": '{"1": "hunter2 and twenty more"}',
        **TIMEOUT,
    }
    result = config("show", **environ)
    assert result.exit_code == 0
    assert "hunter2" not in result.stdout
    assert SECRETS["FLASK_SECRET_KEY"] not in result.stdout
    assert "MAIL_PORT = 25  # config/default.toml" in result.stdout
    assert 'MAIL_PASSWORD = "(hidden)"  # FLASK_MAIL_PASSWORD' in result.stdout
    assert "postgresql://me:***@db/sparekey" in result.stdout
    assert "# FLASK_SECURITY_WAN_REGISTER_TIMEOUT; no effect without SECURITY_WEBAUTHN\n" in result.stdout
    shown = json.loads(config("show", "--format", "json", **environ).stdout)
    assert shown["problems"] == []
    rows = [
        {"name": "MAIL_USERNAME", "value": "me", "origin": "FLASK_MAIL_USERNAME", "no_effect_without": None},
        {"name": "SECURITY_WAN_REGISTER_TIMEOUT", "value": "1000",
         "origin": "FLASK_SECURITY_WAN_REGISTER_TIMEOUT", "no_effect_without": "SECURITY_WEBAUTHN"},
    ]  # fmt: skip
    assert [row for row in shown["settings"] if row["name"] in ("MAIL_USERNAME", rows[1]["name"])] == rows


def test_config_diff_shows_settings_that_differ_from_defaults() -> None:
    environ = {
        "FLASK_MAIL_PORT": "587",
        "FLASK_SECURITY_RESET_PASSWORD_WITHIN": "60 minutes",  # the default, "1 hour", in other words
        "FLASK_SECURITY_TRACKABLE": "true",
        "FLASK_SECURITY_TOKEN_MAX_AGE": "15 minutes",  # Flask-Security's default
    }
    lines = dict(line.split(" = ", 1) for line in config("diff", **environ).output.splitlines())
    assert lines["MAIL_PORT"] == '"587"  # FLASK_MAIL_PORT; default 25'
    assert lines["SECRET_KEY"] == '"(hidden)"  # FLASK_SECRET_KEY; no default'
    assert "SECURITY_TRACKABLE" in lines
    assert not {"SECURITY_RESET_PASSWORD_WITHIN", "SECURITY_TOKEN_MAX_AGE"} & lines.keys()
    shown = json.loads(config("diff", "--format", "json", FLASK_MAIL_PORT="587").stdout)
    assert ("MAIL_PORT", "587", 25) in [(row["name"], row["value"], row["default"]) for row in shown]


def test_config_diff_tells_that_a_value_is_hidden_because_it_is_invalid() -> None:
    environ = {"FLASK_MAIL_PORT": "hunter2", "FLASK_RECOVERY_METRICS_TOKEN": "hunter2"}
    lines = dict(line.split(" = ", 1) for line in config("diff", **environ).stdout.splitlines())
    assert lines["MAIL_PORT"] == '"(hidden: invalid)"  # FLASK_MAIL_PORT; default 25'
    assert lines["RECOVERY_METRICS_TOKEN"].startswith('"(hidden)"')  # valid or not


def test_file_with_a_secret_that_is_a_table_holds_json(tmp_path: Path) -> None:
    (tmp_path / "totp").write_text("TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz")
    variable = {"FLASK_SECURITY_TOTP_SECRETS_FILE": str(tmp_path / "totp")}
    assert 'write it as JSON, such as ["…"] or {"1": "…"}' in config("show", **variable).output
    (tmp_path / "totp").write_text('{"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}')
    assert config("show", **variable).exit_code == 0


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("FLASK_SECRET_KEY_FILE", ["at least 22 random characters", "FLASK_SECRET_KEY_FILE", "(hidden)"]),
        ("security_reset_password_within", ["at most 24 hours", 'default "1 hour"']),
        ("SECURITY_RECOVERABLE", ["cannot be set", "what Sparekey is for"]),
        ("SECURITY_ANONYMOUS_USER_DISABLED", ["Flask-Security's own", "true or false", "default false"]),
        ("MAIL_PORT", ["The mail server that accepts", "at least 1, at most 65535", "default 25"]),
        ("MAIL_TIMEOUT", ['now "7 seconds", from FLASK_MAIL_TIMEOUT', 'default "10 seconds"']),
        ("SECURITY_USERNAME_MIN_LENGTH", ["default 1"]),
        ("SECURITY_WAN_RP_NAME", ['default "Sparekey"']),
        ("SECURITY_EMAIL_SUBJECT_PASSWORD_RESET", ['default "that of reset_instructions.subject.txt"']),
        ("SECURITY_RESET_VIEW", ['now "https://app.example.com/reset-password", from FLASK_SECURITY_RESET']),
        ("SECURITY_POST_CONFIRM_VIEW", ['now "https://app.example.com/#/confirmed"', '"security.login"']),
        ("SECURITY_WAN_REGISTER_TIMEOUT", ["no effect without SECURITY_WEBAUTHN"]),
    ],
)
def test_config_explain_shows_type_default_and_value(name: str, texts: list[str]) -> None:
    client = {f"FLASK_{name}": str(value) for name, value in named(SPA).items()}
    output = explain(name, FLASK_MAIL_TIMEOUT="7 seconds", **TIMEOUT, **client)
    assert [text for text in texts if text not in output] == []
    assert "no effect" not in explain(name, FLASK_SECURITY_WEBAUTHN="true")


@pytest.mark.parametrize(
    ("name", "code", "hint"),
    [
        ("MAIL_SEVER", 1, "did you mean MAIL_SERVER?"),
        ("RESET_WITHIN", 1, "SECURITY_RESET_PASSWORD_WITHIN"),
        ("X", 1, "unknown"),
        ("MAIL_PORT", 0, "at most 65535"),
    ],
)
def test_config_explain_of_an_unknown_setting_or_wrong_value(name: str, code: int, hint: str) -> None:
    result = config("explain", name, FLASK_MAIL_PORT="99999")
    assert result.exit_code == code
    assert hint in (result.output if code else result.output.partition("but")[2])


# Honored by app/web/clients.py, so Flask-Security gets another value.
SENT_ON = {
    f"SECURITY_{name}" for name in SPA if name.startswith("REDIRECT") or "CONFIRM" in name or "CHANGE" in name
}


@pytest.mark.parametrize("group", [*GROUPS, ""])
def test_config_tells_the_value_that_flask_security_really_uses(make_site: Any, group: str) -> None:
    """Every setting by default, and of each group those that it sets."""
    given = settings_of(group) if group else {}
    names = library_settings.flask_security_defaults().keys()
    environ = {f"FLASK_{name}": value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}  # fmt: skip
    used = dict(make_site(**given).app.config)
    kinds = dict.fromkeys(chain(*used["SECURITY_USER_IDENTITY_ATTRIBUTES"]))
    rows = json.loads(config("show", "--format", "json", **environ).stdout)["settings"]
    shown = {row["name"]: row["value"] for row in rows}
    for name in sorted(names & given.keys() if group else names):
        output = config("explain", name, **environ).output
        now, default = ("".join(re.findall(f"^{field} +(.*)$", output, re.M)) for field in ("now", "default"))
        if library_settings.reason_refused(name):
            has_value = name in forced.FORCED or "COOKIE" in name or name.endswith("RESCUE_MAIL")
            assert output.startswith(f"{name} cannot be set.")
            assert f"It is {in_toml(used[name])}: " in output if has_value else "It is" not in output, name
        elif name in shown:
            assert now.startswith(in_toml(shown[name])), name
            value = settings.normalize(name, shown[name])
            if name == "SECURITY_USER_IDENTITY_ATTRIBUTES":  # Flask-Security gets our mappers
                assert [*value] == [*kinds]
            elif shown[name] != "(hidden)" and name not in SENT_ON:
                assert value == used[name], name
        elif now == "not set":
            assert not used[name] or name in SENT_ON, name
        else:
            assert now == "the default", name
            is_plain = name not in SENT_ON and "that of " not in default
            assert not is_plain or default == in_toml(used[name]), name


def test_config_schema_is_valid_and_accepts_the_examples() -> None:
    assert json.loads(config("schema").stdout) == SCHEMA
    assert jsonschema_rs.meta.is_valid(SCHEMA)
    meaning = SCHEMA["properties"]["SECURITY_RESET_PASSWORD_WITHIN"]["description"]
    assert "How long a reset link works" in meaning
    assert "at most 24 hours" in meaning
    validator = jsonschema_rs.validator_for(SCHEMA)
    for name in ("default", "production", "development", "spa"):
        values = tomllib.loads((ROOT / f"config/{name}.toml").read_text())
        assert [error.message for error in validator.iter_errors(values)] == [], name


def test_config_schema_rejects_mistakes() -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    for line in (
        *('MAIL_SEVER = "x"', "MAIL_PORT = 99999", 'MAIL_PORT = "25"', 'SECURITY_TRACKABLE = "yes"'),
        *("RECOVERY_MAIL_COOLDOWN = 5", 'RECOVERY_MAIL_COOLDOWN = "5 moons"', 'RECOVERY_LOG_FORMAT = "jsno"'),
        *('RECOVERY_PUBLIC_URL = "id.example.com"', 'SQLALCHEMY_DATABASE_URI = "mysql://x"'),
        *("SECURITY_PASSWORD_LENGTH_MIN = 7", "SECURITY_RECOVERABLE = false"),
        'RECOVERY_CLIENTS = { web = { rest_view = "https://a.example" } }',
    ):
        assert not validator.is_valid(tomllib.loads(line)), line


def test_reference_explains_every_setting_with_its_unit_and_default() -> None:
    assert set(schema.declared()) <= ENTRIES.keys()
    assert ENTRIES.keys() - set(schema.declared()) <= library_settings.flask_security_defaults().keys()
    loaded, fields = settings.load(GOOD), schema.Settings.model_fields
    defaults = tomllib.loads(sources.DEFAULTS.read_text())
    assert {name for name, entry in ENTRIES.items() if not entry.is_example} == defaults.keys()
    unit = re.compile("many|bytes|characters|port|[Aa]t most|attempts|wait at once")
    for name, entry in ENTRIES.items():
        assert (len(entry.meaning) > 20, reference.takes(name) > "") == (True, True), name
        if name in defaults:
            assert getattr(loaded, name) == settings.normalize(name, defaults[name]), name
            is_number = isinstance(settings.normalize(name, 5), int) and entry.value.isdigit()
            assert not is_number or unit.search(entry.meaning), name
        elif name in fields:
            assert fields[name].is_required() or fields[name].default is None, name
