"""Template folders: the admin's override ours, and ours override Flask-Security's."""

from flask import Flask
from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PrefixLoader

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
    return _names_in(FileSystemLoader(folder, followlinks=True)) if folder else []


def shipped() -> list[str]:
    """Return the names of our templates."""
    return _names_in(FileSystemLoader(SHIPPED))


def _names_in(loader: FileSystemLoader) -> list[str]:
    """Return the loader's templates, without hidden files and folders."""
    return [name for name in loader.list_templates() if name.endswith(SUFFIXES) and "/." not in f"/{name}"]
