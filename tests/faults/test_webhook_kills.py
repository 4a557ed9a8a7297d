"""No event for the webhook is lost under SIGKILLs and while the receiver is down. `make storm` runs the long form."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.storm import Process
from support.admin import deployment, uncounted
from support.outbox import make_due
from support.receiver import Receiver, receiving
from support.servers import free_port
from support.site import BOTH, PUBLIC_URL, Site, wait_for

from app.accounts.models import User
from app.db.engine import db

KILLS = int(os.environ.get("WEBHOOK_KILLS", "4"))
SEED = int(os.environ.get("STORM_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
IS_LONG = KILLS > 4
MOMENTS = ("receiver down", "any", "before the answer", "after the answer")  # the last two in a call
LEASE = {"FLASK_MAIL_TIMEOUT": "0.1 seconds", "FLASK_RECOVERY_MAIL_LEASE": "21 seconds"}  # the shortest


class Changer:
    """Ends the sessions of accounts, one after the other, each in a transaction of its own."""

    def __init__(self, site: Site) -> None:
        self.site, self.count, self.is_over = site, 0, threading.Event()
        self.thread = threading.Thread(target=self._change)
        self.thread.start()

    def _change(self) -> None:
        datastore = self.site.app.extensions["security"].datastore
        while not self.is_over.wait(0.03):
            with self.site.app.app_context():
                datastore.set_uniquifier(db.session.get_one(User, 1 + self.count % 4))
                db.session.commit()
            self.count += 1

    def end(self) -> int:
        self.is_over.set()
        self.thread.join()
        return self.count


class Workers:
    """Two workers, of which nobody knows which one calls the receiver, so that both are killed."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self.choice, self.moments = random.Random(SEED), Counter[str]()
        command = ("manage.py", "worker", "--threads", "1")
        self.processes = [Process(command, environ, folder / f"worker-{number}.log") for number in range(2)]

    def start(self) -> None:
        for process in self.processes:
            process.start()

    def kill(self, moment: str) -> None:
        self.moments[moment] += 1
        for process in self.processes:
            process.kill()

    def pause(self) -> None:
        time.sleep(self.choice.uniform(0.2, 1.0))

    def kill_somewhere(self, receiver: Receiver) -> None:
        """Kill the workers at the next of the MOMENTS."""
        moment = MOMENTS[self.moments.total() % len(MOMENTS)]
        self.pause()
        if moment == "receiver down":
            self.kill(moment)
            return
        with receiving(receiver):
            if moment == "any":
                self.pause()
                self.kill(moment)
            else:
                self.kill_in_a_call(receiver, moment)

    def kill_in_a_call(self, receiver: Receiver, moment: str) -> None:
        is_dead = threading.Event()

        def kill() -> None:
            self.kill(moment)
            is_dead.set()

        def on_call() -> None:
            receiver.on_call = lambda: None
            if moment == "before the answer":
                kill()
            else:
                threading.Timer(self.choice.random() / 100, kill).start()

        receiver.on_call = on_call
        assert is_dead.wait(60), "no worker has called"

    def settle(self, site: Site) -> None:
        """Wait until every event is sent. The short form ends leases and back-off, while no worker runs."""
        if not IS_LONG:
            self.kill("settle")
            make_due(site)
            self.start()
        wait_for(lambda: {row["state"] for row in site.messages()} == {"sent"}, 180 if IS_LONG else 60)


@BOTH
def test_no_event_is_lost_while_workers_are_killed_and_the_receiver_is_down(
    database: Callable[[], str], make_site: Any, tmp_path: Path, capsys: Any
) -> None:
    uri, receiver = database(), Receiver()
    with receiving(receiver):
        pass  # it has a port now, and is down
    site: Site = make_site(**receiver.settings, SQLALCHEMY_DATABASE_URI=uri)
    settings = {f"FLASK_{name}": value for name, value in receiver.settings.items()}
    environ = {**uncounted(), **deployment(uri, free_port(), PUBLIC_URL, **settings, **LEASE)}
    workers, changer = Workers(environ, tmp_path), Changer(site)
    try:
        while workers.moments.total() < KILLS:
            workers.kill_somewhere(receiver)
            workers.start()
        changes = changer.end()
        with receiving(receiver):
            workers.settle(site)
        codes = [process.end() for process in workers.processes]
    finally:
        changer.end()
        for process in workers.processes:
            process.kill()
    arrivals = Counter(call.id for call in receiver.calls)
    extra = arrivals.total() - len(arrivals)
    with capsys.disabled():
        print(
            f"\nwebhook, seed {SEED}: {changes} events, {extra} extra copies, kills: {dict(workers.moments)}"
        )
    ids = {row["message_id"].strip("<>").partition("@")[0] for row in site.messages()}
    assert arrivals.keys() == ids
    assert len(ids) == changes
    assert len({(call.id, str(call.event)) for call in receiver.calls}) == changes
    assert extra <= workers.moments.total() * len(workers.processes)
    assert codes == [0, 0]
