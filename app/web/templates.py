"""Template folders: the admin's before ours, and ours before Flask-Security's."""

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
    """Load templates. `shipped/` reaches ours from a file that replaces it, so that it may extend it."""
    ours = FileSystemLoader(SHIPPED)
    loaders: list[BaseLoader] = [ours, PrefixLoader({"shipped": ours})]
    if settings.RECOVERY_TEMPLATE_DIR:
        loaders.insert(0, FileSystemLoader(settings.RECOVERY_TEMPLATE_DIR))
    app.jinja_loader = ChoiceLoader(loaders)
    app.jinja_env.globals["settings"] = settings


def replaced(settings: Settings) -> Iterator[str]:
    """Yield the names of the admin's own templates, such as security/email/reset_notice.txt."""
    if settings.RECOVERY_TEMPLATE_DIR:
        yield from _names_in(Path(settings.RECOVERY_TEMPLATE_DIR))


def shipped() -> Iterator[str]:
    """Yield the names of our templates."""
    yield from _names_in(SHIPPED)


def _names_in(folder: Path) -> Iterator[str]:
    """Follow links, as Jinja does, each folder once; skip hidden files."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        seen.add(real)
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()
