"""The pages of the optional features in a real browser, under the content security policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from passlib.totp import TOTP
from playwright.sync_api import Browser, Page, expect
from support.features import ALL_FEATURES, CODE_SIGN_IN, PASSKEYS, RECOVERY_CODES, confirm_addresses
from support.servers import free_port
from support.site import OLD_PASSWORD, served

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
def quiet(page: Page) -> Iterator[Page]:
    """Fail if the browser reports an error, such as a violation of the policy."""
    problems: list[str] = []
    page.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    assert problems == []


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    with quiet(page):
        yield page


@pytest.fixture
def page_with_javascript(chromium: Browser) -> Iterator[Page]:
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        with quiet(page):
            yield page


@pytest.fixture
def serve(make_site: Any) -> Any:
    """Serve a site, and return its address."""

    @contextmanager
    def serve(**settings: Any) -> Iterator[str]:
        port = free_port()
        base = f"http://localhost:{port}"
        site = confirm_addresses(make_site(RECOVERY_PUBLIC_URL=base, **settings))
        site.change(email=OBRIEN)
        with served(site.app, port):
            yield base

    return serve


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


def set_up_authenticator(page: Page, base: str) -> str:
    """Set an authenticator app up as second factor, and return its key."""
    page.goto(f"{base}/tf-setup")
    if (choice := page.get_by_label("Authenticator app")).count():
        choice.check()
    press(page, "Set up")
    picture = page.get_by_role("img", name="QR code")
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 0
    key = page.locator(".key").inner_text().replace("-", "")
    enter_code(page, next_code(key))
    expect_status(page, "Your second factor has been set up.")
    return key


def add_device(page: Page) -> tuple[Any, dict[str, str]]:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    return session, session.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})


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


def test_all_feature_pages_load_cleanly(serve: Any, page_with_javascript: Page) -> None:
    with serve(**ALL_FEATURES) as base:
        for path in PAGES_FOR_ANYBODY:
            load_cleanly(page_with_javascript, base + path)
        enter_password(page_with_javascript, base)
        expect_signed_in(page_with_javascript)
        for path in PAGES_FOR_MEMBERS:
            load_cleanly(page_with_javascript, base + path)


def test_passkey_signs_in_and_is_one_of_two_second_factors(serve: Any, page_with_javascript: Page) -> None:
    page = page_with_javascript
    with serve(**ALL_FEATURES) as base:
        enter_password(page, base)
        add_device(page)
        add_passkey(page, base, "To sign in")
        assert "To sign in, instead of your password" in page.locator(".rows").inner_text()
        page.goto(f"{base}/verify")
        press(page, "Use a passkey instead")
        expect_status(page, "Thanks. You can continue.")
        sign_out(page, base)
        page.goto(f"{base}/login")
        page.get_by_role("link", name="Sign in with a passkey").click()
        press(page, "Continue")
        expect_signed_in(page)
        page.goto(f"{base}/wan-register")
        press(page, "Remove: My phone")
        expect_status(page, "Your passkey has been removed.")
        add_passkey(page, base, "As a second factor")
        key = set_up_authenticator(page, base)
        for factor in ("Passkey", "Authenticator app"):
            sign_out(page, base)
            enter_password(page, base)
            press(page, factor)
            if factor == "Passkey":
                press(page, "Continue")
            else:
                enter_code(page, next_code(key))
            expect_signed_in(page)


def test_passkey_refusals_are_named_and_a_passkey_is_the_second_factor(
    serve: Any, page_with_javascript: Page
) -> None:
    page = page_with_javascript
    with serve(**PASSKEYS) as base:
        enter_password(page, base)
        session, device = add_device(page)
        add_passkey(page, base, "To sign in")
        page.get_by_label("Passkey name").fill("The same again")
        press(page, "Add a passkey")
        expect_alert(page, "That device already has a passkey for this account.")
        sign_out(page, base)
        (credential,) = session.send("WebAuthn.getCredentials", device)["credentials"]
        session.send("WebAuthn.clearCredentials", device)
        page.goto(f"{base}/wan-signin")
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


def test_authenticator_and_recovery_codes_work_without_javascript(serve: Any, page: Page) -> None:
    with serve(**RECOVERY_CODES) as base:
        enter_password(page, base)
        key = set_up_authenticator(page, base)
        page.get_by_role("link", name="Create recovery codes").click()
        press(page, "Create recovery codes")
        codes = [code.inner_text() for code in page.locator(".codes code").all()]
        assert len(set(codes)) == 5
        for path in ("/mf-recovery-codes", "/mf-recovery-codes?show_codes=1"):  # they are shown once
            page.goto(base + path)
            assert "You have 5 codes left" in page.inner_text("main")
            assert not any(code in page.content() for code in codes)
        for code, is_accepted in ((codes[0], True), (codes[0], False), (codes[1], True)):
            page.context.clear_cookies()
            enter_password(page, base)
            page.get_by_text("Lost your device or can't get a code?").click()
            press(page, "Use a recovery code")
            page.get_by_label("Recovery code").fill(code)
            press(page, "Continue")
            if is_accepted:
                expect_signed_in(page)
            else:
                expect_alert(page, "That isn't one of your recovery codes")
        page.goto(f"{base}/mf-recovery-codes")
        assert "You have 3 codes left" in page.inner_text("main")
        sign_out(page, base)
        enter_password(page, base)
        enter_code(page, "000000")
        expect_alert(page, "That code doesn't work.")
        box = page.get_by_label("Code")
        assert [box.get_attribute(name) for name in ("autocomplete", "inputmode", "value")] == [
            "one-time-code", "numeric", ""
        ]  # fmt: skip
        code = next_code(key)
        enter_code(page, f"{code[:3]} {code[3:]}")  # as apps show it
        expect_signed_in(page)
        page.goto(f"{base}/tf-setup")
        press(page, "Remove: Authenticator app")
        sign_out(page, base)
        enter_password(page, base)
        expect_signed_in(page)


def test_code_sign_in_works_without_javascript(serve: Any, page: Page) -> None:
    with serve(**CODE_SIGN_IN) as base:
        enter_password(page, base)
        page.goto(f"{base}/us-setup")
        press(page, "Set up")
        key = page.locator(".key").inner_text().replace("-", "")
        enter_code(page, next_code(key))
        assert "Authenticator app" in page.locator(".rows").inner_text()
        sign_out(page, base)
        page.goto(f"{base}/us-signin")
        page.fill("[name=identity]", OBRIEN)
        press(page, "Email me a code")
        assert page.locator("[name=identity]").input_value() == OBRIEN
        page.fill("[name=passcode]", next_code(key))
        press(page, "Sign in")
        expect_signed_in(page)
