#!/usr/bin/env python
"""Sparekey's command line: Flask's and Flask-Security's commands, and the admin's tools of app/cli."""

import click
from flask import Flask

from app import create_app, logs
from app.cli import (
    Commands,
    check,
    config,
    demo,
    doctor,
    events,
    limits,
    links,
    mail,
    outbox,
    purge,
    restore,
    worker,
)
from app.settings import in_plain_words, load

STAY = ("run", "worker")  # an admin's other tools must work while something is wrong


def quiet_app() -> Flask:
    command = click.get_current_context().info_name
    with in_plain_words(code=1):
        app = create_app(load(), checked=command in STAY)
    logs.only_warnings(app)
    return app


cli = Commands(create_app=quiet_app, load_dotenv=False)
cli.add_command(worker.worker)
cli.add_command(outbox.group)
cli.add_command(events.events)
cli.add_command(links.group)
cli.add_command(limits.group)
cli.add_command(purge.purge)
cli.add_command(restore.after_restore)
cli.add_command(check.check)
cli.add_command(config.config)
cli.add_command(mail.mail)
cli.add_command(demo.demo)
cli.add_command(doctor.doctor)

if __name__ == "__main__":
    cli()
