"""The application factory. `install_parts` is the table of contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from .settings.schema import Settings

__version__ = "1.0.0"

# The imports are in the functions, because the command line is in this package, and most of its commands need
# no web application.


def create_app(settings: Settings | None = None, *, checked: bool = True) -> Flask:
    """Return the WSGI application. Without settings, read them, and exit with a message if they are bad.

    Raises SettingsError for errors that the start-up checks find, unless `checked` is false.
    """
    from flask import Flask

    from .settings import checks, exit_on_settings_error, extensions, forced, load

    if settings is None:
        with exit_on_settings_error():
            return create_app(load(), checked=checked)
    app = Flask(__name__, static_folder="pages/static", static_url_path="/static")
    app.config.update(forced.flask_config(settings))
    app.extensions["recovery_settings"] = settings
    install_parts(app, settings)
    extensions.run_extensions(app, settings)
    if checked:
        checks.refuse_errors(app, settings)
    return app


def install_parts(app: Flask, settings: Settings) -> None:
    """Install every part in the order in which a request passes them."""
    from . import security
    from .db import engine, migrations
    from .mail import backends
    from .pages import metrics, template_checks, translation_checks, views, whoami  # noqa: F401  # checks register
    from .recovery import not_me, notices, other_requests  # noqa: F401  # other_requests registers composers
    from .web import branding, errors, headers, i18n, logging, public_url, rate_limits, return_to, templates

    templates.init_app(app, settings)
    i18n.init_app(app, settings)
    branding.init_app(app, settings)
    public_url.init_app(app, settings)
    engine.init_app(app)
    migrations.init_app(app)
    backends.init_app(app, settings)
    security.init_app(app, settings)
    return_to.init_app(app)
    notices.init_app(app)
    app.register_blueprint(not_me.objections)
    rate_limits.init_app(app, settings)
    headers.init_app(app, settings)
    logging.init_app(app, settings)
    errors.init_app(app)
    app.register_blueprint(views.pages)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(whoami.blueprint)
