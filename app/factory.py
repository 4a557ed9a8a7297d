"""The application, part by part. Read `create_app` as the contents."""

from __future__ import annotations

from . import (  # noqa: F401  # they register themselves
    audit,
    brand,
    checks,
    deployment_checks,
    headers,
    limits,
    logs,
    mail,
    metrics,
    migrations,
    objections,
    pages,
    problems,
    security,
    startup,
    templating,
    together,
    urls,
    words,
)
from .db import db
from .layers import ROOT
from .settings import Settings, in_plain_words, load


def create_app(settings: Settings | None = None, *, checked: bool = True) -> urls.Application:
    """The WSGI application. Without settings it reads them, and exits in plain words when they are refused.

    Raises SettingsError for errors among the findings, unless it is not to be `checked`.
    """
    if settings is None:
        with in_plain_words():
            return create_app(load(), checked=checked)
    app = urls.Application(__package__, template_folder=str(ROOT / "templates"))
    app.config.update(settings.as_config())
    app.extensions["recovery_settings"] = settings

    templating.init_app(app, settings)
    words.init_app(app, settings)
    brand.init_app(app, settings)
    urls.init_app(app, settings)
    db.init_app(app)
    together.init_app(app)
    migrations.init_app(app)
    mail.init_app(app, settings)
    security.init_app(app, settings)
    objections.init_app(app)
    limits.init_app(app, settings)
    headers.init_app(app, settings)
    logs.init_app(app, settings)
    audit.init_app(app)
    problems.init_app(app)
    pages.init_app(app)
    metrics.init_app(app)
    if checked:
        startup.refuse_errors(app, settings)
    return app
