"""Delivery of a reset link: requested, mailed, opened. The link is never redeemed; the password stays."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from html import unescape

import click

from .findings import Kind
from .headers import policy_of, repeats
from .http_client import Answer
from .probe_session import EVIL, Check, Passed, Result, Skipped, Visit, cookies_of

MAIL_SECONDS = 20
LOOK_SECONDS = 0.5
WHAT = "the way of a link through the mail"
LINK = re.compile(r"https?://[^\s\"<>]{1,300}/reset/[\w~-]{20,}")
OURS = re.compile(r"https?://[^\s\"<>]{1,300}/(?:reset|not-me)/[\w~-]{20,}")

NO_MAIL = Kind(
    "mail-not-there",
    "warning",
    "No mail came within {seconds} seconds.",
    "From outside one can not tell why. Within the cool-down of an earlier mail there is no second one"
    " (RECOVERY_MAIL_COOLDOWN: 5 minutes as it comes), and there is none for an identity without account.",
    "Try again later. If there is still none: manage.py users show, on the machine itself.",
)
ONE_PART = Kind(
    "mail-without-link",
    "error",
    "The mail's {part} has no link.",
    "Some people can not go on from it.",
    "Correct the template (manage.py check names it).",
)
TWICE = Kind(
    "mail-link-repeated",
    "warning",
    "The link stands {times} times in the mail's text.",
    "People wonder which one is right.",
    "Let the template of your own name it once.",
)
FOREIGN_LINK = Kind(
    "link-elsewhere",
    "error",
    "A link in the mail leads to {to}, not to {url}.",
    "Whoever serves that host gets the link, and the account.",
    "Set RECOVERY_PUBLIC_URL, and build no link in a template by hand.",
)
BROKEN = Kind(
    "link-broken",
    "error",
    "The link in the mail does not work: it answers {status}.",
    "Nobody can choose a new password.",
    "Does the proxy hand on all of the path and the cookies? Was another link of the account used meanwhile?",
)
SPENT = Kind(
    "link-spent-by-opening",
    "error",
    "To open the link, or to ask for its head, uses it up.",
    "Mail scanners open links before people do.",
    "Sparekey spends a link with the new password only: look at what stands in front.",
)
STAYS = Kind(
    "link-stays",
    "error",
    "The link's secret stays in the address bar.",
    "It gets into the history, and into whatever reads addresses.",
    "Sparekey leads on to an address without it: look at what stands in front.",
)
REFERRED = Kind(
    "link-referrer",
    "error",
    "The answer to a link does not say Referrer-Policy: no-referrer.",
    "The link may be told to other sites.",
    "Sparekey sends it: let the proxy hand it on unchanged.",
)
KINDS = [NO_MAIL, ONE_PART, TWICE, FOREIGN_LINK, BROKEN, SPENT, STAYS, REFERRED]


def of_mail(visit: Visit) -> Iterator[Result]:
    inbox = visit.get("/inbox/")
    why = _why_not(visit, inbox)
    if why:
        yield Skipped(WHAT, why)
        return
    before = _numbers(inbox)
    # As whoever wants the link to lead elsewhere would ask.
    body = {"identity": visit.identity, "client": "browser"}
    answer = visit.post_json("/reset", body, X_Forwarded_Host=EVIL, X_Host=EVIL)
    if answer.status != 200:
        yield Skipped(WHAT, f"the request for a link was answered with {answer.status}")
        return
    if inbox.status != 200:
        yield Skipped("the mail's text and HTML", "only the link was pasted")
        yield from _of_pasted(visit)
        return
    asked = time.monotonic()
    mail = _wait_for_mail(visit, before)
    if mail is None:
        yield NO_MAIL.found(seconds=MAIL_SECONDS)
        return
    yield Passed(f"The mail came {time.monotonic() - asked:.1f} seconds after it was asked for.")
    yield from _of_parts(visit, *mail)


def _why_not(visit: Visit, inbox: Answer) -> str:
    if visit.identity is None:
        return "name an account of yours: --identity you@example.com"
    if inbox.status != 200 and not is_a_terminal():
        return "its mail is not shown here, and there is no terminal to paste the link into"
    return ""


def is_a_terminal() -> bool:
    return sys.stdin.isatty()


def _of_pasted(visit: Visit) -> Iterator[Result]:
    said = click.prompt("Paste the link from the mail (or nothing)", default="", show_default=False, err=True)
    link = LINK.search(said)
    if link is None:
        yield Skipped(WHAT, "no link was pasted")
    else:
        yield from _of_link(visit, link[0])


def _numbers(inbox: Answer) -> list[str]:
    return re.findall(r'href="[^"]*/inbox/(\d+)"', inbox.text) if inbox.status == 200 else []


def _wait_for_mail(visit: Visit, before: list[str]) -> tuple[str, str] | None:
    """Text and HTML of the newest mail that was not there before."""
    deadline = time.monotonic() + MAIL_SECONDS
    while time.monotonic() < deadline:
        new = [number for number in _numbers(visit.get("/inbox/")) if number not in before]
        for number in new:
            found = re.search(r"<pre[^>]*>(.*?)</pre>", visit.get(f"/inbox/{number}").text, re.DOTALL)
            text = unescape(re.sub(r"<[^<>]+>", "", found[1] if found else ""))
            html = unescape(visit.get(f"/inbox/{number}/html").text)
            if LINK.search(text) or LINK.search(html):
                return text, html
        time.sleep(LOOK_SECONDS)
    return None


def _of_parts(visit: Visit, text: str, html: str) -> Iterator[Result]:
    links = LINK.findall(text)
    for part, said in (("text", links), ("HTML", LINK.findall(html))):
        if not said:
            yield ONE_PART.found(part=part)
    if len(links) > 1:
        yield TWICE.found(times=len(links))
    foreign = [link for link in OURS.findall(f"{text} {html}") if not link.startswith(f"{visit.wire.url}/")]
    if foreign:
        yield FOREIGN_LINK.found(to=_without_secret(foreign[0]), url=visit.wire.url)
    elif links:
        yield from _of_link(visit, links[0])


def _of_link(visit: Visit, link: str) -> Iterator[Result]:
    """Opened as a scanner and then as a person does, twice."""
    if not link.startswith(f"{visit.wire.url}/"):
        yield FOREIGN_LINK.found(to=_without_secret(link), url=visit.wire.url)
        return
    path = link.removeprefix(visit.wire.url)
    head = visit.get(path, "HEAD")
    if head.status >= 400:
        yield BROKEN.found(status=head.status)
        return
    landed, again = visit.get(path), visit.get(path)
    looked = visit.get(path, Accept="application/json")
    if any(answer.status >= 400 for answer in (landed, again, looked)):
        yield SPENT.found()
        return
    if any(answer.header("Referrer-Policy") != "no-referrer" for answer in (head, landed)):
        yield REFERRED.found()
    yield from _of_landing(visit, landed, secret=path.rsplit("/", 1)[1])


def _of_landing(visit: Visit, landed: Answer, secret: str) -> Iterator[Result]:
    to = landed.header("Location")
    own = visit.wire.parts.path
    if not 300 <= landed.status < 400 or secret in to:
        yield STAYS.found()
        return
    path = to.removeprefix(visit.origin).removeprefix(own)
    if not path.startswith("/") or path.startswith("//"):
        yield FOREIGN_LINK.found(to=to, url=visit.wire.url)
        return
    cookies = cookies_of(landed)
    form, again = visit.get(path, Cookie=cookies), visit.get(path, Cookie=cookies)
    if form.status != 200 or "password_confirm" not in form.text:
        yield BROKEN.found(status=form.status)
        return
    if secret in form.text:
        yield STAYS.found()
    yield from policy_of(form, "the form for a new password")
    yield from repeats(form, again, "the form for a new password")


def _without_secret(link: str) -> str:
    return link.rsplit("/", 1)[0]


CHECKS = [Check("The link in the mail leads here, and to open it uses nothing up.", of_mail)]
