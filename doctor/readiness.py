"""Liveness and readiness, as /healthz and /readyz report them."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Kind
from .probe_session import Check, Result, Skipped, Visit

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
NO_WORKER = Kind(
    "worker-not-seen",
    "error",
    "No worker was seen in the last minute.",
    "Mail waits until one runs.",
    "Start manage.py worker, and let your system start it again when it stops.",
)
MAIL_LATE = Kind(
    "mail-late",
    "warning",
    "Mail waits that nobody has tried for longer than RECOVERY_READY_MAIL_AGE.",
    "Links come late, or not at all.",
    "See manage.py outbox list, and start more workers.",
    "RECOVERY_READY_MAIL_AGE",
)
OUTBOX_FULL = Kind(
    "outbox-full",
    "error",
    "As many mails wait as may wait.",
    "Requests for more are not kept.",
    "See manage.py outbox list: is it a flood?",
    "RECOVERY_MAIL_WAITING_MAX",
)
BUDGET_SPENT = Kind(
    "mail-budget-spent",
    "warning",
    "As many mails went out in the last hour as may go out.",
    "The others wait.",
    "See manage.py events: is it a flood?",
    "RECOVERY_MAIL_HOURLY_MAX",
)
KINDS = [NOT_ALIVE, NOT_READY, READY_PUBLIC, NO_WORKER, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT]

# The names of problems in the JSON of /readyz are part of the public interface.
KIND_OF_PROBLEM = {
    "no_worker": NO_WORKER,
    "mail_late": MAIL_LATE,
    "outbox_full": OUTBOX_FULL,
    "mail_budget_spent": BUDGET_SPENT,
}
DESCRIPTION_OF_PROBLEM = {
    "database_away": "its database does not answer",
    "mail_held": "a worker can not send, and all mail waits",
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
        kind = KIND_OF_PROBLEM.get(problem)
        yield kind.found() if kind else NOT_READY.found(what=DESCRIPTION_OF_PROBLEM.get(problem, problem))


CHECKS = [
    Check("It is alive.", of_life),
    Check("It is ready: database, worker and mail are well.", of_readiness),
]
