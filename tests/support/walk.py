"""`make walk`: counts the calls that a reader follows through one recovery.

Four steps run in this process, over SQLite and a real SMTP server on this machine: ask (POST /reset in JSON), mail
(the worker takes two messages, one of them for nobody's address), land (GET of the link), redeem (POST of the form).

calls      calls of named functions under app/; lambdas and comprehensions count as part of their function
modules    files under app/ with at least one such call
moves      calls whose module differs from the module of the call before. A return into another module
           counts once, when that module makes its next call
current()  calls of settings.current()

Only the thread that runs the step is counted. Every step runs once before, so one-time work is left out. The round
with the fewest calls is printed, because work that is due once a second falls into any of them.
"""

import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import pairwise
from types import CodeType, FrameType

from support.mailbox import Mailbox, link_in, listening
from support.servers import free_port
from support.site import NEW_PASSWORD, ROOT, Site, csrf_token, fill, load_settings

from app import create_app
from app.settings import current

ROUNDS = 3
APP = f"{ROOT / 'app'}/"
Walk = list[CodeType]  # the calls of one step, in order


def figures(walk: Walk) -> tuple[int, int, int, int]:
    modules = [code.co_filename for code in walk]
    moves = sum(before != after for before, after in pairwise(modules))
    return len(modules), len(set(modules)), moves, walk.count(current.__code__)


@contextmanager
def recorded(walk: Walk) -> Iterator[None]:
    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(APP) and not code.co_name.startswith("<"):
            walk.append(code)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def walk(site: Site, number: int) -> dict[str, Walk]:
    """Alice asks, gets her mail, opens the link and sets a new password."""
    walks: dict[str, Walk] = {"ask": [], "mail": [], "land": [], "redeem": []}
    site.ask(f"nobody{number}@example.com")  # also refreshes the count of waiting messages
    with recorded(walks["ask"]):
        answer = site.ask("alice@example.com")
    assert answer.status_code == 200, answer.text
    site.mailbox.mails.clear()
    with recorded(walks["mail"]):
        worked = site.work()
    assert (worked, len(site.mailbox.mails)) == (2, 1)
    browser = site.visitor()
    with recorded(walks["land"]):
        answer = browser.open(link_in(site.mailbox.mails[0]))
    assert answer.status_code == 303, answer.text
    page, password = answer.headers["Location"], f"{NEW_PASSWORD}{number}"
    form = {"csrf_token": csrf_token(browser.open(page)), "password": password, "password_confirm": password}
    with recorded(walks["redeem"]):
        answer = browser.open(page, method="POST", data=form)
    assert answer.status_code in (302, 303), answer.text
    site.work()  # the notice
    return walks


@contextmanager
def deployment() -> Iterator[Site]:
    """A deployment in which alice has an email address and a username."""
    with listening(Mailbox(free_port())) as box, tempfile.TemporaryDirectory() as folder:
        with redirect_stdout(io.StringIO()):  # the migrations print
            uri = fill(f"sqlite:///{folder}/walk.db")
        mail = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": box.port, "RECOVERY_MAIL_COOLDOWN": "0 seconds"}
        settings = load_settings(SQLALCHEMY_DATABASE_URI=uri, MAIL_DEFAULT_SENDER="me@example.com", **mail)
        site = Site(create_app(settings), box)
        site.change(us_phone_number=None)
        yield site


def main() -> None:
    logging.disable(logging.CRITICAL)
    with deployment() as site:
        walk(site, 0)
        rounds = [walk(site, number) for number in range(1, ROUNDS + 1)]
    row = "{:<8}{:>8}{:>10}{:>8}{:>11}"
    print(row.format("step", "calls", "modules", "moves", "current()"))
    for step in rounds[0]:
        print(row.format(step, *min(figures(walks[step]) for walks in rounds)))


if __name__ == "__main__":
    main()
