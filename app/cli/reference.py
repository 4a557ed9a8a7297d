"""The reference: what `config/default.toml` says of each setting, and a JSON Schema of them all for editors.

A block of the file is comments with the settings they explain below, up to a blank line. A commented
setting has no default, and its value there is an example.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from pydantic import create_model

from ..settings import sources
from ..settings.library_settings import library_types
from ..settings.schema import Settings, declared
from ..settings.urls import ClientTable

FST_DOCS = "https://flask-security.readthedocs.io/en/stable/configuration.html"
_SETTING = re.compile(r"(# )?([A-Z][A-Z0-9_]+) = (.+)")
_SECTION = re.compile(r"# --- ([^(:]+?)(?: \(|: | -+).*")
_NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_JSON_TYPES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a table",
}


class Entry(NamedTuple):
    """What the reference says of one setting."""

    name: str
    section: str
    meaning: str
    value: str  # as it is written there: TOML
    is_example: bool


@cache
def entries() -> dict[str, Entry]:
    """Return an entry for every setting that `config/default.toml` explains, in its order."""
    return {entry.name: entry for entry in _read(sources.DEFAULTS.read_text())}


def _read(text: str) -> Iterator[Entry]:
    section = ""
    for block in text.split("\n\n"):
        if heading := _SECTION.match(block):
            section = heading[1]
        comments = re.findall(r"^# ?(.*)$", block, re.M)
        meaning = "\n".join(line for line in comments if not _SETTING.fullmatch(line))
        for mark, name, value in re.findall(rf"^{_SETTING.pattern}$", block, re.M):
            yield Entry(name, section, meaning, value, is_example=bool(mark))


def related(name: str) -> list[str]:
    """Return other settings that its explanation names, or whose explanations name it."""
    meaning = entries()[name].meaning
    named = _NAME.findall(meaning)
    return [
        other.name
        for other in entries().values()
        if other.name != name
        and (other.name in named or other.meaning == meaning or name in _NAME.findall(other.meaning))
    ]


@cache
def json_types() -> dict[str, dict[str, Any]]:
    """Return what each setting that may be set takes, as JSON Schema."""
    own = Settings.model_json_schema()["properties"]
    fields: dict[str, Any] = {name: (kind, ...) for name, kind in library_types().items()}
    theirs = create_model("LibrarySettings", **fields).model_json_schema()["properties"]
    return {**{name: own[name] for name in declared()}, **theirs}


def takes(name: str) -> str:
    """Return the type of a setting and its limits, in words. Empty if nothing is known."""
    return _in_words(json_types().get(name, {}))


def _in_words(json_type: dict[str, Any]) -> str:
    if "enum" in json_type:
        return "one of " + ", ".join(json.dumps(choice) for choice in json_type["enum"])
    if "anyOf" in json_type:
        return " or ".join(filter(None, map(_in_words, json_type["anyOf"])))
    words = [json_type.get("description") or _JSON_TYPES.get(json_type.get("type", ""), "")]
    limits = {"minimum": "at least", "maximum": "at most"}
    words += [f"{word} {json_type[key]}" for key, word in limits.items() if key in json_type]
    return ", ".join(filter(None, words))


@cache
def schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of the settings file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Sparekey",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(name, json_type) for name, json_type in json_types().items()},
        "$defs": {"ClientTable": ClientTable.model_json_schema()},
    }


def _property(name: str, json_type: dict[str, Any]) -> dict[str, Any]:
    """Return the type of a setting with the reference's words."""
    takes, entry = json_type.get("description"), entries().get(name)
    meaning = entry.meaning if entry else f"See {FST_DOCS}" if name.startswith("SECURITY_") else ""
    description = "\n\n".join(filter(None, (meaning, takes and f"Takes {takes}.")))
    known = {key: value for key, value in json_type.items() if key not in ("title", "default", "description")}
    return {**known, "description": description} if description else known
