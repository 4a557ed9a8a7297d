"""Liveness and readiness, as /healthz and /readyz report them."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import KINDS, Finding
from .scan import Check, Result, Scan, Skipped

PROBLEMS_MAX = 20  # the server may not be Sparekey
# The names of problems in the JSON of /readyz are part of the public interface.
KIND_OF_PROBLEM = {
    "no_worker": KINDS["worker-not-seen"],
    "mail_late": KINDS["mail-late"],
    "outbox_full": KINDS["outbox-full"],
    "mail_budget_spent": KINDS["mail-budget-spent"],
    "webhook_late": KINDS["webhook-late"],
}
DESCRIPTION_OF_PROBLEM = {
    "database_away": "the database does not answer",
    "database_read_only": "the database is read-only",
    "accounts_away": "the application's table of accounts cannot be used",
    "mail_held": "a worker cannot send, and all mail waits",
    "mail_refused": "the mail server refused an email, and has accepted none since",
}


def check_liveness(scan: Scan) -> Iterator[Result]:
    response = scan.get("/healthz")
    if response.status != 200 or response.json.get("status") != "ok":
        yield KINDS["not-alive"].found(status=response.status)


def check_readiness(scan: Scan) -> Iterator[Result]:
    response = scan.get("/readyz")
    if response.status not in (200, 503):
        yield Skipped("/readyz", f"it is not public ({response.status}), as it should be")
        return
    problems = response.json.get("problems")
    if not isinstance(problems, list) or (response.status == 503 and not problems):
        yield KINDS["not-ready"].found(problem=f"{response.status}, without a reason")
        return
    if not scan.is_local:
        yield KINDS["ready-public"].found()
    for problem in problems[:PROBLEMS_MAX]:
        yield _finding(str(problem))


def _finding(problem: str) -> Finding:
    if problem in KIND_OF_PROBLEM:
        return KIND_OF_PROBLEM[problem].found()
    return KINDS["not-ready"].found(problem=DESCRIPTION_OF_PROBLEM.get(problem, problem))


CHECKS = [
    Check("Sparekey is alive.", check_liveness),
    Check("Sparekey is ready: database, worker and mail work.", check_readiness),
]
