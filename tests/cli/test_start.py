"""What a start costs: nothing is imported that nobody asked for, and nothing while somebody waits."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.admin import Admin, uncounted
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, ROOT, SECRETS

from app.cli import COMMANDS, worker

HELP_CPU_SECONDS_MAX = 5  # of one core that others use, too; alone it takes one


def said_by(script: str, given: str = "", **environ: str) -> list[str]:
    """The words that a Python of its own prints."""
    environ = {**uncounted(), **SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, **environ}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, input=given, check=True, stdout=subprocess.PIPE, text=True
    )
    return ended.stdout.split()


def test_the_list_of_commands_needs_no_configuration() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    printed = subprocess.run(
        [sys.executable, "manage.py", "--help"],
        cwd=ROOT,
        env=uncounted(),
        check=True,
        capture_output=True,
        text=True,
    )
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    listed = re.findall(r"^  ([a-z-]+)  ", printed.stdout.partition("Commands:")[2], re.M)
    assert {"run", *(command.name for command in COMMANDS)} <= set(listed)
    assert printed.stderr == ""
    assert took < HELP_CPU_SECONDS_MAX


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
    assert listed.count(worker.worker.get_short_help_str(limit=100)) == 1
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
# Of what was typed, whoever it belongs to: a number's country. And the list of common
# passwords, which is for whoever holds a link already (blocklist.py).
OF_WHAT_WAS_TYPED = ("phonenumbers.data.", "encodings.", "zxcvbn")


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
