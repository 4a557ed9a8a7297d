"""`make looks`: checks every mail for mail programs and a spam filter, and the demo's pages with Lighthouse.

Prints a table for each. The exit code is 1 if anything fails. Installs nothing, and sends nothing to other machines.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from looks import gallery, stage
from support.demo import demo_of_source_tree
from support.servers import CHROMIUM

from app.mail import composing
from app.pages import samples

SPAM_SCORE_MAX = 0.5
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"  # every filter must find it
PLANTED = "(planted)"
SPAMASSASSIN = ("spamassassin", "--local", "--nocreate-prefs", "--prefs-file=/dev/null", "--cf=use_bayes 0")

PATHS = ("/", "/login", "/reset", "/check-mail")
CATEGORIES = ("accessibility", "best-practices", "performance")
BYTES_MAX = 30_000
TRIES = 3  # another process may slow down a measurement
LIGHTHOUSE = stage.MODULES / "lighthouse" / "cli" / "index.js"


@dataclass
class Table:
    """The results of one tool."""

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
    if missing := list(missing_tools()):
        print("Missing: " + ", ".join(missing))
        return 1
    has_failed = False
    for check in (mail_programs, spam_filter, lighthouse):
        table = check()
        print(table, flush=True)
        has_failed |= table.has_failed
    print("\nSomething failed." if has_failed else "\nEverything passed.")
    return 1 if has_failed else 0


def missing_tools() -> Iterator[str]:
    if missing := stage.missing_tool():
        yield missing
    if CHROMIUM is None:
        yield "Chromium (Debian: apt-get install chromium)"
    if shutil.which("spamassassin") is None:
        yield "SpamAssassin (Debian: apt-get install spamassassin)"


# --- mail programs --------------------------------------------------------------------------------------------


def mail_programs() -> Table:
    """Compare the HTML and CSS that the mails use with the tables of caniemail.com."""
    documents = {
        f"{name} ({locale})": mail.html
        for locale in ("en", "ar")
        for name, mail in gallery.mails_in(locale).items()
    }
    results = stage.run_node("mail_clients.mjs", documents)
    rows = [
        ("FAILS", feature, programs, where(mails, documents))
        for feature, programs, mails in results["errors"]
    ]
    rows += [("FAILS", feature, "", "an exception that no mail needs") for feature in results["unused"]]
    rows += [("allowed", *row) for row in results["allowed"]]
    rows += [("in part", *row) for row in results["warnings"]]
    failed = bool(results["errors"] or results["unused"])
    return Table("Mail programs", ("verdict", "feature", "unsupported by", "where, or why"), rows, failed)


def where(mails: list[str], documents: dict[str, str]) -> str:
    return "all mails" if len(mails) == len(documents) else ", ".join(mails)


# --- the spam filter ------------------------------------------------------------------------------------------


def spam_filter() -> Table:
    """Score the mails in every language, and one that is spam."""
    rows, failed = [], False
    for name, score, rules in scores_of(dict(raw_mails())):
        passes = (score > SPAM_SCORE_MAX) is (name == PLANTED)
        failed |= not passes
        rows.append(("passes" if passes else "FAILS", f"{score:.1f}", name, rules))
    return Table("SpamAssassin", ("verdict", "score", "mail", "rules"), rows, failed)


def raw_mails() -> Iterator[tuple[str, bytes]]:
    """Yield the mails as the worker sends them."""
    with gallery.deployment("full").app_context():
        for locale in gallery.LOCALES:
            for name, mail in gallery.mails_in(locale).items():
                yield f"{name} ({locale})", mail.message().as_bytes()
        spam = composing.compose(samples.RECIPIENT, "Spam", GTUBE, "", "<planted@id.example.com>")
        yield PLANTED, spam.message().as_bytes()


def scores_of(mails: dict[str, bytes]) -> Iterator[tuple[str, float, str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, raw in enumerate(mails.values()):
            (folder / f"{number:04d}.eml").write_bytes(raw)
        files = sorted(map(str, folder.glob("*.eml")))
        environ = {**os.environ, "HOME": name}
        process = subprocess.run([*SPAMASSASSIN, *files], capture_output=True, env=environ, check=True)
    statuses = re.findall(
        rb"^X-Spam-Status: \w+, score=(-?[\d.]+).*?tests=(.*?)\s+autolearn", process.stdout, re.M | re.S
    )
    for name, (score, rules) in zip(mails, statuses, strict=True):
        yield name, float(score), "".join(rules.decode().split())


# --- Lighthouse -----------------------------------------------------------------------------------------------


def lighthouse() -> Table:
    """Measure the demo's pages as a mid-range phone loads them."""
    rows, failed = [], False
    with demo_of_source_tree() as base:
        for path in PATHS:
            figures, defects = best_of(f"{base}{path}")
            failed |= bool(defects)
            verdict = "FAILS" if defects else "passes"
            rows.append((verdict, path, *map(str, figures), "; ".join(defects)))
    columns = ("verdict", "page", *CATEGORIES, "bytes", "layout shift", "defects")
    return Table("Lighthouse", columns, rows, failed)


def best_of(url: str) -> tuple[list[float], list[str]]:
    for _ in range(TRIES):
        figures, defects = measure(url)
        if not defects:
            break
    return figures, defects


def measure(url: str) -> tuple[list[float], list[str]]:
    """Return the figures of one visit with an empty cache, and the audits that lower them."""
    report = visit(url)
    audits, categories = report["audits"], report["categories"]
    scores = {name: round(100 * (categories[name]["score"] or 0)) for name in CATEGORIES}
    sent = round(audits["total-byte-weight"]["numericValue"])
    shift = round(audits["cumulative-layout-shift"]["numericValue"], 4)
    defects = [
        f"{name}: {', '.join(failed_audits(categories[name], audits))}"
        for name in CATEGORIES
        if scores[name] < 100
    ]
    defects += [f"more than {BYTES_MAX} bytes"] if sent >= BYTES_MAX else []
    defects += ["the layout shifts"] if shift else []
    return [*scores.values(), sent, shift], defects


def failed_audits(category: dict[str, Any], audits: dict[str, Any]) -> list[str]:
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
    process = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300)
    if process.returncode:
        raise SystemExit(process.stderr)
    report: dict[str, Any] = json.loads(process.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
