"""`manage.py config` and `manage.py check`: what is set, where it comes from, and what is wrong with it.

Both work without a bootable app.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click
from sqlalchemy.engine import make_url

from .. import settings
from ..errors import Problem

HIDDEN = "(hidden)"
SECRET = re.compile(r"SECRET|SALT|PASSWORD$|_KEYS?$|_CONFIG$|ENGINE_OPTIONS$")


@click.group()
def config() -> None:
    """What is set, and where it comes from."""


@config.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def show(form: str) -> None:
    """Every setting with its value and origin; secrets are hidden. Exits 1 when something is wrong."""
    reading = settings.examine()
    # A name that is wrong may be a secret's, misspelt; a value that is wrong may hold one.
    suspicious = {problem.name.partition(".")[0] for problem in reading.problems}
    rows = [
        {"name": name, "value": _shown(name, value, suspicious), "origin": reading.found.origin_of(name)}
        for name, value in sorted(reading.found.values.items())
    ]
    if form == "json":
        problems = [vars(problem) for problem in reading.problems]
        click.echo(json.dumps({"settings": rows, "problems": problems}, indent=2, default=str))
    else:
        for row in rows:
            value = json.dumps(row["value"], ensure_ascii=False, default=str)
            click.echo(f"{row['name']} = {value}  # {row['origin']}")
        _report(reading.problems)
    sys.exit(1 if reading.problems else 0)


@click.command()
def check() -> None:
    """Look for mistakes in the configuration. Exits 1 when there are any."""
    problems = settings.examine().problems
    _report(problems)
    if problems:
        sys.exit(1)
    click.echo("The configuration is fine.")


def _report(problems: list[Problem]) -> None:
    for problem in problems:
        click.echo(f"{click.style('error', fg='red')}: {problem}", err=True)


def _shown(name: str, value: Any, suspicious: set[str]) -> Any:
    if not value:
        return value
    if SECRET.search(name) or name in suspicious:
        return HIDDEN
    return _without_password(value) if name == "SQLALCHEMY_DATABASE_URI" else value


def _without_password(uri: str) -> str:
    """The URI is a good one, or it would be hidden. A query may hold a password, too."""
    return make_url(uri).set(query={}).render_as_string(hide_password=True)
