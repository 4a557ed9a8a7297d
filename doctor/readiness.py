"""Liveness and readiness, as /healthz and /readyz report them."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Kind
from .probe_session import Check, Result, Skipped, Visit

NOT_ALIVE = Kind(
    "not-alive",
    "error",
    "/healthz answers {status}.",
    "Monitoring restarts it repeatedly, or a load balancer sends it no users.",
    "Read the logs, and check that the proxy passes the path on.",
)
NOT_READY = Kind(
    "not-ready",
    "error",
    "/readyz reports a problem: {what}.",
    "Requests or emails fail.",
    "Run on the machine itself: manage.py check --deploy --live",
)
READY_PUBLIC = Kind(
    "ready-public",
    "warning",
    "Anyone can read /readyz.",
    "When the mail quota is exhausted, it reveals whether an email was the last, and so who has an account.",
    "Let the proxy answer 404 there (docs/deploy/nginx.conf).",
)
NO_WORKER = Kind(
    "worker-not-seen",
    "error",
    "No worker has reported in the last minute.",
    "Mail waits until one runs.",
    "Start manage.py worker, and let your system restart it.",
)
MAIL_LATE = Kind(
    "mail-late",
    "warning",
    "No worker has tried an email for longer than RECOVERY_READY_MAIL_AGE.",
    "Links arrive late, or not at all.",
    "See manage.py outbox list, and start more workers.",
    "RECOVERY_READY_MAIL_AGE",
)
OUTBOX_FULL = Kind(
    "outbox-full",
    "error",
    "The outbox is full (RECOVERY_MAIL_WAITING_MAX).",
    "Further requests are not stored.",
    "See manage.py outbox list, and look for a flood of requests.",
    "RECOVERY_MAIL_WAITING_MAX",
)
BUDGET_SPENT = Kind(
    "mail-budget-spent",
    "warning",
    "The hourly mail quota is exhausted.",
    "Further emails wait.",
    "See manage.py events, and look for a flood of requests.",
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
    "mail_held": "a worker cannot send, and all mail waits",
}


def of_life(visit: Visit) -> Iterator[Result]:
    answer = visit.get("/healthz")
    if answer.status != 200 or answer.json.get("status") != "ok":
        yield NOT_ALIVE.found(status=answer.status)


def of_readiness(visit: Visit) -> Iterator[Result]:
    answer = visit.get("/readyz")
    if answer.status not in (200, 503):
        yield Skipped(
            "/readyz",
            f"it is not public ({answer.status}), as it should be; read it from the internal network",
        )
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
    Check("/healthz answers.", of_life),
    Check("/readyz reports no problem with database, worker and mail.", of_readiness),
]
