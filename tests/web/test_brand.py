"""An admin's name, logo and colour: on every page, in every mail, and always to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.site import ROOT, Site, load_settings

from app import create_app
from app.web import branding

COLOURS = ["#0b6e66", "#ffd400", "#000000", "#ffffff", "#e0115f", "#1d4ed8", "#808080", "#39ff14", "#7f0000"]
BASE = "http://127.0.0.1:5000"
SHEET = ROOT / "app/pages/static/sparekey.css"
# Ratios of text and its ground, as painted: the color space of a shade is not that of a pixel.
CONTRASTS = """(pairs) => {
    const brush = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const probe = document.body.appendChild(document.createElement("p"));
    const luminance = (property) => {
        probe.style.color = `var(--${property})`;
        brush.fillStyle = getComputedStyle(probe).color;
        brush.fillRect(0, 0, 1, 1);
        const linear = (byte) => byte <= 10 ? byte / 255 / 12.92 : ((byte / 255 + .055) / 1.055) ** 2.4;
        const [red, green, blue] = [...brush.getImageData(0, 0, 1, 1).data].map(linear);
        return .2126 * red + .7152 * green + .0722 * blue;
    };
    return pairs.map(([text, ground]) => {
        const [darker, paler] = [luminance(text), luminance(ground)].sort((one, other) => one - other);
        return (paler + .05) / (darker + .05);
    });
}"""
PAIRS = [("accent", "page"), ("accent", "card"), ("on-fill", "fill"), ("on-fill-strong", "fill-strong")]


@pytest.mark.parametrize(
    ("scheme", "name", "ground"), [("light", "page", branding.LIGHT), ("dark", "card", branding.DARK)]
)
def test_every_shade_of_a_colour_can_be_read(chromium: Browser, scheme: Any, name: str, ground: str) -> None:
    """On the grounds of the style sheet, light and dark (WCAG 2.2 SC 1.4.3)."""
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        for colour in COLOURS:
            page.set_content(f"<style>{sheet_with(colour)}</style>")
            assert min(page.evaluate(CONTRASTS, PAIRS)) >= 4.5, colour
            [as_painted] = page.evaluate(CONTRASTS, [("brand", name)])
            assert as_painted == pytest.approx(branding.contrast(colour, ground), rel=0.01)


def sheet_with(colour: str) -> str:
    return (
        create_app(load_settings(RECOVERY_ACCENT=colour)).test_client().get("/style.css", base_url=BASE).text
    )


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_of_a_mail_can_be_read(colour: str) -> None:
    palette = branding.palette(colour)
    for text, ground in [
        (palette.on_fill, palette.fill),
        (palette.link, branding.LIGHT),
        (palette.link_in_the_dark, branding.DARK),
    ]:
        assert branding.contrast(text, ground) >= 4.5


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    assert branding.palette("#0b6e66").link == branding.palette("#0b6e66").fill == "#0b6e66"
    assert branding.palette("#ffd400").fill == branding.palette("#ffd400").link_in_the_dark == "#ffd400"
    assert branding.palette("#ffd400").link != "#ffd400"


def test_mails_have_the_grounds_of_pages() -> None:
    sheet = SHEET.read_text()
    for name, colours in {
        "page": [branding.LIGHT],
        "card": [branding.DARK],
        "text": [branding.TEXT_ON_LIGHT, branding.TEXT_ON_DARK],
    }.items():
        assert set(colours) <= set(re.findall(rf"--{name}: (#\w+);", sheet))


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#abcdef", "#abcdef", 1.0)],
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert round(branding.contrast(one, other), 2) == ratio == round(branding.contrast(other, one), 2)


def test_the_colour_is_on_pages_and_in_mails(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_ACCENT="#1d4ed8")
    visitor = site.visitor()
    sheet = re.search(r'href="(/style\.css\?v=\w{8})"', visitor.open("/").text)[1]  # type: ignore[index]
    answer = visitor.open(sheet)
    assert "--brand: #1d4ed8;" in answer.text
    assert answer.content_type == "text/css; charset=utf-8"
    assert answer.headers["Cache-Control"] == "max-age=3600"
    site.new_link()
    html = site.mailbox.mails[-1].get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert 'bgcolor="#1d4ed8"' in html
    other = make_site().visitor().open("/").text
    assert sheet not in other  # a new colour is not kept from anybody by a browser's cache


def test_a_logo_stands_in_place_of_the_name(make_site: Any, tmp_path: Path) -> None:
    path = tmp_path / "logo.svg"
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    site: Site = make_site(RECOVERY_LOGO=str(path), RECOVERY_SITE_NAME="Example & Co")
    page = site.visitor().open("/")
    assert '<img class="logo" src="/logo" alt="Example &amp; Co" height="36">' in page.text
    assert "<span>Example" not in page.text
    answer = site.visitor().open("/logo")
    assert answer.text == path.read_text()
    assert answer.content_type.startswith("image/svg+xml")
    assert "script-src" not in answer.headers["Content-Security-Policy"]  # so what it holds is not run
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_without_a_logo_there_is_none(site: Site) -> None:
    assert site.visitor().open("/logo").status_code == 404
    assert "/logo" not in site.visitor().open("/").text


def test_the_whole_sheet_is_small() -> None:
    """The first page is its HTML, this sheet and a sign: under 30 kB, even if nothing is compressed."""
    assert len(sheet_with("#0b6e66")) < 20_000
