"""`manage.py config`: settings with their values, origins and meanings. Works without a bootable app."""

import json
import re
import sys
import textwrap
from datetime import timedelta
from typing import Any

import click
import humanize
from sqlalchemy.engine import make_url

from ..mail.composing import SUBJECT_SETTINGS
from ..settings import advice, examine, normalize, sources
from ..settings.forced import FORCED, default_values, flask_config
from ..settings.library_settings import describe_unknown, flask_security_defaults, reason_refused
from . import config_reference as reference
from .output import Row, format_option, plain, write_fields, write_json

SECRET = re.compile(
    r"SECRET|SALT|PASSWORD$|(METRICS|OAUTH_REFRESH)_TOKEN$|_KEYS?$|_CONFIG$|(ENGINE|HASH)_OPTIONS$"
)
URIS = ("SQLALCHEMY_DATABASE_URI", "RATELIMIT_STORAGE_URI")


@click.group()
def config() -> None:
    """Show settings, their origins, and their meanings."""


@config.command()
@format_option
def show(form: str) -> None:
    """Show every setting with its value and origin. Secrets are hidden. Exits with 1 if one is invalid."""
    reading = examine()
    rows = [_row(name, reading) for name in sorted(reading.values)]
    if form == "json":
        write_json({"settings": rows, "problems": [vars(problem) for problem in reading.problems]})
    else:
        for row in rows:
            click.echo(plain(_line(row)))
    _exit(reading)


@config.command()
@format_option
def diff(form: str) -> None:
    """Show the settings that differ from their defaults. Exits with 1 if a setting is invalid."""
    reading = examine()
    defaults = _defaults(reading)
    rows = [
        {**_row(name, reading), "default": defaults.get(name)}
        for name, value in reading.values.items()
        if name not in defaults or normalize(name, value) != normalize(name, defaults[name])
    ]
    if form == "json":
        write_json(rows)
    else:
        for row in rows:
            default = f"default {in_toml(row['default'])}" if row["name"] in defaults else "no default"
            click.echo(plain(f"{_line(row)}; {default}"))
    _exit(reading)


@config.command()
@click.argument("name")
def explain(name: str) -> None:
    """Explain a setting: meaning, type, default and current value."""
    name = name.upper().removeprefix(sources.PREFIX).removesuffix(sources.FILE_SUFFIX)
    if reason := reason_refused(name):
        values = _used_values(examine())
        value = f"It is {in_toml(values[name])}: " if name in values else ""
        click.echo(f"{name} cannot be set.\n\n{value}{reason}.")
        return
    if not reference.takes(name) and name not in flask_security_defaults():
        words = name.split("_")
        near = [known for known in reference.entries() if all(word in known for word in words)]
        also = f"; there is {', '.join(near)}" if near else ""
        raise click.ClickException(f"{name}: {describe_unknown(name)}{also}")
    entry = reference.entries().get(name)
    fallback = (
        f"Flask-Security's own: {reference.FST_DOCS}" if name.startswith("SECURITY_") else "Flask's own."
    )
    meaning = textwrap.indent(entry.meaning if entry else fallback, "  ")
    click.echo(f"{click.style(name, bold=True)}\n\n{meaning}\n")
    write_fields(_facts(name, entry))


@config.command()
def schema() -> None:
    """Print a JSON Schema of the settings file, for your editor."""
    click.echo(json.dumps(reference.schema(), indent=2))


def _facts(name: str, entry: reference.Entry | None) -> Row:
    reading = examine()
    defaults, row = _defaults(reading), _row(name, reading)
    variable = f"{sources.PREFIX}{name}"
    in_file = f", or a file named in {variable}{sources.FILE_SUFFIX}" if SECRET.search(name) else ""
    unset = "the default" if name in defaults else "not set"
    return {
        "takes": reference.takes(name) or "anything that Flask-Security accepts",
        "default": in_toml(defaults[name]) if name in defaults else "none",
        "example": f"{name} = {entry.value}" if entry and entry.is_example else None,
        "now": f"{in_toml(row['value'])}, from {row['origin']}" if name in reading.values else unset,
        "but": "; ".join(_problems(name, reading)),
        "no_effect_without": row["no_effect_without"],
        "variable": variable + in_file,
    }


def _problems(name: str, reading: sources.Reading) -> list[str]:
    return [problem.message for problem in reading.problems if problem.name.partition(".")[0] == name]


def _row(name: str, reading: sources.Reading) -> Row:
    value = reading.values.get(name)
    used = _used_values(reading).get(name, value)
    if name.startswith("SECURITY_") and normalize(name, value) != used:
        value = used
    # A wrong name may be a misspelled secret's, and a wrong value may contain a secret.
    if value and (SECRET.search(name) or _problems(name, reading)):
        value = "(hidden)" if SECRET.search(name) else "(hidden: invalid)"
    elif value and name in URIS:
        value = _without_password(value)
    feature = advice.missing_feature(reading.settings, name) if reading.settings else None
    return {"name": name, "value": value, "origin": reading.origin_of(name), "no_effect_without": feature}


def is_secret(name: str, value: Any) -> bool:
    """True if the value must be hidden from other users of the machine."""
    has_password = name in URIS and make_url(str(value)).password is not None
    return bool(value) and (SECRET.search(name) is not None or has_password)


def _without_password(uri: str) -> str:
    """Return the URI with *** for its password, without the query and without Redis's user."""
    url = make_url(uri).set(query={})
    return (url.set(username=None) if url.drivername.startswith("redis") else url).render_as_string()


def _used_values(reading: sources.Reading) -> dict[str, Any]:
    """Return the values that libraries get. If the settings are invalid, return those that are forced."""
    if reading.settings is None:
        return {name: value for name, (value, _) in FORCED.items()}
    return flask_config(reading.settings)


def _defaults(reading: sources.Reading) -> dict[str, Any]:
    """Return the default of every setting that has one."""
    files = {name: f"that of {template}.subject.txt" for template, name in SUBJECT_SETTINGS.items()}
    own = default_values(reading.settings) if reading.settings else {}
    library = flask_security_defaults() | files | own
    usable = {name: value for name, value in library.items() if value is not None and not callable(value)}
    return {**usable, **sources.read({}, {}).values}


def _line(row: Row) -> str:
    note = f"; no effect without {row['no_effect_without']}" if row["no_effect_without"] else ""
    return f"{row['name']} = {in_toml(row['value'])}  # {row['origin']}{note}"


def in_toml(value: Any) -> str:
    """Return a value in TOML's notation, for reading only: TOML cannot express every value."""
    if isinstance(value, timedelta):
        value = humanize.precisedelta(value, suppress=["months", "years"])
    if isinstance(value, dict):
        items = ", ".join(f"{key} = {in_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, (list, tuple, set)):
        return f"[{', '.join(map(in_toml, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _exit(reading: sources.Reading) -> None:
    """Write the problems, and exit with 1 if there is one."""
    for problem in reading.problems:
        click.echo(f"{click.style('error', fg='red')}: {problem}", err=True)
    sys.exit(1 if reading.problems else 0)
