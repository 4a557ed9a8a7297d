"""Where templates come from, and what all of them know."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PrefixLoader

from ..settings.schema import Settings
from ..settings.sources import ROOT

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


def replaced(settings: Settings) -> Iterator[str]:
    """The names of the admin's own templates, such as security/email/reset_notice.txt."""
    if settings.RECOVERY_TEMPLATE_DIR:
        yield from _names_in(Path(settings.RECOVERY_TEMPLATE_DIR))


def shipped() -> Iterator[str]:
    yield from _names_in(SHIPPED)


def _names_in(folder: Path) -> Iterator[str]:
    """Links are followed, as Jinja does; what starts with a dot is nobody's template."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        seen.add(real)
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()
