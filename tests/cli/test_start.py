"""The cost of a start: processes import what they need, before anyone waits."""

import json
import re
import resource
import subprocess
import sys
from importlib import metadata

import click
import pytest
from click.testing import CliRunner
from support.admin import uncounted
from support.commands import hand_over
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, ROOT, SECRETS, Site

from app.cli import COMMANDS, Commands, worker

HELP_CPU_SECONDS_MAX = 5  # of a core that others use, too; alone it takes one


def run_python(*words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command, environ = [sys.executable, *words], {**uncounted(), **environ}
    return subprocess.run(
        command, cwd=ROOT, env=environ, input=stdin, check=True, capture_output=True, text=True
    )


def test_help_lists_commands_without_configuration() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    ended = run_python("manage.py", "--help")
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    listed = re.findall(r"^  ([a-z-]+)  ", ended.stdout.partition("Commands:")[2], re.M)
    assert {"run", *(command.name for command in COMMANDS)} <= set(listed)
    assert ended.stderr == ""
    assert seconds < HELP_CPU_SECONDS_MAX


@click.command()
@click.argument("name")
def greet(name: str) -> None:
    """Say hello."""
    click.echo(f"Hello, {name}")


def test_plugin_adds_commands_and_replaces_none(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        metadata.EntryPoint(name, f"{__name__}:greet", "flask.commands") for name in ("greet", "worker")
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    cli = Commands(load_dotenv=False)

    def output(*words: str) -> str:
        return CliRunner().invoke(cli, words).output

    assert re.search(r"^ +greet +Say hello\.$", output("--help"), re.M)
    assert output("--help").count(worker.worker.get_short_help_str(limit=100)) == 1
    assert output("greet", "alice") == "Hello, alice\n"
    assert "--once" in output("worker", "--help")


# Posts, and then hashes in many threads.
PRINT_IMPORTS_AND_MEMORY = """
import json, sys, threading, app
from flask_security.utils import hash_password
site = app.create_app()
visitor = site.test_client()
before = set(sys.modules)
posts = json.loads(sys.stdin.read())
codes = [visitor.post(path, base_url="http://127.0.0.1:5000", json=body).status_code for path, body in posts]
imported = set(sys.modules) - before

def kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

def hash_once():
    with site.app_context():
        hash_password("a password of somebody")

hash_once()
used = kib()
threads = [threading.Thread(target=hash_once) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([codes, list(before), list(imported), kib() - used]))
"""
# They depend on the input, and not on whether it belongs to an account: the country of a number, and the list
# of common passwords, which needs a link.
DEPENDS_ON_INPUT = ("phonenumbers.data.", "encodings.", "zxcvbn")


def test_server_imports_what_requests_need_and_keeps_the_memory_of_the_hashes_at_once(site: Site) -> None:
    """If a request imported, the first answer's time would tell whether an account exists."""
    link = hand_over(site)
    posts = [
        *(("/reset", {"identity": identity}) for identity in ("alice@example.com", "alice", "+14155550123")),
        ("/login", {"identity": "alice", "password": "not the password of alice"}),
        ("/login", {"identity": "nobody", "password": "not the password of alice"}),
        ("/login", {"identity": "alice", "password": OLD_PASSWORD}),
        ("/logout", {}),
        (f"/reset/{link.rsplit('/', 1)[1]}", {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}),
    ]
    settings = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, "FLASK_RECOVERY_HASHES_AT_ONCE": "2"}
    settings["FLASK_SQLALCHEMY_DATABASE_URI"] = site.app.config["SQLALCHEMY_DATABASE_URI"]
    ended = run_python("-c", PRINT_IMPORTS_AND_MEMORY, stdin=json.dumps(posts), **settings)
    codes, before, imported, kib = json.loads(ended.stdout)
    assert not {"alembic", "css_inline", "prometheus_client", "qrcode", "app.cli"} & set(before)
    assert codes == [200, 200, 200, 400, 400, 200, 200, 200]
    assert not [name for name in imported if not name.startswith(DEPENDS_ON_INPUT)]
    assert kib < 25_000  # a hash takes 19 MiB, and the first one's are used before
