"""Pictures of every page and mail: all on one small sheet, or `make sheets`: a dozen a sheet, to be looked at closely."""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import gallery
from conftest import CHROMIUM
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, sync_playwright
from stage import Stage, stage

LOCALES = ("en", "de", "ar")
GAP, LABEL = 6, 14
PAPER, INK = "#8a929c", "#000000"


@dataclass(frozen=True)
class View:
    """How somebody looks at it. `scale` and `columns` are those of a large sheet."""

    name: str
    width: int
    height: int
    scheme: str
    scale: float
    columns: int

    def options(self) -> dict[str, Any]:
        return {
            "viewport": {"width": self.width, "height": self.height},
            "color_scheme": self.scheme,
            "reduced_motion": "reduce",
        }


VIEWS = (
    View("phone", 360, 800, "light", 1, 6),
    View("phone-dark", 360, 800, "dark", 1, 6),
    View("tablet", 768, 1024, "light", 0.6, 4),
    View("desktop", 1280, 800, "light", 0.5, 4),
)

# The one sheet: as large as fits.
BYTES_MAX = 3_000_000
HEIGHTS = (150, 130, 110, 95, 80, 68)  # of a picture, in pixels
BANDS = 3
COLOURS = 48

PICTURES_PER_SHEET = 12
WHOLE_HEIGHT_MAX = 1_800


def draw(browser: Browser, to: Path) -> None:
    """All on one sheet."""
    shot: dict[str, dict[int, Image.Image]] = {}
    ways = [(locale, view) for locale in LOCALES for view in VIEWS]
    for column, (locale, view) in enumerate(ways):
        for name, picture in pictures(browser, view, locale, 2 * HEIGHTS[0] / view.height):
            shot.setdefault(name, {})[column] = picture
    for height in HEIGHTS:
        widths = [round(height * view.width / view.height) for _, view in ways]
        small_sheet(shot, widths, height).save(to, optimize=True)
        if to.stat().st_size < BYTES_MAX:
            return
    raise SystemExit(f"{to} can not be made smaller than {to.stat().st_size} bytes")


def small_sheet(shot: dict[str, dict[int, Image.Image]], widths: list[int], height: int) -> Image.Image:
    """One line for each page or mail, in several bands."""
    band, line = sum(widths) + GAP * (len(widths) + 2), height + LABEL + GAP
    lines = -(-len(shot) // BANDS)
    sheet = Image.new("RGB", (band * BANDS, line * lines + GAP), PAPER)
    for number, (name, by_column) in enumerate(shot.items()):
        left, top = number // lines * band + GAP, number % lines * line + GAP
        write(sheet, (left, top), name)
        for column, picture in by_column.items():
            x = left + sum(widths[:column]) + GAP * column
            sheet.paste(picture.resize((widths[column], height), Image.Resampling.LANCZOS), (x, top + LABEL))
    return sheet.quantize(COLOURS, dither=Image.Dither.NONE)


def draw_large(browser: Browser, folder: Path, locales: Iterable[str]) -> None:
    """A dozen a sheet: for each language, width and theme."""
    folder.mkdir(parents=True, exist_ok=True)
    for locale in locales:
        for view in VIEWS:
            shown = pictures(browser, view, locale, view.scale, whole=True)
            for number, some in enumerate(in_groups(shown, PICTURES_PER_SHEET), 1):
                large_sheet(some, view.columns).save(folder / f"{locale}-{view.name}-{number:02d}.png")


def large_sheet(some: tuple[tuple[str, Image.Image], ...], columns: int) -> Image.Image:
    lines = list(in_groups(some, columns))
    heights = [max(picture.height for _, picture in line) + LABEL + GAP for line in lines]
    width = max(picture.width for _, picture in some) + GAP
    sheet = Image.new("RGB", (width * columns + GAP, sum(heights) + GAP), PAPER)
    for row, line in enumerate(lines):
        for column, (name, picture) in enumerate(line):
            left, top = column * width + GAP, sum(heights[:row]) + GAP
            write(sheet, (left, top), name)
            sheet.paste(picture, (left, top + LABEL))
    return sheet


def in_groups(some: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    left = iter(some)
    while group := tuple(islice(left, size)):
        yield group


def write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(sheet).text(place, text, INK, ImageFont.load_default(11))


def pictures(
    browser: Browser, view: View, locale: str, scale: float, *, whole: bool = False
) -> Iterator[tuple[str, Image.Image]]:
    """What a window of this size shows first, or all of it."""
    mails = {f"mail: {name}": mail.html for name, mail in gallery.mails_in(locale).items()}
    with stage(browser, **view.options()) as on:
        for name, html in {**gallery.pages_in(locale), **mails}.items():
            if not name.endswith("-without-contact"):
                on.show(html)
                yield name, shoot(on, view, scale, whole)


def shoot(on: Stage, view: View, scale: float, whole: bool) -> Image.Image:
    """Scaled by the browser: that takes less time than to hand over a large picture."""
    height: int = view.height
    if whole:
        height = min(on.tab.evaluate("document.documentElement.scrollHeight"), WHOLE_HEIGHT_MAX)
    clip = {"x": 0, "y": 0, "width": view.width, "height": height, "scale": scale}
    wanted = {"clip": clip, "captureBeyondViewport": whole, "optimizeForSpeed": True}
    data = on.session.send("Page.captureScreenshot", wanted)["data"]
    return Image.open(BytesIO(b64decode(data))).convert("RGB")


def main(folder: str, *locales: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        draw_large(browser, Path(folder), locales or LOCALES)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
