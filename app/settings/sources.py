"""Settings sources: every value with its origin. `settings/__init__.py` says what the values mean.

config/default.toml  <  the file in RECOVERY_CONFIG  <  FLASK_<NAME>  <  FLASK_<NAME>_FILE
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .problems import Problem
from .schema import Settings

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ROOT / "config" / "default.toml"
DEFAULT_ORIGIN = "config/default.toml"  # as it is shown
TRANSLATIONS = ROOT / "app" / "web" / "translations"  # of ours: a file for each language
# FLASK_ variables that Flask reads itself.
OF_FLASK = re.compile(r"FLASK_(APP|DEBUG|ENV_FILE|SKIP_DOTENV|RUN_\w+)")
PREFIX, SECRET_FILE = "FLASK_", "_FILE"


@dataclass
class Reading:
    """The values of all sources with their origins, and every problem. `settings` only if there is none."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    settings: Settings | None = None

    def put(self, origin: str, values: Mapping[str, Any]) -> None:
        """Set values; a later source wins."""
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, origin))

    def origin_of(self, name: str) -> str:
        return self.origins.get(name, "not set")

    def problem(self, name: str, message: str) -> Problem:
        return Problem(name, self.origin_of(name), message)


def read(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Reading:
    """Return the values of all sources. `overrides` come last, for tests and the demo."""
    reading = Reading()
    _read_file(reading, DEFAULTS)
    if path := environ.get("RECOVERY_CONFIG"):
        _read_file(reading, Path(path))
    variables = [name for name in environ if name.startswith(PREFIX) and not OF_FLASK.fullmatch(name)]
    for variable in sorted(variables, key=lambda name: name.endswith(SECRET_FILE)):
        _read_variable(reading, variable, environ[variable])
    reading.put("given by the program", overrides)
    return reading


def _read_file(reading: Reading, path: Path) -> None:
    shown = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    try:
        reading.put(
            shown, tomllib.loads(path.read_text(encoding="utf-8-sig"))
        )  # a byte order mark is no harm
    except (OSError, ValueError, RecursionError) as error:
        reading.problems.append(Problem("RECOVERY_CONFIG", shown, f"can not read the file: {error}"))


def _read_variable(reading: Reading, variable: str, text: str) -> None:
    name, message = variable.removeprefix(PREFIX), "this is not UTF-8"
    try:
        text.encode()  # Python hands in bytes that are not UTF-8 as lone surrogates
        if variable.endswith(SECRET_FILE):
            name, message = name.removesuffix(SECRET_FILE), "can not read the file that this variable names"
            text = Path(text).read_text().rstrip("\r\n")
        reading.put(variable, {name: text})
    except (OSError, ValueError):  # no word of the path: somebody may have put the secret there
        reading.problems.append(Problem(name, variable, message))
