"""Findings of configuration checks, in the doctor's types. `findings.toml` has their texts."""

from pathlib import Path

from doctor.findings import Finding, Kind, load

__all__ = ["KINDS", "Finding", "Kind"]
KINDS = load(Path(__file__).with_suffix(".toml"))
