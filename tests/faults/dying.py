"""Kills processes at a point: reads `story point words...` from stdin, and forks for each.

The child runs the story, and gets SIGKILL before its n-th statement or commit. The moment after a statement is
not tried, because nothing outside the database happens until the next statement or commit.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import Any

from sqlalchemy import event

from app import create_app
from app.accounts import common_passwords
from app.db.engine import db
from app.mail import worker
from app.settings import load
from app.web import templates

app = create_app(load())
BASE = app.config["RECOVERY_PUBLIC_URL"]

# Warm up once for all children: read the list of passwords, and compile the templates.
common_passwords.is_common("")
for template in templates.shipped():
    app.jinja_env.get_template(template)
app.test_client().get("/healthz", base_url=BASE)


def ask(identity: str) -> None:
    _post("/reset", identity=identity)


def work() -> None:
    with app.app_context():
        worker.work_until_done()


def redeem(token: str, password: str) -> None:
    _post(f"/reset/{token}", password=password)


def _post(path: str, **body: str) -> None:
    answer = app.test_client().post(path, base_url=BASE, json=body)
    assert answer.status_code == 200, answer.text


def kill_at(point: int) -> None:
    numbers = count(1)

    def count_down(*_: Any) -> None:
        if next(numbers) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with app.app_context():
        engine = db.engine
        engine.dispose(close=False)  # its connections belong to the parent
    for moment in ("before_cursor_execute", "commit"):
        event.listen(engine, moment, count_down)


for line in sys.stdin:
    story, point, *words = line.split()
    child = os.fork()
    if child == 0:
        try:
            kill_at(int(point))
            {"ask": ask, "work": work, "redeem": redeem}[story](*words)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else f"survived {os.WEXITSTATUS(status)}", flush=True)
