#!/usr/bin/env python
"""Sparekey's command line: Flask's and Flask-Security's commands, and the admin's tools of app/cli."""

from flask import Flask

from app import create_app, logs
from app.cli import Commands, config, demo, events, outbox, worker
from app.settings import load_or_exit


def quiet_app() -> Flask:
    app = create_app(load_or_exit(code=1))
    logs.only_warnings(app)
    return app


cli = Commands(create_app=quiet_app, load_dotenv=False)
cli.add_command(worker.worker)
cli.add_command(outbox.group)
cli.add_command(events.events)
cli.add_command(config.check)
cli.add_command(config.config)
cli.add_command(demo.demo)

if __name__ == "__main__":
    cli()
