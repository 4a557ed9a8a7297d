"""Account enumeration: responses or response times that reveal who has an account. Needs a known identity."""

from __future__ import annotations

import random
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import rank_test
from .findings import KINDS, Finding
from .http_client import Response
from .scan import Check, Passed, Result, Scan, Skipped, random_identity

KNOWN, UNKNOWN = "known", "unknown"
SAMPLES_MIN = 8  # fewer cannot be significant at rank_test.ALPHA
SAMPLES_MAX = 45  # four times as many are below the hourly default of RECOVERY_LIMIT_SOURCE
VARIABLE_HEADERS = ("date", "set-cookie", "content-length", "age", "expires", "etag", "last-modified")

# The values of each aspect of the responses, such as "status", for known and unknown identities.
Observed = dict[str, dict[str, set[str]]]


@dataclass
class Sample:
    """Response times in milliseconds, and the reason if sampling stopped early."""

    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    stopped: str = ""

    def is_sufficient(self) -> bool:
        return min(len(self.known), len(self.unknown)) >= SAMPLES_MIN

    def is_significant(self) -> bool:
        return self.is_sufficient() and rank_test.is_significant(self.known, self.unknown)

    def share_longer(self) -> float:
        """Return the share of pairs in which the known identity takes longer."""
        return rank_test.auc(self.unknown, self.known)


def check_enumeration(scan: Scan) -> Iterator[Result]:
    reason = _reason_to_skip(scan.identity)
    if scan.identity is None or reason:
        yield Skipped("account enumeration", reason)
        return
    yield from _check_form(scan, scan.identity)
    yield from _check_json(scan, scan.identity)


def _reason_to_skip(identity: str | None) -> str:
    if identity is None:
        return "name your account with --identity you@example.com"
    if not re.search(r"[^\W\d_]", identity):
        return "a made-up phone number may be a real one, so name the account's email address or username"
    return ""


def _check_form(scan: Scan, known: str) -> Iterator[Result]:
    observed = _nothing_observed()
    for group, identity in ((UNKNOWN, random_identity(known)), (KNOWN, known)):
        response = scan.submit("/reset", identity=identity)
        if response.status == 429:
            yield Skipped("account enumeration by the form", _describe_failure(response))
            return
        # With one response of each, a value that always varies looks like a difference.
        _observe(observed[group], response, identity, with_header_values=False)
    yield from _compare(observed, "POST /reset, as a form")


def _check_json(scan: Scan, known: str) -> Iterator[Result]:
    observed = _nothing_observed()
    samples = [_take_sample(scan, known, observed)]
    if samples[0].is_significant():  # it may be chance
        samples.append(_take_sample(scan, known, observed))
    if len(observed) == 2:
        yield from _compare(observed, "POST /reset, as JSON")
    yield _check_times(*samples)


def _nothing_observed() -> Observed:
    return defaultdict(lambda: defaultdict(set))


def _take_sample(scan: Scan, known: str, observed: Observed) -> Sample:
    sample = Sample()
    for group in _groups_in_random_order(scan.samples):
        identity = known if group == KNOWN else random_identity(known)
        response = scan.post_json("/reset", {"identity": identity, "client": "browser"})
        if response.status == 429 or response.status >= 500:
            sample.stopped = _describe_failure(response)
            break
        (sample.known if group == KNOWN else sample.unknown).append(response.seconds * 1000)
        _observe(observed[group], response, identity)
    return sample


def _groups_in_random_order(samples: int) -> list[str]:
    """Return pairs in random order, so that other load on the machine affects both groups alike."""
    groups: list[str] = []
    for _ in range(samples):
        groups += random.sample((KNOWN, UNKNOWN), 2)  # an order, not a secret
    return groups


def _observe(
    aspects: dict[str, set[str]], response: Response, identity: str, *, with_header_values: bool = True
) -> None:
    """Add the response's aspects. The identity itself, the CSRF token and the request id may differ."""
    body = re.sub(r'"(csrf_token|request_id)":\s*"[^"]*"|name="csrf_token"[^>]*', "", response.text)
    aspects["status"].add(str(response.status))
    aspects["body"].add(body.replace(identity, "…"))
    aspects["Location"].add(response.header("Location"))
    aspects["names of headers"].add(" ".join(sorted({name.lower() for name, _ in response.headers})))
    for name, value in response.headers if with_header_values else ():
        if name.lower() not in VARIABLE_HEADERS:
            aspects[f"header {name}"].add(value)


def _compare(observed: Observed, where: str) -> Iterator[Finding]:
    """Compare the aspects that are constant for unknown identities."""
    unknown, known = observed[UNKNOWN], observed[KNOWN]
    differences = [
        aspect for aspect, values in unknown.items() if len(values) == 1 and known.get(aspect) != values
    ]
    if differences:
        yield KINDS["told-by-answer"].found(differences=", ".join(differences), where=where)


def _check_times(first: Sample, second: Sample | None = None) -> Result:
    """Report a difference only if a second sample confirms it."""
    subject, n, m = "account enumeration by response time", len(first.known), len(first.unknown)
    if not first.is_sufficient():
        reason = f"there were only {n + m} of at least {2 * SAMPLES_MIN} responses: {first.stopped}"
        return Skipped(subject, reason)
    if second and not second.is_sufficient():
        return Skipped(subject, f"there seems to be a difference, but it was not confirmed: {second.stopped}")
    if second and second.is_significant() and (first.share_longer() > 0.5) == (second.share_longer() > 0.5):
        share = second.share_longer()
        return KINDS["told-by-time"].found(
            share=max(share, 1 - share),
            longer="longer" if share > 0.5 else "less time",
            known=statistics.median(second.known),
            unknown=statistics.median(second.unknown),
        )
    detectable = f"{rank_test.detectable_auc(n, m):.0%}"
    stopped = f" ({first.stopped})" if first.stopped else ""
    return Passed(
        f"Response times do not reveal who has an account, as far as {n} and {m} responses show. They detect"
        f" an identity that takes longer in {detectable} of all pairs; more --samples detect less{stopped}."
    )


def _describe_failure(response: Response) -> str:
    if response.status != 429:
        return f"the server answered {response.status}"
    seconds = response.header("Retry-After")
    retry = f"; try again in {seconds} seconds" if seconds else ""
    return f"the rate limits refused more{retry} (429)"


CHECKS = [Check("Responses do not reveal who has an account.", check_enumeration)]
