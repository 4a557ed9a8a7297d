"""How long does a person wait? `bench/browser.py`.

Recoveries in Chromium, one at a time, with the worker's default settings and a relay on this machine. Times
count in the browser, from the click to the moment at which the next page is usable (DOMContentLoaded, when
its scripts have run), and to the moment at which the relay has accepted the email.
"""

import time
from pathlib import Path
from typing import Any

import click
import databases
import report
import stage
from peer import SPAREKEY, link_in
from peers import alike
from playwright.sync_api import sync_playwright
from sink import Relay
from stage import say, servers, wait_for

CLICK = "() => { const at = Date.now(); document.querySelector('main [type=submit]').click(); return at }"
PAGE = Path(__file__).with_name("usable.js").read_text()
STEPS = (
    "click on “Email me a link” to email at the relay",
    "click on the link to form",
    "click on “Set new password” to done",
)


@click.command(help="How long does a person wait, in Chromium?")
@click.option("--recoveries", default=100, help="On each database.")
@stage.results_option
def main(recoveries: int, results: Path) -> None:
    stage.prepare()
    measured: dict[str, Any] = {"recoveries": recoveries, "times": {}, "pages": {}}
    for name in databases.available() if servers.CHROMIUM else []:
        say(f"{name}: {recoveries} recoveries in Chromium")
        with databases.started(name) as engine:
            addresses = alike.known(recoveries)
            database = stage.fill(SPAREKEY, engine.create(), len(addresses))
            times, measured["pages"] = recover(database, addresses)
            measured["times"][name] = dict(zip(STEPS, zip(*times, strict=True), strict=True))
    report.save(results, "browser", measured)


def recover(database: str, addresses: list[str]) -> tuple[list[tuple[float, ...]], dict[str, Any]]:
    """Return the milliseconds of each recovery's STEPS, and each page as PAGE describes it."""
    times, pages = [], {}
    with (
        Relay() as relay,
        stage.running(SPAREKEY, database, relay.port) as site,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=servers.CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        base = f"http://127.0.0.1:{site.port}"
        for address in addresses:
            with browser.new_context() as context:  # whose cache is empty
                page = context.new_page()
                page.goto(f"{base}/reset")
                pages["/reset"] = page.evaluate(PAGE)
                page.locator("[name=identity]").fill(address)
                asked = page.evaluate(CLICK)
                page.wait_for_url(f"{base}/check-mail")
                pages["/check-mail"] = page.evaluate(PAGE)
                wait_for(lambda: relay.count() == 1)
                [mail] = relay.mails()
                page.goto(f"{base}{link_in(mail.data)}")
                form = pages["/reset/<token>"] = page.evaluate(PAGE)
                for field in ("password", "password_confirm"):
                    page.locator(f"[name={field}]").fill(f"some words of {address}")
                sent = page.evaluate(CLICK)
                page.wait_for_url(f"{base}/reset-done")
                done = pages["/reset-done"] = page.evaluate(PAGE)
            mailed = (mail.at + time.time() - time.monotonic()) * 1000
            times.append((mailed - asked, form["usable"] - form["began"], done["usable"] - sent))
            wait_for(lambda: relay.count() == 2)  # the notice
            relay.forget()
    return times, pages


if __name__ == "__main__":
    main()
