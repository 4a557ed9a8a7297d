"""The reference: what `config/default.toml` says of each setting, and what an editor may know of them all.

A block of the file is comments with the settings they explain below, up to a blank line. A commented
setting has no default; what stands there is an example.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from ..settings import sources, types
from ..settings.forced import FORCED
from ..settings.library_settings import LIBRARY_SETTINGS, kind_like, of_flask_security
from ..settings.schema import Settings, declared

FST_DOCS = "https://flask-security.readthedocs.io/en/stable/configuration.html"
_SETTING = re.compile(r"(# )?([A-Z][A-Z0-9_]+) = (.+)")
_SECTION = re.compile(r"# --- (.+?) -+")
_NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_TYPES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a table",
}
_LIMITS = {"minimum": "at least", "maximum": "at most"}


@dataclass(frozen=True)
class Entry:
    """What the reference says of one setting."""

    name: str
    section: str
    meaning: str
    value: str  # as it is written there: TOML
    is_example: bool


@cache
def entries() -> dict[str, Entry]:
    """Every setting that `config/default.toml` explains, in its order."""
    return {entry.name: entry for entry in _read(sources.DEFAULTS.read_text())}


def _read(text: str) -> Iterator[Entry]:
    section = ""
    for block in text.split("\n\n"):
        found, meaning = [], []
        for line in block.splitlines():
            if heading := _SECTION.match(line):
                section = heading[1].partition(" (")[0].partition(":")[0]
            elif setting := _SETTING.fullmatch(line):
                found.append(setting)
            elif line.startswith("#") and not line.startswith("#:"):
                meaning.append(line.removeprefix("#").removeprefix(" "))
        for mark, name, value in (setting.groups() for setting in found):
            yield Entry(name, section, "\n".join(meaning), value, is_example=bool(mark))


def related(name: str) -> list[str]:
    """Other settings that its explanation names, or whose explanations name it."""
    mentions = {entry.name: set(_NAME.findall(entry.meaning)) for entry in entries().values()}
    block = entries()[name].meaning
    near = {
        other
        for other, entry in entries().items()
        if other in mentions[name] or name in mentions[other] or entry.meaning == block
    }
    return [other for other in entries() if other in near - {name}]


def takes(name: str) -> str:
    """The kind of value and its limits, in words. Empty when nothing is known."""
    return _in_words(_kinds().get(name, {}))


def _in_words(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return "one of " + ", ".join(json.dumps(choice) for choice in kind["enum"])
    if "anyOf" in kind:
        return " or ".join(filter(None, map(_in_words, kind["anyOf"])))
    words = [kind.get("description") or _TYPES.get(kind.get("type", ""), "")]
    words += [f"{word} {kind[key]}" for key, word in _LIMITS.items() if key in kind]
    return ", ".join(filter(None, words))


@cache
def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of the settings file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Sparekey",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(name, kind) for name, kind in _kinds().items()},
        "$defs": {"ClientTable": types.ClientTable.model_json_schema()},
    }


@cache
def _kinds() -> dict[str, dict[str, Any]]:
    """What each setting that can be set takes, as JSON Schema: ours, and other libraries'."""
    ours = Settings.model_json_schema()["properties"]
    known = {name: ours[name] for name in declared()}
    others = {name: kind_like(default) for name, default in of_flask_security().items()}
    callables = {name for name, default in of_flask_security().items() if callable(default)}
    for name, kind in {**others, **LIBRARY_SETTINGS}.items():
        if name not in {*known, *FORCED, *callables} and "_TEMPLATE" not in name:
            known[name] = TypeAdapter(kind).json_schema()
    return known


def _property(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    """One setting as an editor sees it: its kind, with the reference's words."""
    entry, said = entries().get(name), kind.get("description")
    meaning = entry.meaning if entry else f"See {FST_DOCS}" if name.startswith("SECURITY_") else None
    described = "\n\n".join(filter(None, (meaning, said and f"Takes {said}.")))
    known = {key: value for key, value in kind.items() if key not in ("title", "default", "description")}
    return {**known, "description": described} if described else known
