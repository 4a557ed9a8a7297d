"""Branding: the logo and the accent color, which stays readable on pages and in mails."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.live import base_url, live
from support.mailbox import html_of
from support.site import PUBLIC_URL, ROOT, Site, load_settings

from app import create_app
from app.web import branding

COLORS = ["#0b6e66", "#ffd400", "#000000", "#ffffff", "#e0115f", "#1d4ed8", "#808080", "#39ff14", "#7f0000"]
SHEET = ROOT / "app/pages/static/sparekey.css"
# Contrast ratios of painted pixels, because a shade's color space is not that of a pixel.
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


@pytest.fixture(scope="module")
def sheet() -> str:
    """The style sheet with the first color."""
    app = create_app(load_settings(RECOVERY_ACCENT=COLORS[0]))
    return app.test_client().get("/style.css", base_url=PUBLIC_URL).text


@pytest.mark.parametrize(
    ("scheme", "name", "ground"), [("light", "page", branding.LIGHT), ("dark", "card", branding.DARK)]
)
def test_accent_shades_of_pages_are_readable(
    chromium: Browser, sheet: str, scheme: Any, name: str, ground: str
) -> None:
    """A contrast of 4.5:1 (WCAG 2.2, SC 1.4.3)."""
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        for color in COLORS:
            page.set_content(f"<style>{sheet.replace(COLORS[0], color)}</style>")
            assert min(page.evaluate(CONTRASTS, PAIRS)) >= 4.5, color
            [painted] = page.evaluate(CONTRASTS, [("brand", name)])
            assert painted == pytest.approx(branding.contrast(color, ground), rel=0.01)


@pytest.mark.parametrize("color", COLORS)
def test_accent_shades_of_mails_are_readable(color: str) -> None:
    palette = branding.palette(color)
    for text, ground in [
        (palette.on_fill, palette.fill),
        (palette.link, branding.LIGHT),
        (palette.link_in_the_dark, branding.DARK),
    ]:
        assert branding.contrast(text, ground) >= 4.5


def test_accent_is_used_unchanged_where_it_is_readable() -> None:
    green, yellow = branding.palette("#0b6e66"), branding.palette("#ffd400")
    assert green.link == green.fill == "#0b6e66"
    assert yellow.fill == yellow.link_in_the_dark == "#ffd400"
    assert yellow.link != "#ffd400"


def test_backgrounds_of_mails_are_those_of_pages() -> None:
    for name, color in [
        ("page", branding.LIGHT),
        ("card", branding.DARK),
    ]:
        assert f"--{name}: {color};" in SHEET.read_text()


def test_accent_is_on_pages_and_in_mails(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_ACCENT="#1d4ed8")
    visitor = site.visitor()
    url = re.search(r'href="(/style\.css\?v=\w{8})"', visitor.open("/login").text)[1]
    answer = visitor.open(url)
    assert "--brand: #1d4ed8;" in answer.text
    assert answer.content_type == "text/css; charset=utf-8"
    assert answer.headers["Cache-Control"] == "max-age=3600"
    site.new_link()
    assert 'bgcolor="#1d4ed8"' in html_of(site.mailbox.mails[-1])
    plain = make_site().visitor()
    assert url not in plain.open("/login").text  # another color has another URL, past caches
    assert "/logo" not in plain.open("/login").text
    assert plain.open("/logo").status_code == 404


def test_logo_replaces_the_name_and_runs_no_script(make_site: Any, tmp_path: Path) -> None:
    path = tmp_path / "logo.svg"
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    site: Site = make_site(RECOVERY_LOGO=str(path), RECOVERY_SITE_NAME="Example & Co")
    page = site.visitor().open("/login")
    assert '<img class="logo" src="/logo" alt="Example &amp; Co" height="36">' in page.text
    assert "<span>Example" not in page.text
    answer = site.visitor().open("/logo")
    assert answer.text == path.read_text()
    assert answer.content_type.startswith("image/svg+xml")
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_logo_has_a_dark_variant_or_a_light_plate(make_site: Any, chromium: Browser, tmp_path: Path) -> None:
    light, dark = tmp_path / "light.svg", tmp_path / "dark.svg"
    for path in (light, dark):
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    shown = "e => [new URL(e.currentSrc).search, getComputedStyle(e).backgroundColor]"
    for more, expected in (
        ({"RECOVERY_LOGO_DARK": str(dark)}, ["?variant=dark", "rgba(0, 0, 0, 0)"]),
        ({}, ["", "rgb(255, 255, 255)"]),
    ):
        with (
            live(make_site, RECOVERY_LOGO=str(light), **more) as site,
            chromium.new_context(color_scheme="dark") as context,
        ):
            page = context.new_page()
            page.goto(f"{base_url(site)}/login")
            assert page.locator(".logo").evaluate(shown) == expected


def test_style_sheet_is_under_20_kb(sheet: str) -> None:
    assert len(sheet) < 20_000
