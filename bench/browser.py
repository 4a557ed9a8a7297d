"""How long does a person wait? `bench/browser.py`.

Recoveries in Chromium, one at a time, with the worker's default settings and a relay on this machine. Times
count in the browser, from the click to the moment at which the next page is usable (DOMContentLoaded, when
its scripts have run), and to the moment at which the relay has accepted the email.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import databases
import report
import stage
from peer import SPAREKEY, link_in
from peers import alike
from playwright.sync_api import sync_playwright
from sink import Relay
from stage import say, servers, wait_for

MAIL_SECONDS_MAX = 30.0
CLICK = """() => {
    const at = Date.now()
    document.querySelector('main form [type=submit]').click()
    return at
}"""
PAGE = """() => new Promise(done => {
    let shift = 0
    new PerformanceObserver(list => { for (const entry of list.getEntries()) shift += entry.value })
        .observe({type: 'layout-shift', buffered: true})
    const [page] = performance.getEntriesByType('navigation')
    const files = [page, ...performance.getEntriesByType('resource')]
    setTimeout(() => done({
        began: performance.timeOrigin,
        usable: performance.timeOrigin + page.domContentLoadedEventEnd,
        bytes: files.reduce((sum, file) => sum + file.decodedBodySize, 0),
        elsewhere: files.filter(file => !file.name.startsWith(location.origin)).length,
        shift: shift,
    }), 100)
})"""
STEPS = ("click on “Email me a link” to email at the relay", "click on the link to form")
STEPS = (*STEPS, "click on “Set new password” to done")


def main() -> None:
    parser = argparse.ArgumentParser(description="How long does a person wait, in Chromium?")
    parser.add_argument("--recoveries", type=int, default=100, help="on each database")
    parser.add_argument("--results", type=Path, default=stage.KEPT, help="the folder of browser.json")
    options = parser.parse_args()
    stage.prepare()
    results: dict[str, Any] = {"recoveries": options.recoveries, "times": {}, "pages": {}}
    for name in databases.available() if servers.CHROMIUM else []:
        say(f"{name}: {options.recoveries} recoveries in Chromium")
        with databases.started(name) as engine:
            addresses = alike.known(options.recoveries)
            database = stage.fill(SPAREKEY, engine.create(), len(addresses))
            times, results["pages"] = recover(database, addresses)
            results["times"][name] = dict(zip(STEPS, zip(*times, strict=True), strict=True))
    report.save(options.results, "browser", results)
    print(report.browser(results))


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
                wait_for(lambda: relay.count() == 1, MAIL_SECONDS_MAX)
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
            wait_for(lambda: relay.count() == 2, MAIL_SECONDS_MAX)  # the notice
            relay.forget()
    return times, pages


if __name__ == "__main__":
    main()
