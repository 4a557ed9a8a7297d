"""What is measured: each thing that a request, the worker or an admin's command does, one at a time.

`prepare` comes before the clock starts, `act` is timed, `tidy` comes after some of them. All in one process:
what is seen is the cost of the work, and no server beside it.
"""

from __future__ import annotations

import csv
import gc
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import crowd
from conftest import PUBLIC_URL, load_settings
from sqlalchemy import delete, func, select

from app import create_app
from app.accounts import datastore, sign_in
from app.accounts.models import User
from app.cli import retention
from app.cli.import_users import import_users
from app.db.engine import db
from app.mail import budget, heartbeat, outbox, worker
from app.mail.outbox import OutboxMessage
from app.pages import health
from app.recovery import issuing
from app.recovery import link as links

METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"  # noqa: S105
MANY = "1000000000 per second"
IMPORTED_HASH = "pbkdf2:sha256:600000$Yn3wU1hZ8gTq2LdK$" + "5d" * 32  # as Werkzeug writes it
LONG_MS, LEAST = 5_000, 5
IMPORTED, PURGED_LINKS, PURGED_EVENTS = 10_000, 4_000, 2_000


class Place:
    """One database of a size, and the application on it."""

    def __init__(self, uri: str, users: int, mail_port: int, **settings: Any) -> None:
        self.uri, self.users = uri, users
        self.rng = random.Random(1)  # noqa: S311  # an order, not a secret
        self.fresh = iter(self.rng.sample(range(1, users + 1), min(users, 8_000)))  # each is met once
        self.nobodys = 0
        self.claimed: list[OutboxMessage] = []
        ours = {
            "SQLALCHEMY_DATABASE_URI": uri,
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": mail_port,
            "RECOVERY_METRICS_TOKEN": METRICS_TOKEN,
            **dict.fromkeys(("RECOVERY_LIMIT_SOURCE", "RECOVERY_LIMIT_IDENTITY"), MANY),
            **dict.fromkeys(("RECOVERY_LIMIT_LINK", "RECOVERY_LIMIT_BAD_LINKS"), MANY),
        }
        self.app = create_app(load_settings(**{**ours, **settings}))
        crowd.make_cheap(self.app)
        self.client = self.app.test_client(use_cookies=False)
        with self.app.app_context():
            self.newest = db.session.scalar(select(func.max(OutboxMessage.id))) or 0

    def somebody(self) -> int:
        return self.rng.randint(1, self.users)

    def nobody(self) -> str:
        self.nobodys += 1
        return f"nobody{self.nobodys}@example.org"

    def posts(self, path: str, **body: Any) -> None:
        answer = self.client.post(path, json=body, base_url=PUBLIC_URL)
        assert answer.status_code == 200, answer.text

    def close(self) -> None:
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()


def nothing(_place: Place) -> None: ...


@dataclass(frozen=True)
class Cost:
    """`act` gets what `prepare` returned."""

    name: str
    act: Callable[[Place, Any], object]
    prepare: Callable[[Place], Any] = nothing
    tidy: Callable[[Place], object] = nothing  # after some of them
    is_request: bool = False  # it brings its own context


def in_turn(
    cost: Cost, places: Sequence[Place], count: int, rng: random.Random
) -> Iterator[tuple[Place, float]]:
    """Milliseconds of each, so often in each place; the places take turns. What is slow comes less often."""
    spent = dict.fromkeys(places, 0.0)
    gc.collect()
    gc.disable()  # it would meet one of many at random
    try:
        for number in range(1, count + 1):
            for place in rng.sample(places, len(places)):
                took = _once(cost, place)
                spent[place] += took
                yield place, took
            if max(spent.values()) > LONG_MS and number >= LEAST:
                break
    finally:
        gc.enable()
    for place in places:
        with place.app.app_context():
            cost.tidy(place)
            db.session.commit()


def _once(cost: Cost, place: Place) -> float:
    with place.app.app_context():
        ready = cost.prepare(place)
        db.session.commit()
    return _timed(cost, place, ready)


def _timed(cost: Cost, place: Place, ready: Any) -> float:
    if cost.is_request:
        start = time.perf_counter()
        cost.act(place, ready)
        return (time.perf_counter() - start) * 1000
    with place.app.app_context():
        start = time.perf_counter()
        cost.act(place, ready)
        return (time.perf_counter() - start) * 1000


def forget_asked(place: Place) -> None:
    """What the bench has asked for itself: else the worker would have more to do from round to round."""
    ours = (OutboxMessage.state == "waiting", OutboxMessage.id > place.newest)
    db.session.execute(delete(OutboxMessage).where(*ours))


def count_again(place: Place) -> None:
    place.app.extensions.pop("outbox_full", None)


def asked(place: Place) -> None:
    """A message for somebody who gets mail."""
    identity = crowd.address_of(next(place.fresh))
    outbox.enqueue("reset_instructions", same=identity, **{**of_nobody(place), "identity": identity})


def work(_place: Place, _: Any) -> None:
    assert worker.work_until_done() == 1


def has_link(place: Place) -> str:
    """The token of an open link of somebody."""
    user = db.session.get(User, next(place.fresh))
    token = secrets.token_urlsafe(32)  # of the shape that they have
    issuing.add(user, "browser", token)  # type: ignore[arg-type]
    return token


def redeem(place: Place, token: str) -> None:
    place.posts(f"/reset/{token}", password="another password", password_confirm="another password")  # noqa: S106


def lands(place: Place, token: str) -> None:
    answer = place.client.get(f"/reset/{token}", headers={"Accept": "application/json"}, base_url=PUBLIC_URL)
    assert answer.status_code == 200, answer.text


def signs_in(place: Place, number: int) -> None:
    place.posts("/login", identity=crowd.name_of(number), password=crowd.PASSWORD)


def found(place: Place, typed: str) -> None:
    assert datastore.find_account(typed) is not None


def not_found(place: Place, typed: str) -> None:
    assert datastore.find_account(typed) is None


def metrics(place: Place, _: Any) -> None:
    answer = place.client.get(
        "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, base_url=PUBLIC_URL
    )
    assert b"sparekey_database_up 1.0" in answer.data


def enqueue(_place: Place, content: dict[str, str]) -> None:
    outbox.enqueue("reset_instructions", same=content["identity"], **content)
    db.session.commit()


def claim(place: Place, held: bool) -> None:
    if message := outbox.claim(held):
        place.claimed.append(message)


def put_back(place: Place) -> None:
    while place.claimed:
        outbox.hold(place.claimed.pop(), "of the bench")


def of_nobody(place: Place) -> dict[str, str]:
    return {"identity": place.nobody(), "client": "browser", "source": "127.0.0.1", "user_agent": ""}


LOOKS = (
    Cost("outbox.is_due", lambda _place, _: outbox.is_due()),
    Cost("health.is_full", lambda _place, _: outbox.is_full(), count_again),
    Cost("budget.is_spent", lambda _place, _: budget.is_spent()),
    Cost("health.look (/readyz)", lambda _place, _: health.look(), count_again),
    Cost("GET /metrics", metrics, count_again, is_request=True),
    Cost("the worker's sign", lambda _place, presence: presence.renew(), lambda _place: heartbeat.Presence()),
)
KNOWN = Cost(
    "POST /reset, known",
    lambda place, typed: place.posts("/reset", identity=typed),
    lambda place: crowd.address_of(place.somebody()),
    forget_asked,
    is_request=True,
)
# By the number of users.
COSTS = (
    KNOWN,
    replace(KNOWN, name="POST /reset, unknown", prepare=Place.nobody),
    Cost("find_account, by address", found, lambda place: crowd.address_of(place.somebody())),
    Cost("find_account, by username", found, lambda place: crowd.name_of(place.somebody())),
    Cost("find_account, by phone", found, lambda place: crowd.phone_of(place.somebody())),
    Cost("find_account, unknown", not_found, Place.nobody),
    Cost("the worker, a message to its end", work, asked),
    Cost("links.resolve", lambda _place, token: links.resolve(token), has_link),
    Cost("GET /reset/<token>", lands, has_link, is_request=True),
    Cost("POST /reset/<token>, cheap hash", redeem, has_link, forget_asked, is_request=True),
    Cost(
        "sign-in, the look-up",
        lambda _place, typed: sign_in.credentials(typed, User.password),
        lambda place: crowd.address_of(place.somebody()),
    ),
    Cost("POST /login, cheap hash", signs_in, lambda place: next(place.fresh), is_request=True),
    *LOOKS,
)
# By the number of mails that wait.
WAITING_COSTS = (
    KNOWN,
    Cost("outbox.enqueue", enqueue, of_nobody, forget_asked),
    Cost("outbox.claim", claim, lambda _place: (), put_back),
    *LOOKS,
    Cost("outbox.is_due, budget spent", lambda _place, _: outbox.is_due(True)),
    Cost("outbox.claim, budget spent", claim, lambda _place: True, put_back),
    Cost("health.is_mail_late", lambda _place, _: health.is_mail_late()),
    Cost("health.mend_clock", lambda _place, _: heartbeat.mend_clock()),
)


def purge_rate(place: Place) -> float:
    """Seconds of work for 10,000 rows, without the pauses, which are four times as long."""
    crowd.add_old(place.uri, place.users, PURGED_LINKS, PURGED_EVENTS)
    kept, retention.PAUSES, retention.PAUSE_SECONDS_MIN = (
        (retention.PAUSES, retention.PAUSE_SECONDS_MIN),
        0,
        0,
    )
    try:
        with place.app.app_context():
            start = time.perf_counter()
            gone = retention.run()
            took = time.perf_counter() - start
    finally:
        retention.PAUSES, retention.PAUSE_SECONDS_MIN = kept
    assert sum(gone.values()) == 2 * PURGED_LINKS + PURGED_EVENTS, gone
    return took


def import_rate(place: Place) -> float:
    """Seconds for 10,000 rows."""
    with tempfile.TemporaryDirectory() as folder:
        return _import(place, Path(folder) / "users.csv", place.users)


def _import(place: Place, file: Path, last: int) -> float:
    with file.open("w", newline="") as rows:
        table = csv.writer(rows)
        table.writerow(("email", "username", "us_phone_number", "password_hash"))
        for number in range(last + 1, last + 1 + IMPORTED):
            names = crowd.address_of(number), crowd.name_of(number), crowd.phone_of(number)
            table.writerow((*names, IMPORTED_HASH))
    start = time.perf_counter()
    ended = place.app.test_cli_runner().invoke(import_users, [str(file)])
    took = time.perf_counter() - start
    assert ended.exit_code == 0, ended.output
    crowd.run(place.uri, f'DELETE FROM "user" WHERE id > {last}')
    return took


# Of 10,000 rows, in seconds.
BULK = {"purge of 10,000 rows": purge_rate, "users import of 10,000 rows": import_rate}
