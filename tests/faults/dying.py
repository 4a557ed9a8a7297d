"""Kills processes at a point. Reads lines of JSON, a story with its arguments, and forks for each story.

The child runs the story, and gets SIGKILL at its n-th point. Points are before each statement that writes, and
before and after each commit of such statements. Before a statement that only reads there is none: an uncommitted
write is undone wherever the process dies, so it would die as at the point before or the point after.
"""

import gc
import json
import os
import signal
import sys
from itertools import count
from typing import Any

from flask import Flask
from sqlalchemy import event

from app import create_app
from app.accounts import common_passwords
from app.db.engine import db
from app.mail import worker
from app.settings import load
from app.web import templates

READING = ("SELECT", "SET", "PRAGMA", "ATTACH")


def deploy(environ: dict[str, str]) -> Flask:
    """Return an app that has read what its first requests would read."""
    os.environ.clear()
    os.environ.update(environ)
    app = create_app(load())
    for path in templates.SHIPPED.rglob("*.*"):
        app.jinja_env.get_template(path.relative_to(templates.SHIPPED).as_posix())
    app.test_client().get("/healthz", base_url=app.config["RECOVERY_PUBLIC_URL"])
    gc.freeze()  # or the first collection of each child would copy all of it
    return app


def ask(app: Flask, identity: str) -> None:
    _post(app, "/reset", identity=identity)


def work(app: Flask) -> None:
    with app.app_context():
        worker.work_until_done()


def redeem(app: Flask, token: str, password: str) -> None:
    _post(app, f"/reset/{token}", password=password)


def _post(app: Flask, path: str, **body: str) -> None:
    answer = app.test_client().post(path, base_url=app.config["RECOVERY_PUBLIC_URL"], json=body)
    assert answer.status_code == 200, answer.text


def kill_at(app: Flask, point: int) -> None:
    numbers = count(1)
    has_written = False

    def pass_point() -> None:
        if next(numbers) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal has_written
        if not statement.startswith(READING):
            has_written = True
            pass_point()

    def commit(connection: Any) -> None:
        nonlocal has_written
        is_write, has_written = has_written, False
        if is_write:
            pass_point()
        commit_really(connection)
        if is_write:
            pass_point()

    with app.app_context():
        engine = db.engine
        engine.dispose(close=False)  # its connections belong to the parent
    event.listen(engine, "before_cursor_execute", before_statement)
    commit_really, engine.dialect.do_commit = engine.dialect.do_commit, commit


def outcome(app: Flask, point: int, story: str, *words: str) -> str:
    child = os.fork()
    if child == 0:
        try:
            kill_at(app, point)
            {"ask": ask, "work": work, "redeem": redeem}[story](app, *words)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else f"survived {os.WEXITSTATUS(status)}"


common_passwords.reason_guessed("reads the list", [])
for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, dict):
        app = deploy(request)
    else:
        print(outcome(app, *request), flush=True)
