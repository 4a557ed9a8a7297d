"""The house: which way imports point, how long files and functions may grow, where files live.

The rules are functions in house.py. The first tests hold this tree to them; the last ones plant violations
in a made-up tree and read the messages.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import house
from support.site import ROOT

from app.settings.forced import FORCED
from app.settings.schema import Settings

# Maximum lines. They fall with each step of the redesign, and each later issue raises them by its allowance.
CEILINGS = {
    "app": 12_725,  # all Python of app/ without migrations; the redesign ends at 8,000
    "core": 3_229,  # mail/ and recovery/, read by a stranger in an hour; the redesign ends at 1,800
    "file": 200,  # a file of app/ without migrations
    "function": 40,  # below its first line; of app/, doctor/ and manage.py
}

SMTP = ("smtplib", "flask_mailman", "app.mail.smtp", "app.mail.worker")
VAGUE_NAMES = {"utils", "helpers", "common", "manager", "handler", "service"}


@pytest.mark.parametrize(
    ("rule", "limits"),
    [
        (house.misplaced_imports, ()),  # a room imports only from its left
        (house.import_cycles, ()),
        (house.over_ceilings, (CEILINGS,)),
        (house.long_functions, (CEILINGS["function"],)),
        (house.misplaced_files, ()),
        (house.imports_outside, (SMTP, "mail", "cli")),  # no request can wait for a mail server
        (house.imports_outside, (("app.cli",), "cli")),  # the web never imports the admin's tools
    ],
)
def test_house_keeps_its_rules(rule: Callable[..., list[str]], limits: tuple[Any, ...]) -> None:
    assert rule(ROOT, *limits) == []


def test_smtp_is_where_the_rule_says() -> None:
    assert [name for name in SMTP if name.startswith("app.") and not house.is_module(ROOT, name)] == []


def test_modules_are_named_for_their_content() -> None:
    names = {name for file in house.files(ROOT, "app", "doctor") for name in house.module_of(file).split(".")}
    assert not names & VAGUE_NAMES


def test_the_map_in_the_readme_names_each_module_of_the_rooms() -> None:
    """The commands are named as their files."""
    lines = (ROOT / "README.md").read_text().partition("## The map")[2].split("```")[1]
    rooms = re.findall(r"^(app/(?!cli)\w+)/ +(.*?)(?=^\S|\Z)", lines, re.M | re.S)
    for room, text in rooms:
        named = set(re.findall(r"\w+/?", re.sub(r"\([^)]*\)", "", text))) - {"and", "with"}
        entries = [
            path for path in (ROOT / room).iterdir() if path.suffix == ".py" or f"{path.name}/" in named
        ]
        assert named == {path.stem + "/" * path.is_dir() for path in entries} - {"__init__"}, room
    assert len(rooms) == 7


def test_no_fixed_value_is_declared_as_a_setting() -> None:
    assert not FORCED.keys() & Settings.model_fields.keys()


def test_no_setting_is_named_like_the_file_that_may_hold_it() -> None:
    """FLASK_<NAME>_FILE names a file with the value of <NAME>."""
    assert not [name for name in Settings.model_fields if name.endswith("_FILE")]


def test_requirements_with_extras_are_pinned_with_them() -> None:
    """Python 3.11's pip would look for the extras in the newest release, which has no hash here."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        pinned = re.findall(r"^([\w.-]+)(?:\[(.*)])?==", (ROOT / name).read_text(), re.M)
        extras = {canonicalize_name(package): set(listed.split(",")) - {""} for package, listed in pinned}
        for package in extras:
            with suppress(PackageNotFoundError):  # for another operating system
                for needed in map(Requirement, requires(package) or []):
                    if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                        pinned_with = extras.get(canonicalize_name(needed.name), needed.extras)
                        assert needed.extras <= pinned_with, f"{name}: {package} needs {needed}"


# --- Planted violations ---

CLEAN = {
    "app/__init__.py": "from .security import x\n\ndef create_app():\n    from . import cli",
    "app/security.py": "from .pages import views\nfrom . import mail",
    "app/settings/__init__.py": "from . import schema; from doctor.findings import Finding",
    "app/settings/schema.py": "",
    "app/db/__init__.py": "from .. import settings\nimport app.settings.schema",
    "app/db/migrations/0001.py": "\n" * 50,
    "app/web/__init__.py": "",
    "app/accounts/__init__.py": "from app.db import migrations",
    "app/mail/__init__.py": "BACKEND = 'app.mail.smtp'\nNO_MODULE = 'app.cli.gone'",
    "app/mail/smtp.py": "import smtplib\nfrom ..settings.schema import y",
    "app/recovery/__init__.py": "",
    "app/pages/__init__.py": "",
    "app/cli/__init__.py": "import doctor\nfrom ..mail import smtp\nCOMMANDS = ['app.cli.users:users']",
    "app/cli/users.py": "",
    "doctor/__init__.py": "",
    "manage.py": "",
}
SMALL = {"app": 30, "core": 10, "file": 8, "function": 40}


def violations(root: Path, changes: dict[str, str]) -> list[str]:
    """Write the clean tree with these files changed or added, and return what breaks a rule."""
    for file, text in (CLEAN | changes).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    return [
        *house.misplaced_imports(root),
        *house.import_cycles(root),
        *house.over_ceilings(root, SMALL),
        *house.long_functions(root, SMALL["function"]),
        *house.misplaced_files(root),
        *house.imports_outside(root, SMTP, "mail", "cli"),
    ]


def test_a_clean_tree_breaks_no_rule(tmp_path: Path) -> None:
    assert violations(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("file", "text", "violation"),
    [
        ("app/db/x.py", "from .. import web", "1 imports app.web: db must not import from web"),
        ("app/db/x.py", "\nfrom .. import create_app", "2 imports app.create_app: db must not import from app"),
        ("app/mail/x.py", "def f():\n    from ..recovery import y", "2 imports app.recovery.y: mail must not import from recovery"),
        ("app/mail/x.py", "if TYPE_CHECKING:\n    import app.pages", "2 imports app.pages: mail must not import from pages"),
        ("app/web/x.py", "import_module('..cli', __package__)", "1 imports app.cli: web must not import from cli"),
        ("app/web/x.py", "USERS = 'app.cli.users:users'", "1 imports app.cli.users.users: web must not import from cli"),
        ("app/settings/x.py", "from doctor import wire", "1 imports doctor.wire: settings must not import from doctor"),
        ("app/cli/users.py", "from tests import house", "1 imports tests.house: cli must not import from tests"),
        ("doctor/wire.py", "from app.settings import current", "1 imports app.settings.current: doctor must not import from settings"),
        ("app/pages/x.py", "\nfrom ..mail.smtp import send", "2 imports app.mail.smtp.send: only mail, cli may"),
        ("manage.py", "class C:\n    async def f(self):" + "\n        pass" * 41, "2 f has 41 lines, ceiling 40"),
    ],
)  # fmt: skip
def test_a_violation_is_found_at_its_line(tmp_path: Path, file: str, text: str, violation: str) -> None:
    assert violations(tmp_path, {file: text}) == [f"{file}:{violation}"]


def test_every_cycle_is_found(tmp_path: Path) -> None:
    pair = {"app/db/a.py": "from .b import x", "app/db/b.py": "def f():\n    from . import a"}
    three = {"app/web/__init__.py": "from .a import x", "app/web/a.py": "import app.web.b"}
    three["app/web/b.py"] = "if TYPE_CHECKING:\n    from . import name_in_the_package"
    first, second = sorted(violations(tmp_path, pair | three))
    assert "app/db/a.py:1 imports app.db.b" in first
    assert "app/db/b.py:2 imports app.db.a" in first
    assert "app/web/__init__.py:1 imports app.web.a" in second
    assert "app/web/a.py:1 imports app.web.b" in second
    assert "app/web/b.py:2 imports app.web" in second


def test_totals_and_files_are_counted(tmp_path: Path) -> None:
    long = {"app/mail/smtp.py": "\n" * 12, "app/web/x.py": "\n" * 8, "app/extra.py": "\n" * 9}
    assert violations(tmp_path, long) == [
        "app: 44 lines, ceiling 30",
        "core: 14 lines, ceiling 10",
        "app/extra.py: 9 lines, ceiling 8",
        "app/mail/smtp.py: 12 lines, ceiling 8",
        "app/extra.py belongs in a room",
    ]
