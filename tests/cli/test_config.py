"""`manage.py config`, and the reference of settings that it shows: `config/default.toml`."""

import json
import re
import tomllib
from itertools import chain
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result
from support.fst_settings import GROUPS, SPA, SPA_TOML, named, settings_of
from support.site import PUBLIC_URL, ROOT, SECRETS

import manage
from app import settings
from app.cli import reference
from app.cli.config import in_toml
from app.settings import forced, library_settings, schema, sources

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}
SECTIONS = """The site, Links, Identities, Pages or single-page clients, Languages, Mail, Passwords, Limits,
    Sign-in features, Database, Operations"""
SCHEMA = reference.schema()


def config(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(manage.cli, ["config", *words], env={**GOOD, **environ})


@pytest.mark.requirement("R61")
def test_config_show_hides_secrets() -> None:
    environ = {
        "FLASK_MAIL_USERNAME": "me",
        "FLASK_MAIL_PASSWORD": "hunter2",
        "FLASK_SQLALCHEMY_DATABASE_URI": "postgresql://me:hunter2@db/sparekey",
        "FLASK_SECURITY_TOTP_SECRETS": '{"1": "hunter2 and twenty more"}',
    }
    result = config("show", **environ)
    assert result.exit_code == 0
    assert "hunter2" not in result.stdout
    assert SECRETS["FLASK_SECRET_KEY"] not in result.stdout
    assert "MAIL_PORT = 25  # config/default.toml" in result.stdout
    assert 'MAIL_PASSWORD = "(hidden)"  # FLASK_MAIL_PASSWORD' in result.stdout
    assert "postgresql://me:***@db/sparekey" in result.stdout
    shown = json.loads(config("show", "--format", "json", **environ).stdout)
    assert shown["problems"] == []
    [row] = [row for row in shown["settings"] if row["name"] == "MAIL_USERNAME"]
    assert row == {
        "name": "MAIL_USERNAME",
        "value": "me",
        "origin": "FLASK_MAIL_USERNAME",
        "no_effect_without": None,
    }


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


def test_config_explain_knows_every_setting() -> None:
    for name, entry in reference.entries().items():
        result = config("explain", name)
        assert result.exit_code == 0, name
        assert entry.meaning.splitlines()[0] in result.output
        assert "takes " in result.output


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("FLASK_SECRET_KEY_FILE", ["at least 22 random characters", "FLASK_SECRET_KEY_FILE", "(hidden)"]),
        ("security_reset_password_within", ["at most 24 hours", '"1 hour"']),
        ("SECURITY_RECOVERABLE", ["cannot be set", "what Sparekey is for"]),
        ("SECURITY_ANONYMOUS_USER_DISABLED", ["Flask-Security's own", "true or false", "false"]),
        ("MAIL_PORT", ["at least 1, at most 65535", "25"]),
        ("RECOVERY_LOG_FORMAT", ['"text"', '"json"']),
        ("MAIL_TIMEOUT", ['"7 seconds", from FLASK_MAIL_TIMEOUT', '"10 seconds"']),
    ],
)
def test_config_explain_shows_type_default_and_value(name: str, texts: list[str]) -> None:
    result = config("explain", name, FLASK_MAIL_TIMEOUT="7 seconds")
    assert result.exit_code == 0
    assert [text for text in texts if text not in result.output] == []


# Honored by app/web/clients.py, so Flask-Security gets another value.
SENT_ON = {
    f"SECURITY_{name}" for name in SPA if name.startswith("REDIRECT") or "CONFIRM" in name or "CHANGE" in name
}


@pytest.mark.parametrize("group", [SPA_TOML, *GROUPS, ""])
def test_config_tells_the_value_that_flask_security_really_uses(make_site: Any, group: str) -> None:
    """Every setting by default and in config/spa.toml, and in a group those that it sets."""
    given = settings_of(group) if group else {}
    names = library_settings.flask_security_defaults().keys()
    environ = {
        f"FLASK_{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    used = dict(make_site(**given).app.config)
    kinds = dict.fromkeys(chain(*used["SECURITY_USER_IDENTITY_ATTRIBUTES"]))
    rows = json.loads(config("show", "--format", "json", **environ).stdout)["settings"]
    shown = {row["name"]: row["value"] for row in rows}
    for name in sorted(names & given.keys() if group in GROUPS else names):
        output = config("explain", name, **environ).output
        now, default = (
            match[1] if (match := re.search(f"^{field} +(.*)$", output, re.M)) else ""
            for field in ("now", "default")
        )
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


def test_config_tells_where_links_of_the_default_client_land() -> None:
    environ = {f"FLASK_{name}": str(value) for name, value in named(SPA).items()}
    output = config("explain", "SECURITY_RESET_VIEW", **environ).output
    assert '"https://app.example.com/reset-password", from FLASK_SECURITY_RESET_VIEW' in output
    output = config("explain", "SECURITY_POST_CONFIRM_VIEW", **environ).output
    assert '"https://app.example.com/#/confirmed", from FLASK_SECURITY_POST_CONFIRM_VIEW' in output


def test_config_tells_that_a_setting_has_no_effect_without_its_feature() -> None:
    environ = {"FLASK_SECURITY_WAN_REGISTER_TIMEOUT": "1000"}
    shown = config("show", "--format", "json", **environ).stdout
    assert '"no_effect_without": "SECURITY_WEBAUTHN"' in shown
    line = 'SECURITY_WAN_REGISTER_TIMEOUT = "1000"  # FLASK_SECURITY_WAN_REGISTER_TIMEOUT; no effect without SECURITY_WEBAUTHN'
    assert line in config("show", **environ).stdout
    for given in (environ, {}):
        output = config("explain", "SECURITY_WAN_REGISTER_TIMEOUT", **given).output
        assert re.search("no effect without +SECURITY_WEBAUTHN", output)
    output = config(
        "explain", "SECURITY_WAN_REGISTER_TIMEOUT", **environ, FLASK_SECURITY_WEBAUTHN="true"
    ).output
    assert "no effect" not in output


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("SECURITY_USERNAME_MIN_LENGTH", "1"),
        ("SECURITY_WAN_RP_NAME", '"Sparekey"'),
        ("SECURITY_CHANGE_EMAIL_SUBJECT", '"that of change_email_instructions.subject.txt"'),
        ("SECURITY_EMAIL_SUBJECT_PASSWORD_RESET", '"that of reset_instructions.subject.txt"'),
        ("SECURITY_POST_CONFIRM_VIEW", '"security.login"'),
    ],
)
def test_config_explain_shows_the_default_of_sparekey(name: str, default: str) -> None:
    assert re.search(f"^default +{re.escape(default)}$", config("explain", name).output, re.M)


def test_config_explain_names_the_problem_of_the_value() -> None:
    result = config("explain", "MAIL_PORT", FLASK_MAIL_PORT="99999")
    assert "at most 65535" in result.output.partition("but")[2]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MAIL_SEVER", "did you mean MAIL_SERVER?"),
        ("RESET_WITHIN", "SECURITY_RESET_PASSWORD_WITHIN"),
        ("X", "unknown"),
    ],
)
def test_config_explain_suggests_names_for_an_unknown_setting(name: str, hint: str) -> None:
    result = config("explain", name)
    assert (result.exit_code, hint in result.output) == (1, True)


def test_config_schema_is_valid() -> None:
    assert json.loads(config("schema").stdout) == SCHEMA
    assert jsonschema_rs.meta.is_valid(SCHEMA)
    meaning = SCHEMA["properties"]["SECURITY_RESET_PASSWORD_WITHIN"]["description"]
    assert "How long a reset link works" in meaning
    assert "at most 24 hours" in meaning


@pytest.mark.parametrize("name", ["default", "production", "development", "spa"])
def test_config_schema_accepts_example(name: str) -> None:
    values = tomllib.loads((ROOT / f"config/{name}.toml").read_text())
    errors = jsonschema_rs.validator_for(SCHEMA).iter_errors(values)
    assert [error.message for error in errors] == []


@pytest.mark.parametrize(
    "line",
    [
        'MAIL_SEVER = "x"',
        "MAIL_PORT = 99999",
        'MAIL_PORT = "25"',
        "RECOVERY_MAIL_COOLDOWN = 5",
        'RECOVERY_MAIL_COOLDOWN = "5 moons"',
        'RECOVERY_LOG_FORMAT = "jsno"',
        'RECOVERY_CLIENTS = { web = { rest_view = "https://a.example" } }',
        "SECURITY_PASSWORD_LENGTH_MIN = 7",
        "SECURITY_RECOVERABLE = false",
        'SQLALCHEMY_DATABASE_URI = "mysql://x"',
        'SECURITY_TRACKABLE = "yes"',
        'RECOVERY_PUBLIC_URL = "id.example.com"',
    ],
)
def test_config_schema_rejects_mistake(line: str) -> None:
    assert not jsonschema_rs.validator_for(SCHEMA).is_valid(tomllib.loads(line))


def test_reference_explains_every_setting_and_nothing_else() -> None:
    entries = reference.entries()
    assert set(schema.declared()) <= entries.keys()
    assert entries.keys() - set(schema.declared()) <= library_settings.flask_security_defaults().keys()
    assert [name for name, entry in entries.items() if len(entry.meaning) <= 20] == []


def test_reference_is_the_only_place_of_defaults() -> None:
    entries, loaded = reference.entries(), settings.load(GOOD)
    defaults = tomllib.loads(sources.DEFAULTS.read_text())
    assert {name for name, entry in entries.items() if not entry.is_example} == defaults.keys()
    for name, value in defaults.items():
        assert getattr(loaded, name) == settings.normalize(name, value), name
    fields = schema.Settings.model_fields
    for name in fields.keys() & {name for name, entry in entries.items() if entry.is_example}:
        assert fields[name].is_required() or fields[name].default is None, name


def test_reference_names_units() -> None:
    unit = re.compile("many|bytes|characters|port|[Aa]t most|attempts|wait at once")
    for name, entry in reference.entries().items():
        if isinstance(settings.normalize(name, 5), int) and not entry.is_example and entry.value.isdigit():
            assert unit.search(entry.meaning), name


def test_reference_sections_are_in_order() -> None:
    headings = re.findall(r"^# --- ([^(:]+?)(?: \(|: | -+)", sources.DEFAULTS.read_text(), re.M)
    assert headings == [section.strip() for section in SECTIONS.split(",")]
