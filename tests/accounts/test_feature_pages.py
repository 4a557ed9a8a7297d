"""The pages of what can be switched on, in a real browser: each is whole under our policy, and each leads in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from accounts.test_switches import ALL, FACTORS, FEATURES, RECOVERY_CODES, SIGN_UP, confirmed
from passlib.totp import TOTP
from playwright.sync_api import Browser, Page, expect
from support.servers import free_port
from support.site import OLD_PASSWORD, Site, served

pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing SelectField choices as tuples"
)  # Flask-Security's own

PHONE = {"width": 390, "height": 844}
typed: dict[str, int] = {}  # by key
OBRIEN = "o'brien@example.com"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
# By feature: pages for anybody, and pages for who is signed in.
PAGES: dict[str, tuple[list[str], list[str]]] = {
    "small ones": (
        ["/login", "/confirm", "/register", "/recover-username"],
        ["/verify", "/change", "/change-email"],
    ),
    "second factor": ([], ["/tf-setup"]),
    "recovery codes": ([], ["/mf-recovery-codes"]),
    "unified sign-in": (["/us-signin"], ["/us-setup", "/us-verify"]),
    "passkeys": (["/wan-signin"], ["/wan-register", "/wan-verify"]),
    "all at once": (["/login"], ["/", "/tf-setup", "/us-verify", "/wan-register"]),
}
SMALL = {
    **SIGN_UP,
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_USERNAME_RECOVERY": True,
}
# What is not as it should be: boxes without a label, several that want the focus, what a phone cuts off, what has
# no word of ours around it.
FAULTS = """() => {
    const boxes = [...document.querySelectorAll("main input:not([type=hidden], [type=submit], .hidden)")];
    return [
        ...boxes.filter((box) => !box.labels.length).map((box) => `no label: ${box.name}`),
        ...[...document.querySelectorAll("[autofocus]")].slice(1).map((box) => `wants the focus, too: ${box.name}`),
        ...(document.documentElement.scrollWidth > innerWidth ? ["wider than a phone"] : []),
        ...(document.querySelector("a.brand") && document.querySelectorAll("h1").length === 1 ? [] : ["not ours"]),
    ];
}"""


@contextmanager
def watched(page: Page) -> Iterator[None]:
    """The browser has nothing to complain of, such as something that the policy forbids."""
    said: list[str] = []
    page.on("console", lambda it: said.append(it.text) if it.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield
    assert said == []


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """With JavaScript, on a phone."""
    with chromium.new_context(viewport=PHONE) as context:  # type: ignore[arg-type]
        tab = context.new_page()
        tab.set_default_timeout(15_000)
        with watched(tab):
            yield tab


@pytest.fixture
def run(make_site: Any) -> Any:
    """A site on a real socket; returns its address."""

    @contextmanager
    def running(**given: Any) -> Iterator[str]:
        port = free_port()
        site: Site = confirmed(make_site(RECOVERY_PUBLIC_URL=f"http://localhost:{port}", **given))
        site.change(email=OBRIEN)
        with served(site.app, port):
            yield f"http://localhost:{port}"

    return running


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def sign_in(page: Page, base: str) -> None:
    page.goto(f"{base}/login")
    page.fill("[name=identity]", OBRIEN)
    page.fill("[name=password]", OLD_PASSWORD)
    press(page, "Sign in")


def sign_out(page: Page, base: str) -> None:
    page.goto(base)
    press(page, "Sign out")


def is_in(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")


def answer(page: Page, text: str) -> None:
    """Type a code."""
    page.locator("[name=code], [name=passcode]").fill(text)
    press(page, "Continue")


def code_for(key: str) -> str:
    """The next code that was not typed yet. An app shows it up to half a minute later."""
    totp = TOTP(key=key)
    now = totp.generate().counter
    counter = typed[key] = max(now, typed.get(key, now - 1) + 1)
    return str(totp.generate(counter * totp.period).token)


def set_up_app(page: Page, base: str) -> str:
    """A second factor. Returns the key that the page shows."""
    page.goto(f"{base}/tf-setup")
    if (app := page.get_by_label("Codes from an app")).count():
        app.check()
    press(page, "Set up")
    picture = page.get_by_role("img", name="QR code")
    assert picture.evaluate("it => it.complete && it.naturalWidth") > 0
    key = page.locator(".key").inner_text().replace("-", "")
    answer(page, code_for(key))
    expect(page.get_by_role("status")).to_have_text("Your second factor is set up.")
    return key


@pytest.mark.parametrize("feature", PAGES)
def test_each_page_is_whole(run: Any, tab: Page, feature: str) -> None:
    settings = {**FEATURES, "small ones": SMALL, "all at once": ALL}[feature]
    with run(**settings) as base:
        for_anybody, for_members = PAGES[feature]
        for path in for_anybody:
            tab.goto(base + path)
            assert (path, tab.evaluate(FAULTS)) == (path, [])
        if for_members:
            sign_in(tab, base)
            is_in(tab)
        for path in for_members:
            tab.goto(base + path)
            assert tab.url == base + path
            assert (path, tab.evaluate(FAULTS)) == (path, [])


def test_home_leads_to_what_is_switched_on(run: Any, page: Page) -> None:
    with run(**ALL) as base:
        sign_in(page, base)
        links = page.locator(".rows a")
        leads_to = [str(link.get_attribute("href")) for link in links.all()]
        assert leads_to == [
            "/change", "/change-email", "/tf-setup", "/us-setup", "/wan-register", "/mf-recovery-codes"
        ]  # fmt: skip
    page.context.clear_cookies()
    with run() as base:
        sign_in(page, base)
        assert [link.get_attribute("href") for link in page.locator(".rows a").all()] == ["/change"]


def plug_in(tab: Page, **options: Any) -> tuple[Any, dict[str, str]]:
    session = tab.context.new_cdp_session(tab)
    session.send("WebAuthn.enable")
    return session, session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR | options})


def add_passkey(tab: Page, base: str, purpose: str) -> None:
    tab.goto(f"{base}/wan-register")
    tab.get_by_label("Name of the new passkey").fill("My phone")
    tab.get_by_label(purpose).check()
    press(tab, "Add a passkey")
    expect(tab.get_by_role("status")).to_have_text("The passkey is added.")


def test_a_passkey_signs_in(run: Any, tab: Page) -> None:
    """Whatever is in the address: what the browser is asked stands in an attribute, not in a script."""
    with run(**ALL) as base:
        sign_in(tab, base)
        plug_in(tab)
        add_passkey(tab, base, "To sign in")
        assert "To sign in, in place of the password" in tab.locator(".rows").inner_text()
        tab.goto(f"{base}/verify")
        press(tab, "Use a passkey instead")
        expect(tab.get_by_role("status")).to_have_text("Thank you. You can go on.")
        sign_out(tab, base)
        tab.goto(f"{base}/login")
        tab.get_by_role("link", name="Sign in with a passkey").click()
        press(tab, "Continue")
        is_in(tab)
        tab.goto(f"{base}/wan-register")
        press(tab, "Remove: My phone")
        expect(tab.get_by_role("status")).to_have_text("The passkey is removed.")


def test_a_passkey_as_a_second_factor(run: Any, tab: Page) -> None:
    with run(SECURITY_WEBAUTHN=True) as base:
        sign_in(tab, base)
        plug_in(tab)
        add_passkey(tab, base, "As a second factor")
        sign_out(tab, base)
        sign_in(tab, base)
        expect(tab.get_by_role("heading", level=1)).to_have_text("One more step")
        press(tab, "Continue")
        is_in(tab)


def test_one_of_two_second_factors(run: Any, tab: Page) -> None:
    with run(**ALL) as base:
        sign_in(tab, base)
        plug_in(tab)
        add_passkey(tab, base, "As a second factor")
        key = set_up_app(tab, base)
        sign_out(tab, base)
        sign_in(tab, base)
        press(tab, "A passkey")
        press(tab, "Continue")
        is_in(tab)
        sign_out(tab, base)
        sign_in(tab, base)
        press(tab, "Codes from an app")
        answer(tab, code_for(key))
        is_in(tab)


def test_what_a_passkey_refuses_is_said_and_can_be_tried_again(run: Any, tab: Page) -> None:
    with run(SECURITY_WEBAUTHN=True) as base:
        sign_in(tab, base)
        session, device = plug_in(tab)
        add_passkey(tab, base, "To sign in")
        tab.get_by_label("Name of the new passkey").fill("The same again")
        press(tab, "Add a passkey")
        expect(tab.get_by_role("alert")).to_have_text("That device has a passkey for this account already.")
        sign_out(tab, base)
        (credential,) = session.send("WebAuthn.getCredentials", device)["credentials"]
        session.send("WebAuthn.clearCredentials", device)
        tab.goto(f"{base}/wan-signin")
        press(tab, "Continue")
        expect(tab.get_by_role("alert")).to_have_text("That was cancelled, or it took too long.")
        session.send("WebAuthn.addCredential", {**device, "credential": credential})
        press(tab, "Try again")
        is_in(tab)


def test_passkeys_say_that_they_need_javascript(run: Any, page: Page) -> None:
    with run(SECURITY_WEBAUTHN=True) as base:
        page.goto(f"{base}/wan-signin")
        assert "Passkeys need JavaScript" in page.inner_text("main")


def test_an_app_that_shows_codes(run: Any, page: Page) -> None:
    """Without JavaScript, as all but passkeys."""
    with run(**FACTORS) as base, watched(page):
        sign_in(page, base)
        key = set_up_app(page, base)
        sign_out(page, base)
        sign_in(page, base)
        answer(page, "000000")
        expect(page.get_by_role("alert")).to_contain_text("That code does not work.")
        box = page.get_by_label("Code")
        assert [box.get_attribute(name) for name in ("autocomplete", "inputmode", "value")] == [
            "one-time-code", "numeric", ""
        ]  # fmt: skip
        code = code_for(key)
        answer(page, f"{code[:3]} {code[3:]}")  # as the app shows it
        is_in(page)
        page.goto(f"{base}/tf-setup")
        press(page, "Remove: Codes from an app")
        sign_out(page, base)
        sign_in(page, base)
        is_in(page)


def test_a_code_in_place_of_the_password(run: Any, page: Page) -> None:
    with run(**FEATURES["unified sign-in"]) as base, watched(page):
        sign_in(page, base)
        page.goto(f"{base}/us-setup")
        press(page, "Set up")
        key = page.locator(".key").inner_text().replace("-", "")
        answer(page, code_for(key))
        assert "Codes from an app" in page.locator(".rows").inner_text()
        sign_out(page, base)
        page.goto(f"{base}/us-signin")
        page.fill("[name=identity]", OBRIEN)
        press(page, "Send me a code by mail")
        assert page.locator("[name=identity]").input_value() == OBRIEN  # typed once
        page.fill("[name=passcode]", code_for(key))
        press(page, "Sign in")
        is_in(page)


def test_recovery_codes_are_shown_once_and_each_works_once(run: Any, page: Page) -> None:
    with run(**FACTORS, **RECOVERY_CODES) as base, watched(page):
        sign_in(page, base)
        set_up_app(page, base)
        page.get_by_role("link", name="Make recovery codes").click()
        press(page, "Make recovery codes")
        codes = [code.inner_text() for code in page.locator(".codes code").all()]
        assert len(set(codes)) == 5
        for path in ("/mf-recovery-codes", "/mf-recovery-codes?show_codes=1"):
            page.goto(base + path)
            assert "You have 5 left" in page.inner_text("main")
            assert not any(code in page.content() for code in codes)
        for code, comes_in in ((codes[0], True), (codes[0], False), (codes[1], True)):
            page.context.clear_cookies()
            sign_in(page, base)
            page.get_by_text("No code, or the device is lost?").click()
            press(page, "Use a recovery code")
            page.get_by_label("Recovery code").fill(code)
            press(page, "Continue")
            if comes_in:
                is_in(page)
            else:
                expect(page.get_by_role("alert")).to_contain_text("That is none of your recovery codes")
        page.goto(f"{base}/mf-recovery-codes")
        assert "You have 3 left" in page.inner_text("main")
