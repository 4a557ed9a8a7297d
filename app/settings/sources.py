"""Settings sources: files and environment variables, each value with its origin.

config/default.toml  <  the file in RECOVERY_CONFIG  <  FLASK_<NAME>  <  FLASK_<NAME>_FILE
"""

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
DEFAULT_ORIGIN = "config/default.toml"
TRANSLATIONS = ROOT / "app" / "web" / "translations"  # one .po file for each language that is shipped
PREFIX, FILE_SUFFIX = "FLASK_", "_FILE"
READ_BY_FLASK = re.compile(r"FLASK_(APP|DEBUG|ENV_FILE|SKIP_DOTENV|RUN_\w+)")


@dataclass
class Reading:
    """The values of all sources with their origins, and every problem. Without one, the settings, too."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    settings: Settings | None = None
    readable: Settings | None = None  # also with values that do not go together

    def put(self, origin: str, values: Mapping[str, Any]) -> None:
        """Set values in place of those from earlier sources."""
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, origin))

    def origin_of(self, name: str) -> str:
        return self.origins.get(name, "not set")

    def problem(self, name: str, message: str) -> Problem:
        return Problem(name, self.origin_of(name), message)


def read(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Reading:
    """Return the values of all sources. The last is `overrides`, for tests and the demo."""
    reading = Reading()
    _read_file(reading, DEFAULTS)
    if path := environ.get("RECOVERY_CONFIG"):
        _read_file(reading, Path(path))
    variables = [name for name in environ if name.startswith(PREFIX) and not READ_BY_FLASK.fullmatch(name)]
    for variable in sorted(variables, key=lambda name: name.endswith(FILE_SUFFIX)):
        _read_variable(reading, variable, environ[variable])
    reading.put("given by the program", overrides)
    return reading


def _read_file(reading: Reading, path: Path) -> None:
    origin = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        reading.put(origin, tomllib.loads(text))
    except (OSError, ValueError, RecursionError) as error:
        reading.problems.append(Problem("RECOVERY_CONFIG", origin, f"cannot read the file: {error}"))


def _read_variable(reading: Reading, variable: str, text: str) -> None:
    name, message = variable.removeprefix(PREFIX), "this is not UTF-8"
    try:
        text.encode()  # fails because Python decodes bytes that are not UTF-8 to lone surrogates
        if variable.endswith(FILE_SUFFIX):
            name, message = name.removesuffix(FILE_SUFFIX), "cannot read the file that this variable names"
            text = Path(text).read_text().rstrip("\r\n")
        reading.put(variable, {name: text})
    except (OSError, ValueError):  # the message leaves the path out, because it may be the secret itself
        reading.problems.append(Problem(name, variable, message))
