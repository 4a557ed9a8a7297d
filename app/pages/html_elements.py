"""The elements of a page or mail, as far as checks look at them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

# What a mail program would load: an image, a background, a style sheet.
_LOADS = re.compile(
    r"""(?ix)
    (?: \b (?: src | srcset | background | poster ) \s*=\s* ["']? \s* | url\( \s* ["']? | @import \s+ ["']? )
    (?: https?: )? //[^"'\s)>]*"""
)
_JINJA = re.compile(r"{{.*?}}|{%.*?%}|{#.*?#}", re.DOTALL)


@dataclass(frozen=True)
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [key for key in self.attributes if key in ("src", "href", "style") or key.startswith("on")]
        return f"<{self.tag}{''.join(f' {key}={self.attributes[key][:60]!r}' for key in told[:1])}>"

    def is_blocked(self) -> bool:
        """True if the policy of headers.py drops it. A template may write a script's nonce with a macro."""
        source = self.attributes.get("src") or (self.attributes.get("href", "") if self.tag == "link" else "")
        return (
            (self.tag == "script" and not any("nonce" in name for name in self.attributes))
            or any(name.startswith("on") for name in self.attributes)
            or self.tag in ("style", "iframe")
            or "style" in self.attributes
            or source.startswith(("http:", "https:", "//"))
        )


def elements_of_template(source: str) -> list[Element]:
    """Return the elements of every branch. Of an expression its words stay, which no quote in it ends."""
    return elements_of(
        _JINJA.sub(lambda tag: re.sub(r"[^\w{}]", "", tag[0]) if tag[0][1] == "{" else "", source)
    )


def elements_of(html: str) -> list[Element]:
    found: list[Element] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.append(Element(tag, {name: value or "" for name, value in attributes}))

    Reader().feed(html)
    return found


def loaded_from_elsewhere(html: str) -> str | None:
    """The first thing that a mail loads from another machine; None when there is none."""
    found = _LOADS.search(html)
    return found[0] if found else None
