"""`make sheets`: draws pictures of every page and mail, twelve on a sheet."""

import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from looks import gallery
from looks.stage import Stage, chromium, stage
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser

LOCALES = ("en", "de", "ar")
GAP, LABEL = 6, 14
PAPER, INK = "#8a929c", "#000000"


@dataclass(frozen=True)
class View:
    """A screen and a theme. `scale` and `columns` arrange its pictures on a sheet."""

    name: str
    width: int
    height: int
    scheme: str
    scale: float
    columns: int

    def options(self) -> dict[str, Any]:
        size = {"width": self.width, "height": self.height}
        return {"viewport": size, "color_scheme": self.scheme, "reduced_motion": "reduce"}


VIEWS = (
    View("phone", 360, 800, "light", 1, 6),
    View("phone-dark", 360, 800, "dark", 1, 6),
    View("tablet", 768, 1024, "light", 0.6, 4),
    View("desktop", 1280, 800, "light", 0.5, 4),
)

PICTURES_PER_SHEET = 12
WHOLE_HEIGHT_MAX = 1_800


def draw_sheets(browser: Browser, folder: Path, locales: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for locale in locales:
        for view in VIEWS:
            shown = pictures(browser, view, locale)
            number = 0
            while some := list(islice(shown, PICTURES_PER_SHEET)):
                number += 1
                sheet_of(some, view.columns).save(folder / f"{locale}-{view.name}-{number:02d}.png")


def sheet_of(some: list[tuple[str, Image.Image]], columns: int) -> Image.Image:
    lines = [some[start : start + columns] for start in range(0, len(some), columns)]
    heights = [max(picture.height for _, picture in line) + LABEL + GAP for line in lines]
    width = max(picture.width for _, picture in some) + GAP
    sheet = Image.new("RGB", (width * columns + GAP, sum(heights) + GAP), PAPER)
    for row, line in enumerate(lines):
        for column, (name, picture) in enumerate(line):
            left, top = column * width + GAP, sum(heights[:row]) + GAP
            ImageDraw.Draw(sheet).text((left, top), name, INK, ImageFont.load_default(11))
            sheet.paste(picture, (left, top + LABEL))
    return sheet


def pictures(browser: Browser, view: View, locale: str) -> Iterator[tuple[str, Image.Image]]:
    mails = {f"mail: {name}": mail.html for name, mail in gallery.mails_in(locale).items()}
    with stage(browser, **view.options()) as on:
        for name, html in {**gallery.pages_in(locale), **mails}.items():
            if not name.endswith("-without-contact"):
                on.show(html)
                yield name, shoot(on, view)


def shoot(on: Stage, view: View) -> Image.Image:
    """Take a picture of the whole page, scaled by the browser, because handing over a large one takes longer."""
    height = min(on.tab.evaluate("document.documentElement.scrollHeight"), WHOLE_HEIGHT_MAX)
    clip = {"x": 0, "y": 0, "width": view.width, "height": height, "scale": view.scale}
    options = {"clip": clip, "captureBeyondViewport": True, "optimizeForSpeed": True}
    data = on.session.send("Page.captureScreenshot", options)["data"]
    return Image.open(BytesIO(b64decode(data))).convert("RGB")


def main(folder: str, *locales: str) -> None:
    with chromium() as browser:
        draw_sheets(browser, Path(folder), locales or LOCALES)


if __name__ == "__main__":
    main(*sys.argv[1:])
