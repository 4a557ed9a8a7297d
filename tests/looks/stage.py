"""Shows HTML of ours in a real browser as the app would serve it, without a server, and says what is wrong with it.

A page is whatever the gallery has rendered; its style sheets, scripts and pictures are the app's own files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from looks import gallery
from playwright.sync_api import Browser, Page, Route

TOOLS = Path(__file__).parent
MODULES = TOOLS / "node_modules"
AXE = MODULES / "axe-core" / "axe.min.js"
BASE = gallery.MAILING["RECOVERY_PUBLIC_URL"]

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RULES = {"type": "tag", "values": [*WCAG, "best-practice"]}
# A mail is read inside a page of its reader, which has the landmarks.
RULES_OF_MAILS = {"type": "tag", "values": WCAG}
RULES_OF_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

# Without `preload`, style sheets are not fetched a second time; the one rule that wants that is about rotation.
AXE_RUN = """async (rules) => {
    const options = {
        runOnly: rules, resultTypes: ["violations"], preload: false, iframes: false,
        rules: rules.type === "tag" ? { "target-size": { enabled: true } } : {},
    };
    const { violations } = await axe.run(document, options);
    return violations.flatMap(({ id, nodes }) => nodes.map((node) =>
        `${id}: ${node.target.join(" ")} ${node.failureSummary.split("\\n").slice(1, 2).join("").trim()}`));
}"""

NAMED = """const named = (it) =>
    it.localName + (it.id ? `#${it.id}` : "") + [...it.classList].map((name) => `.${name}`).join("")
    + (it.textContent.trim() ? ` “${it.textContent.trim().slice(0, 30)}”` : "");"""

SIDEWAYS = f"""() => {{
    {NAMED}
    const page = document.documentElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    const isOut = (it) => it.getBoundingClientRect().right > page.clientWidth + 0.5 || it.getBoundingClientRect().left < -0.5;
    const spills = (it) => getComputedStyle(it).display !== "inline" && it.scrollWidth > it.clientWidth;
    const out = [...document.body.querySelectorAll("*")].filter((it) => isOut(it) || spills(it));
    return [`${{page.scrollWidth}} wide: ${{out.slice(-1).map(named)}}`];
}}"""

# WCAG 2.5.8. A label is part of what it names; what stands in a sentence may be as high as its line.
SMALL_TARGETS = f"""(least) => {{
    {NAMED}
    const all = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]:not([tabindex='-1'])";
    const isSeen = (it) => it.checkVisibility({{ visibilityProperty: true, opacityProperty: true }})
        && !it.closest("[aria-hidden=true], [inert]");
    const around = (it) => {{
        const boxes = [it, ...(["checkbox", "radio"].includes(it.type) ? it.labels : [])].map((one) => one.getBoundingClientRect());
        const span = (from, to) => Math.max(...boxes.map((box) => box[to])) - Math.min(...boxes.map((box) => box[from]));
        return [span("left", "right"), span("top", "bottom")];
    }};
    const isInText = (it) => {{
        if (it.localName !== "a") return false;
        let block = it;
        while (getComputedStyle(block).display === "inline") block = block.parentElement;
        return block !== it && block.innerText.trim() !== it.innerText.trim();
    }};
    return [...document.querySelectorAll(all)]
        .filter((it) => isSeen(it) && !isInText(it) && around(it).some((side) => side < least - 0.01))
        .map((it) => `${{around(it).map((side) => side.toFixed(1)).join(" x ")}}: ${{named(it)}}`);
}}"""

MOVING = f"""(frame) => {{
    {NAMED}
    const longest = (durations) => Math.max(...durations.split(",").map((one) => parseFloat(one) * (one.includes("ms") ? 1 : 1000)));
    const moves = (style) => (style.animationName !== "none" && longest(style.animationDuration) > frame)
        || (style.transitionProperty !== "none" && longest(style.transitionDuration) > frame)
        || style.scrollBehavior === "smooth";
    const running = document.getAnimations().filter((it) => it.effect.getComputedTiming().duration > frame);
    const styled = [...document.querySelectorAll("*")].filter((it) =>
        [null, "::before", "::after", "::marker"].some((part) => moves(getComputedStyle(it, part))));
    return [...new Set([...running.map((it) => it.effect.target), ...styled])].map((it) => `moves: ${{named(it)}}`);
}}"""

TARGET_PIXELS_MIN = 24
FRAME_MS = 1000 / 60


class Stage:
    """A tab. `elsewhere` are the addresses on other sites that were asked for; none of them gets an answer."""

    def __init__(self, tab: Page) -> None:
        self.tab, self.html, self.elsewhere = tab, "", list[str]()
        self.session = tab.context.new_cdp_session(tab)
        tab.set_default_timeout(30_000)
        tab.route("**/*", self._answer)
        tab.goto(f"{BASE}/shown")

    def show(self, html: str) -> None:
        """Over what was shown before, since to go to a new document takes ten times as long. But the scripts for
        passkeys declare names that a window takes once.
        """
        self.html = html
        if "webauthn.js" in html:
            self.tab.goto(f"{BASE}/shown")
        else:
            self.tab.set_content(html)

    def broken_rules(self, rules: dict[str, Any] = RULES) -> list[str]:
        """What axe-core says. Needs a stage `with_axe`."""
        found: list[str] = self.tab.evaluate(AXE_RUN, rules)
        return found

    def sideways_at(self, width: int) -> list[str]:
        """What sticks out of a window that is so wide."""
        self._widen(width)
        found: list[str] = self.tab.evaluate(SIDEWAYS)
        return found

    def small_targets_at(self, width: int) -> list[str]:
        self._widen(width)
        found: list[str] = self.tab.evaluate(SMALL_TARGETS, TARGET_PIXELS_MIN)
        return found

    def what_moves(self) -> list[str]:
        found: list[str] = self.tab.evaluate(MOVING, FRAME_MS)
        return found

    def _widen(self, width: int) -> None:
        """As Playwright does it, in half the time."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.session.send("Emulation.setDeviceMetricsOverride", size)

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if f"{url.scheme}://{url.netloc}" != BASE:
            self.elsewhere.append(route.request.url)
            route.abort()
        elif url.path == "/shown":
            route.fulfill(body=self.html, content_type="text/html; charset=utf-8")
        elif url.path.startswith("/inbox/"):
            route.fulfill(body=gallery.mails_in()["reset_instructions"].html, content_type="text/html")
        else:
            body, kind = file_of(url.path)
            if url.path.endswith("/password.js"):  # its names are its own, as on a page of its own
                body = b"{\n" + body + b"\n}"
            route.fulfill(body=body, content_type=kind)


@cache
def file_of(path: str) -> tuple[bytes, str]:
    with gallery.deployment("full").test_client().get(path, base_url=BASE) as answer:
        assert answer.status_code == 200, f"no page of ours has {path}"
        return answer.data, answer.content_type


@contextmanager
def stage(browser: Browser, *, with_axe: bool = False, **options: Any) -> Iterator[Stage]:
    """`options` are those of a Playwright context, such as color_scheme."""
    with browser.new_context(**options) as context:
        if with_axe:
            context.add_init_script(path=AXE)
        yield Stage(context.new_page())


def why_no_tools() -> str | None:
    if shutil.which("node") is None:
        return "Node.js is not installed (20 or newer)"
    return None if AXE.exists() else "what checks looks is not installed: make tools"


def run_node(script: str, given: Any) -> Any:
    """What a script of tests/looks/ says, in JSON both ways."""
    command = ["node", str(TOOLS / script)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
