"""`make demo`: web pages, worker, inbox and sample SPA on this machine, with one command."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import flask_migrate
from flask import Flask, current_app
from flask_security.utils import hash_password

from app.cli.admin import find_account
from app.db.engine import db
from app.settings import exit_on_settings_error, load
from app.settings.sources import ROOT

from . import create_app

HOST = "127.0.0.1"
START_SECONDS_MAX = 30
GUNICORN = ("--log-level", "warning")

# Created by the demo and nowhere else.
ACCOUNTS = (
    ("alice@example.com", "alice", "+14155550123", "alice will forget this"),
    ("bob@example.com", "bob", "+14155550124", "bob will forget this too"),
    ("carol@example.com", "carol", "+14155550125", "carol keeps forgetting"),
)


@click.command()
@click.option("--port", default=5000, show_default=True, help="The port of the pages.")
def demo(port: int) -> None:
    """Run web pages, worker and inbox on this machine. Ctrl-C stops everything."""
    for needed in (port, port + 1):
        _refuse_taken(needed)
    url, spa = f"http://{HOST}:{port}", f"http://localhost:{port + 1}"
    os.environ.update(
        RECOVERY_CONFIG=str(ROOT / "config" / "development.toml"),
        FLASK_RECOVERY_PUBLIC_URL=url,
        FLASK_RECOVERY_CLIENTS=json.dumps({"spa": _client(spa)}),
        FLASK_SECRET_KEY_FILE=_secret_file("demo-secret-key"),
        FLASK_SECURITY_PASSWORD_SALT_FILE=_secret_file("demo-password-salt"),
    )
    _set_up(_quiet_app())
    processes = [
        _start("-m", "gunicorn", "--bind", f"{HOST}:{port}", *GUNICORN, "examples.demo:create_app()"),
        _start("manage.py", "worker"),
        _start("examples/spa/serve.py", "--port", str(port + 1), "--api", url),
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        _wait_until_up(url, processes)
        _say_hello(url, spa)
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        raise click.ClickException("a part of the demo has stopped; see its message above")
    except _Stopped:
        click.echo("\nStopped. `make demo` starts it again, with the same accounts.")
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in processes:
            process.wait(timeout=30)


class _Stopped(BaseException):
    """Ctrl-C, or SIGTERM."""


def _stop(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # further signals would interrupt the clean-up
    raise _Stopped


def _start(*words: str) -> subprocess.Popen[bytes]:
    """Start a part of the demo in its own session, so that Ctrl-C reaches the demo alone.

    The demo then ends each part once, because a worker of gunicorn 27.0.1 can hang after a second signal.
    """
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True)


def _client(spa: str) -> dict[str, Any]:
    """Return the sample client's settings. `localhost` is another site than `127.0.0.1`, as in production."""
    return {"reset_view": f"{spa}/reset", "reset_error_view": f"{spa}/problem", "origins": [spa]}


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise click.ClickException(
                f"port {port} cannot be used ({error}). Choose another one: make demo PORT=5001"
            ) from None


def _secret_file(name: str) -> str:
    """Return the path of a file with a secret that only this user can read. Create it once."""
    path = ROOT / "instance" / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        draft = path.with_suffix(".part")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        draft.rename(path)
    return str(path)


def _quiet_app() -> Flask:
    """Return the application for command-line use, as manage.py does."""
    with exit_on_settings_error(code=1):
        app = create_app(load(), checked=False)
    app.logger.setLevel(logging.WARNING)
    return app


def _set_up(app: Flask) -> None:
    with app.app_context():
        Path(current_app.instance_path).mkdir(exist_ok=True)
        flask_migrate.upgrade()
        for email, username, phone, password in ACCOUNTS:
            if find_account(email) is None:
                app.extensions["security"].datastore.create_user(
                    email=email,
                    username=username,
                    us_phone_number=phone,
                    password=hash_password(password),
                )
        db.session.commit()


def _wait_until_up(url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        with suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=1):
            return
        time.sleep(0.1)
    raise click.ClickException("the demo did not start; see the message above")


def _say_hello(url: str, spa: str) -> None:
    click.echo(f"\n  Sparekey demo   {url}\n  Inbox           {url}/inbox/\n  Sample SPA      {spa}\n")
    click.echo("  Sample accounts (any of the three names works), with their first passwords:")
    for email, username, phone, password in ACCOUNTS:
        click.echo(f"    {email:<18} {username:<6} {phone}   {password}")
    click.echo("\n  Request a link for one of them, and open the inbox. Ctrl-C stops everything.\n")


if __name__ == "__main__":
    demo()
