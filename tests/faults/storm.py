"""A storm: real web processes, workers, relay and database, and SIGKILL at random moments.

While people ask for links and redeem them, `Storm` kills processes, breaks the relay and restarts the database.
Afterwards `Balance` compares the promised mails and changes with the actual ones. One seed makes all choices.
"""

import asyncio
import email
import email.policy
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from sqlalchemy import Engine, NullPool, create_engine, text
from support import warm
from support.admin import deployment, uncounted
from support.mailbox import code_in, link_in
from support.servers import NO_TLS, free_port
from support.site import wait_for

MAIL_TIMEOUT_SECONDS = 2
LEASE_SECONDS = 20 + 10 * MAIL_TIMEOUT_SECONDS  # the shortest that the settings allow
WORKER_THREADS = 2
SETTLE_SECONDS_MAX = 180  # a message that still waits then is stuck


# A mail that the relay has accepted; a process that was ended with SIGKILL; a request that was answered with 200.
Arrival = namedtuple("Arrival", "at worker recipient message_id link code")
Kill = namedtuple("Kill", "at name moment")
Request = namedtuple("Request", "at identity")


class Process:
    """A process and its children, which can be killed and started again."""

    def __init__(self, command: tuple[str, ...], environ: dict[str, str], log: Path) -> None:
        self.command, self.environ, self.log = command, environ, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A process group of its own, so that gunicorn's children are killed, too.
            self.running = warm.start(self.command, self.environ, log, log, is_leader=True)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait(timeout=10)

    def end(self) -> int:
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(timeout=60)


class Relay:
    """An SMTP server with faults, and with a port for each worker, so that it can tell them apart."""

    def __init__(self, names: list[str], on_kill: Callable[[str, str], None]) -> None:
        self.arrivals: list[Arrival] = []
        self.mode = "up"
        self.kill_next: str | None = None  # the moment: before or after the reply
        self.on_kill = on_kill
        self.lock = threading.Lock()
        self.ports = {name: free_port() for name in names}
        self.controllers: list[Controller] = []
        self.start()

    def start(self) -> None:
        if not self.controllers:
            handlers = {_Conversation(self, name): port for name, port in self.ports.items()}
            self.controllers = [Controller(one, "127.0.0.1", port) for one, port in handlers.items()]
            for controller in self.controllers:
                controller.start()

    def stop(self) -> None:
        for controller in self.controllers:
            for transport in controller.handler.transports:  # aiosmtpd leaves them open
                controller.loop.call_soon_threadsafe(transport.close)
            controller.stop(no_assert=True)
        self.controllers = []

    def switch_to(self, mode: str) -> None:
        self.mode = mode
        (self.stop if mode == "refusing" else self.start)()


class _Conversation:
    """aiosmtpd's handler for one worker."""

    def __init__(self, relay: Relay, worker: str) -> None:
        self.relay, self.worker = relay, worker
        self.transports: list[Any] = []

    async def handle_EHLO(
        self, server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.transports.append(server.transport)
        session.host_name = hostname
        extensions = ["250-PIPELINING"] if random.random() < 0.5 else []
        return [*responses[:-1], *extensions, responses[-1]]

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        mode, relay = self.relay.mode, self.relay
        if mode == "refusing for now":
            return "451 try again later"
        if mode == "hanging":
            await asyncio.sleep(MAIL_TIMEOUT_SECONDS * 2)
            return "451 too late"
        if mode == "hanging up":  # after the data, without accepting it
            server.transport.abort()
            return "451 too late"
        await asyncio.sleep(0.2 if mode == "slow" else 0.01)
        with relay.lock:
            moment, relay.kill_next = relay.kill_next, None
        if moment == "before the reply":  # the relay accepts the mail, and the worker never knows
            relay.on_kill(self.worker, moment)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        link, code = (link_in(mail), code_in(mail)) if "Reset your" in mail["Subject"] else (None, "")
        arrival = Arrival(time.time(), self.worker, envelope.rcpt_tos[0], mail["Message-ID"], link, code)
        relay.arrivals.append(arrival)
        if moment == "after the reply":  # between the reply and the worker's commit
            loop = asyncio.get_running_loop()
            loop.call_later(random.random() / 200, relay.on_kill, self.worker, moment)
        return "250 accepted"


@dataclass
class Attempt:
    """A password that was sent with a link. The code is None if there was no answer."""

    link: str
    password: str
    code: str | None = None
    at: float = field(default_factory=time.time)


@dataclass
class Storm:
    """The processes, the people who use them, the faults, and a record of all events."""

    uri: str
    folder: Path
    seed: int
    webs: int = 2
    workers: int = 3
    restart_database: Callable[[], None] | None = None
    kills: list[Kill] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    landings: dict[str, str] = field(default_factory=dict)  # by link: "works", or the error code
    request_ids: dict[str, str] = field(default_factory=dict)  # the newest, by identity
    codes: list[Any] = field(default_factory=list)  # the token for each, or the error code
    restarts: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.lock = threading.Lock()
        names = [f"worker {number + 1}" for number in range(self.workers)]
        self.relay = Relay(names, self._kill)
        self.ports = [free_port() for _ in range(self.webs)]
        self.processes: dict[str, Process] = {}
        for number, port in enumerate(self.ports):
            bind = ("--bind", f"127.0.0.1:{port}")
            self._add(f"web {number + 1}", ("-m", "gunicorn", *bind, "app:create_app()"), 25)
        for name in names:
            command = ("manage.py", "worker", "--threads", str(WORKER_THREADS))
            self._add(name, command, self.relay.ports[name])

    def _add(self, name: str, command: tuple[str, ...], mail_port: int) -> None:
        settings = {
            "FLASK_MAIL_TIMEOUT": f"{MAIL_TIMEOUT_SECONDS} seconds",
            "FLASK_RECOVERY_MAIL_LEASE": f"{LEASE_SECONDS} seconds",
            "FLASK_RECOVERY_MAIL_DAILY_CAP": "100000",
            "FLASK_RECOVERY_CODE": "true",
        }
        base = f"http://127.0.0.1:{self.ports[0]}"
        environ = {**uncounted(), **deployment(self.uri, mail_port, base, **settings)}
        self.processes[name] = Process(command, environ, self.folder / f"{name.replace(' ', '-')}.log")

    def _kill(self, name: str, moment: str = "any") -> None:
        with self.lock:
            self.kills.append(Kill(time.time(), name, moment))
            self.processes[name].kill()
            self.processes[name].start()

    # --- People ---

    def ask(self, identity: str) -> None:
        """Repeat a request until it is accepted."""
        while True:
            at = time.time()
            if (answer := self._post("/reset", {"identity": identity})) is not None:
                self.requests.append(Request(at, identity))
                self.request_ids[identity] = answer["response"]["request_id"]
                return
            time.sleep(0.05)

    def redeem(self, arrival: Arrival, password: str, by_code: bool) -> None:
        """Redeem a link, or the code beside it, once, even without an answer."""
        link = arrival.link or ""
        if by_code and (request_id := self.request_ids.get(arrival.recipient)):
            found = self._post("/reset/code", {"request_id": request_id, "code": arrival.code})
            if found is None:
                return
            token = found["response"].get("token")
            self.codes.append((link, token or found["response"]["error_code"]))
            if token is None:
                return
        attempt = Attempt(link, password)
        self.attempts.append(attempt)
        answer = self._post(f"/reset/{link.rsplit('/', 1)[1]}", {"password": password})
        if answer is not None:
            attempt.code = answer["response"].get("error_code", "redeemed")

    def _post(self, path: str, body: dict[str, str]) -> Any:
        """Return the answer of any web process, None if it died or had no database."""
        port = random.choice(self.ports)
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=30, verify=NO_TLS)
        except httpx.TransportError:
            return None
        return None if answer.status_code >= 500 else answer.json()

    def follow_links(self) -> None:
        """Open every mailed link."""
        for link in {arrival.link for arrival in self.relay.arrivals if arrival.link}:
            url = f"http://127.0.0.1:{self.ports[0]}/reset/{link.rsplit('/', 1)[1]}"
            answer = httpx.get(url, headers={"Accept": "application/json"}, timeout=30, verify=NO_TLS)
            self.landings[link] = answer.json()["response"].get("error_code", "works")

    @contextmanager
    def traffic(self, identities: list[str], pause: float) -> Iterator[None]:
        """During the block, ask for a link in each pause, and redeem every fifth."""
        waiting, is_over = iter(identities), threading.Event()

        def ask() -> None:
            while not is_over.wait(pause):
                self.ask(next(waiting))

        with ThreadPoolExecutor(5) as people:
            acts = [people.submit(ask) for _ in range(4)]
            acts.append(people.submit(self._redeem_links, is_over, (False,)))
            try:
                yield
            finally:
                is_over.set()
            for act in acts:
                act.result()

    # --- Faults ---

    def rage(self, identities: list[str], kills: int, askers: int = 6) -> None:
        """Ask for every identity and redeem every fifth link during so many kills."""
        waiting = list(reversed(identities))
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                # Paced, so that the last request comes with the last kill.
                progress = (len(self.kills) + 1) / (kills + 1)
                if len(waiting) <= len(identities) * (1 - progress) and len(self.kills) < kills:
                    time.sleep(0.02)
                    continue
                if not waiting:
                    return
                with suppress(IndexError):  # another asker was faster
                    self.ask(waiting.pop())

        with ThreadPoolExecutor(askers) as people, ThreadPoolExecutor(1) as redeemer:
            redemptions = redeemer.submit(self._redeem_links, done)
            requests = [people.submit(ask) for _ in range(askers)]
            try:
                while len(self.kills) < kills:
                    time.sleep(self.random.uniform(0.05, 0.6))
                    self._cause_fault(len(self.kills) / kills)
                for request in requests:
                    request.result()
                self.relay.kill_next = None
            finally:
                done.set()
            redemptions.result()

    def _cause_fault(self, progress: float) -> None:
        faults = ["kill a web process", "kill a worker", "kill a worker in conversation"] * 3
        if progress < 0.6:  # later, back-off would only make the end longer
            faults += ["refusing", "refusing for now", "hanging", "hanging up", "slow"]
        if self.restart_database and self.restarts < 1 + progress * 3:
            faults.append("restart the database")
        fault = self.random.choice(faults)
        if fault == "kill a web process":
            self._kill(f"web {self.random.randint(1, self.webs)}")
        elif fault == "kill a worker":
            self._kill(f"worker {self.random.randint(1, self.workers)}")
        elif fault == "kill a worker in conversation":
            self.relay.kill_next = self.random.choice(["before the reply", "after the reply"])
        elif fault == "restart the database":
            assert self.restart_database
            self.restarts += 1
            self.restart_database()
        else:
            self.relay.switch_to(fault)
            time.sleep(self.random.uniform(0.3, 1.0))
            self.relay.switch_to("up")

    def _redeem_links(self, done: threading.Event, by_code: tuple[bool, ...] = (False, True)) -> None:
        """Redeem every fifth link and its code at once, with different passwords."""
        count = 0
        while not done.is_set():
            time.sleep(0.05)
            for arrival in self.relay.arrivals[count:]:
                count += 1
                if arrival.link and count % 5 == 0:
                    passwords = [f"the {name} visitor's password {count}" for name in ("first", "second")]
                    with ThreadPoolExecutor(2) as racers:
                        list(racers.map(self.redeem, [arrival] * 2, passwords, by_code))

    # --- The end ---

    def settle(self, is_long: bool) -> None:
        """Repair the relay, and wait until all processes are up and no message waits."""
        self.relay.switch_to("up")
        time.sleep(0.1)  # for a kill that follows a reply
        engine = create_engine(self.uri, poolclass=NullPool)
        if not is_long:
            self._end_leases(engine)
        query = text("""
            SELECT (SELECT count(*) FROM outbox_message WHERE state = 'waiting') = 0
            AND (SELECT count(*) FROM worker_heartbeat) >= :workers""")
        deadline, is_settled = time.monotonic() + SETTLE_SECONDS_MAX, False
        while not is_settled and time.monotonic() < deadline:
            time.sleep(0.2)
            with engine.connect() as connection:
                is_settled = connection.execute(query, {"workers": self.workers}).scalar_one()
        for port in self.ports:
            wait_for(lambda port=port: self._answers(port), 30)

    def _end_leases(self, engine: Engine) -> None:
        """End leases and back-off, while no worker runs: every lease belongs to one that was killed."""
        workers = [process for name, process in self.processes.items() if name.startswith("worker")]
        with self.lock:
            for worker in workers:
                worker.end()
            with engine.begin() as connection:
                statement = "UPDATE outbox_message SET due_at = created_at WHERE state = 'waiting'"
                connection.execute(text(statement))
                connection.execute(text("DELETE FROM worker_heartbeat"))
            for worker in workers:
                worker.start()

    @staticmethod
    def _answers(port: int) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/healthz", verify=NO_TLS).status_code == 200
        return False

    def end(self) -> dict[str, int]:
        """Send SIGTERM to every process, and return their exit codes."""
        codes = {name: process.end() for name, process in self.processes.items()}
        self.relay.stop()
        return codes


@contextmanager
def brewing(storm: Storm) -> Iterator[Storm]:
    """End every process at the end of the block."""
    try:
        yield storm
    finally:
        for process in storm.processes.values():
            process.kill()
        storm.relay.stop()


class Balance:
    """Compares requests, attempts and kills with mails and accounts."""

    def __init__(self, storm: Storm, live: set[str], app: Flask) -> None:
        self.storm, self.live, self.app = storm, live, app
        self.engine = create_engine(storm.uri, poolclass=NullPool)
        self.instructions = [arrival for arrival in storm.relay.arrivals if arrival.link]

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)))

    @cached_property
    def errors(self) -> dict[str, list[Any]]:
        """Everything that must not happen, by name."""
        worker_kills = sum(kill.name.startswith("worker") for kill in self.storm.kills)
        wins = Counter(attempt.link for attempt in self.storm.attempts if attempt.code == "redeemed")
        return {
            "lost": self._lost(),
            "sent to others": self._sent_to_others(),
            "duplicates without a kill": self._unexplained(),
            "more copies than killed threads": self.duplicates[WORKER_THREADS * worker_kills :],
            "duplicates with another Message-ID": [
                pair for pair in self.duplicates if pair[0].message_id != pair[1].message_id
            ],
            "stuck": self.rows("SELECT id, state, reason FROM outbox_message WHERE state = 'waiting'"),
            "mailed links that do not exist": [
                arrival
                for arrival in self.instructions
                if self.storm.landings[arrival.link] == "link_invalid"
            ],
            "codes without their link": [
                (link, token)
                for link, token in self.storm.codes
                if not (link.endswith(f"/{token}") or token == "link_used")
            ],
            "links redeemed twice": [link for link, count in wins.items() if count > 1],
            "accounts half changed": self._half_changed(),
        }

    def _lost(self) -> list[Request]:
        """Requests for live accounts without a later mail."""
        newest: dict[str, float] = defaultdict(float)
        for arrival in self.instructions:
            newest[arrival.recipient] = max(newest[arrival.recipient], arrival.at)
        return [
            request
            for request in self.storm.requests
            if request.identity in self.live and newest[request.identity] < request.at
        ]

    def _sent_to_others(self) -> list[Arrival]:
        requested = {request.identity for request in self.storm.requests} & self.live
        return [arrival for arrival in self.storm.relay.arrivals if arrival.recipient not in requested]

    @cached_property
    def duplicates(self) -> list[tuple[Arrival, Arrival]]:
        """Each extra copy, with the one before it."""
        copies: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in self.storm.relay.arrivals:
            copies[arrival.link or arrival.message_id].append(arrival)
        return [pair for same in copies.values() for pair in itertools.pairwise(same)]

    def _unexplained(self) -> list[Any]:
        """A copy is explained if the sender of the one before it was killed between the two."""
        return [
            (first, second)
            for first, second in self.duplicates
            if not any(
                kill.name == first.worker and first.at - 1 <= kill.at <= second.at
                for kill in self.storm.kills
            )
        ]

    def _half_changed(self) -> list[Any]:
        """Accounts with unequal numbers of redeemed links, events and notices, or with an unexplained password."""
        query = """
            SELECT u.email, u.password,
              (SELECT count(*) FROM reset_link l WHERE l.user_id = u.id AND l.redeemed_at IS NOT NULL) AS links,
              (SELECT count(*) FROM recovery_event e WHERE e.user_id = u.id AND e.kind = 'redeemed') AS events,
              (SELECT count(*) FROM outbox_message m WHERE m.user_id = u.id AND m.kind = 'reset_notice') AS notices
            FROM "user" u"""
        owner = {arrival.link: arrival.recipient for arrival in self.instructions}
        attempts: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.storm.attempts:
            attempts[owner[attempt.link]].append(attempt)
        wrong = []
        for row in self.rows(query):
            is_equal = row.links == row.events == row.notices
            won = [attempt.password for attempt in attempts[row.email] if attempt.code == "redeemed"]
            unheard = [attempt.password for attempt in attempts[row.email] if attempt.code is None]
            is_explained = not row.links or self._is_one_of(row.password, won + unheard)
            if not is_equal or not is_explained or len(won) > row.links:
                wrong.append(tuple(row))
        return wrong

    def _is_one_of(self, stored: str, passwords: list[str]) -> bool:
        with self.app.app_context():
            return any(verify_password(password, stored) for password in passwords)

    def table(self) -> str:
        storm = self.storm
        kills = Counter(kill.name.split()[0] for kill in storm.kills)
        moments = Counter(kill.moment for kill in storm.kills)
        lines = {
            "requests accepted": len(storm.requests),
            "of these for live accounts": sum(request.identity in self.live for request in storm.requests),
            "web processes killed": kills["web"],
            "workers killed": kills["worker"],
            **{f"of these {moment}": moments[moment] for moment in ("before the reply", "after the reply")},
            "database restarts": storm.restarts,
            "mails taken by the relay": len(storm.relay.arrivals),
            "extra copies": len(self.duplicates),
            "codes entered": len(storm.codes),
            "links redeemed (answered)": sum(attempt.code == "redeemed" for attempt in storm.attempts),
            **{name: len(cases) for name, cases in self.errors.items()},
        }
        return "\n".join(f"{name:<36} {count:>6}" for name, count in lines.items())
