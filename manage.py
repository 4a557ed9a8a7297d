#!/usr/bin/env python
"""Sparekey's command line: Flask's and Flask-Security's commands, and the admin's tools of app/cli."""

from flask import Flask

from app import create_app, logs
from app.cli import Commands, check, config, demo, events, mail, outbox, worker
from app.settings import in_plain_words, load


def quiet_app(*, checked: bool = True) -> Flask:
    """`checked=False`: for the commands that show what is wrong."""
    with in_plain_words(code=1):
        app = create_app(load(), checked=checked)
    logs.only_warnings(app)
    return app


cli = Commands(create_app=quiet_app, load_dotenv=False)
cli.add_command(worker.worker)
cli.add_command(outbox.group)
cli.add_command(events.events)
cli.add_command(check.check)
cli.add_command(config.config)
cli.add_command(mail.mail)
cli.add_command(demo.demo)

if __name__ == "__main__":
    cli()
