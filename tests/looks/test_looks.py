"""Every page in every state, and every mail: accessible, narrow enough for a phone, still, and valid HTML."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import flask_security
import pytest
from looks import gallery, page_samples, stage as stages
from looks.elements import elements_of
from looks.stage import COLOR_RULES, MAIL_RULES, RULES, Stage, stage
from playwright.sync_api import Browser
from support.servers import skip_or_fail
from support.site import ROOT, load_settings

from app import create_app
from app.pages import template_checks
from app.pages.template_sources import missing_fields, parse, parse_with_references

# Flask-Security's own.

LOCALES = ("en", "ar")  # a language written from left to right, and one from right to left
WIDTHS = (320, 360, 768, 1280)  # 320 is also a window of 1280 at 400 % (WCAG 1.4.10)
STOCK = Path(flask_security.__file__).parent / "templates"
STILL = {"color_scheme": "light", "reduced_motion": "reduce"}

each_locale = pytest.mark.parametrize("locale", LOCALES)


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
    assert templates_in(ROOT / "templates") - {"base", "inbox", "inbox_mail"} == sampled
    assert all("</html>" in html for html in gallery.pages_in().values())


def test_every_form_has_the_fields_that_the_template_check_needs() -> None:
    # An identity is the field `email` of most forms. A passkey's answer comes with the token.
    synonyms = {"identity": "email", "credential": "csrf_token"}
    fields: dict[str, set[str]] = {}
    with gallery.request_in("full", "en"):
        for page in page_samples.pages():
            elements = elements_of(gallery.rendered(page))
            assert {*page.fields} <= {element.attributes.get("name") for element in elements}, page.name
            fields.setdefault(page.template, set()).update(
                synonyms.get(field, field) for field in page.fields
            )
        for template, sent in fields.items():
            name = f"security/{template}.html"
            needed = parse(name).fields()
            assert {synonyms.get(field, field) for field in needed} == sent, template
            assert missing_fields(needed, *parse_with_references(name)) == [], template


@pytest.mark.parametrize("folder", [ROOT / "templates", STOCK], ids=["Sparekey", "Flask-Security"])
def test_copied_page_templates_pass_the_check_with_all_features(folder: Path) -> None:
    settings = load_settings(**gallery.DEPLOYMENTS["full"], RECOVERY_TEMPLATE_DIR=str(folder))
    app = create_app(settings, checked=False)
    with app.app_context():
        findings = template_checks.check_templates()
    assert [one for one in findings if one.severity == "error" and "/email/" not in one.where] == []


# --- Pages and mails ---


@each_locale
def test_pages_are_accessible(chromium: Browser, tools: None, locale: str) -> None:
    """A sample of `make axe`. No violation of WCAG, no sideways scrolling, no label of two lines, no small target, no motion, nothing from another site."""
    with stage(chromium, with_axe=True, **STILL) as on:

        def look() -> list[str]:
            overflows = [defect for width in WIDTHS for defect in on.overflows_at(width)]
            targets = [defect for width in (WIDTHS[0], WIDTHS[-1]) for defect in on.small_targets_at(width)]
            wrapped = on.wrapped_labels_at(360)
            return [*on.broken_rules(), *overflows, *targets, *wrapped, *on.moving_elements()]

        def look_at_open_menus() -> list[str]:
            on.open_menus()
            return [*on.broken_rules(), *on.overflows_at(320), *on.small_targets_at(320)]

        pages = gallery.pages_in(locale)
        assert not (defects := defects_on(on, pages, look)), defects
        with_menus = {name: pages[name] for name in ("login_user", "home-signed-in")}
        assert not (defects := defects_on(on, with_menus, look_at_open_menus)), defects
        assert on.foreign_urls == []


@each_locale
def test_mails_are_accessible(chromium: Browser, tools: None, locale: str) -> None:
    with stage(chromium, with_axe=True, **STILL) as on:

        def look() -> list[str]:
            return [*on.broken_rules(MAIL_RULES), *on.overflows_at(320), *on.moving_elements()]

        assert not (defects := defects_on(on, mail_html(locale), look)), defects
        assert on.foreign_urls == []


def test_long_words_fit_a_phone(chromium: Browser) -> None:
    """German has the longest words."""
    with stage(chromium) as on:
        documents = {**gallery.pages_in("de"), **mail_html("de")}
        assert not (defects := defects_on(on, documents, lambda: on.overflows_at(320))), defects


def test_dark_colors_have_contrast(chromium: Browser, tools: None) -> None:
    with stage(chromium, with_axe=True, color_scheme="dark") as on:
        documents = {**gallery.pages_in("en"), **mail_html("en")}
        assert not (defects := defects_on(on, documents, lambda: on.broken_rules(COLOR_RULES))), defects


def test_html_is_valid(tools: None) -> None:
    documents: dict[str, dict[str, str]] = {"pages": {}, "mails": {}}
    for locale in LOCALES:
        for kind, html in (("pages", gallery.pages_in(locale)), ("mails", mail_html(locale))):
            documents[kind] |= {f"{name} ({locale})": text for name, text in html.items()}
    assert not (defects := report(stages.run_node("validate.mjs", documents))), defects


# --- Each check finds a planted defect ---

TWO_TARGETS = '<button style="all: unset; width: 9px; height: 9px">a</button>'
PLANTED: dict[str, tuple[str, Callable[[Stage], list[str]], str]] = {
    "image without text": ('<img src="/static/sparekey.svg">', Stage.broken_rules, "image-alt"),
    "pale text": (
        '<p style="color: #ccc; background: #fff">Pale</p>',
        lambda on: on.broken_rules(COLOR_RULES),
        "color-contrast",
    ),
    "field without label": ('<input name="nameless">', Stage.broken_rules, "label"),
    "two targets in one place": (f"<p>{TWO_TARGETS}{TWO_TARGETS}</p>", Stage.broken_rules, "target-size"),
    "skipped heading level": ("<h4>Too deep</h4>", Stage.broken_rules, "heading-order"),
    "word that does not break": (
        f'<p style="white-space: nowrap">{"m" * 60}</p>',
        lambda on: on.overflows_at(320),
        "wide: p “mmm",
    ),
    "wide box": ('<div style="width: 700px">wide</div>', lambda on: on.overflows_at(360), "wide: div"),
    "small button": (
        '<button style="all: unset; font-size: 12px">Hit me</button>',
        lambda on: on.small_targets_at(1280),
        "button “Hit me”",
    ),
    "small link outside a sentence": (
        '<p><a href="/">Home</a></p>',
        lambda on: on.small_targets_at(360),
        "a “Home”",
    ),
    "animation": (
        "<style>@keyframes turn { to { rotate: 1turn } } hr { animation: turn 2s infinite }</style><hr>",
        Stage.moving_elements,
        "moves: hr",
    ),
    "transition": ('<p style="transition: color .2s">Slowly</p>', Stage.moving_elements, "moves: p “Slowly”"),
    "image from another site": (
        '<img alt="" src="https://elsewhere.example/pixel.png">',
        lambda on: on.foreign_urls,
        "https://elsewhere.example/pixel.png",
    ),
}


def page_with(html: str) -> str:
    page = gallery.pages_in()["problem-not_found-404"]
    assert page.count("</main>") == 1
    return page.replace("</main>", f"{html}</main>")


@pytest.fixture
def still(chromium: Browser, tools: None) -> Iterator[Stage]:
    with stage(chromium, with_axe=True, reduced_motion="reduce") as on:
        yield on


def test_planted_defects_are_found(still: Stage) -> None:
    for name, (html, look, expected) in PLANTED.items():
        still.show(page_with(""))
        assert not [defect for defect in look(still) if expected in defect], name
        still.show(page_with(html))
        assert [defect for defect in look(still) if expected in defect], name


def test_planted_dark_text_is_found(chromium: Browser, tools: None) -> None:
    with stage(chromium, with_axe=True, color_scheme="dark") as on:
        on.show(page_with('<p style="color: #566170">Dark enough on white</p>'))
        assert [defect for defect in on.broken_rules(COLOR_RULES) if "color-contrast: p" in defect]


def test_links_in_sentences_and_labeled_checkboxes_are_no_small_targets(still: Stage) -> None:
    still.show(
        page_with(
            '<p>In a sentence <a href="/">a link</a> is as high as its line.</p>'
            '<p class="field check"><input type="checkbox" id="one"> <label for="one">With its label</label></p>'
        )
    )
    assert still.small_targets_at(1280) == []
    assert still.broken_rules(RULES) == []


def test_send_again_counts_down(still: Stage) -> None:
    still.show(gallery.pages_in()["check_mail"])
    assert still.tab.get_by_role("button", name=re.compile("Send again in 0:[23]")).is_disabled()


def test_demo_inbox_shows_a_mail_whole(still: Stage) -> None:
    still.show(gallery.pages_in()["inbox_mail"])
    still.tab.wait_for_function("document.querySelector('iframe').style.height > '0'")
    assert still.tab.frames[1].evaluate("document.documentElement.scrollHeight - innerHeight") <= 0


def test_planted_invalid_html_is_found(tools: None) -> None:
    pages = {
        "page": page_with('<p id="two">a<div id="two">b</div></p>'),
        "styled": page_with('<p style="color:red">'),
    }
    mail = gallery.mails_in()["reset_instructions"].html
    mails = {"mail": mail.replace("</h1>", "</h2>"), "title": mail.replace("<title>", "<title hidden=no>")}
    defects = stages.run_node("validate.mjs", {"pages": pages, "mails": mails})
    assert set(defects) == {*pages, *mails}


def test_planted_unsupported_style_of_a_mail_is_found(tools: None) -> None:
    """`make looks` checks all mails."""
    mail = gallery.mails_in()["reset_instructions"].html
    planted = mail.replace("</h1>", '</h1><p style="position: sticky">Stays</p>')
    for html, features in ((mail, []), (planted, ["position"])):
        errors = stages.run_node("mail_clients.mjs", {"mail": html})["errors"]
        assert [feature for feature, *_ in errors] == features
