#!/usr/bin/env python
"""Sparekey's command line: Flask's and Flask-Security's commands, and the admin's tools of app/cli."""

import logging
from contextlib import nullcontext

import click
from flask import Flask

from app import __version__
from app.cli import Commands

STAY = ("run", "worker")  # an admin's other tools must work while something is wrong


def quiet_app() -> Flask:
    from app import create_app  # not every command needs an app
    from app.settings import exit_on_settings_error, load

    command = click.get_current_context().info_name
    # `check` lists these errors among its findings.
    with nullcontext() if command == "check" else exit_on_settings_error(code=1):
        app = create_app(load(), checked=command in STAY)
    app.logger.setLevel(logging.WARNING)  # the audit trail records what an admin does
    return app


cli = Commands(create_app=quiet_app, load_dotenv=False, add_version_option=False)
click.version_option(__version__, message="Sparekey %(version)s")(cli)

if __name__ == "__main__":
    cli()
