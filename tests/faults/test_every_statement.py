"""A process is killed at each write and commit of asking, mailing and redeeming (see dying.py for the points)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flask_security.utils import verify_password
from support.admin import deployment, uncounted
from support.application import EVERYWHERE, OLD_HASH, Application
from support.mailbox import link_in
from support.outbox import make_due
from support.receiver import SECRET
from support.recovery import code_of
from support.site import BOTH, OLD_PASSWORD, ROOT, Site, wait_for

from app.accounts.models import User
from app.db.engine import db

NEW = "the-new-password-of-alice"
POINTS_MAX = 120
# Nothing listens there. The events stay in the outbox.
WEBHOOK = {"FLASK_RECOVERY_WEBHOOK_URL": "http://127.0.0.1:9/", "FLASK_RECOVERY_WEBHOOK_SECRET": SECRET}


class Dying:
    """The process of dying.py."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("dying.py"))]
        environ = {**uncounted(), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def deploy(self, site: Site, **environ: str) -> None:
        """Run the next stories on the site's database, with its accounts."""
        with site.app.app_context():
            uri = db.engine.url.render_as_string(hide_password=False)
        base, cap = site.app.config["RECOVERY_PUBLIC_URL"], {"FLASK_RECOVERY_MAIL_DAILY_CAP": "1000"}
        settings = deployment(uri, site.mailbox.port, base, **cap, **WEBHOOK)
        self._tell({**uncounted(), **settings, **environ})

    def dies(self, story: str, point: int, *words: str) -> bool:
        """False if the story ended before that point."""
        assert point < POINTS_MAX
        assert self.process.stdout
        self._tell([point, story, *words])
        outcome = self.process.stdout.readline().strip()
        assert outcome in ("killed", "survived 0"), outcome
        return outcome == "killed"

    def _tell(self, request: Any) -> None:
        assert self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)


@pytest.fixture(scope="module")
def process() -> Iterator[Dying]:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    dying = Dying()
    yield dying
    dying.process.communicate(timeout=20)


@pytest.fixture
def dying(process: Dying, site: Site) -> Dying:
    process.deploy(site)
    return process


def waiting(site: Site) -> list[dict[str, Any]]:
    return [row for row in site.messages() if row["state"] == "waiting"]


@BOTH
def test_killed_server_has_queued_the_request_completely_or_not_at_all(site: Site, dying: Dying) -> None:
    for point in count(1):
        messages, events = len(site.messages()), len(site.events())
        killed = dying.dies("ask", point, f"nobody{point}@example.com")
        assert len(site.messages()) - messages == len(site.events()) - events
        if not killed:
            assert len(site.messages()) == messages + 1
            break
    assert point > 4


@BOTH
def test_killed_worker_costs_a_lease_and_at_most_one_extra_copy(site: Site, dying: Dying) -> None:
    copies_seen = set()
    for point in count(1):
        mails, links = len(site.mailbox.mails), len(site.links())
        site.ask()
        if not dying.dies("work", point):
            assert waiting(site) == []
            break
        make_due(site)
        # PostgreSQL may not have noticed the death yet, and skips the locked row.
        wait_for(lambda: site.work() >= 0 and not waiting(site))
        copies = site.mailbox.mails[mails:]
        copies_seen.add(len(copies))
        assert len({copy["Message-ID"] for copy in copies}) == 1
        assert len({link_in(copy) for copy in copies}) == 1
        assert len(site.links()) == links + 1
        assert site.events().count("mail_sent") == point  # one for each mail, for any number of attempts
        assert site.visitor().open(site.last_link(), follow_redirects=True).status_code == 200
    assert copies_seen == {1, 2}
    assert point > 10


@BOTH
@pytest.mark.requirement("R34")
def test_killed_server_leaves_the_new_password_or_a_working_link(site: Site, dying: Dying) -> None:
    with site.app.app_context():
        old_hash = db.session.scalar(db.select(User.password).where(User.username == "bob"))

    def has_password(password: str) -> bool:
        with site.app.app_context():
            stored = db.session.scalar(db.select(User.password).where(User.username == "alice"))
            return bool(verify_password(password, stored))

    def counts() -> list[int]:
        """Return the numbers of notices, audit events and webhook events."""
        kinds = [row["kind"] for row in site.messages()]
        return [kinds.count("reset_notice"), site.events().count("redeemed"), kinds.count("webhook")]

    outcomes = set()
    for point in count(1):
        site.change(password=old_hash, fs_uniquifier=f"unique{point}")
        link = site.new_link()
        before = counts()
        killed = dying.dies("redeem", point, link.rsplit("/", 1)[1], NEW)
        redeemed = site.links()[-1]["redeemed_at"] is not None
        outcomes.add(redeemed)
        assert has_password(NEW if redeemed else OLD_PASSWORD)
        made = [now - then for now, then in zip(counts(), before, strict=True)]
        assert made == ([1, 1, 2] if redeemed else [0, 0, 0])  # password.reset, account.sessions_ended
        if not redeemed:
            assert site.visitor().post_json(link, json={"password": NEW}).status_code == 200
        site.work()
        assert "new password" in site.mailbox.mails[-1]["Subject"]
        if not killed:
            assert redeemed
            break
    assert outcomes == {True, False}
    assert point > 6


@EVERYWHERE
def test_killed_server_leaves_the_applications_new_password_or_a_working_link(
    application: Application, process: Dying, make_site: Any
) -> None:
    settings = application.deployment()
    site: Site = make_site(**settings)
    process.deploy(site, FLASK_RECOVERY_ACCOUNTS=json.dumps(settings["RECOVERY_ACCOUNTS"]))
    outcomes = set()
    for point in count(1):
        application.execute("UPDATE users SET password = :old WHERE id = 1", old=OLD_HASH)
        link = site.new_link()
        killed = process.dies("redeem", point, link.rsplit("/", 1)[1], NEW)
        is_written = application.signs_in(NEW)
        outcomes.add(is_written)
        assert site.links()[-1]["redeemed_at"] is not None or not is_written
        assert code_of(site, link, NEW) == ("link_used" if is_written else "redeemed")
        assert application.signs_in(NEW)
        site.work()
        if not killed:
            break
    assert outcomes == {True, False}
    assert point > 6
