"""Templates: the admin's override ours, and ours override Flask-Security's. Most belong to a feature."""

from pathlib import PurePath

from flask import Flask
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PrefixLoader

from ..settings import current
from ..settings.features import by_feature
from ..settings.schema import Settings
from ..settings.sources import ROOT

SHIPPED = ROOT / "templates"
SUFFIXES = (".html", ".txt")


def init_app(app: Flask, settings: Settings) -> None:
    """Load templates. An override can extend the original under the prefix `shipped/`."""
    own = FileSystemLoader(SHIPPED)
    loaders: list[BaseLoader] = [own, PrefixLoader({"shipped": own})]
    if settings.RECOVERY_TEMPLATE_DIR:
        loaders.insert(0, FileSystemLoader(settings.RECOVERY_TEMPLATE_DIR))
    app.jinja_loader = ChoiceLoader(loaders)
    app.jinja_env.globals["settings"] = settings


def overridden(settings: Settings) -> list[str]:
    """Return the names of the admin's own templates, such as security/email/reset_notice.txt."""
    folder = settings.RECOVERY_TEMPLATE_DIR
    names = FileSystemLoader(folder, followlinks=True).list_templates() if folder else []
    return [name for name in names if name.endswith(SUFFIXES) and "/." not in f"/{name}"]  # none is hidden


def feature_of(template: str) -> str:
    """Return the setting that a mail or page needs; empty if it needs none."""
    name, beginnings = PurePath(template).name, by_feature("templates").items()
    return next((setting for setting, names in beginnings if name.startswith(tuple(names))), "")


def is_enabled(template: str) -> bool:
    """True if the settings let this mail go out, or this page be shown."""
    feature = feature_of(template)
    return not feature or bool(getattr(current(), feature))
