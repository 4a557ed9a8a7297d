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
from collections.abc import Callable, Iterator
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


Row = tuple[str, ...]  # the first column is the verdict: FAILS, or another


def main() -> int:
    if missing := list(missing_tools()):
        print("Missing: " + ", ".join(missing))
        return 1
    has_failed = False
    for (title, *columns), check in TABLES.items():
        rows = list(check())
        print_table(title, ("verdict", *columns), *rows)
        has_failed |= any(verdict == "FAILS" for verdict, *_ in rows)
    print("\nSomething failed." if has_failed else "\nEverything passed.")
    return 1 if has_failed else 0


def print_table(title: str, *lines: Row) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    print("\n".join([f"\n{title}", *shown]), flush=True)


def missing_tools() -> Iterator[str]:
    if missing := stage.missing_tool():
        yield missing
    if CHROMIUM is None:
        yield "Chromium (Debian: apt-get install chromium)"
    if shutil.which("spamassassin") is None:
        yield "SpamAssassin (Debian: apt-get install spamassassin)"


def mail_programs() -> Iterator[Row]:
    """Compare the HTML and CSS that the mails use with the tables of caniemail.com."""
    mails = {locale: gallery.mails_in(locale) for locale in ("en", "ar")}
    documents = {f"{name} ({locale})": mail.html for locale in mails for name, mail in mails[locale].items()}
    results = stage.run_node("mail_clients.mjs", documents)
    for feature, programs, names in results["errors"]:
        where = "all mails" if len(names) == len(documents) else ", ".join(names)
        yield "FAILS", feature, programs, where
    yield from (("FAILS", feature, "", "an exception that no mail needs") for feature in results["unused"])
    yield from (("allowed", *row) for row in results["allowed"])
    yield from (("in part", *row) for row in results["warnings"])


def spam_filter() -> Iterator[Row]:
    """Score the mails in every language, and one that is spam."""
    for name, score, rules in scores_of(dict(raw_mails())):
        passes = (score > SPAM_SCORE_MAX) is (name == PLANTED)
        yield "passes" if passes else "FAILS", f"{score:.1f}", name, rules


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
    pattern = rb"^X-Spam-Status: \w+, score=(-?[\d.]+).*?tests=(.*?)\s+autolearn"
    statuses = re.findall(pattern, process.stdout, re.M | re.S)
    for name, (score, rules) in zip(mails, statuses, strict=True):
        yield name, float(score), "".join(rules.decode().split())


def lighthouse() -> Iterator[Row]:
    """Measure the demo's pages as a mid-range phone loads them."""
    with demo_of_source_tree() as base:
        for path in PATHS:
            for _ in range(TRIES):
                figures, defects = measure(f"{base}{path}")
                if not defects:
                    break
            yield "FAILS" if defects else "passes", path, *map(str, figures), "; ".join(defects)


def measure(url: str) -> tuple[list[float], list[str]]:
    """Return the figures of one visit with an empty cache, and the audits that lower them."""
    report = visit(url)
    audits, categories = report["audits"], report["categories"]
    scores = {name: round(100 * (categories[name]["score"] or 0)) for name in CATEGORIES}
    sent = round(audits["total-byte-weight"]["numericValue"])
    shift = round(audits["cumulative-layout-shift"]["numericValue"], 4)
    low = [name for name in CATEGORIES if scores[name] < 100]
    defects = [f"{name}: {', '.join(failed_audits(categories[name], audits))}" for name in low]
    defects += [f"more than {BYTES_MAX} bytes"] if sent >= BYTES_MAX else []
    defects += ["the layout shifts"] if shift else []
    return [*scores.values(), sent, shift], defects


def failed_audits(category: dict[str, Any], audits: dict[str, Any]) -> list[str]:
    weighty = [ref["id"] for ref in category["auditRefs"] if ref["weight"]]
    return [id for id in weighty if (audits[id]["score"] or 0) < 0.995]


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


# Each tool's title and columns.
TABLES: dict[Row, Callable[[], Iterator[Row]]] = {
    ("Mail programs", "feature", "unsupported by", "where, or why"): mail_programs,
    ("SpamAssassin", "score", "mail", "rules"): spam_filter,
    ("Lighthouse", "page", *CATEGORIES, "bytes", "layout shift", "defects"): lighthouse,
}

if __name__ == "__main__":
    sys.exit(main())
