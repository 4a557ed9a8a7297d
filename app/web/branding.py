"""The admin's brand: a logo, and one colour, from which every shade of it is made that can be read.

Contrast is that of WCAG 2.2: 4.5:1 for text (SC 1.4.3). A colour too pale for that is a button's ground as it
is; as text it is darkened, and lightened on dark ground.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, current_app
from flask.typing import ResponseReturnValue

from ..settings import current
from ..settings.checks import Finding, Kind, check
from ..settings.schema import Settings

TEXT_CONTRAST = 4.5
DARK_TEXT_CONTRAST = 7.0  # on dark ground the least that can be read looks dull
STEPS = 50  # from a colour to black or white
STRONGER = 0.25  # what is pointed at, towards black or white
# The ground that text stands on, light and dark: the palest and the darkest of sparekey.css.
LIGHT, DARK = "#f3f5f8", "#1a212b"
PALER = 0.6  # of white, how much it takes of a colour
BLACK, WHITE = "#000000", "#ffffff"
brand = Blueprint("brand", __name__)


@dataclass(frozen=True)
class Shades:
    """Of one colour, on one ground."""

    fill: str  # of a button
    on_fill: str  # its text
    strong: str  # of a button that is pointed at
    on_strong: str
    text: str  # a link


@dataclass(frozen=True)
class Palette:
    light: Shades
    dark: Shades


def init_app(app: Flask, settings: Settings) -> None:
    app.register_blueprint(brand)
    sheet = Path(app.static_folder or "", "sparekey.css").read_text() + _properties(
        palette(settings.RECOVERY_ACCENT)
    )
    app.extensions["recovery_style"] = sheet
    logo = settings.RECOVERY_LOGO
    app.extensions["recovery_logo"] = Path(logo).read_bytes() if logo else None
    app.jinja_env.globals.update(
        palette=palette(settings.RECOVERY_ACCENT), style_version=sha256(sheet.encode()).hexdigest()[:8]
    )


ACCENT_PALE = Kind(
    "accent-pale",
    "warning",
    "Text in RECOVERY_ACCENT would be too pale to be read.",
    "Links are drawn in a darker shade of it, maybe none of your brand's (WCAG 2.2 SC 1.4.3).",
    f"Take a darker one: with a contrast of {TEXT_CONTRAST}:1 to {LIGHT}.",
    "RECOVERY_ACCENT",
)


@check
def _accent_pale(settings: Settings) -> Iterator[Finding]:
    if contrast(settings.RECOVERY_ACCENT, LIGHT) < TEXT_CONTRAST:
        yield ACCENT_PALE.found()


@brand.get("/style.css")
def style() -> ResponseReturnValue:
    return Response(current_app.extensions["recovery_style"], content_type="text/css; charset=utf-8")


@brand.get("/logo")
def logo() -> ResponseReturnValue:
    """An SVG can hold a script; the policy of every page lets none run."""
    if not (picture := current_app.extensions["recovery_logo"]):
        abort(404)
    return Response(picture, content_type=guess_type(current().RECOVERY_LOGO)[0])


@cache
def palette(accent: str) -> Palette:
    """The shades of a colour such as #0b6e66."""
    fill = _readable(accent, DARK, WHITE)
    return Palette(
        _shades(accent, _readable(accent, LIGHT, BLACK), BLACK),
        _shades(fill, _readable(fill, DARK, WHITE, DARK_TEXT_CONTRAST), WHITE),
    )


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white). https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    paler, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (paler + 0.05) / (darker + 0.05)


def _shades(fill: str, text: str, towards: str) -> Shades:
    strong = _mixed(fill, towards, STRONGER)
    return Shades(fill, _on(fill), strong, _on(strong), text)


def _on(fill: str) -> str:
    return max((WHITE, BLACK), key=lambda text: contrast(text, fill))


def _readable(colour: str, ground: str, towards: str, least: float = TEXT_CONTRAST) -> str:
    """The nearest that can be read as text."""
    shades = (_mixed(colour, towards, step / STEPS) for step in range(STEPS + 1))
    return next(shade for shade in shades if contrast(shade, ground) >= least)


def _mixed(one: str, other: str, share: float) -> str:
    """Of one hue all the way: mixed as light is, colours turn grey. A little paler where it is bright."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in _rgb(one)))
    towards = 1.0 if other == WHITE else 0.0
    less = 1 - PALER * share * towards
    mixed = colorsys.hls_to_rgb(hue, lightness + (towards - lightness) * share, saturation * less)
    return "#" + "".join(f"{round(part * 255):02x}" for part in mixed)


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in _rgb(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _properties(palette: Palette) -> str:
    """The style sheet's own properties, as this palette has them."""

    def of(shades: Shades) -> str:
        return (
            f":root{{--accent:{shades.text};--fill:{shades.fill};--on-fill:{shades.on_fill};"
            f"--fill-strong:{shades.strong};--on-fill-strong:{shades.on_strong}}}"
        )

    return f"\n{of(palette.light)}\n@media (prefers-color-scheme: dark) {{ {of(palette.dark)} }}\n"
