"""Where templates come from, and what all of them know."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import humanize
from flask import Flask
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PrefixLoader

from .layers import ROOT
from .settings import Settings

SHIPPED = ROOT / "templates"
SUFFIXES = (".html", ".txt")


def init_app(app: Flask, settings: Settings) -> None:
    """An admin's file goes before ours, and ours before Flask-Security's. `shipped/` reaches ours from a file
    that replaces it, so that it may change one block and extend the rest.
    """
    shipped = FileSystemLoader(SHIPPED)
    loaders: list[BaseLoader] = [shipped, PrefixLoader({"shipped": shipped})]
    if settings.RECOVERY_TEMPLATE_DIR:
        loaders.insert(0, FileSystemLoader(settings.RECOVERY_TEMPLATE_DIR))
    app.jinja_loader = ChoiceLoader(loaders)
    app.jinja_env.globals["settings"] = settings
    app.jinja_env.filters["duration"] = partial(humanize.precisedelta, format="%0.0f")


def replaced(settings: Settings) -> Iterator[str]:
    """The names of the admin's own templates, such as security/email/reset_notice.txt."""
    if settings.RECOVERY_TEMPLATE_DIR:
        yield from _names_in(Path(settings.RECOVERY_TEMPLATE_DIR))


def shipped() -> Iterator[str]:
    yield from _names_in(SHIPPED)


def _names_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and path.is_file():
            yield path.relative_to(folder).as_posix()
