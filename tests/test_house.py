"""The house rules of docs and design, kept by tests: imports point one way, the core stays readable."""

from __future__ import annotations

import ast
import itertools
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app import settings

APP = ROOT / "app"

# A module imports only from its left; modules of one group may read in this order, too.
ORDER = """
    errors findings layers kinds contradictions settings words brand templating sessions urls db together migrations identities seals models clients blocklist breaches foreign hashing
    passwords headers audit logs tokens pauses outbox signals tally budget alerts health links handles askings intents forms counts limits codes letters objections other_mails
    stock_mails registration sign_in unified watch relay lease mail recovery openapi pages readings metrics purge worker security samples trees elements checks template_checks word_checks startup factory __init__
""".split()  # noqa: SIM905  # reads as a line

# Whoever wants to know how recovery works reads these.
CORE = ["identities", "forms", "recovery", "links", "outbox", "worker", "mail"]
CORE_LINES_MAX = 1000

NO_NAMES = {"utils", "helpers", "common", "manager", "handler", "service"}


def imports_of(path: Path) -> set[str]:
    """The modules of app that a module imports when it is loaded."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(name.split(".")[0] for name in names if name)
    return found


def modules() -> dict[str, Path]:
    here = {path.stem: path for path in APP.glob("*.py")}
    return {**here, "migrations": APP / "migrations" / "__init__.py"}


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_from_its_left(name: str) -> None:
    assert name in ORDER, f"{name} has no place in the order"
    allowed = set(ORDER[: ORDER.index(name)])
    assert imports_of(modules()[name]) <= allowed


def test_the_web_knows_the_outbox_and_never_mail() -> None:
    """Nobody who answers a request can talk SMTP: only the worker reaches mail.py."""
    for name in ("recovery", "pages", "forms", "clients", "security"):
        assert not {"mail", "relay", "worker"} & imports_of(APP / f"{name}.py")


def test_the_web_never_imports_the_admins_tools() -> None:
    for name, path in modules().items():
        assert "cli" not in imports_of(path), name
    for path in (APP / "cli").rglob("*.py"):
        assert not re.search(r"import .*create_app", path.read_text()), path


def test_the_core_path_can_be_read_in_one_sitting() -> None:
    lines = sum(len((APP / f"{name}.py").read_text().splitlines()) for name in CORE)
    assert lines < CORE_LINES_MAX


def test_no_function_is_long() -> None:
    for path in itertools.chain(APP.glob("*.py"), (APP / "cli").rglob("*.py"), [ROOT / "manage.py"]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno <= 40, f"{path.name}: {node.name}"


def test_modules_are_named_for_what_lives_there() -> None:
    assert not NO_NAMES & {path.stem for path in APP.rglob("*.py")}


def test_what_is_fixed_is_not_declared_as_a_setting() -> None:
    assert not settings.FIXED.keys() & settings.Settings.model_fields.keys()


def test_no_setting_is_named_like_the_file_that_may_hold_it() -> None:
    """FLASK_<NAME>_FILE names a file with the value of <NAME>."""
    assert not [name for name in settings.Settings.model_fields if name.endswith("_FILE")]


def test_what_is_needed_with_extras_is_pinned_with_them() -> None:
    """Or pip, as Python 3.11 brings it, looks for them in the newest release, which has no hash here."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        pinned = re.findall(r"^([\w.-]+)(?:\[(.*)])?==", (ROOT / name).read_text(), re.M)
        extras = {canonicalize_name(one): set(of.split(",")) - {""} for one, of in pinned}
        for one in extras:
            with suppress(PackageNotFoundError):  # of another system
                for needed in map(Requirement, requires(one) or []):
                    if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                        pinned_with = extras.get(canonicalize_name(needed.name), needed.extras)
                        assert needed.extras <= pinned_with, f"{name}: {one} needs {needed}"
