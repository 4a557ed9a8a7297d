"""Every page in every state, and every mail: accessible, narrow enough for a phone, still, and valid HTML."""

import re
from collections.abc import Callable
from pathlib import Path

import flask_security
import pytest
from looks import gallery, page_samples, stage as stages
from looks.elements import elements_of
from looks.stage import MAIL_RULES, Stage, stage
from playwright.sync_api import Browser
from support.servers import skip_or_fail
from support.site import ROOT

from app.pages.template_sources import OPTIONAL_FIELDS, missing_fields, parse, parse_with_references

STOCK = Path(flask_security.__file__).parent / "templates"
STILL = {"color_scheme": "light", "reduced_motion": "reduce"}


@pytest.fixture
def tools() -> None:
    if missing := stages.missing_tool():
        skip_or_fail(missing)


def mail_html(locale: str) -> dict[str, str]:
    return {name: mail.html for name, mail in gallery.mails_in(locale).items()}


def defects_on(on: Stage, documents: dict[str, str], look: Callable[[], list[str]]) -> str:
    """Show each document, look for defects, and report them."""
    defects = {}
    for name, html in documents.items():
        on.show(html)
        defects[name] = look()
    return report(defects)


def report(defects: dict[str, list[str]]) -> str:
    """Return each defect once with the documents that have it. An empty text means none."""
    documents: dict[str, list[str]] = {}
    for name, of_document in defects.items():
        for defect in dict.fromkeys(of_document):
            documents.setdefault(defect, []).append(name)
    return "\n".join(f"{defect}\n    in {', '.join(names)}" for defect, names in documents.items())


# --- The samples are complete ---


def templates_in(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "security").glob("[!_]*.html")}


def test_every_template_has_a_sample_that_renders() -> None:
    # Parts of pages, and pages of features that Sparekey does not have.
    without_sample = {"base", "change_username", "logout_user", "send_login"}
    with gallery.request_in("full", "en"):
        sampled = {page.template for page in page_samples.pages()}
    assert templates_in(STOCK) - without_sample <= sampled
    assert templates_in(ROOT / "templates") - {"base", "inbox", "inbox_mail", "problem"} == sampled
    for name, html in gallery.pages_in().items():
        assert "</html>" in html, name
        assert "/static/forms.js" in html or "<form" not in html, name  # which makes two clicks one


def test_template_check_needs_the_fields_that_the_shipped_forms_have() -> None:
    unneeded = {"chosen_method", "credential", "help_setup", "identity", "next", "password", *OPTIONAL_FIELDS}
    fields: dict[str, set[str]] = {}
    with gallery.request_in("full", "en"):
        for page in page_samples.pages():
            tags = [it for it in elements_of(gallery.rendered(page)) if it.tag in ("input", "button")]
            names = {tag.attributes["name"] for tag in tags if "name" in tag.attributes}
            fields.setdefault(page.template, set()).update(names)
        for template, names in fields.items():
            name = f"security/{template}.html"
            needed = parse(name).fields()
            assert needed <= names | ({"email"} if "identity" in names else set()), template
            if template not in ("home", "check_mail", "confirm_address"):  # whose forms are no objects
                assert names - needed <= unneeded, template
            assert missing_fields(needed, *parse_with_references(name)) == [], template


# --- Pages and mails ---


def test_pages_are_accessible(chromium: Browser, tools: None) -> None:
    """A sample of `make axe`. No violation of WCAG, no small target, no motion, nothing from another site."""
    with stage(chromium, with_axe=True, **STILL) as on:

        def look() -> list[str]:
            targets = [defect for width in (320, 1280) for defect in on.small_targets_at(width)]
            return [*on.broken_rules(), *targets, *on.moving_elements(), *on.pale_text_in_the_dark()]

        def look_at_open_menus() -> list[str]:
            on.open_menus()
            return [*on.broken_rules(), *on.overflows_at(320), *on.small_targets_at(320)]

        pages = gallery.pages_in("en")
        assert not (defects := defects_on(on, pages, look)), defects
        with_menus = {name: pages[name] for name in ("login_user", "home-signed-in")}
        assert not (defects := defects_on(on, with_menus, look_at_open_menus)), defects
        assert on.foreign_urls == []


def test_mails_are_accessible(chromium: Browser, tools: None) -> None:
    with stage(chromium, with_axe=True, **STILL) as on:

        def look() -> list[str]:
            return [*on.broken_rules(MAIL_RULES), *on.moving_elements(), *on.pale_text_in_the_dark()]

        assert not (defects := defects_on(on, mail_html("en"), look)), defects
        assert on.foreign_urls == []


# Written from right to left, and with the longest words.
@pytest.mark.parametrize(("locale", "widths"), [("ar", (320, 360, 768, 1280)), ("de", (320,))])
def test_pages_and_mails_fit_every_width(chromium: Browser, locale: str, widths: tuple[int, ...]) -> None:
    """No sideways scrolling, no label of two lines. 320 is also a window of 1280 at 400 % (WCAG 1.4.10)."""
    with stage(chromium, **STILL) as on:

        def look() -> list[str]:
            overflows = [defect for width in widths for defect in on.overflows_at(width)]
            return [*overflows, *on.wrapped_labels_at(360)]

        pages, mails = gallery.pages_in(locale), mail_html(locale)
        assert not (defects := defects_on(on, pages, look)), defects
        assert not (defects := defects_on(on, mails, lambda: on.overflows_at(320))), defects


def test_html_is_valid(tools: None) -> None:
    documents = {"pages": gallery.pages_in("en"), "mails": mail_html("en")}
    assert not (defects := report(stages.run_node("validate.mjs", documents))), defects


def test_counting_down_and_the_demo_inbox_use_their_scripts(chromium: Browser) -> None:
    with stage(chromium) as on:
        on.show(gallery.pages_in()["check_mail"])
        assert on.tab.get_by_role("button", name=re.compile("Send again in 0:[23]")).is_disabled()
        on.show(gallery.pages_in()["inbox_mail"])  # and shows the mail whole
        on.tab.wait_for_function("document.querySelector('iframe').style.height > '0'")
        assert on.tab.frames[1].evaluate("document.documentElement.scrollHeight - innerHeight") <= 0


# --- Each check finds a planted defect ---

TARGET = '<button style="all: unset; width: 9px; height: 9px">a</button>'
PLANTED = {
    '<img src="/static/sparekey.svg">': "image-alt",
    '<p style="color: #ccc; background: #fff">Pale</p>': "color-contrast",
    '<input name="nameless">': "label: ",
    f"<p>{TARGET}{TARGET}</p>": "target-size",
    "<h4>Too deep</h4>": "heading-order",
    f'<p style="white-space: nowrap">{"m" * 60}</p>': "wide: p “mmm",
    '<button style="all: unset; font-size: 12px">Hit me</button>': "button “Hit me”",
    '<p><a href="/">Home</a></p>': "a “Home”",
    "<style>@keyframes turn { to { rotate: 1turn } } hr { animation: turn 2s infinite }</style><hr>": "moves: hr",
    '<p style="transition: color .2s">Slowly</p>': "moves: p “Slowly”",
    '<p style="color: #566170">Dark enough on white</p>': "dark color-contrast: p",
    '<img alt="" src="https://elsewhere.example/pixel.png">': "https://elsewhere.example/pixel.png",
}
FINE = """<p>In a sentence <a href="/">a link</a> is as high as its line.</p>
<p class="field check"><input type="checkbox" id="one"> <label for="one">With its label</label></p>"""


def page_with(html: str) -> str:
    page = gallery.pages_in()["problem-not_found-404"]
    assert page.count("</main>") == 1
    return page.replace("</main>", f"{html}</main>")


def test_planted_defects_are_found(chromium: Browser, tools: None) -> None:
    with stage(chromium, with_axe=True, **STILL) as on:

        def look(html: str) -> str:
            on.show(page_with(html))
            defects = [*on.broken_rules(), *on.overflows_at(320), *on.small_targets_at(1280)]
            return "\n".join([*defects, *on.moving_elements(), *on.pale_text_in_the_dark(), *on.foreign_urls])

        assert look(FINE) == ""
        for html, expected in PLANTED.items():
            assert expected in look(html), html


def test_planted_invalid_html_is_found(tools: None) -> None:
    mail = gallery.mails_in()["reset_instructions"].html
    pages = {"page": page_with('<p id="two">a<div id="two">b</div></p>'), "styled": page_with('<p style="color:red">')}  # fmt: skip
    mails = {"mail": mail.replace("</h1>", "</h2>"), "title": mail.replace("<title>", "<title hidden=no>")}
    assert stages.run_node("validate.mjs", {"pages": pages, "mails": mails}).keys() == {*pages, *mails}
