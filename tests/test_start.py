"""What a start costs: nothing is imported that nobody asked for, and nothing while somebody waits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import click
import pytest
from conftest import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, ROOT, SECRETS, Admin, uncounted

from app.cli import COMMANDS

# Each takes longer to import than the list of commands takes to print, or imports one that does.
HEAVY = """
    alembic babel bleach css_inline cryptography dns flask_migrate flask_security limits phonenumbers
    prometheus_client pydantic qrcode sqlalchemy webauthn wtforms
""".split()  # noqa: SIM905  # reads as a line


def said_by(script: str, given: str = "", **environ: str) -> list[str]:
    """The words that a Python of its own prints."""
    environ = {**uncounted(), **SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, **environ}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, input=given, check=True, stdout=subprocess.PIPE, text=True
    )
    return ended.stdout.split()


def test_the_list_of_commands_imports_none_of_them() -> None:
    loaded = said_by(
        "import sys, manage\ntry: manage.cli(['--help'])\nexcept SystemExit: print('MODULES', *sys.modules)\n"
    )
    assert {"worker", "users", "run", "MODULES", "app.cli"} <= set(loaded)
    assert not set(loaded[loaded.index("MODULES") :]) & {*HEAVY, "app.security", "app.settings"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_list_says_of_a_command_is_what_the_command_says(name: str) -> None:
    place, line = COMMANDS[name]
    command: click.Command = resolve_name(place)
    assert command.get_short_help_str(limit=500) == line
    assert command.name == name or place.startswith("flask_migrate.")


def test_commands_of_plugins_are_listed_and_found(tmp_path: Path) -> None:
    """A distribution registers them as entry points; ours keep their names, as `worker` here."""
    (tmp_path / "greetings.py").write_text(
        "import click\n@click.command()\n@click.argument('name')\ndef greet(name):\n"
        "    'Say hello.'\n    click.echo(f'Hello, {name}')\n"
    )
    about = tmp_path / "greetings-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[flask.commands]\ngreet = greetings:greet\nworker = greetings:greet\n"
    )

    def printed(*words: str) -> str:
        command, environ = [sys.executable, "manage.py", *words], {**uncounted(), "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    listed = printed("--help")
    assert re.search(r"^ +greet +Say hello\.$", listed, re.M)
    assert listed.count(COMMANDS["worker"][1]) == 1
    assert printed("greet", "alice") == "Hello, alice\n"
    assert "--once" in printed("worker", "--help")


def test_what_only_commands_and_mails_need_is_not_in_a_server() -> None:
    loaded = said_by("import sys, app; app.create_app(); print(*sys.modules)")
    assert not set(loaded) & {
        "alembic",
        "css_inline",
        "prometheus_client",
        "qrcode",
        "app.cli",
    }


ASKS = """
import json, sys, app
visitor = app.create_app().test_client()
before = set(sys.modules)
for path, body in json.loads(sys.stdin.read()):
    print(visitor.post(path, base_url="http://127.0.0.1:5000", json=body).status_code)
print(*set(sys.modules) - before)
"""
# Of what was typed, whoever it belongs to: a number's country, a name's markup. And the list of common
# passwords, which is for whoever holds a link already (blocklist.py).
OF_WHAT_WAS_TYPED = ("phonenumbers.data.", "bleach._vendor.", "xml.dom", "encodings.", "zxcvbn")


def test_nobody_waits_for_an_import(database: Callable[[], str]) -> None:
    """Or the first answer would tell whether there was more to do."""
    uri = database()
    made = Admin(uri, mail_port=1).types(
        "users", "reset-link", "alice", "--reason", "a test", "--format=json"
    )
    link = json.loads(made.stdout)["link"]
    chosen = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    posts = [
        *(("/reset", {"identity": who}) for who in ("alice@example.com", "alice", "+14155550123")),
        ("/login", {"identity": "alice", "password": "not the password of alice"}),
        ("/login", {"identity": "nobody", "password": "not the password of alice"}),
        ("/login", {"identity": "alice", "password": OLD_PASSWORD}),
        ("/logout", {}),
        (f"/reset/{link.rsplit('/', 1)[1]}", chosen),
    ]
    told = said_by(ASKS, json.dumps(posts), FLASK_SQLALCHEMY_DATABASE_URI=uri)
    codes, modules = told[: len(posts)], told[len(posts) :]
    assert codes == ["200", "200", "200", "400", "400", "200", "200", "200"]
    assert not [name for name in modules if not name.startswith(OF_WHAT_WAS_TYPED)]


HASHES = """
import app, threading
from flask_security.utils import hash_password
site = app.create_app()

def used():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

def hashes():
    with site.app_context():
        hash_password("a password of somebody")

hashes()
before = used()
threads = [threading.Thread(target=hashes) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(used() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory is in use")
def test_hashes_of_many_threads_keep_what_as_many_as_may_run_at_once_take() -> None:
    [kept_kib] = said_by(HASHES, FLASK_RECOVERY_HASHES_AT_ONCE="2")
    assert int(kept_kib) < 25_000  # one takes 19 MiB, and was there before
