"""A storm: real web processes and workers, a real relay and database, and SIGKILL at random moments.

While people ask for links and redeem them, `Storm` kills processes, breaks the relay and restarts the
database. Afterwards `Books` balances what was promised against what came: see `Books.wrong`.
Everything random comes from one seed, which a failure prints.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from flask import Flask
from flask_security.utils import verify_password
from sqlalchemy import NullPool, create_engine, text
from support import warm
from support.admin import uncounted
from support.mailbox import link_in
from support.servers import NO_TLS, free_port
from support.site import SECRETS

MAIL_TIMEOUT_SECONDS = 2
LEASE_SECONDS = 20 + 10 * MAIL_TIMEOUT_SECONDS  # the shortest that is allowed
CALM_SECONDS_MAX = 180  # a message that still waits then is stuck


@dataclass
class Arrival:
    """A mail that the relay has taken."""

    at: float
    worker: str
    recipient: str
    message_id: str
    subject: str
    link: str | None


@dataclass
class Kill:
    """A process that was ended with SIGKILL."""

    at: float
    name: str
    moment: str


class Process:
    """A process of ours, with all that it starts; kill it and start it as often as you like."""

    def __init__(self, name: str, command: tuple[str, ...], environ: dict[str, str], log: Path) -> None:
        self.name, self.command, self.environ, self.log = name, command, environ, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A group of its own: gunicorn dies with its children.
            self.running = warm.start(self.command, self.environ, log, log, is_leader=True)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait(timeout=10)

    def end(self) -> int:
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(timeout=60)


class Relay:
    """An SMTP server with one port a worker, so that it knows whom it talks with; and its faults."""

    def __init__(self, names: list[str], on_kill: Callable[[str, str], None]) -> None:
        self.arrivals: list[Arrival] = []
        self.mode = "up"
        self.kill_next: str | None = None  # the moment: before or after the reply
        self.on_kill = on_kill
        self.lock = threading.Lock()
        self.ports = {name: free_port() for name in names}
        self.controllers: list[Controller] = []
        self.is_up = False
        self.start()

    def start(self) -> None:
        if not self.is_up:
            self.controllers = [
                Controller(_Conversation(self, name), hostname="127.0.0.1", port=port)
                for name, port in self.ports.items()
            ]
            for controller in self.controllers:
                controller.start()
            self.is_up = True

    def stop(self) -> None:
        if self.is_up:
            for controller in self.controllers:
                for transport in controller.handler.transports:  # which aiosmtpd leaves open
                    controller.loop.call_soon_threadsafe(transport.close)
                controller.stop(no_assert=True)
            self.is_up = False

    def is_now(self, mode: str) -> None:
        self.mode = mode
        if mode == "refusing":
            self.stop()
        else:
            self.start()


@dataclass
class _Conversation:
    """What aiosmtpd asks for one worker."""

    relay: Relay
    worker: str
    transports: list[Any] = field(default_factory=list)

    async def handle_EHLO(
        self, server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.transports.append(server.transport)
        session.host_name = hostname
        several = ["250-PIPELINING"] if random.random() < 0.5 else []
        return [*responses[:-1], *several, responses[-1]]

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        mode, relay = self.relay.mode, self.relay
        if mode == "refusing for now":
            return "451 try again later"
        if mode == "hanging":
            await asyncio.sleep(MAIL_TIMEOUT_SECONDS * 2)
            return "451 nobody listens any more"
        if mode == "hanging up":  # after the data, and it took nothing
            server.transport.abort()
            return "451 nobody listens any more"
        await asyncio.sleep(0.2 if mode == "slow" else 0.01)
        with relay.lock:
            moment, relay.kill_next = relay.kill_next, None
        if moment == "before the reply":  # the relay has it, and the worker will never know
            relay.on_kill(self.worker, moment)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        link = link_in(mail) if "Reset your" in mail["Subject"] else None
        arrival = Arrival(
            time.time(), self.worker, envelope.rcpt_tos[0], mail["Message-ID"], mail["Subject"], link
        )
        relay.arrivals.append(arrival)
        if moment == "after the reply":  # between SMTP's accept and our commit
            loop = asyncio.get_running_loop()
            loop.call_later(random.random() / 200, relay.on_kill, self.worker, moment)
        return "250 accepted"


@dataclass
class Request:
    """A request for a link that was answered with 200."""

    at: float
    identity: str


@dataclass
class Attempt:
    """A password sent with a link, and what was answered, if anything was."""

    link: str
    password: str
    code: str | None = None


@dataclass
class Storm:
    """What happens, and what is written down about it."""

    uri: str
    folder: Path
    seed: int
    webs: int = 2
    workers: int = 3
    restart_database: Callable[[], None] | None = None
    kills: list[Kill] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    restarts: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.lock = threading.Lock()
        names = [f"worker {number + 1}" for number in range(self.workers)]
        self.relay = Relay(names, self._kill)
        self.ports = [free_port() for _ in range(self.webs)]
        self.processes: dict[str, Process] = {}
        for number, port in enumerate(self.ports):
            bind = ["--bind", f"127.0.0.1:{port}", "--threads", "8"]
            self._add(f"web {number + 1}", ("-m", "gunicorn", *bind, "app:create_app()"), 25)
        for name in names:
            self._add(name, ("manage.py", "worker"), self.relay.ports[name])

    def _add(self, name: str, command: tuple[str, ...], mail_port: int) -> None:
        environ = {
            **uncounted(),
            **SECRETS,
            "FLASK_RECOVERY_PUBLIC_URL": f"http://127.0.0.1:{self.ports[0]}",
            "FLASK_SQLALCHEMY_DATABASE_URI": self.uri,
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(mail_port),
            "FLASK_MAIL_TIMEOUT": f"{MAIL_TIMEOUT_SECONDS} seconds",
            "FLASK_RECOVERY_MAIL_LEASE": f"{LEASE_SECONDS} seconds",
            "FLASK_RECOVERY_MAIL_COOLDOWN": "0 seconds",
            "FLASK_RECOVERY_MAIL_DAILY_CAP": "100000",
            "FLASK_RATELIMIT_ENABLED": "false",
        }
        log = self.folder / f"{name.replace(' ', '-')}.log"
        self.processes[name] = Process(name, command, environ, log)

    def _kill(self, name: str, moment: str) -> None:
        with self.lock:
            self.kills.append(Kill(time.time(), name, moment))
            self.processes[name].kill()
            self.processes[name].start()

    # --- What people do ---

    def ask(self, identity: str) -> None:
        """Until it is accepted, as a person would."""
        while True:
            at = time.time()
            if self._post("/reset", {"identity": identity}) is not None:
                self.requests.append(Request(at, identity))
                return
            time.sleep(0.05)

    def redeem(self, link: str, password: str) -> None:
        """Once: whoever hears nothing does not know."""
        attempt = Attempt(link, password)
        self.attempts.append(attempt)
        answer = self._post(f"/reset/{link.rsplit('/', 1)[1]}", {"password": password})
        if answer is not None:
            attempt.code = answer["response"].get("error_code", "redeemed")

    def _post(self, path: str, body: dict[str, str]) -> Any:
        """The answer of any web process; None when it died or had no database."""
        port = random.choice(self.ports)
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=30, verify=NO_TLS)
        except httpx.TransportError:
            return None
        return None if answer.status_code >= 500 else answer.json()

    # --- What goes wrong ---

    def rage(self, identities: list[str], kills: int, askers: int = 6) -> None:
        """Ask for every identity, redeem every fifth link, and kill as often as said meanwhile."""
        waiting = list(reversed(identities))
        done = threading.Event()

        def ask() -> None:
            while True:
                # Nobody runs ahead of the storm: the last request comes with the last kill.
                progress = (len(self.kills) + 1) / (kills + 1)
                if len(waiting) <= len(identities) * (1 - progress) and len(self.kills) < kills:
                    time.sleep(0.02)
                    continue
                try:
                    identity = waiting.pop()
                except IndexError:
                    return
                self.ask(identity)

        people = [threading.Thread(target=ask) for _ in range(askers)]
        people.append(threading.Thread(target=self._redeem_links, args=(done,)))
        for person in people:
            person.start()
        while len(self.kills) < kills:
            time.sleep(self.random.uniform(0.05, 0.6))
            self._one_fault(len(self.kills) / kills)
        for person in people[:-1]:
            person.join()
        self.relay.kill_next = None
        done.set()
        people[-1].join()

    def _one_fault(self, progress: float) -> None:
        faults = ["kill a web process", "kill a worker", "kill a worker in conversation"] * 3
        if progress < 0.6:  # later, a message's pauses would only make the calm longer
            faults += ["refusing", "refusing for now", "hanging", "hanging up", "slow"]
        if self.restart_database and self.restarts < 1 + progress * 3:
            faults.append("restart the database")
        fault = self.random.choice(faults)
        if fault == "kill a web process":
            self._kill(f"web {self.random.randint(1, self.webs)}", "any")
        elif fault == "kill a worker":
            self._kill(f"worker {self.random.randint(1, self.workers)}", "any")
        elif fault == "kill a worker in conversation":
            self.relay.kill_next = self.random.choice(["before the reply", "after the reply"])
        elif fault == "restart the database":
            assert self.restart_database
            self.restarts += 1
            self.restart_database()
        else:
            self.relay.is_now(fault)
            time.sleep(self.random.uniform(0.3, 1.0))
            self.relay.is_now("up")

    def _redeem_links(self, done: threading.Event) -> None:
        """Every fifth link, by two people at once with different passwords."""
        seen = 0
        while not done.is_set():
            time.sleep(0.05)
            for arrival in self.relay.arrivals[seen:]:
                seen += 1
                if arrival.link and seen % 5 == 0:
                    two = [
                        threading.Thread(
                            target=self.redeem, args=(arrival.link, f"a password of {who} {seen}")
                        )
                        for who in ("somebody", "another")
                    ]
                    for one in two:
                        one.start()
                    for one in two:
                        one.join()

    def calm_down(self) -> None:
        """The relay and all processes are well; wait until nothing waits."""
        self.relay.is_now("up")
        engine = create_engine(self.uri)
        deadline = time.monotonic() + CALM_SECONDS_MAX
        waiting = 1
        while waiting and time.monotonic() < deadline:
            time.sleep(0.2)
            with engine.connect() as connection:
                query = "SELECT count(*) FROM outbox_message WHERE state = 'waiting'"
                waiting = connection.execute(text(query)).scalar_one()
        engine.dispose()

    def end(self) -> dict[str, int]:
        """SIGTERM for everybody: how each process ended."""
        codes = {name: process.end() for name, process in self.processes.items()}
        self.relay.stop()
        return codes


@contextmanager
def brewing(storm: Storm) -> Iterator[Storm]:
    """Nothing of it is left when the block ends."""
    try:
        yield storm
    finally:
        for process in storm.processes.values():
            process.kill()
        storm.relay.stop()


class Books:
    """What was promised, and what came."""

    def __init__(self, storm: Storm, live: set[str], app: Flask) -> None:
        self.storm, self.live, self.app = storm, live, app
        self.engine = create_engine(storm.uri, poolclass=NullPool)
        self.instructions = [arrival for arrival in storm.relay.arrivals if arrival.link]
        self.copies: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in storm.relay.arrivals:
            self.copies[arrival.link or arrival.message_id].append(arrival)

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)))

    @cached_property
    def wrong(self) -> dict[str, list[Any]]:
        """Everything that must not be, by its name. Empty lists when the books are balanced."""
        return {
            "lost": self._lost(),
            "sent to others": self._sent_to_others(),
            "duplicates without a kill": self._unexplained(),
            "more copies than kills": self.duplicates()[self._worker_kills() :],
            "duplicates in disguise": [
                pair for pair in self.duplicates() if pair[0].message_id != pair[1].message_id
            ],
            "stuck": self.rows("SELECT id, state, reason FROM outbox_message WHERE state = 'waiting'"),
            "links redeemed twice": self._redeemed_twice(),
            "accounts half changed": self._half_changed(),
        }

    def _lost(self) -> list[Request]:
        """Accepted for a live account, and no mail came to it after that; dead letters are visible."""
        newest: dict[str, float] = defaultdict(float)
        for arrival in self.instructions:
            newest[arrival.recipient] = max(newest[arrival.recipient], arrival.at)
        return [
            request
            for request in self.storm.requests
            if request.identity in self.live and newest[request.identity] < request.at
        ]

    def _sent_to_others(self) -> list[Arrival]:
        asked = {request.identity for request in self.storm.requests} & self.live
        return [arrival for arrival in self.storm.relay.arrivals if arrival.recipient not in asked]

    def duplicates(self) -> list[tuple[Arrival, Arrival]]:
        """Each extra copy, with the one before it."""
        return [pair for copies in self.copies.values() for pair in itertools.pairwise(copies)]

    def _unexplained(self) -> list[Any]:
        """A copy is explained by a kill of the worker that had sent the one before it, between the two."""
        return [
            (first, second)
            for first, second in self.duplicates()
            if not any(
                kill.name == first.worker and first.at - 1 <= kill.at <= second.at
                for kill in self.storm.kills
            )
        ]

    def _worker_kills(self) -> int:
        return sum(kill.name.startswith("worker") for kill in self.storm.kills)

    def _redeemed_twice(self) -> list[Any]:
        wins = Counter(attempt.link for attempt in self.storm.attempts if attempt.code == "redeemed")
        return [link for link, count in wins.items() if count > 1]

    def _half_changed(self) -> list[Any]:
        """Links redeemed, events and notices are as many; the password is the last winner's or the old one."""
        query = """
            SELECT u.email, u.password,
              (SELECT count(*) FROM reset_link l WHERE l.user_id = u.id AND l.redeemed_at IS NOT NULL) AS links,
              (SELECT count(*) FROM recovery_event e WHERE e.user_id = u.id AND e.kind = 'redeemed') AS events,
              (SELECT count(*) FROM outbox_message m WHERE m.user_id = u.id AND m.kind = 'reset_notice') AS notices
            FROM "user" u"""
        owner = {arrival.link: arrival.recipient for arrival in self.instructions}
        tried: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.storm.attempts:
            tried[owner[attempt.link]].append(attempt)
        found = []
        for row in self.rows(query):
            same = row.links == row.events == row.notices
            won = [attempt.password for attempt in tried[row.email] if attempt.code == "redeemed"]
            unheard = [attempt.password for attempt in tried[row.email] if attempt.code is None]
            right = not row.links or self._is_one_of(row.password, won + unheard)
            if not same or not right or len(won) > row.links:
                found.append(tuple(row))
        return found

    def _is_one_of(self, stored: str, passwords: list[str]) -> bool:
        with self.app.app_context():
            return any(verify_password(password, stored) for password in passwords)

    def table(self) -> str:
        """The books, for people."""
        storm = self.storm
        kills = Counter(kill.name.split()[0] for kill in storm.kills)
        moments = Counter(kill.moment for kill in storm.kills if kill.moment != "any")
        redeemed = sum(attempt.code == "redeemed" for attempt in storm.attempts)
        lines = {
            "requests accepted": len(storm.requests),
            "of these for live accounts": sum(request.identity in self.live for request in storm.requests),
            "web processes killed": kills["web"],
            "workers killed": kills["worker"],
            **{f"of these {moment}": moments[moment] for moment in ("before the reply", "after the reply")},
            "database restarts": storm.restarts,
            "mails taken by the relay": len(storm.relay.arrivals),
            "extra copies": len(self.duplicates()),
            "links redeemed (answered)": redeemed,
            **{name: len(found) for name, found in self.wrong.items()},
        }
        return "\n".join(f"{name:<30} {count:>6}" for name, count in lines.items())
