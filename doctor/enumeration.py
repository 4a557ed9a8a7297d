"""Account enumeration: differences in answers or their timing. Needs a known identity."""

from __future__ import annotations

import random
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import rank_test
from .findings import Finding, Kind
from .http_client import Answer
from .probe_session import Check, Passed, Result, Skipped, Visit, made_up

KNOWN, UNKNOWN = "known", "unknown"
SAMPLES_MIN = 8  # fewer show no difference at rank_test.ALPHA
SAMPLES_MAX = 45  # twice as many are below the default of RECOVERY_LIMIT_IDENTITY for an hour
WHAT = "the answers for known and unknown accounts"
VARIES = ("date", "set-cookie", "content-length", "age", "expires", "etag", "last-modified")

BY_WORDS = Kind(
    "told-by-answer",
    "error",
    "The answer for an existing account differs: {what}.",
    "Anyone can find out who has an account.",
    "Sparekey gives everyone the same answer. Check the proxy in front, and your own templates.",
)
BY_TIME = Kind(
    "told-by-time",
    "error",
    "The response time reveals who has an account: in {share:.0%} of all pairs the known one takes"
    " {longer} (medians {known:.1f} and {unknown:.1f} ms).",
    "Anyone can find out who has an account.",
    "Sparekey looks up no account during a request. Check the proxy in front, and your own code.",
)
KINDS = [BY_WORDS, BY_TIME]

Said = dict[str, dict[str, set[str]]]


@dataclass
class Round:
    """Response times in milliseconds, and the reason if there are too few."""

    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    stopped: str = ""

    def is_enough(self) -> bool:
        return min(len(self.known), len(self.unknown)) >= SAMPLES_MIN

    def tells(self) -> bool:
        return self.is_enough() and rank_test.is_told(self.known, self.unknown)

    def share(self) -> float:
        """Return the share of all pairs in which the known one takes longer."""
        return rank_test.auc(self.unknown, self.known)


def of_accounts(visit: Visit) -> Iterator[Result]:
    why = _why_not(visit.identity)
    if visit.identity is None or why:
        yield Skipped(WHAT, why)
        return
    yield from _of_form(visit, visit.identity)
    yield from _of_json(visit, visit.identity)


def _why_not(identity: str | None) -> str:
    if identity is None:
        return "name an account of yours: --identity you@example.com"
    if not re.search(r"[^\W\d_]", identity):
        return "a made-up phone number may belong to a user: name the account's address or username"
    return ""


def _of_form(visit: Visit, identity: str) -> Iterator[Result]:
    said: Said = defaultdict(lambda: defaultdict(set))
    for name, typed in ((UNKNOWN, made_up(identity)), (KNOWN, identity)):
        answer = visit.submit("/reset", identity=typed)
        if answer.status == 429:
            yield Skipped("the form for known and unknown accounts", _refused(answer))
            return
        _keep(said[name], answer, typed, by_names=True)
    yield from _told(said, "POST /reset, as a form")


def _of_json(visit: Visit, identity: str) -> Iterator[Result]:
    said: Said = defaultdict(lambda: defaultdict(set))
    rounds = [_ask(visit, identity, said)]
    if rounds[0].tells():  # perhaps by chance, so look again before reporting it
        rounds.append(_ask(visit, identity, said))
    if len(said) == 2:
        yield from _told(said, "POST /reset, as JSON")
    yield from _of_times(*rounds)


def _ask(visit: Visit, identity: str, said: Said) -> Round:
    times = Round()
    for name in _order(visit.samples):
        typed = identity if name == KNOWN else made_up(identity)
        answer = visit.post_json("/reset", {"identity": typed, "client": "browser"})
        if answer.status == 429 or answer.status >= 500:
            times.stopped = _refused(answer)
            break
        (times.known if name == KNOWN else times.unknown).append(answer.seconds * 1000)
        _keep(said[name], answer, typed)
    return times


def _order(samples: int) -> list[str]:
    """Return pairs in random order, so that other load on the machine affects both alike."""
    order: list[str] = []
    for _ in range(samples):
        order += random.sample((KNOWN, UNKNOWN), 2)  # an order, not a secret
    return order


def _keep(said: dict[str, set[str]], answer: Answer, typed: str, *, by_names: bool = False) -> None:
    """Keep the parts of an answer that may differ. The identity itself may be repeated in it."""
    said["status"].add(str(answer.status))
    body = re.sub(r'"csrf_token":\s*"[^"]*"|name="csrf_token"[^>]*', "", answer.text)
    said["body"].add(body.replace(typed, "…"))
    said["Location"].add(answer.header("Location"))
    said["names of headers"].add(" ".join(sorted({name.lower() for name, _ in answer.headers})))
    for name, value in answer.headers:
        if (
            name.lower() not in VARIES and not by_names
        ):  # a single answer does not show which headers vary anyway
            said[f"header {name}"].add(value)


def _told(said: Said, where: str) -> Iterator[Finding]:
    """Report parts that are always the same for unknown accounts and differ for the known one."""
    unknown, known = said[UNKNOWN], said[KNOWN]
    differs = [what for what, values in unknown.items() if len(values) == 1 and known.get(what) != values]
    if differs:
        yield BY_WORDS.found(what=", ".join(differs), where=where)


def _of_times(first: Round, second: Round | None = None) -> Iterator[Result]:
    what, n, m = "the response times for known and unknown accounts", len(first.known), len(first.unknown)
    if not first.is_enough():
        why = f"only {n + m} answers arrived, and {2 * SAMPLES_MIN} are needed: {first.stopped}"
        yield Skipped(what, why)
    elif second and not second.is_enough():
        yield Skipped(what, f"they seem to differ, but could not be measured again: {second.stopped}")
    elif second and second.tells() and (first.share() > 0.5) == (second.share() > 0.5):
        yield BY_TIME.found(
            share=max(second.share(), 1 - second.share()),
            longer="longer" if second.share() > 0.5 else "less",
            known=statistics.median(second.known),
            unknown=statistics.median(second.unknown),
        )
    else:
        least = f"{rank_test.seen_from(n, m):.0%}"
        yield Passed(
            f"Response times do not reveal who has an account, as far as {n} and {m} answers show. They show"
            f" a difference if one takes longer in {least} of all pairs; more --samples show smaller ones"
            f"{f' ({first.stopped})' if first.stopped else ''}."
        )


def _refused(answer: Answer) -> str:
    wait = answer.header("Retry-After")
    if answer.status == 429:
        return f"the limits refused more{f'; try again in {wait} seconds' if wait else ''} (429)"
    return f"the answer was {answer.status}"


CHECKS = [Check("Answers do not reveal who has an account.", of_accounts)]
