"""`manage.py config`: what is set, where it comes from, what it means. Works without a bootable app."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from datetime import timedelta
from typing import Any

import click
from sqlalchemy.engine import make_url

from .. import settings
from ..settings import sources
from ..settings.forced import FORCED
from ..settings.library_settings import LIBRARY_SETTINGS, of_flask_security, unknown
from . import reference
from .output import Row, format_option, plain, write_fields, write_json

HIDDEN = "(hidden)"
SECRET = re.compile(r"SECRET|SALT|PASSWORD$|METRICS_TOKEN$|_KEYS?$|_CONFIG$|ENGINE_OPTIONS$|HASH_OPTIONS$")
WIDTH = 100  # of text for people, in characters
_URIS = ("SQLALCHEMY_DATABASE_URI", "RATELIMIT_STORAGE_URI")
_SECONDS = {"week": 7 * 86_400, "day": 86_400, "hour": 3_600, "minute": 60}


@click.group()
def config() -> None:
    """What is set, where it comes from, and what it means."""


@config.command()
@format_option
def show(form: str) -> None:
    """Every setting with its value and origin; secrets are hidden. Exits 1 when something is wrong."""
    reading = settings.examine()
    rows = [_row(name, reading) for name in sorted(reading.found.values)]
    if form == "json":
        write_json({"settings": rows, "problems": [vars(problem) for problem in reading.problems]})
    for row in rows if form == "text" else ():
        click.echo(plain(f"{row['name']} = {in_toml(row['value'])}  # {row['origin']}"))
    _end(reading)


@config.command()
@format_option
def diff(form: str) -> None:
    """What differs from the defaults, with its origin. Exits 1 when something is wrong."""
    reading, defaults = settings.examine(), _defaults()
    names = [name for name, value in reading.found.values.items() if not _same(name, value, defaults)]
    rows: list[Row] = [{**_row(name, reading), "default": defaults.get(name)} for name in names]
    if form == "json":
        write_json(rows)
    for row in rows if form == "text" else ():
        default = f"default {in_toml(row['default'])}" if row["name"] in defaults else "no default"
        click.echo(plain(f"{row['name']} = {in_toml(row['value'])}  # {row['origin']}; {default}"))
    _end(reading)


@config.command()
@click.argument("name")
def explain(name: str) -> None:
    """What a setting means, what it takes, its default, what is set, and what it goes together with."""
    name = name.upper().removeprefix(sources.PREFIX).removesuffix(sources.SECRET_FILE)
    if name in FORCED:
        value, why = FORCED[name]
        click.echo(f"{name} can not be set.\n\nIt is {in_toml(value)}: {why}.")
        return
    if not name.strip("_"):
        raise click.UsageError("name a setting; manage.py config show lists them")
    if not reference.takes(name) and name not in of_flask_security():
        words = name.split("_")
        near = [known for known in reference.entries() if all(word in known for word in words)]
        also = f"; there is {', '.join(near)}" if near else ""
        raise click.ClickException(f"{name}: {unknown(name)}{also}")
    entry = reference.entries().get(name)
    theirs = f"Flask-Security's own: {reference.FST_DOCS}"
    meaning = entry.meaning if entry else "Flask's own." if name in LIBRARY_SETTINGS else theirs
    click.echo(f"{click.style(name, bold=True)}\n\n{textwrap.indent(meaning, '  ')}\n")
    write_fields(_facts(name, entry))


@config.command()
def schema() -> None:
    """A JSON Schema of the settings file: config/schema.json, for your editor."""
    click.echo(json.dumps(reference.schema(), indent=2))


def _facts(name: str, entry: reference.Entry | None) -> Row:
    reading, defaults = settings.examine(), _defaults()
    problems = [problem.message for problem in reading.problems if problem.name.partition(".")[0] == name]
    is_set = name in reading.found.values
    row = _row(name, reading)
    return {
        "takes": reference.takes(name) or "whatever Flask-Security takes",
        "default": in_toml(defaults[name]) if name in defaults else "none",
        "example": f"{name} = {entry.value}" if entry and entry.is_example else None,
        "now": f"{in_toml(row['value'])}, from {row['origin']}" if is_set else "not set",
        "but": "; ".join(problems),
        "variable": f"{sources.PREFIX}{name}"
        + (
            f", or a file named in {sources.PREFIX}{name}{sources.SECRET_FILE}" if SECRET.search(name) else ""
        ),
        "see_also": ", ".join(reference.related(name)) if entry else None,
    }


def _row(name: str, reading: settings.Reading) -> Row:
    # A name that is wrong may be a secret's, misspelt; a value that is wrong may hold one.
    suspicious = {problem.name.partition(".")[0] for problem in reading.problems}
    value = reading.found.values.get(name)
    return {"name": name, "value": _shown(name, value, suspicious), "origin": reading.found.origin_of(name)}


def _shown(name: str, value: Any, suspicious: set[str]) -> Any:
    if not value:
        return value
    if SECRET.search(name) or name in suspicious:
        return HIDDEN
    return _without_password(value) if name in _URIS else value


def is_secret(name: str, value: Any) -> bool:
    """Whether whoever reads the value has something in hand."""
    has_password = name in _URIS and make_url(str(value)).password is not None
    return bool(value) and (SECRET.search(name) is not None or has_password)


def _without_password(uri: str) -> str:
    """The URI is a good one, or it would be hidden. A query may hold a password, too, and with Redis what
    stands before @ alone."""
    user = r"(?<=://)([^@/:]*:)[^@/]*@" if not uri.startswith("redis") else r"(?<=://)()[^@/]*@"
    return re.sub(user, r"\1***@", uri.partition("?")[0])


def _defaults() -> dict[str, Any]:
    """The default of every setting that has one."""
    of_fst = of_flask_security().items()
    theirs = {name: value for name, value in of_fst if value is not None and not callable(value)}
    return {**theirs, **sources.read({}, {}).values}


def _same(name: str, value: Any, defaults: dict[str, Any]) -> bool:
    return name in defaults and settings.normal(name, value) == settings.normal(name, defaults[name])


def in_toml(value: Any) -> str:
    """As it would stand in the file. Good for reading; not every value is one that TOML can hold."""
    if isinstance(value, timedelta):
        value = _in_words(value)
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{key} = {in_toml(item)}" for key, item in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, (list, tuple, set)):
        return "[" + ", ".join(in_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _in_words(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, length in _SECONDS.items():
        if seconds and seconds % length == 0:
            return f"{seconds / length:g} {unit}{'s' * (seconds != length)}"
    return f"{seconds:g} seconds"


def _end(reading: settings.Reading) -> None:
    """Say what is wrong, and let the exit code say so, too."""
    for problem in reading.problems:
        click.echo(f"{click.style('error', fg='red')}: {problem}", err=True)
    sys.exit(1 if reading.problems else 0)
