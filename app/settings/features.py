"""Features that a setting turns on. `features.toml` has the facts about each."""

import tomllib
from pathlib import Path
from typing import Any

FEATURES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def by_feature(fact: str) -> dict[str, Any]:
    """Return a fact about each feature that has it."""
    return {name: facts[fact] for name, facts in FEATURES.items() if fact in facts}
