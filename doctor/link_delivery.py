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
WHAT = "the delivery of a link by email"
LINK = re.compile(r"https?://[^\s\"<>]{1,300}/reset/[\w~-]{20,}")
OURS = re.compile(r"https?://[^\s\"<>]{1,300}/(?:reset|not-me)/[\w~-]{20,}")

NO_MAIL = Kind(
    "mail-not-there",
    "warning",
    "No email arrived within {seconds} seconds.",
    "The reason is not visible from outside. There is no second email within the cool-down of an earlier one"
    " (RECOVERY_MAIL_COOLDOWN, by default 5 minutes), and none for an identity without account.",
    "Try again later. If none arrives then, run manage.py users show on the machine itself.",
)
ONE_PART = Kind(
    "mail-without-link",
    "error",
    "The {part} of the email has no link.",
    "Some users cannot continue from it.",
    "Correct the template (manage.py check names it).",
)
TWICE = Kind(
    "mail-link-repeated",
    "warning",
    "The link appears {times} times in the email's text.",
    "Users wonder which one is right.",
    "Use it once in your own template.",
)
FOREIGN_LINK = Kind(
    "link-elsewhere",
    "error",
    "A link in the email leads to {to}, not to {url}.",
    "The owner of that host gets the link, and the account.",
    "Set RECOVERY_PUBLIC_URL, and write no link into a template by hand.",
)
BROKEN = Kind(
    "link-broken",
    "error",
    "The link in the email does not work: it answers {status}.",
    "No user can choose a new password.",
    "Check that the proxy passes on path and cookies, and that no other link of the account was used.",
)
SPENT = Kind(
    "link-spent-by-opening",
    "error",
    "A GET or HEAD request uses the link up.",
    "Mail scanners open links before users do.",
    "In Sparekey only a new password uses a link up. Check the proxy in front.",
)
STAYS = Kind(
    "link-stays",
    "error",
    "The token stays in the address bar.",
    "It gets into the history, and into software that reads addresses.",
    "Sparekey redirects to an address without it. Check the proxy in front.",
)
REFERRED = Kind(
    "link-referrer",
    "error",
    "The answer to a link lacks Referrer-Policy: no-referrer.",
    "Other sites may receive the link.",
    "Sparekey sends it. Let the proxy pass it on unchanged.",
)
KINDS = [NO_MAIL, ONE_PART, TWICE, FOREIGN_LINK, BROKEN, SPENT, STAYS, REFERRED]


def of_mail(visit: Visit) -> Iterator[Result]:
    inbox = visit.get("/inbox/")
    why = _why_not(visit, inbox)
    if why:
        yield Skipped(WHAT, why)
        return
    before = _numbers(inbox)
    # As an attacker would who wants the link to lead elsewhere.
    body = {"identity": visit.identity, "client": "browser"}
    answer = visit.post_json("/reset", body, X_Forwarded_Host=EVIL, X_Host=EVIL)
    if answer.status != 200:
        yield Skipped(WHAT, f"the request for a link was answered with {answer.status}")
        return
    if inbox.status != 200:
        yield Skipped("the text and HTML of the email", "only the link was pasted")
        yield from _of_pasted(visit)
        return
    asked = time.monotonic()
    mail = _wait_for_mail(visit, before)
    if mail is None:
        yield NO_MAIL.found(seconds=MAIL_SECONDS)
        return
    yield Passed(f"The email arrived {time.monotonic() - asked:.1f} seconds after its request.")
    yield from _of_parts(visit, *mail)


def _why_not(visit: Visit, inbox: Answer) -> str:
    if visit.identity is None:
        return "name an account of yours: --identity you@example.com"
    if inbox.status != 200 and not is_a_terminal():
        return "there is no demo inbox to read, and there is no terminal to paste the link into"
    return ""


def is_a_terminal() -> bool:
    return sys.stdin.isatty()


def _of_pasted(visit: Visit) -> Iterator[Result]:
    said = click.prompt(
        "Paste the link from the email (or nothing)", default="", show_default=False, err=True
    )
    link = LINK.search(said)
    if link is None:
        yield Skipped(WHAT, "no link was pasted")
    else:
        yield from _of_link(visit, link[0])


def _numbers(inbox: Answer) -> list[str]:
    return re.findall(r'href="[^"]*/inbox/(\d+)"', inbox.text) if inbox.status == 200 else []


def _wait_for_mail(visit: Visit, before: list[str]) -> tuple[str, str] | None:
    """Return text and HTML of the newest mail that was not there before, or None."""
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
    """Open the link as a mail scanner does, and then twice as a user does."""
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


CHECKS = [Check("The link in the email leads here, and opening it does not use it up.", of_mail)]
