"""Sparekey: self-hosted password recovery for web applications. Read `create_app` as the contents."""

from __future__ import annotations

from . import audit, headers, inbox, limits, logs, mail, migrations, objections, pages, security, urls
from .db import db
from .layers import ROOT
from .settings import Settings, load_or_exit


def create_app(settings: Settings | None = None) -> urls.Application:
    """The WSGI application. Without settings it reads them, and exits in plain words if it can not."""
    settings = settings or load_or_exit()
    app = urls.Application(__name__, template_folder=str(ROOT / "templates"))
    app.config.update(settings.as_config())
    app.extensions["recovery_settings"] = settings

    urls.init_app(app, settings)
    db.init_app(app)
    migrations.init_app(app)
    mail.init_app(app, settings)
    security.init_app(app, settings)
    objections.init_app(app)
    limits.init_app(app, settings)
    headers.init_app(app, settings)
    logs.init_app(app, settings)
    audit.init_app(app)
    pages.init_app(app, settings)
    inbox.init_app(app, settings)
    return app
