"""A process that lets its children die: reads `story point words...` from stdin, forks, and kills the
child with SIGKILL at that point. A point is a moment before or after a statement, or before a commit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
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

# What every child would do again: the list is read, and the templates are compiled.
common_passwords.is_common("")
for template in templates.shipped():
    app.jinja_env.get_template(template)
app.test_client().get("/healthz", base_url=app.config["RECOVERY_PUBLIC_URL"])


def ask(identity: str) -> None:
    post("/reset", identity=identity)


def work() -> None:
    with app.app_context():
        worker.work_until_done()


def redeem(token: str, password: str) -> None:
    post(f"/reset/{token}", password=password)


def post(path: str, **body: str) -> None:
    answer = app.test_client().post(path, base_url=app.config["RECOVERY_PUBLIC_URL"], json=body)
    assert answer.status_code == 200, answer.text


STORIES: dict[str, Callable[..., None]] = {"ask": ask, "work": work, "redeem": redeem}


def die_at(point: int) -> None:
    numbers = count(1)

    def tick(*_: Any) -> None:
        if next(numbers) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    with app.app_context():
        engine = db.engine
        engine.dispose(close=False)  # its connections belong to the parent
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine, moment, tick)


for line in sys.stdin:
    story, point, *words = line.split()
    child = os.fork()
    if child == 0:
        try:
            die_at(int(point))
            STORIES[story](*words)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else f"survived {os.WEXITSTATUS(status)}", flush=True)
