"""Whether all is well inside, as far as it says so."""

from __future__ import annotations

from collections.abc import Iterator

from ... import health
from ...findings import Kind
from .. import deployed
from .visit import Check, Result, Skipped, Visit

NOT_ALIVE = Kind(
    "not-alive",
    "error",
    "/healthz answers {status}.",
    "Whatever watches it starts it again and again, or sends nobody there.",
    "Look into the logs; does the proxy hand the path on?",
)
NOT_READY = Kind(
    "not-ready",
    "error",
    "/readyz says that something is wrong: {what}.",
    "Requests or mails fail.",
    "Ask on the machine itself: manage.py check --deploy --live",
)
READY_PUBLIC = Kind(
    "ready-public",
    "warning",
    "/readyz can be read by everybody.",
    "While the mail budget is spent, it tells whether a mail was the last one, and so who has an account.",
    "Let the proxy answer 404 there (docs/deploy/nginx.conf).",
)
KINDS = [NOT_ALIVE, NOT_READY, READY_PUBLIC, *deployed.OF_PROBLEM.values()]

WORDS = {
    health.NO_DATABASE: "its database does not answer",
    health.MAIL_HELD: "a worker can not send, and all mail waits",
}


def of_life(visit: Visit) -> Iterator[Result]:
    answer = visit.get("/healthz")
    if answer.status != 200 or answer.json.get("status") != "ok":
        yield NOT_ALIVE.found(status=answer.status)


def of_readiness(visit: Visit) -> Iterator[Result]:
    answer = visit.get("/readyz")
    if answer.status not in (200, 503):
        yield Skipped("/readyz", f"it is kept from us ({answer.status}), as it should be: ask it next door")
        return
    problems = answer.json.get("problems")
    if not isinstance(problems, list) or (answer.status == 503 and not problems):
        yield NOT_READY.found(what=f"{answer.status}, without a reason")
        return
    if not visit.is_here:
        yield READY_PUBLIC.found()
    for problem in map(str, problems[:20]):
        kind = deployed.OF_PROBLEM.get(problem)
        yield kind.found() if kind else NOT_READY.found(what=WORDS.get(problem, problem))


CHECKS = [
    Check("It is alive.", of_life),
    Check("It is ready: database, worker and mail are well.", of_readiness),
]
