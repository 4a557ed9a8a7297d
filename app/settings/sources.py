"""Settings sources: every value with its origin. `settings/__init__.py` says what the values mean.

config/default.toml  <  the file in RECOVERY_CONFIG  <  FLASK_<NAME>  <  FLASK_<NAME>_FILE
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .problems import Problem

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ROOT / "config" / "default.toml"
DEFAULT_ORIGIN = "config/default.toml"  # as it is shown
TRANSLATIONS = ROOT / "app" / "web" / "translations"  # of ours: a file for each language
# FLASK_ variables that Flask reads itself.
OF_FLASK = re.compile(r"FLASK_(APP|DEBUG|ENV_FILE|SKIP_DOTENV|RUN_\w+)")
PREFIX, SECRET_FILE = "FLASK_", "_FILE"


@dataclass
class Values:
    """The values that the sources hold, with their origins, and the problems of reading them."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, origin: str, name: str, value: Any) -> None:
        """Set a value; a later source wins."""
        self.values[name], self.origins[name] = value, origin

    def origin_of(self, name: str) -> str:
        return self.origins.get(name, "not set")


def read(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Values:
    """Return the values of all sources. `overrides` come last, for tests and the demo."""
    found = Values()
    _read_file(found, DEFAULTS)
    if path := environ.get("RECOVERY_CONFIG"):
        _read_file(found, Path(path))
    variables = dict(_variables(environ))
    for variable in [name for name, text in variables.items() if not _is_text(text)]:
        found.problems.append(Problem(variable.removeprefix(PREFIX), variable, "this is not UTF-8"))
        del variables[variable]
    for variable, text in variables.items():
        if not variable.endswith(SECRET_FILE):
            found.put(variable, variable.removeprefix(PREFIX), text)
    for variable, path in variables.items():
        if variable.endswith(SECRET_FILE):
            _read_secret(found, variable, path)
    for name, value in overrides.items():
        found.put("given by the program", name, value)
    return found


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and not OF_FLASK.fullmatch(variable):
            yield variable, text


def _is_text(text: str) -> bool:
    """Python hands in bytes that are not UTF-8 as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_file(found: Values, path: Path) -> None:
    shown = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # a byte order mark is no harm
    except RecursionError:
        found.problems.append(Problem("RECOVERY_CONFIG", shown, "the file nests too deeply"))
        return
    except (OSError, ValueError) as error:
        found.problems.append(Problem("RECOVERY_CONFIG", shown, f"can not read the file: {error}"))
        return
    for name, value in content.items():
        found.put(shown, name, value)


def _read_secret(found: Values, variable: str, path: str) -> None:
    name = variable.removeprefix(PREFIX).removesuffix(SECRET_FILE)
    try:
        found.put(variable, name, Path(path).read_text().rstrip("\r\n"))
    except (OSError, UnicodeDecodeError):  # no word of the path: somebody may have put the secret there
        found.problems.append(Problem(name, variable, "can not read the file that this variable names"))
