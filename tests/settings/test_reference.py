"""The reference: every setting is explained, in the file, in `config explain` and in an editor."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner
from support.site import PUBLIC_URL, ROOT, SECRETS

import manage
from app import settings
from app.cli import reference
from app.settings import library_settings, schema, sources

GOOD = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}
SECTIONS = """The site, Links, Identities, Pages or single-page clients, Languages, Mail, Passwords, Limits, Sign-in features,
    Database, Operations"""
SCHEMA = reference.schema()


def types(*words: str, **environ: str) -> Any:
    return CliRunner().invoke(manage.cli, list(words), env={**GOOD, **environ})


def test_every_setting_is_explained_and_nothing_else() -> None:
    entries = reference.entries()
    assert set(schema.declared()) <= entries.keys()
    assert entries.keys() - set(schema.declared()) <= library_settings.flask_security_defaults().keys()
    for name, entry in entries.items():
        assert len(entry.meaning) > 20, name


def test_a_default_is_what_the_code_takes() -> None:
    """Defaults stand in the reference alone: what is shown there is what is read."""
    defaults = tomllib.loads(sources.DEFAULTS.read_text())
    assert {
        name: entry.value for name, entry in reference.entries().items() if not entry.is_example
    }.keys() == (defaults.keys())
    loaded = settings.load(GOOD)
    for name, value in defaults.items():
        assert getattr(loaded, name) == settings.normalize(name, value), name
    no_default = [name for name, entry in reference.entries().items() if entry.is_example]
    fields = schema.Settings.model_fields
    assert all(
        name not in fields or fields[name].default in (None, ...) or fields[name].is_required()
        for name in no_default
    )


def test_what_has_a_unit_says_it() -> None:
    for name, entry in reference.entries().items():
        if isinstance(settings.normalize(name, 5), int) and not entry.is_example and entry.value.isdigit():
            assert re.search(r"many|bytes|characters|port|[Aa]t most|attempts|wait at once", entry.meaning), (
                name
            )


def test_it_is_in_the_order_in_which_an_admin_thinks() -> None:
    headings = re.findall(r"^# --- ([^(:]+?)(?: \(|: | -+)", sources.DEFAULTS.read_text(), re.M)
    assert headings == [section.strip() for section in SECTIONS.replace("\n", " ").split(",")]


@pytest.mark.parametrize("name", [*reference.entries()])
def test_every_setting_can_be_asked_for(name: str) -> None:
    said = types("config", "explain", name)
    assert said.exit_code == 0
    assert reference.entries()[name].meaning.splitlines()[0] in said.output
    assert "takes " in said.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FLASK_SECRET_KEY_FILE", ["at least 22 random characters", "FLASK_SECRET_KEY_FILE", "(hidden)"]),
        ("security_reset_password_within", ["at most 24 hours", '"1 hour"', "RECOVERY_MAIL_COOLDOWN"]),
        ("SECURITY_RECOVERABLE", ["cannot be set", "what Sparekey is for"]),
        ("SECURITY_ANONYMOUS_USER_DISABLED", ["Flask-Security's own", "true or false", "false"]),
        ("MAIL_PORT", ["at least 1, at most 65535", "25", "MAIL_SERVER"]),
        ("RECOVERY_LOG_FORMAT", ['"text"', '"json"']),
        ("MAIL_TIMEOUT", ['"7 seconds", from FLASK_MAIL_TIMEOUT', '"10 seconds"']),
    ],
)
def test_an_explanation_holds_what_an_admin_needs(name: str, words: list[str]) -> None:
    said = types("config", "explain", name, FLASK_MAIL_TIMEOUT="7 seconds")
    assert said.exit_code == 0
    for word in words:
        assert word in said.output


def test_an_explanation_says_what_is_wrong_with_the_value() -> None:
    said = types("config", "explain", "MAIL_PORT", FLASK_MAIL_PORT="99999")
    assert "at most 65535" in said.output.partition("but")[2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MAIL_SEVER", "did you mean MAIL_SERVER?"),
        ("RESET_WITHIN", "SECURITY_RESET_PASSWORD_WITHIN"),
        ("X", "unknown"),
    ],
)
def test_who_asks_for_a_setting_that_is_none_is_shown_the_way(name: str, words: str) -> None:
    said = types("config", "explain", name)
    assert (said.exit_code, words in said.output) == (1, True)


def test_config_diff_tells_what_is_not_as_it_comes() -> None:
    said = types(
        "config",
        "diff",
        FLASK_MAIL_PORT="587",
        FLASK_MAIL_TIMEOUT="20 seconds",
        FLASK_SECURITY_RESET_PASSWORD_WITHIN="60 minutes",
        FLASK_SECURITY_TRACKABLE="true",
        FLASK_SECURITY_TOKEN_MAX_AGE="15 minutes",
    )
    lines = dict(line.split(" = ", 1) for line in said.output.splitlines())
    assert lines["MAIL_PORT"] == '"587"  # FLASK_MAIL_PORT; default 25'
    assert "SECURITY_TRACKABLE" in lines
    assert "SECURITY_RESET_PASSWORD_WITHIN" not in lines  # the same, in other words
    assert "SECURITY_TOKEN_MAX_AGE" not in lines
    assert lines["SECRET_KEY"] == '"(hidden)"  # FLASK_SECRET_KEY; no default'
    as_json = json.loads(types("config", "diff", "--format", "json", FLASK_MAIL_PORT="587").stdout)
    assert {"name": "MAIL_PORT", "value": "587", "origin": "FLASK_MAIL_PORT", "default": 25} in as_json


def test_the_command_prints_a_valid_schema() -> None:
    assert json.loads(types("config", "schema").stdout) == SCHEMA
    assert jsonschema_rs.meta.is_valid(SCHEMA)


@pytest.mark.parametrize("name", ["default", "production", "development", "spa"])
def test_an_editor_is_content_with_the_examples(name: str) -> None:
    values = tomllib.loads((ROOT / f"config/{name}.toml").read_text())
    wrong = jsonschema_rs.validator_for(SCHEMA).iter_errors(values)
    assert [error.message for error in wrong] == []


@pytest.mark.parametrize(
    "line",
    [
        'MAIL_SEVER = "x"',
        "MAIL_PORT = 99999",
        'MAIL_PORT = "25"',
        "RECOVERY_MAIL_COOLDOWN = 5",
        'RECOVERY_MAIL_COOLDOWN = "5m"',
        'RECOVERY_LOG_FORMAT = "jsno"',
        'RECOVERY_CLIENTS = { web = { rest_view = "https://a.example" } }',
        "SECURITY_PASSWORD_LENGTH_MIN = 7",
        "SECURITY_RECOVERABLE = false",
        'SQLALCHEMY_DATABASE_URI = "mysql://x"',
        'SECURITY_TRACKABLE = "yes"',
        'RECOVERY_PUBLIC_URL = "id.example.com"',
    ],
)
def test_an_editor_underlines_a_mistake(line: str) -> None:
    assert not jsonschema_rs.validator_for(SCHEMA).is_valid(tomllib.loads(line))
    meaning = SCHEMA["properties"]["SECURITY_RESET_PASSWORD_WITHIN"]["description"]
    assert "How long a reset link works" in meaning
    assert "at most 24 hours" in meaning
