"""The settings reference, read from `config/default.toml`, and a JSON Schema of all settings for editors.

A block of the file ends at a blank line: comments, then the settings that they explain. A commented setting
has no default, and its value there is an example.
"""

import json
import re
from functools import cache
from typing import Any, NamedTuple

from ..settings import sources
from ..settings.library_settings import all_settings

FST_DOCS = "https://flask-security.readthedocs.io/en/stable/configuration.html"
_SETTING = re.compile(r"(# )?([A-Z][A-Z0-9_]+) = (.+)")
_JSON_TYPES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a table",
}


class Entry(NamedTuple):
    """The reference of one setting."""

    meaning: str
    value: str  # as TOML
    is_example: bool


@cache
def entries() -> dict[str, Entry]:
    """Return an entry for every setting that `config/default.toml` explains, in its order."""
    entries = {}
    for block in sources.DEFAULTS.read_text().split("\n\n"):
        comments = re.findall(r"^# ?(.*)$", block, re.M)
        meaning = "\n".join(line for line in comments if not _SETTING.fullmatch(line))
        for mark, name, value in re.findall(rf"^{_SETTING.pattern}$", block, re.M):
            entries[name] = Entry(meaning, value, is_example=bool(mark))
    return entries


@cache
def json_schema() -> dict[str, Any]:
    """Return the types and limits of all settings that may be set, without their meanings."""
    schema = all_settings().model_json_schema()
    del schema["required"]  # because one file need not hold them all
    properties = {name: one for name, one in schema["properties"].items() if name.isupper()}
    for json_type in properties.values():
        json_type.pop("default", None)  # None, of a library's
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "properties": properties}


def schema() -> dict[str, Any]:
    """Return a JSON Schema of the settings file with the reference's words, for editors."""
    types = json_schema()["properties"].items()
    properties = {name: {**json_type, "description": _describe(name, json_type)} for name, json_type in types}
    return {**json_schema(), "properties": properties}


def _describe(name: str, json_type: dict[str, Any]) -> str:
    takes, entry = json_type.get("description"), entries().get(name)
    meaning = entry.meaning if entry else f"See {FST_DOCS}" if name.startswith("SECURITY_") else ""
    return "\n\n".join(filter(None, (meaning, takes and f"Takes {takes}.")))


def takes(name: str) -> str:
    """Return the type of a setting and its limits, in words. Empty if nothing is known."""
    return _in_words(json_schema()["properties"].get(name, {}))


def _in_words(json_type: dict[str, Any]) -> str:
    if "enum" in json_type:
        return "one of " + ", ".join(json.dumps(choice) for choice in json_type["enum"])
    if "anyOf" in json_type:
        return " or ".join(filter(None, map(_in_words, json_type["anyOf"])))
    words = [json_type.get("description") or _JSON_TYPES.get(json_type.get("type", ""), "")]
    limits = {"minimum": "at least", "maximum": "at most"}
    words += [f"{word} {json_type[key]}" for key, word in limits.items() if key in json_type]
    return ", ".join(filter(None, words))
