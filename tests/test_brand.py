"""An admin's name, logo and colour: on every page, in every mail, and always to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Site, load_settings

from app import create_app
from app.web import branding

COLOURS = ["#0b6e66", "#ffd400", "#000000", "#ffffff", "#e0115f", "#1d4ed8", "#808080", "#39ff14", "#7f0000"]
SHEET = ROOT / "app/pages/static/sparekey.css"
GROUNDS = [re.findall(rf"--{name}: (#\w+);", SHEET.read_text()) for name in ("page", "card")]


@pytest.mark.parametrize("colour", COLOURS)
def test_every_shade_of_a_colour_can_be_read(colour: str) -> None:
    """On the grounds of the style sheet, light and dark (WCAG 2.2 SC 1.4.3)."""
    palette = branding.palette(colour)
    for shades, grounds in zip((palette.light, palette.dark), zip(*GROUNDS, strict=True), strict=True):
        assert branding.contrast(shades.on_fill, shades.fill) >= 4.5
        assert branding.contrast(shades.on_strong, shades.strong) >= 4.5
        for ground in grounds:
            assert branding.contrast(shades.text, ground) >= 4.5, ground


def test_a_colour_that_can_be_read_stays_as_it_is() -> None:
    assert branding.palette("#0b6e66").light.text == branding.palette("#0b6e66").light.fill == "#0b6e66"
    assert branding.palette("#ffd400").light.fill == "#ffd400"
    assert branding.palette("#ffd400").light.text != "#ffd400"


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
    assert "--fill:#1d4ed8;" in answer.text
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
    app = create_app(load_settings())
    assert len(app.extensions["recovery_style"]) < 20_000
