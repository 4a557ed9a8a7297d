"""A process dies, or its database fails, at every single statement of asking, mailing and redeeming."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask_security.utils import verify_password
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from support.admin import uncounted
from support.mailbox import link_in
from support.site import BOTH, OLD_PASSWORD, ROOT, SECRETS, Site

from app.accounts.models import User
from app.db.engine import db
from app.mail.outbox import OutboxMessage

pytestmark = BOTH

NEW = "the-new-password-of-alice"
LONG_AGO = datetime(2020, 1, 1)
POINTS_MAX = 120


class Dying:
    """The process of dying.py."""

    def __init__(self, site: Site) -> None:
        with site.app.app_context():
            uri = db.engine.url.render_as_string(hide_password=False)
        environ = {
            **uncounted(),
            **SECRETS,
            "PYTHONPATH": str(ROOT),
            "FLASK_RECOVERY_PUBLIC_URL": "http://127.0.0.1:5000",
            "FLASK_SQLALCHEMY_DATABASE_URI": uri,
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(site.mailbox.port),
            "FLASK_RECOVERY_MAIL_COOLDOWN": "0 seconds",
            "FLASK_RECOVERY_MAIL_DAILY_CAP": "1000",
            "FLASK_RATELIMIT_ENABLED": "false",
        }
        command = [sys.executable, str(Path(__file__).with_name("dying.py"))]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def dies(self, story: str, point: int, *words: str) -> bool:
        """False when the story was over before that point came."""
        assert self.process.stdin
        assert self.process.stdout
        print(story, point, *words, file=self.process.stdin, flush=True)
        said = self.process.stdout.readline().strip()
        assert said in ("killed", "survived 0"), said
        return said == "killed"

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def dying(site: Site) -> Iterator[Dying]:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    process = Dying(site)
    yield process
    process.end()


def waiting(site: Site) -> list[dict[str, Any]]:
    return [row for row in site.messages() if row["state"] == "waiting"]


def test_an_asker_whose_server_dies_has_a_whole_message_or_none(site: Site, dying: Dying) -> None:
    for point in count(1):
        before, events = len(site.messages()), len(site.events())
        died = dying.dies("ask", point, f"nobody{point}@example.com")
        assert len(site.messages()) - before == len(site.events()) - events
        if not died:
            assert len(site.messages()) == before + 1
            break
        assert point < POINTS_MAX
    assert point > 5


def test_a_worker_that_dies_at_any_point_costs_a_lease_and_at_most_one_extra_mail(
    site: Site, dying: Dying
) -> None:
    seen = set()
    for point in count(1):
        mails, links = len(site.mailbox.mails), len(site.links())
        site.ask()
        died = dying.dies("work", point)
        if not died:
            assert waiting(site) == []
            break
        assert point < POINTS_MAX
        site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)  # the lease ends
        site.work()
        assert waiting(site) == []
        copies = site.mailbox.mails[mails:]
        seen.add(len(copies))
        assert len({copy["Message-ID"] for copy in copies}) == 1
        assert len({link_in(copy) for copy in copies}) == 1
        assert len(site.links()) == links + 1
        assert site.events().count("mail_sent") == point  # one a mail, however often it was tried
        assert site.visitor().open(site.last_link(), follow_redirects=True).status_code == 200
    assert seen == {1, 2}
    assert point > 20


@pytest.mark.requirement("R34")
def test_who_redeems_on_a_server_that_dies_has_the_new_password_or_a_good_link(
    site: Site, dying: Dying
) -> None:
    outcomes = set()
    for point in count(1):
        site.change(password=_hash(site), fs_uniquifier=f"unique{point}")
        link = site.new_link()
        done, events = notices(site), site.events().count("redeemed")
        died = dying.dies("redeem", point, link.rsplit("/", 1)[1], NEW)
        redeemed = site.links()[-1]["redeemed_at"] is not None
        outcomes.add(redeemed)
        assert has_password(site, NEW if redeemed else OLD_PASSWORD)
        assert notices(site) - done == site.events().count("redeemed") - events == int(redeemed)
        if not redeemed:
            assert site.visitor().post_json(link, json={"password": NEW}).status_code == 200
        site.work()
        assert "was changed" in site.mailbox.mails[-1]["Subject"]
        if not died:
            assert redeemed
            break
        assert point < POINTS_MAX
    assert outcomes == {True, False}
    assert point > 10


@pytest.mark.requirement("R34")
def test_a_database_that_fails_at_any_statement_of_a_redemption_changes_nothing(site: Site) -> None:
    with site.app.app_context():
        engine = db.engine
    failed = 0
    for point in count(1):
        site.change(password=_hash(site), fs_uniquifier=f"unique{point}")
        link = site.new_link()
        before = (site.links(), site.messages(), site.events(), notices(site))
        with Failing(engine, point):
            answer = site.visitor().post_json(link, json={"password": NEW})
        if answer.status_code == 200:
            break
        failed += 1
        assert (answer.status_code, answer.json["response"]["error_code"]) == (503, "unavailable")
        assert (site.links(), site.messages(), site.events(), notices(site)) == before
        assert has_password(site, OLD_PASSWORD)
        assert site.visitor().post_json(link, json={"password": NEW}).status_code == 200
        site.work()
    assert failed > 5


class Failing:
    """The database fails once, at the given moment: before a statement or a commit."""

    def __init__(self, engine: Any, point: int) -> None:
        self.engine, self.point, self.numbers = engine, point, count(1)

    def tick(self, *_: Any) -> None:
        if next(self.numbers) == self.point:
            raise OperationalError("a statement", {}, Exception("the server closed the connection"))

    def __enter__(self) -> None:
        for moment in ("before_cursor_execute", "commit"):
            event.listen(self.engine, moment, self.tick)

    def __exit__(self, *_: object) -> None:
        for moment in ("before_cursor_execute", "commit"):
            event.remove(self.engine, moment, self.tick)


def _hash(site: Site) -> Any:
    """The stored form of the old password: bob has it, and nobody touches him."""
    with site.app.app_context():
        return db.session.scalar(db.select(User.password).where(User.username == "bob"))


def has_password(site: Site, password: str) -> bool:
    with site.app.app_context():
        stored = db.session.scalar(db.select(User.password).where(User.username == "alice"))
        return bool(verify_password(password, stored))


def notices(site: Site) -> int:
    return sum(row["kind"] == "reset_notice" for row in site.messages())
