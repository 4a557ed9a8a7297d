"""The house rules as functions over a root folder. Each returns one line per violation, with file and line."""

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

# A room imports only from itself and the rooms to its left; app/__init__.py stands above them all.
ROOMS = ("settings", "db", "web", "accounts", "mail", "recovery", "pages", "security", "cli")
INSIDE_APP = {f"{room}.py" if room == "security" else room for room in ROOMS} | {"__init__.py"}
NEVER_IMPORTED = ("tests", "bench", "examples")
LOADERS = ("import_module", "resolve_name", "import_string", "__import__")
MIGRATIONS = "app/db/migrations/"


def files(root: Path, *places: str) -> list[str]:
    """Return the Python files in these folders of the root, as paths relative to it."""
    paths = (path for place in places for path in (root / place).rglob("*.py"))
    return sorted(path.relative_to(root).as_posix() for path in paths)


def module_of(file: str) -> str:
    """Return the dotted name. The __init__.py of a package is the module `package`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(module: str) -> str:
    """Return the room of a module, "app" if it is in app/ and in no room, or its top-level package."""
    top, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return room if top == "app" and room in ROOMS else top


def is_module(root: Path, name: str) -> bool:
    """True if the root has a file for this dotted name."""
    place = root / name.replace(".", "/")
    return place.with_name(f"{place.name}.py").is_file() or (place / "__init__.py").is_file()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(root: Path, file: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of every import of a file: at module level, under TYPE_CHECKING,
    inside functions, as an argument of a loader, and as a string that names an existing module.
    """
    package = module_of(file) if file.endswith("/__init__.py") else module_of(file).rpartition(".")[0]
    for node in ast.walk(parse(root / file)):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            case ast.Call(func=ast.Name(id=loader) | ast.Attribute(attr=loader), args=[ast.Constant(str(name)), *_]):  # fmt: skip
                if loader in LOADERS:
                    yield node.lineno, importlib.util.resolve_name(name.replace(":", "."), package)
            case ast.Constant(str(text)) if re.fullmatch(r"\w+(\.\w+)+(:\w+)?", text):
                if is_module(root, text.partition(":")[0]):
                    yield node.lineno, text.replace(":", ".")


def misplaced_imports(root: Path) -> list[str]:
    """Find imports that point up, from the app to what is outside, or from the doctor into the app."""
    order = (*ROOMS, "app")
    violations = []
    for file in files(root, "app", "doctor"):
        room = room_of(module_of(file))
        for line, name in imports(root, file):
            target = room_of(name)
            is_upward = target in order and (room == "doctor" or order.index(target) > order.index(room))
            is_shared = room == "settings" and name.startswith("doctor.findings.")  # the types of findings
            is_diagnosis = target == "doctor" and room not in ("doctor", "cli") and not is_shared
            if is_upward or is_diagnosis or target in NEVER_IMPORTED:
                violations.append(f"{file}:{line} imports {name}: {room} must not import from {target}")
    return _unique(violations)


def imports_outside(root: Path, names: tuple[str, ...], *rooms: str) -> list[str]:
    """Find imports of these modules in rooms other than the ones named."""
    return _unique(
        f"{file}:{line} imports {name}: only {', '.join(rooms)} may"
        for file in files(root, "app")
        if room_of(module_of(file)) not in rooms
        for line, name in imports(root, file)
        if f"{name}.".startswith(tuple(f"{one}." for one in names))
    )


def import_cycles(root: Path) -> list[str]:
    """Find modules of app/ that import each other. `package.module` does not count as an import of `package`."""
    graph: dict[str, dict[str, str]] = {}  # importer -> imported -> where
    for file in files(root, "app"):
        edges = graph.setdefault(module_of(file), {})
        for line, name in imports(root, file):
            while "." in name and not is_module(root, name):
                name = name.rpartition(".")[0]
            if name.partition(".")[0] == "app" and name != module_of(file):
                edges.setdefault(name, f"{file}:{line} imports {name}")
    violations = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = list(pairwise(reversed(error.args[1])))
            places = [graph[importer][imported] for importer, imported in cycle]
            violations.append("a cycle: " + "; ".join(places))
            importer, imported = cycle[0]
            del graph[importer][imported]  # the next round finds another cycle
        else:
            return violations


def over_ceilings(root: Path, ceilings: Mapping[str, int]) -> list[str]:
    """Find totals and files over their ceilings."""
    counts = {file: len((root / file).read_text().splitlines()) for file in _counted(root, "app")}
    core = [count for file, count in counts.items() if room_of(module_of(file)) in ("mail", "recovery")]
    totals = {"app": sum(counts.values()), "core": sum(core)}
    long = {file: count for file, count in counts.items() if count > ceilings["file"]}
    return [
        *(
            f"{part}: {count} lines, ceiling {ceilings[part]}"
            for part, count in totals.items()
            if count > ceilings[part]
        ),
        *(f"{file}: {count} lines, ceiling {ceilings['file']}" for file, count in long.items()),
    ]


def long_functions(root: Path, ceiling: int) -> list[str]:
    """Find functions of app/, doctor/ and manage.py with more lines than the ceiling below their first."""
    return [
        f"{file}:{node.lineno} {node.name} has {node.end_lineno - node.lineno} lines, ceiling {ceiling}"
        for file in (*_counted(root, "app", "doctor"), "manage.py")
        for node in ast.walk(parse(root / file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno > ceiling
    ]


def misplaced_files(root: Path) -> list[str]:
    """Compare the folder app/ with the list of rooms."""
    present = {path.name for path in (root / "app").iterdir()} - {"__pycache__"}
    extra = [f"app/{name} belongs in a room" for name in sorted(present - INSIDE_APP)]
    return extra + [f"app/{name} is missing" for name in sorted(INSIDE_APP - present)]


def _counted(root: Path, *places: str) -> list[str]:
    return [file for file in files(root, *places) if not file.startswith(MIGRATIONS)]


def _unique(lines: Iterable[str]) -> list[str]:
    """Drop repetitions: the argument of a loader is also a string."""
    return list(dict.fromkeys(lines))
