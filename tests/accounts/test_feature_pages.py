"""The pages of the optional features in a real browser, under the content security policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from passlib.totp import TOTP
from playwright.sync_api import Browser, Page, expect
from support.features import ALL_FEATURES, CODE_SIGN_IN, RECOVERY_CODES, confirm_addresses
from support.live import base_url, live
from support.site import OLD_PASSWORD

OBRIEN = "o'brien@example.com"  # in an attribute of passkey pages
ABILITIES = ("hasResidentKey", "hasUserVerification", "isUserVerified", "automaticPresenceSimulation")
DEVICE = {"protocol": "ctap2", "transport": "internal", **dict.fromkeys(ABILITIES, True)}
PAGES_FOR_ANYBODY = ["/login", "/confirm", "/register", "/recover-username", "/us-signin", "/wan-signin"]
PAGES_FOR_MEMBERS = [
    "/", "/verify", "/change", "/change-email", "/tf-setup", "/mf-recovery-codes", "/us-setup", "/us-verify",
    "/wan-register", "/wan-verify",
]  # fmt: skip
used_counters: dict[str, int] = {}  # of one-time codes, by key


@contextmanager
def opened(
    make_site: Any, chromium: Browser, javascript: bool, **settings: Any
) -> Iterator[tuple[Page, str]]:
    """Serve a site, and open a tab. Fail if the browser reports an error, such as a violation of the policy."""
    problems: list[str] = []
    with live(make_site, **settings) as site, chromium.new_context(java_script_enabled=javascript) as context:
        confirm_addresses(site).change(email=OBRIEN)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on(
            "console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page, base_url(site)
    assert problems == []


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def expect_status(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text)


def expect_alert(page: Page, text: str) -> None:
    expect(page.locator("[role=alert], .field .error").first).to_contain_text(text)


def enter_password(page: Page, base: str) -> None:
    page.goto(f"{base}/login")
    page.fill("[name=identity]", OBRIEN)
    page.fill("[name=password]", OLD_PASSWORD)
    press(page, "Sign in")


def expect_signed_in(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("You're signed in")


def sign_out(page: Page, base: str) -> None:
    page.goto(base)
    press(page, "Sign out")


def enter_code(page: Page, text: str) -> None:
    page.locator("[name=code], [name=passcode]").fill(text)
    press(page, "Continue")


def next_code(key: str) -> str:
    """Return the next unused code, at most half a minute ahead of time."""
    totp = TOTP(key=key)
    now = totp.generate().counter
    counter = used_counters[key] = max(now, used_counters.get(key, now - 1) + 1)
    return str(totp.generate(counter * totp.period).token)


def set_up_authenticator(page: Page, url: str) -> str:
    """Set an authenticator app up, and return its key."""
    page.goto(url)
    if (choice := page.get_by_label("Authenticator app")).count():
        choice.check()
    page.locator("main form [type=submit]", has_not_text="Remove").last.click()
    picture = page.get_by_role("img", name="QR code")
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
    key = page.locator(".key").inner_text().replace("-", "")
    enter_code(page, next_code(key))
    return key


def add_passkey(page: Page, base: str, purpose: str) -> None:
    page.goto(f"{base}/wan-register")
    page.get_by_label("Passkey name").fill("My phone")
    page.get_by_label(purpose).check()
    press(page, "Add a passkey")
    expect_status(page, "Your passkey has been added.")


def load_cleanly(page: Page, url: str) -> None:
    page.goto(url)
    assert page.url == url
    counts = [page.locator(css).count() for css in ("a.brand", "h1", "[autofocus]")]
    assert counts in ([1, 1, 0], [1, 1, 1]), url


def test_feature_pages_load_cleanly_and_passkeys_sign_in(make_site: Any, chromium: Browser) -> None:
    with opened(make_site, chromium, True, **ALL_FEATURES) as (page, base):
        for path in PAGES_FOR_ANYBODY:
            load_cleanly(page, base + path)
        enter_password(page, base)
        expect_signed_in(page)
        for path in PAGES_FOR_MEMBERS:
            load_cleanly(page, base + path)
        session = page.context.new_cdp_session(page)
        session.send("WebAuthn.enable")
        device = session.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
        add_passkey(page, base, "To sign in")
        assert "To sign in, instead of your password" in page.locator(".rows").inner_text()
        page.get_by_label("Passkey name").fill("The same again")
        press(page, "Add a passkey")
        expect_alert(page, "That device already has a passkey for this account.")
        page.goto(f"{base}/verify")
        press(page, "Use a passkey instead")
        expect_status(page, "Thanks. You can continue.")
        sign_out(page, base)
        (credential,) = session.send("WebAuthn.getCredentials", device)["credentials"]
        session.send("WebAuthn.clearCredentials", device)
        page.goto(f"{base}/login")
        page.get_by_role("link", name="Sign in with a passkey").click()
        press(page, "Continue")
        expect_alert(page, "That was canceled or took too long.")
        session.send("WebAuthn.addCredential", {**device, "credential": credential})
        press(page, "Try again")
        expect_signed_in(page)
        page.goto(f"{base}/wan-register")
        press(page, "Remove: My phone")
        expect_status(page, "Your passkey has been removed.")
        add_passkey(page, base, "As a second factor")
        sign_out(page, base)
        enter_password(page, base)
        expect(page.get_by_role("heading", level=1)).to_have_text("One more step")
        press(page, "Continue")
        expect_signed_in(page)
        key = set_up_authenticator(page, f"{base}/tf-setup")
        for factor in ("Passkey", "Authenticator app"):
            sign_out(page, base)
            enter_password(page, base)
            press(page, factor)
            if factor == "Passkey":
                press(page, "Continue")
            else:
                enter_code(page, next_code(key))
            expect_signed_in(page)


def test_one_time_and_recovery_codes_work_without_javascript(make_site: Any, chromium: Browser) -> None:
    with opened(make_site, chromium, False, **{**RECOVERY_CODES, **CODE_SIGN_IN}) as (page, base):
        enter_password(page, base)
        sign_in_key = set_up_authenticator(page, f"{base}/us-setup")
        assert "Authenticator app" in page.locator(".rows").inner_text()
        sign_out(page, base)
        page.goto(f"{base}/us-signin")
        page.fill("[name=identity]", OBRIEN)
        press(page, "Email me a code")
        assert page.locator("[name=identity]").input_value() == OBRIEN
        page.fill("[name=passcode]", next_code(sign_in_key))
        press(page, "Sign in")
        expect_signed_in(page)
        sign_out(page, base)
        enter_password(page, base)
        key = set_up_authenticator(page, f"{base}/tf-setup")
        expect_status(page, "Your second factor has been set up.")
        page.get_by_role("link", name="Create recovery codes").click()
        press(page, "Create recovery codes")
        codes = [code.inner_text() for code in page.locator(".codes code").all()]
        assert len(set(codes)) == 5
        for path in ("/mf-recovery-codes", "/mf-recovery-codes?show_codes=1"):  # they are shown once
            page.goto(base + path)
            assert "You have 5 codes left" in page.inner_text("main")
            assert not any(code in page.content() for code in codes)
        for code, is_accepted in ((codes[0], True), (codes[0], False)):
            page.context.clear_cookies()
            enter_password(page, base)
            page.get_by_text("Lost your device or can't get a code?").click()
            press(page, "Use a recovery code")
            page.get_by_label("Recovery code").fill(code)
            press(page, "Continue")
            if is_accepted:
                expect_signed_in(page)
                page.goto(f"{base}/mf-recovery-codes")
                assert "You have 4 codes left" in page.inner_text("main")
            else:
                expect_alert(page, "That isn't one of your recovery codes")
        enter_password(page, base)
        enter_code(page, "000000")
        expect_alert(page, "That code doesn't work.")
        box = page.get_by_label("Code")
        attributes = [box.get_attribute(name) for name in ("autocomplete", "inputmode", "value")]
        assert attributes == ["one-time-code", "numeric", ""]
        code = next_code(key)
        enter_code(page, f"{code[:3]} {code[3:]}")  # as apps show it
        expect_signed_in(page)
        page.goto(f"{base}/tf-setup")
        press(page, "Remove: Authenticator app")
        sign_out(page, base)
        enter_password(page, base)
        expect_signed_in(page)


def test_arrow_of_a_long_entry_stays_beside_it_on_a_phone(make_site: Any, chromium: Browser) -> None:
    with opened(make_site, chromium, True, **ALL_FEATURES) as (page, base):
        enter_password(page, base)
        expect_signed_in(page)
        page.set_viewport_size({"width": 320, "height": 640})
        page.goto(f"{base}/?language=de")
        off_center = """links => links.filter(link => {
            const range = document.createRange(), box = link.getBoundingClientRect();
            range.selectNodeContents(link);
            const words = range.getBoundingClientRect();
            return Math.abs(words.top + words.bottom - box.top - box.bottom) > 4;
        }).map(link => link.textContent)"""
        assert page.locator(".rows li > a").count() > 3
        assert page.locator(".rows li > a").evaluate_all(off_center) == []
