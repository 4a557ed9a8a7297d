"""Branding: the logo and the accent color, which stays readable on pages and in mails."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from support.mailbox import html_of
from support.site import PUBLIC_URL, Site, load_settings

from app import create_app
from app.web import branding

COLORS = ["#0b6e66", "#ffd400", "#000000", "#ffffff", "#e0115f", "#1d4ed8", "#808080", "#39ff14", "#7f0000"]
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
    return pairs.map((pair) => {
        const [darker, paler] = pair.map(luminance).sort((one, other) => one - other);
        return (paler + .05) / (darker + .05);
    });
}"""
PAIRS = [("accent", "page"), ("accent", "card"), ("on-fill", "fill"), ("on-fill-strong", "fill-strong")]


def test_accent_shades_of_pages_are_readable(chromium: Browser) -> None:
    """A contrast of 4.5:1 (WCAG 2.2, SC 1.4.3), before the backgrounds that mails have, too."""
    app = create_app(load_settings(RECOVERY_ACCENT=COLORS[0]))
    sheet = app.test_client().get("/style.css", base_url=PUBLIC_URL).text
    schemes: Any = (("light", "page", branding.LIGHT), ("dark", "card", branding.DARK))
    for scheme, name, ground in schemes:
        with chromium.new_context(color_scheme=scheme) as context:
            page = context.new_page()
            for color in COLORS:
                page.set_content(f"<style>{sheet.replace(COLORS[0], color)}</style>")
                *contrasts, painted = page.evaluate(CONTRASTS, [*PAIRS, ("brand", name)])
                assert min(contrasts) >= 4.5, color
                assert painted == pytest.approx(branding.contrast(color, ground), rel=0.01)


def test_accent_shades_of_mails_are_readable_and_unchanged_where_they_can_be() -> None:
    for color in COLORS:
        palette = branding.palette(color)
        assert palette.fill == color
        assert branding.contrast(palette.on_fill, palette.fill) >= 4.5
        assert branding.contrast(palette.link, branding.LIGHT) >= 4.5
        assert branding.contrast(palette.link_in_the_dark, branding.DARK) >= 4.5
    assert branding.palette("#0b6e66").link == "#0b6e66"
    assert branding.palette("#ffd400").link_in_the_dark == "#ffd400"


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
    missing = plain.open("/logo")
    assert (missing.status_code, missing.headers["Cache-Control"]) == (404, "no-store")


def test_logo_replaces_the_name_and_runs_no_script(make_site: Any, tmp_path: Path) -> None:
    light, dark = tmp_path / "light.svg", tmp_path / "dark.svg"
    light.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    dark.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    site: Site = make_site(RECOVERY_LOGO=str(light), RECOVERY_SITE_NAME="Example & Co")
    page, answer = site.visitor().open("/login").text, site.visitor().open("/logo")
    assert '<img class="logo" src="/logo" alt="Example &amp; Co" height="36">' in page
    assert "<span>Example" not in page
    assert answer.text == light.read_text()
    assert answer.content_type.startswith("image/svg+xml")
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "variant=dark" not in page
    visitor = make_site(RECOVERY_LOGO=str(light), RECOVERY_LOGO_DARK=str(dark)).visitor()
    source = '<source media="(prefers-color-scheme: dark)" srcset="/logo?variant=dark">'
    assert source in visitor.open("/login").text
    assert visitor.open("/logo?variant=dark").text == dark.read_text()
