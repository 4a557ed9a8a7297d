"""Links as mail programs and people pass them on: with punctuation, a slash or an invisible character behind."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from support.features import MAIL_FEATURES, confirm_addresses
from support.live import base_url, live, mailed_link
from support.mailbox import text_of
from support.recovery import code_of, objection_in
from support.site import NEW_PASSWORD, Site

BEHIND = [
    ".",
    ",",
    ">",
    ")",
    '"',
    "\u200b",
    "/",
    "'",
    "]",
    ";",
    ":",
    "!",
    "…",
    "»",
    "。",
    "\u00a0",
    "&gt;",
    ").",
    ">,",
    "*",
    "|",
    "%20",
]


@pytest.mark.parametrize("text", BEHIND)
@pytest.mark.requirement("R69")
def test_link_with_a_character_behind_it_opens_its_form(site: Site, text: str) -> None:
    link = site.new_link()
    for behind in (text, quote(text)):
        form = site.visitor().open(link + behind, follow_redirects=True)
        assert form.status_code == 200, behind
        assert "Choose a new password" in form.text
    assert code_of(site, link + quote(text, safe="/")) == "redeemed"


def test_link_with_a_character_behind_it_works_in_a_browser(make_site: Any, page: Page) -> None:
    with live(make_site) as site:
        for behind in (".", "\u200b", "/", ">"):
            page.goto(mailed_link(site) + behind)
            expect(page.get_by_role("heading", level=1)).to_have_text("Choose a new password")
            assert re.fullmatch(r"/reset/~\w+", page.url.removeprefix(base_url(site)))


def test_every_other_mailed_link_is_trimmed(make_site: Any) -> None:
    settings = {name: value for name, value in MAIL_FEATURES.items() if name != "RECOVERY_PUBLIC_URL"}
    site: Site = make_site(**settings)
    confirm_addresses(site)
    site.new_link()
    objection = objection_in(site.mailbox.mails[-1])
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice"})
    site.work()
    [confirmation] = re.findall(r"http\S+/confirm/\S+", text_of(site.mailbox.mails[-1]))
    confirm_addresses(site)
    alice = site.visitor()
    alice.sign_in()
    alice.submit("/change-email", email="alice@new.example")
    site.work()
    texts = "".join(map(text_of, site.mailbox.mails))
    [address] = set(re.findall(r"http\S+/change-email/\S+", texts))
    for link, button in (
        (objection, "Cancel the link"),
        (confirmation, "Confirm email address"),
        (address, "Confirm email address"),
    ):
        for behind in (".", ")", "/", "%3E", "%E2%80%8B"):
            page = site.visitor().open(link + behind, follow_redirects=True)
            assert page.status_code == 200, link + behind
            assert button in page.text


@pytest.mark.parametrize(
    "path", ["/reset/", "/login/", "/change/", "/check-mail/", "/confirm-address/", "/logout/"]
)
def test_page_is_found_with_a_slash_behind_it(site: Site, path: str) -> None:
    with_slash, without = (site.visitor().open(url, follow_redirects=True) for url in (path, path[:-1]))
    assert with_slash.status_code == without.status_code
    assert with_slash.request.path.rstrip("/") == without.request.path.rstrip("/")


def test_form_is_sent_from_a_page_with_a_slash_behind_it(site: Site) -> None:
    assert site.visitor().submit("/reset/", identity="alice").location == "/check-mail"
    assert site.ask("alice").status_code == 200
    assert site.visitor().post_json("/reset/", json={"identity": "alice"}).status_code == 200


@pytest.mark.requirement("R69")
@pytest.mark.parametrize("path", ["", "/a", "/a/b", "/%7Ea/b", "/%7E", "/a%2Fb", f"/{'x' * 43}/login"])
def test_every_wrong_address_below_reset_offers_a_new_link(make_site: Any, path: str) -> None:
    for prefix in ("", "/auth"):
        site: Site = make_site(RECOVERY_PUBLIC_URL=f"http://127.0.0.1:5000{prefix}")
        page = site.visitor().open(f"{prefix}/reset{path}")
        if path:
            assert page.status_code in (400, 404)
            assert f'class="button" href="{prefix}/reset"' in page.text
        nowhere = site.visitor().open(f"{prefix}/nowhere")
        assert f'href="{prefix}/reset"' not in nowhere.text


def test_token_that_is_cut_short_is_still_refused(site: Site) -> None:
    link = site.new_link()
    for wrong in (
        link[:-1],
        f"{link[:-1]}.",
        link.replace("/reset/", "/reset/."),
        f"{link}x",
        f"{link[:-5]} {link[-5:]}",
    ):
        assert site.visitor().open(quote(wrong, safe=":/")).status_code == 400, wrong
    assert site.visitor().set_password(link, NEW_PASSWORD).location == "/reset-done"
