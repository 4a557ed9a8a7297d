"""The start tags of an HTML page or mail."""

from dataclasses import dataclass
from html.parser import HTMLParser


@dataclass(frozen=True)
class Element:
    tag: str
    attributes: dict[str, str]


def elements_of(html: str) -> list[Element]:
    elements: list[Element] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            elements.append(Element(tag, {name: value or "" for name, value in attributes}))

    Reader().feed(html)
    return elements
