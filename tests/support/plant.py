"""`make plant`: plants each defect of defects.toml in a copy of the source tree, and runs the tests that should catch it.

A word of ONLY= selects the defects of a requirement (R13), of a room (recovery), or those whose name contains it. Exits
with 1 if one is not caught, or cannot be planted because its `old` text does not occur once.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("defects.toml")
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "node_modules", "instance", ".*_cache")
PYTEST = ("-m", "pytest", "-x", "-q", "--no-cov", "-p", "no:cacheprovider", "-rf")


class NotPlanted(Exception):
    """A defect that cannot be planted, or whose tests cannot run."""


@dataclass(frozen=True)
class Defect:
    """A row of the table. `tests` are named as in docs/security.md."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    proves: str = ""  # ids of requirements

    @property
    def requirements(self) -> list[str]:
        return self.proves.split()

    @property
    def room(self) -> str:
        """The package of the file, or of the first test, if the file is a template."""
        top, below, *_ = Path(self.file).parts
        return {"app": below, "doctor": top}.get(top, self.tests[0].partition("/")[0])

    @contextmanager
    def planted(self, tree: Path) -> Iterator[None]:
        """Change the file in the tree, and restore it. Raises NotPlanted."""
        path = tree / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (count := text.count(self.old)) != 1:
            raise NotPlanted(f"its old text occurs {count} times in {self.file}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")


def first_failure(tree: Path, tests: list[str]) -> str | None:
    """Run tests, and return the name of the first that fails. Raises NotPlanted if they cannot run."""
    paths = [f"tests/{name.replace('::', '.py::')}" for name in tests]
    command = [sys.executable, *PYTEST, *paths]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if failed := re.search(r"^FAILED tests/(.+)\.py(::\w+)", done.stdout, re.MULTILINE):
        return failed[1] + failed[2]
    if done.returncode != 0:
        raise NotPlanted(f"the tests do not run:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return None


def defects() -> list[Defect]:
    return [Defect(name, **row) for name, row in tomllib.loads(TABLE.read_text(encoding="utf-8")).items()]


def selected(words: list[str]) -> list[Defect]:
    """Return the defects of these rooms and requirements, and those whose name has one of the other words."""
    everything = {one.name: (one, {one.room, *one.requirements}) for one in defects()}
    others = set(words).difference(*(groups for _, groups in everything.values()))
    chosen = [one for one, groups in everything.values() if groups & set(words) or any(word in one.name for word in others)]  # fmt: skip
    return chosen if words else defects()


def main(words: list[str]) -> int:
    os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # compile each file once
    planned, caught = selected(words), []
    with tempfile.TemporaryDirectory(prefix="sparekey-plant-") as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        if failure := first_failure(tree, sorted({name for defect in planned for name in defect.tests})):
            print(f"{failure} fails without a defect, so it would prove nothing")
            return 1
        for defect in planned:
            try:
                with defect.planted(tree):
                    test = first_failure(tree, defect.tests)
                outcome = f"caught by {test}" if test else f"NOT CAUGHT by {', '.join(defect.tests)}"
            except NotPlanted as reason:
                test, outcome = None, f"NOT PLANTED: {reason}"
            if test:
                caught.append(defect)
            print(f"{defect.room:<9} {defect.proves or '-':<8} {defect.name}: {outcome}", flush=True)
    broken = {requirement for defect in caught for requirement in defect.requirements}
    print(f"{len(caught)} of {len(planned)} defects caught; they break {len(broken)} requirements")
    return 0 if caught == planned else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
