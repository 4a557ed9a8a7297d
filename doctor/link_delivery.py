"""Delivery of a reset link: requested, mailed, opened. The link is never redeemed; the password stays."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from html import unescape

import click

from .findings import KINDS
from .headers import HEADER_CHECKS, check_echo, check_nonce, check_policy
from .http_client import Response
from .scan import ATTACKER_HOST, Check, Passed, Result, Scan, Skipped, cookie_header

MAIL_SECONDS = 20
POLL_SECONDS = 0.5
SUBJECT = "delivery of a reset link"
RESET_LINK = re.compile(r"https?://[^\s\"<>]{1,300}/reset/[\w~-]{20,}")
ANY_LINK = re.compile(r"https?://[^\s\"<>]{1,300}/(?:reset|not-me)/[\w~.-]{20,}")
OBJECTION, FORM = "/not-me/…", "the form for a new password"


def check_delivery(scan: Scan) -> Iterator[Result]:
    inbox = scan.get("/inbox/")
    if reason := _reason_to_skip(scan, inbox):
        yield Skipped(SUBJECT, reason)
        return
    earlier = _message_numbers(inbox)
    # An attacker who wants the link to lead elsewhere spoofs these headers.
    spoofed = {"X-Forwarded-Host": ATTACKER_HOST, "X-Host": ATTACKER_HOST}
    response = scan.post_json("/reset", {"identity": scan.identity, "client": "browser"}, spoofed)
    if response.status != 200:
        yield Skipped(SUBJECT, f"the request for a link was answered with {response.status}")
        return
    if inbox.status != 200:
        yield Skipped("the email's text and HTML", "only the link was pasted")
        yield from _check_pasted_link(scan)
        return
    start = time.monotonic()
    message = _wait_for_message(scan, earlier)
    if message is None:
        yield KINDS["mail-not-there"].found(seconds=MAIL_SECONDS)
        return
    yield Passed(f"The email arrived {time.monotonic() - start:.1f} seconds after the request.")
    yield from _check_message(scan, *message)


def _reason_to_skip(scan: Scan, inbox: Response) -> str:
    if scan.identity is None:
        return "name your account with --identity you@example.com"
    if inbox.status != 200 and not is_terminal():
        return "there is no public inbox, and no terminal to paste the link into"
    return ""


def is_terminal() -> bool:
    return sys.stdin.isatty()


def _check_pasted_link(scan: Scan) -> Iterator[Result]:
    question = "Paste the link from the email (or nothing)"
    link = RESET_LINK.search(click.prompt(question, default="", show_default=False, err=True))
    if link is None:
        yield Skipped(SUBJECT, "no link was pasted")
    else:
        yield from _check_link(scan, link[0])


def _message_numbers(inbox: Response) -> list[str]:
    return re.findall(r'href="[^"]*/inbox/(\d+)"', inbox.text) if inbox.status == 200 else []


def _wait_for_message(scan: Scan, earlier: list[str]) -> tuple[str, str] | None:
    """Return text and HTML of a new message with a link, or None after MAIL_SECONDS."""
    deadline = time.monotonic() + MAIL_SECONDS
    while time.monotonic() < deadline:
        for number in _message_numbers(scan.get("/inbox/")):
            if number in earlier:
                continue
            source = re.search(r"<pre[^>]*>(.*?)</pre>", scan.get(f"/inbox/{number}").text, re.DOTALL)
            text = unescape(re.sub(r"<[^<>]+>", "", source[1] if source else ""))
            html = unescape(scan.get(f"/inbox/{number}/html").text)
            if RESET_LINK.search(text) or RESET_LINK.search(html):
                return text, html
        time.sleep(POLL_SECONDS)
    return None


def _check_message(scan: Scan, text: str, html: str) -> Iterator[Result]:
    links = RESET_LINK.findall(text)
    if not links:
        yield KINDS["mail-without-link"].found(part="text")
    if not RESET_LINK.search(html):
        yield KINDS["mail-without-link"].found(part="HTML")
    if len(links) > 1:
        yield KINDS["mail-link-repeated"].found(times=len(links))
    base = f"{scan.client.url}/"
    foreign = [link for link in ANY_LINK.findall(f"{text} {html}") if not link.startswith(base)]
    if foreign:
        yield KINDS["link-elsewhere"].found(to=_without_token(foreign[0]), url=scan.client.url)
        return
    if links:
        yield from _check_link(scan, links[0])
    for link in ANY_LINK.findall(text):
        if link.startswith(f"{base}not-me/"):
            yield from _check_headers(scan.get(link.removeprefix(scan.client.url)), link, OBJECTION)


def _check_link(scan: Scan, link: str) -> Iterator[Result]:
    """Open the link as a mail scanner does, then twice as a user does."""
    if not link.startswith(f"{scan.client.url}/"):
        yield KINDS["link-elsewhere"].found(to=_without_token(link), url=scan.client.url)
        return
    path = link.removeprefix(scan.client.url)
    head = scan.get(path, "HEAD")
    if head.status >= 400:
        yield KINDS["link-broken"].found(status=head.status)
        return
    landing, again = scan.get(path), scan.get(path)
    as_json = scan.get(path, headers={"Accept": "application/json"})
    if any(response.status >= 400 for response in (landing, again, as_json)):
        yield KINDS["link-spent-by-opening"].found()
        return
    for response in (head, landing, as_json):
        yield from _check_headers(response, link)
    yield from _check_landing(scan, landing, token=path.rsplit("/", 1)[1])


def _check_headers(response: Response, link: str, where: str = "") -> Iterator[Result]:
    """Check that the response to a link does not pass its token on."""
    if response.header("Referrer-Policy") != "no-referrer":
        yield KINDS["link-referrer"].found(where=where)
    yield from check_echo(response, link.rsplit("/", 1)[1], where)


def _check_landing(scan: Scan, landing: Response, token: str) -> Iterator[Result]:
    """Check that the link redirects to an address without its token, and that the form is there."""
    location = landing.header("Location")
    if not 300 <= landing.status < 400 or token in location:
        yield KINDS["link-stays"].found()
        return
    path = location.removeprefix(scan.origin).removeprefix(scan.client.parts.path)
    if not path.startswith("/") or path.startswith("//"):
        yield KINDS["link-elsewhere"].found(to=location, url=scan.client.url)
        return
    headers = {"Cookie": cookie_header(landing)}
    form, again = scan.get(path, headers=headers), scan.get(path, headers=headers)
    if form.status != 200 or "password_confirm" not in form.text:
        yield KINDS["link-broken"].found(status=form.status)
        return
    if token in form.text:
        yield KINDS["link-stays"].found()
    yield from check_echo(form, token, FORM)
    yield from check_policy(form, FORM)
    for id, is_good in HEADER_CHECKS.items():
        if not is_good(form):
            yield KINDS[id].found(where=FORM)
    yield from check_nonce(form, again, FORM)


def _without_token(link: str) -> str:
    return link.rsplit("/", 1)[0]


CHECKS = [Check("The link in the email leads here, and opening it does not use it up.", check_delivery)]
