"""Every page in every state, and every mail: for people who see little, use no mouse, or hold a small telephone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_security
import pytest
from looks import gallery, page_samples
from looks import stage as stages
from looks.elements import elements_of
from looks.stage import RULES, RULES_OF_COLOURS, RULES_OF_MAILS, Stage, stage
from playwright.sync_api import Browser
from support.servers import skip_or_fail
from support.site import ROOT, load_settings

from app import create_app
from app.pages import template_checks
from app.pages.template_sources import missing_fields, parse, parse_with_references

pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing SelectField choices as tuples"
)  # Flask-Security's own

# One that is read from the left, and one that is read from the right.
LOCALES = ("en", "ar")
STOCK = Path(flask_security.__file__).parent / "templates"
BOTH_WAYS = pytest.mark.parametrize("locale", LOCALES)
WIDTHS = (320, 360, 768, 1280)  # 320 is also a window of 1280 at 400 % (WCAG 1.4.10)


@pytest.fixture
def tools() -> None:
    if missing := stages.why_no_tools():
        skip_or_fail(missing)


def as_said(found: dict[str, list[str]]) -> str:
    """Each fault once, with where it is; empty where all is well."""
    where: dict[str, list[str]] = {}
    for name, faults in found.items():
        for fault in dict.fromkeys(faults):
            where.setdefault(fault, []).append(name)
    return "\n".join(f"{fault}\n    in {', '.join(names)}" for fault, names in where.items())


def seen(on: Stage, shown: dict[str, str], look: Callable[[], list[str]]) -> str:
    """What is wrong with any of these."""
    found = {}
    for name, html in shown.items():
        on.show(html)
        found[name] = look()
    return as_said(found)


def html_of_mails(locale: str) -> dict[str, str]:
    return {name: letter.html for name, letter in gallery.mails_in(locale).items()}


def test_every_page_has_a_sample_and_renders_in_all_its_states() -> None:
    """Of Flask-Security's there are those that Sparekey has no feature for, and those that pages are made of."""
    not_shown = {"base", "change_username", "logout_user", "send_login"}
    of_flask_security = {name for name in templates_in(STOCK) if name not in not_shown}
    with gallery.asked("full", "en"):
        sampled = {page.template for page in page_samples.pages()}
    assert of_flask_security <= sampled
    assert templates_in(ROOT / "templates") - {"base", "inbox", "inbox_mail"} == sampled
    assert all("</html>" in html for html in gallery.pages_in().values())


def templates_in(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "security").glob("[!_]*.html")}


def test_every_form_sends_its_fields_and_the_check_needs_the_same_ones() -> None:
    """An identity is the field `email` of most forms; what is asked of a passkey comes with the token."""
    as_read = {"identity": "email", "credential": "csrf_token"}
    sent: dict[str, set[str]] = {}
    with gallery.asked("full", "en"):
        for page in page_samples.pages():
            elements = elements_of(gallery.rendered(page))
            assert {*page.fields} <= {element.attributes.get("name") for element in elements}, page.name
            sent.setdefault(page.template, set()).update(as_read.get(field, field) for field in page.fields)
        for template, fields in sent.items():
            name = f"security/{template}.html"
            needed = parse(name).fields()
            assert {as_read.get(field, field) for field in needed} == fields, template
            assert missing_fields(needed, *parse_with_references(name)) == [], template


@pytest.mark.parametrize("folder", [ROOT / "templates", STOCK], ids=["ours", "Flask-Security's"])
def test_a_page_that_is_copied_is_no_error_when_all_is_switched_on(folder: Path) -> None:
    settings = load_settings(**gallery.DEPLOYMENTS["full"], RECOVERY_TEMPLATE_DIR=str(folder))
    app = create_app(settings, checked=False)
    with app.app_context():
        found = template_checks.check_templates()
    assert [one for one in found if one.severity == "error" and "/email/" not in one.where] == []


@BOTH_WAYS
def test_every_page_is_for_everybody(chromium: Browser, tools: None, locale: str) -> None:
    """No rule of accessibility is broken, nothing scrolls sideways, everything can be hit, nothing moves unasked,
    nothing is loaded from elsewhere.
    """
    with stage(chromium, with_axe=True, color_scheme="light", reduced_motion="reduce") as on:

        def look() -> list[str]:
            cut_off = [
                fault for width in WIDTHS for fault in on.sideways_at(width) + on.small_targets_at(width)
            ]
            return [*on.broken_rules(), *cut_off, *on.what_moves()]

        assert not (wrong := seen(on, gallery.pages_in(locale), look)), wrong
        assert on.elsewhere == []


@BOTH_WAYS
def test_every_mail_is_for_everybody(chromium: Browser, tools: None, locale: str) -> None:
    with stage(chromium, with_axe=True, color_scheme="light", reduced_motion="reduce") as on:

        def look() -> list[str]:
            return [*on.broken_rules(RULES_OF_MAILS), *on.sideways_at(320), *on.what_moves()]

        assert not (wrong := seen(on, html_of_mails(locale), look)), wrong
        assert on.elsewhere == []


def test_long_words_break(chromium: Browser) -> None:
    """German has the longest; at 320 px each must find its place."""
    with stage(chromium) as on:
        shown = {**gallery.pages_in("de"), **html_of_mails("de")}
        assert not (wrong := seen(on, shown, lambda: on.sideways_at(320))), wrong


def test_all_can_be_read_in_the_dark(chromium: Browser, tools: None) -> None:
    """Only colours are other ones."""
    shown = {**gallery.pages_in("en"), **html_of_mails("en")}
    with stage(chromium, with_axe=True, color_scheme="dark") as on:
        assert not (wrong := seen(on, shown, lambda: on.broken_rules(RULES_OF_COLOURS))), wrong


def test_all_html_is_valid(tools: None) -> None:
    given: dict[str, dict[str, str]] = {"pages": {}, "mails": {}}
    for locale in LOCALES:
        given["pages"] |= {f"{name} ({locale})": html for name, html in gallery.pages_in(locale).items()}
        given["mails"] |= {f"{name} ({locale})": html for name, html in html_of_mails(locale).items()}
    assert not (wrong := as_said(stages.run_node("validate.mjs", given))), wrong


# --- Each of them finds what it is for ----------------------------------------------------------------------

PLANTED: dict[str, tuple[str, Callable[[Stage], list[str]], str]] = {
    "a picture without words": ('<img src="/static/sparekey.svg">', Stage.broken_rules, "image-alt"),
    "pale text": (
        '<p style="color: #ccc; background: #fff">Pale</p>',
        lambda on: on.broken_rules(RULES_OF_COLOURS),
        "color-contrast",
    ),
    "a box without a label": ('<input name="nameless">', Stage.broken_rules, "label"),
    "two targets in one place": (
        '<p><button style="all: unset; width: 9px; height: 9px">a</button>'
        '<button style="all: unset; width: 9px; height: 9px">b</button></p>',
        Stage.broken_rules,
        "target-size",
    ),
    "a heading that is left out": ("<h4>Too deep</h4>", Stage.broken_rules, "heading-order"),
    "a word that does not break": (
        f'<p style="white-space: nowrap">{"m" * 60}</p>',
        lambda on: on.sideways_at(320),
        "wide: p “mmm",
    ),
    "a picture that is too wide": (
        '<div style="width: 700px">wide</div>',
        lambda on: on.sideways_at(360),
        "wide: div",
    ),
    "a small button": (
        '<button style="all: unset; font-size: 12px">Hit me</button>',
        lambda on: on.small_targets_at(1280),
        "button “Hit me”",
    ),
    "a small link that stands alone": (
        '<p><a href="/">Home</a></p>',
        lambda on: on.small_targets_at(360),
        "a “Home”",
    ),
    "what turns": (
        "<style>@keyframes turn { to { rotate: 1turn } } hr { animation: turn 2s infinite }</style><hr>",
        Stage.what_moves,
        "moves: hr",
    ),
    "what fades": ('<p style="transition: color .2s">Slowly</p>', Stage.what_moves, "moves: p “Slowly”"),
    "what is loaded from elsewhere": (
        '<img alt="" src="https://elsewhere.example/pixel.png">',
        lambda on: on.elsewhere,
        "https://elsewhere.example/pixel.png",
    ),
}


def planted(html: str) -> str:
    page = gallery.pages_in()["problem-not_found-404"]
    assert page.count("</main>") == 1
    return page.replace("</main>", f"{html}</main>")


@pytest.fixture
def show(chromium: Browser, tools: None) -> Iterator[Stage]:
    with stage(chromium, with_axe=True, reduced_motion="reduce") as made:
        yield made


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_seen(show: Stage, defect: str) -> None:
    html, look, says = PLANTED[defect]
    show.show(planted(""))
    assert not [fault for fault in look(show) if says in fault]
    show.show(planted(html))
    assert [fault for fault in look(show) if says in fault]


def test_what_is_planted_in_the_dark_is_seen(chromium: Browser, tools: None) -> None:
    with stage(chromium, with_axe=True, color_scheme="dark") as on:
        on.show(planted('<p style="color: #566170">Was dark enough on white</p>'))
        assert [fault for fault in on.broken_rules(RULES_OF_COLOURS) if "color-contrast: p" in fault]


def test_what_may_be_small_is_not_complained_of(show: Stage) -> None:
    show.show(
        planted(
            '<p>In a sentence <a href="/">a link</a> is as high as it is.</p>'
            '<p class="field check"><input type="checkbox" id="one"> <label for="one">With its label</label></p>'
        )
    )
    assert show.small_targets_at(1280) == []
    assert show.broken_rules(RULES) == []


def test_html_that_is_not_valid_is_seen(tools: None) -> None:
    pages = {
        "page": planted('<p id="two">a<div id="two">b</div></p>'),
        "styled": planted('<p style="color:red">'),
    }
    mail = gallery.mails_in()["reset_instructions"].html
    mails = {"mail": mail.replace("</h1>", "</h2>"), "title": mail.replace("<title>", "<title hidden=no>")}
    found: Any = stages.run_node("validate.mjs", {"pages": pages, "mails": mails})
    assert set(found) == {*pages, *mails}


def test_what_a_mail_program_does_not_know_is_seen(tools: None) -> None:
    """`make looks` asks all of them; here it is only seen that they answer."""
    mail = gallery.mails_in()["reset_instructions"].html
    known, unknown = (
        stages.run_node("mail_clients.mjs", {"mail": html})["errors"]
        for html in (mail, mail.replace("</h1>", '</h1><p style="position: sticky">Stays</p>'))
    )
    assert [feature for feature, *_ in known] == []
    assert [feature for feature, *_ in unknown] == ["position"]
