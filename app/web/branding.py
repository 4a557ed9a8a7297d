"""The admin's brand: a logo and an accent color, from which sparekey.css makes shades that can be read.

Contrast is that of WCAG 2.2: 4.5:1 for text (SC 1.4.3). Mail programs cannot mix colors, so where the accent
cannot be read in a mail, its text color is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from types import SimpleNamespace

from flask import Blueprint, Flask, Response, abort
from flask.typing import ResponseReturnValue

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings

TEXT_CONTRAST = 4.5
# Grounds of links, and the text on them, light and dark: as in sparekey.css and security/email/_layout.html.
LIGHT, DARK = "#f3f5f8", "#1a212b"
TEXT_ON_LIGHT, TEXT_ON_DARK = "#1c2430", "#e9eef4"


def init_app(app: Flask, settings: Settings) -> None:
    """Serve the style sheet with the accent, and the logo."""
    accent = settings.RECOVERY_ACCENT
    sheet = Path(app.static_folder or "", "sparekey.css").read_text() + f":root {{ --brand: {accent}; }}\n"
    path = settings.RECOVERY_LOGO
    picture = Path(path).read_bytes() if path else None
    brand = Blueprint("brand", __name__)

    @brand.get("/style.css")
    def style() -> ResponseReturnValue:
        return Response(sheet, content_type="text/css; charset=utf-8")

    @brand.get("/logo")
    def logo() -> ResponseReturnValue:
        """An SVG can hold a script; the policy of every page lets none run."""
        return Response(picture, mimetype=guess_type(path)[0]) if picture else abort(404)

    app.register_blueprint(brand)
    version = sha256(sheet.encode()).hexdigest()[:8]
    app.jinja_env.globals.update(palette=palette(accent), style_version=version)


@check
def _accent_pale() -> Iterator[Finding]:
    if contrast(current().RECOVERY_ACCENT, LIGHT) < TEXT_CONTRAST:
        yield KINDS["accent-pale"].found(contrast=TEXT_CONTRAST, page=LIGHT)


def palette(accent: str) -> SimpleNamespace:
    """Return the colors of mails with this accent: of a button, of its text, and of links."""
    return SimpleNamespace(
        fill=accent,
        on_fill=max(("#ffffff", "#000000"), key=lambda text: contrast(text, accent)),
        link=accent if contrast(accent, LIGHT) >= TEXT_CONTRAST else TEXT_ON_LIGHT,
        link_in_the_dark=accent if contrast(accent, DARK) >= TEXT_CONTRAST else TEXT_ON_DARK,
    )


def contrast(one: str, other: str) -> float:
    """Return 1 (the same) to 21 (black on white). https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    darker, paler = sorted((_luminance(one), _luminance(other)))
    return (paler + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    parts = [byte / 255 for byte in bytes.fromhex(color.removeprefix("#"))]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
