"""Shows HTML in a real browser as the app would serve it, without a server, and finds defects in it.

The gallery renders the pages. Style sheets, scripts and pictures are the app's own files.
"""

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
from playwright.sync_api import Browser, Page, Route, sync_playwright
from support.servers import CHROMIUM

TOOLS = Path(__file__).parent
MODULES = TOOLS / "node_modules"
AXE = MODULES / "axe-core" / "axe.min.js"
BASE = gallery.MAILING["RECOVERY_PUBLIC_URL"]

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RULES = {"type": "tag", "values": [*WCAG, "best-practice"]}
# A mail is shown inside a page of the mail program, which has the landmarks.
MAIL_RULES = {"type": "tag", "values": WCAG}
COLOR_RULES = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

# `preload` would fetch style sheets a second time, for a rule about rotation that is not used.
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

# WCAG 2.5.8. A label belongs to its field's target. A link in a sentence may be as high as its line.
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

WRAPPED_LABELS = f"""() => {{
    {NAMED}
    const lines = (it) => it.getClientRects().length && it.clientHeight / parseFloat(getComputedStyle(it).lineHeight);
    return [...document.querySelectorAll(".field:not(.check) > label")]
        .filter((it) => lines(it) > 1.5).map((it) => `wraps: ${{named(it)}}`);
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
    """A tab. `foreign_urls` are the URLs on other sites that its pages requested, in vain."""

    def __init__(self, tab: Page) -> None:
        self.tab, self.html, self.foreign_urls = tab, "", list[str]()
        self.session = tab.context.new_cdp_session(tab)
        tab.set_default_timeout(30_000)
        tab.route("**/*", self._answer)
        tab.goto(f"{BASE}/shown")

    def show(self, html: str) -> None:
        """Replace the document, because a navigation takes ten times as long.

        The scripts for passkeys need one, because their global names can be declared only once.
        """
        self.html = html
        if "webauthn.js" in html:
            self.tab.goto(f"{BASE}/shown")
        else:
            self.tab.set_content(html)

    def broken_rules(self, rules: dict[str, Any] = RULES) -> list[str]:
        """Return the violations that axe-core finds. Needs a stage `with_axe`."""
        return self._evaluate(AXE_RUN, rules)

    def pale_text_in_the_dark(self) -> list[str]:
        self.tab.emulate_media(color_scheme="dark")
        defects = self.broken_rules(COLOR_RULES)
        self.tab.emulate_media(color_scheme="light")
        return [f"dark {defect}" for defect in defects]

    def overflows_at(self, width: int) -> list[str]:
        """Return the elements that are wider than the window."""
        return self._evaluate_at(width, SIDEWAYS)

    def small_targets_at(self, width: int) -> list[str]:
        return self._evaluate_at(width, SMALL_TARGETS, TARGET_PIXELS_MIN)

    def wrapped_labels_at(self, width: int) -> list[str]:
        return self._evaluate_at(width, WRAPPED_LABELS)

    def open_menus(self) -> None:
        self.tab.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")

    def moving_elements(self) -> list[str]:
        return self._evaluate(MOVING, FRAME_MS)

    def _evaluate(self, script: str, argument: object = None) -> list[str]:
        defects: list[str] = self.tab.evaluate(script, argument)
        return defects

    def _evaluate_at(self, width: int, script: str, argument: object = None) -> list[str]:
        """Resize the window, in half of the time that Playwright takes."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.session.send("Emulation.setDeviceMetricsOverride", size)
        return self._evaluate(script, argument)

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if f"{url.scheme}://{url.netloc}" != BASE:
            self.foreign_urls.append(route.request.url)
            route.abort()
        elif url.path == "/shown":
            route.fulfill(body=self.html, content_type="text/html; charset=utf-8")
        elif url.path.startswith("/inbox/"):
            route.fulfill(body=gallery.mails_in()["reset_instructions"].html, content_type="text/html")
        else:
            body, kind = file_of(url.path)
            if url.path.endswith(("/forms.js", "/password.js")):  # whose names can be declared only once
                body = b"{\n" + body + b"\n}"
            route.fulfill(body=body, content_type=kind)


@cache
def file_of(path: str) -> tuple[bytes, str]:
    with gallery.deployment("full").test_client().get(path, base_url=BASE) as answer:
        assert answer.status_code == 200, f"the app does not serve {path}"
        return answer.data, answer.content_type


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium for a script; tests have a fixture."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextmanager
def stage(browser: Browser, *, with_axe: bool = False, **options: Any) -> Iterator[Stage]:
    """Open a tab. `options` are those of a Playwright context, such as color_scheme."""
    with browser.new_context(**options) as context:
        if with_axe:
            context.add_init_script(path=AXE)
        yield Stage(context.new_page())


def missing_tool() -> str | None:
    if shutil.which("node") is None:
        return "Node.js is not installed (20 or newer)"
    return None if AXE.exists() else "axe-core is not installed: make tools"


def run_node(script: str, data: Any) -> Any:
    """Run a script of tests/looks/ with JSON as its input and output."""
    command = ["node", str(TOOLS / script)]
    process = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)
