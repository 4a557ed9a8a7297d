"""Branding: a logo and an accent color, from which sparekey.css mixes readable shades.

Text needs a contrast of 4.5:1 (WCAG 2.2, SC 1.4.3). Mail programs cannot mix colors, so a mail has readable
shades of its own.
"""

from collections.abc import Iterator
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path
from types import SimpleNamespace

from flask import Blueprint, Flask, Response, abort, request
from flask.typing import ResponseReturnValue

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings

TEXT_CONTRAST = 4.5
# Backgrounds of links, light and dark: as in sparekey.css and security/email/_layout.html.
LIGHT, DARK = "#f3f5f8", "#1a212b"


def init_app(app: Flask, settings: Settings) -> None:
    """Serve the style sheet with the accent color, and the logo."""
    accent = settings.RECOVERY_ACCENT
    sheet = Path(app.static_folder or "", "sparekey.css").read_text() + f":root {{ --brand: {accent}; }}\n"
    logos = {"light": settings.RECOVERY_LOGO, "dark": settings.RECOVERY_LOGO_DARK}
    pictures = {path: Path(path).read_bytes() for path in logos.values() if path}
    brand = Blueprint("brand", __name__)

    @brand.get("/style.css")
    def style() -> ResponseReturnValue:
        return Response(sheet, content_type="text/css; charset=utf-8")

    @brand.get("/logo")
    def logo() -> ResponseReturnValue:
        """Serve the logo. An SVG can hold a script, but the Content-Security-Policy lets none run."""
        path = logos.get(request.args.get("variant", "light"))
        return Response(pictures[path], mimetype=guess_type(path)[0]) if path else abort(404)

    app.register_blueprint(brand)
    version = sha256(sheet.encode()).hexdigest()[:8]
    app.jinja_env.globals.update(palette=palette(accent), style_version=version)


@check
def _accent_pale() -> Iterator[Finding]:
    if contrast(current().RECOVERY_ACCENT, LIGHT) < TEXT_CONTRAST:
        yield KINDS["accent-pale"].found(contrast=TEXT_CONTRAST, page=LIGHT)


def palette(accent: str) -> SimpleNamespace:
    """Return the colors of a mail's buttons, of the text on them, and of links."""
    return SimpleNamespace(
        fill=accent,
        on_fill=max(("#ffffff", "#000000"), key=lambda text: contrast(text, accent)),
        link=_readable(accent, LIGHT, "#000000"),
        link_in_the_dark=_readable(accent, DARK, "#ffffff"),
    )


def _readable(color: str, ground: str, mixed: str) -> str:
    """Return the color with as little of black or white as text on this background needs."""
    channels = [*zip(*(bytes.fromhex(one.removeprefix("#")) for one in (color, mixed)), strict=True)]
    shades = (bytes(round(a + (b - a) * share / 20) for a, b in channels).hex() for share in range(21))
    return next(f"#{shade}" for shade in shades if contrast(shade, ground) >= TEXT_CONTRAST)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio, 1 to 21. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [byte / 255 for byte in bytes.fromhex(color.removeprefix("#"))]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
