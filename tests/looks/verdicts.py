"""`make looks`: what mail programs, a spam filter and Lighthouse say of every mail and of the demo's pages.

One table each; the exit code is 1 when anything fails. Nothing is installed, and nothing leaves this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from looks import gallery, stage
from support.servers import CHROMIUM, NO_TLS, two_free_ports
from support.site import ROOT

from app.mail import composing
from app.pages import samples

SPAM_SCORE_MAX = 0.5
GTUBE = (
    "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"  # every filter takes it for spam
)
PLANTED = "(planted)"
SPAMASSASSIN = ("spamassassin", "--local", "--nocreate-prefs", "--prefs-file=/dev/null", "--cf=use_bayes 0")

PATHS = ("/", "/login", "/reset", "/check-mail")
CATEGORIES = ("accessibility", "best-practices", "performance")
BYTES_MAX = 30_000
TRIES = 3  # the machine may be busy with something else while speed is measured
LIGHTHOUSE = stage.MODULES / "lighthouse" / "cli" / "index.js"


@dataclass
class Table:
    """What one tool says. The last column of a row that fails is marked."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    has_failed: bool

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([f"\n{self.title}", *shown])


def main() -> int:
    if missing := list(what_is_missing()):
        print("Needed, and not here: " + ", ".join(missing))
        return 1
    has_failed = False
    for look in (mail_programs, spam_filter, lighthouse):
        table = look()
        print(table, flush=True)
        has_failed |= table.has_failed
    print("\nSomething failed." if has_failed else "\nAll is well.")
    return 1 if has_failed else 0


def what_is_missing() -> Iterator[str]:
    if why := stage.why_no_tools():
        yield why
    if CHROMIUM is None:
        yield "Chromium (Debian: apt-get install chromium)"
    if shutil.which("spamassassin") is None:
        yield "SpamAssassin (Debian: apt-get install spamassassin)"


# --- mail programs --------------------------------------------------------------------------------------------


def mail_programs() -> Table:
    """Whether they show what the mails use, by caniemail.com's tables."""
    shown = {
        f"{name} ({locale})": letter.html
        for locale in ("en", "ar")
        for name, letter in gallery.mails_in(locale).items()
    }
    said = stage.run_node("mail_clients.mjs", shown)
    rows = [("FAILS", feature, programs, of_all(mails, shown)) for feature, programs, mails in said["errors"]]
    rows += [("FAILS", feature, "", "it is allowed, and no mail uses it") for feature in said["unused"]]
    rows += [("allowed", *row) for row in said["allowed"]]
    rows += [("in part", *row) for row in said["warnings"]]
    failed = bool(said["errors"] or said["unused"])
    return Table("Mail programs", ("verdict", "feature", "not known to", "where, or why"), rows, failed)


def of_all(mails: list[str], shown: dict[str, str]) -> str:
    return "all mails" if len(mails) == len(shown) else ", ".join(mails)


# --- the spam filter ------------------------------------------------------------------------------------------


def spam_filter() -> Table:
    """The scores of the mails as they travel, in every language; and of one that must be found."""
    rows, failed = [], False
    for name, score, rules in scores_of(dict(raw_mails())):
        is_well = score > SPAM_SCORE_MAX if name == PLANTED else score <= SPAM_SCORE_MAX
        failed |= not is_well
        rows.append(("well" if is_well else "FAILS", f"{score:.1f}", name, rules))
    return Table("SpamAssassin", ("verdict", "score", "mail", "rules"), rows, failed)


def raw_mails() -> Iterator[tuple[str, bytes]]:
    """As they go to the relay."""
    with gallery.deployment("full").app_context():
        for locale in gallery.LOCALES:
            for name, letter in gallery.mails_in(locale).items():
                yield f"{name} ({locale})", letter.message().as_bytes()
        spam = composing.compose(samples.RECIPIENT, "Spam", GTUBE, "", "<planted@id.example.com>")
        yield PLANTED, spam.message().as_bytes()


def scores_of(mails: dict[str, bytes]) -> Iterator[tuple[str, float, str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, raw in enumerate(mails.values()):
            (folder / f"{number:04d}.eml").write_bytes(raw)
        files = sorted(map(str, folder.glob("*.eml")))
        environ = {**os.environ, "HOME": name}
        done = subprocess.run([*SPAMASSASSIN, *files], capture_output=True, env=environ, check=True)
    statuses = re.findall(
        rb"^X-Spam-Status: \w+, score=(-?[\d.]+).*?tests=(.*?)\s+autolearn", done.stdout, re.M | re.S
    )
    for name, (score, rules) in zip(mails, statuses, strict=True):
        yield name, float(score), "".join(rules.decode().split())


# --- Lighthouse -----------------------------------------------------------------------------------------------


def lighthouse() -> Table:
    """The demo's pages, on a middling telephone."""
    rows, failed = [], False
    with demo() as base:
        for path in PATHS:
            figures, wrong = best_of(f"{base}{path}")
            failed |= bool(wrong)
            verdict = "FAILS" if wrong else "well"
            rows.append((verdict, path, *map(str, figures), "; ".join(wrong)))
    columns = ("verdict", "page", *CATEGORIES, "bytes", "layout shift", "what is wrong")
    return Table("Lighthouse", columns, rows, failed)


def best_of(url: str) -> tuple[list[float], list[str]]:
    for _ in range(TRIES):
        figures, wrong = measured(url)
        if not wrong:
            break
    return figures, wrong


def measured(url: str) -> tuple[list[float], list[str]]:
    """The figures of one visit with nothing in the cache, and which audits say why a figure is not good enough."""
    report = visit(url)
    audits, categories = report["audits"], report["categories"]
    scores = {name: round(100 * (categories[name]["score"] or 0)) for name in CATEGORIES}
    sent = round(audits["total-byte-weight"]["numericValue"])
    shift = round(audits["cumulative-layout-shift"]["numericValue"], 4)
    wrong = [
        f"{name}: {', '.join(lost_by(categories[name], audits))}" for name in CATEGORIES if scores[name] < 100
    ]
    wrong += [f"more than {BYTES_MAX} bytes"] if sent >= BYTES_MAX else []
    wrong += ["it moves while it loads"] if shift else []
    return [*scores.values(), sent, shift], wrong


def lost_by(category: dict[str, Any], audits: dict[str, Any]) -> list[str]:
    return [
        ref["id"]
        for ref in category["auditRefs"]
        if ref["weight"] and (audits[ref["id"]]["score"] or 0) < 0.995
    ]


def visit(url: str) -> dict[str, Any]:
    command = ["node", str(LIGHTHOUSE), url, "--output=json", "--quiet", "--no-enable-error-reporting"]
    command += [f"--only-categories={','.join(CATEGORIES)}"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
    environ = {**os.environ, "CHROME_PATH": CHROMIUM or ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def demo() -> Iterator[str]:
    port = two_free_ports()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "examples.demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                httpx.get(f"{base}/healthz", verify=NO_TLS)
                break
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
