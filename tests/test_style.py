"""The style of code and documents, as far as a program can hold it."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("doctor/**/*.py"), ROOT / "manage.py"])
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

FIRST_WORDS = {"What", "Whether", "Whoever", "Whatever", "Who"}  # never of a docstring
LOCALS = {"what", "which", "said", "found", "given", "ours", "mine", "kept", "told"}
WHAT_MAX, WHOEVER_MAX = 3.0, 0  # in 1,000 words of comments and docstrings; in all of them
# Left: in texts that an admin reads. Right: instead.
PHRASES = {
    r"\bcan not\b": "cannot",
    r"\b[Ww]hoever\b": "name the actor",
    r"\bcolour": "color",
    r"\bgoes without saying\b": "say it, or leave it out",
    r"\(seen\)": "history belongs to the commit message",
    r"\bas it comes\b": "by default",
    r"\b[Tt]ake over accounts\b": "import accounts",
}
# Left: in texts that users read, of pages, emails and errors. Right: instead.
WORDS = {
    r"\bmails?\b|\bmailbox": "email, email account",
    r"\b[Ss]omebody|\b[Aa]nybody|\b[Nn]obody|\b[Ee]verybody|\b[Ww]hoever": "someone, anyone, no one, everyone; or we",
    r"\b(is|are|was|were|do|does|did|has|have|can|will) ?not\b|\bcan not\b": "a contraction",
    r"\b[Tt]yped?\b": "enter",
    r"\bcancelled\b": "canceled",
    r"\b[Ww]ithdr[ae]wn?\b|\bobjection\b": "disable, report",
}
# The texts of pages and mails, which `make words` collects.
GETTEXT = {"_", "_l", "N_", "gettext", "lazy_gettext", "ngettext"}
DOCSTRING_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def request_errors() -> set[str]:
    """Return the names of errors whose message is on a page."""
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    errors = {"RequestError"}
    while more := {node.name for node in classes if errors & {*map(ast.unparse, node.bases)}} - errors:
        errors |= more
    return errors


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, DOCSTRING_OWNERS) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:")):
            yield token.start[0], token.string


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield string constants: messages, log lines, help. Neither docstrings nor texts that are translated."""
    documentation = {line for line, _ in docstrings(tree)}
    translated = {
        argument
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in GETTEXT
        for argument in ast.walk(call)
    }
    for node in set(ast.walk(tree)) - translated:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node.lineno not in documentation:
            yield node.lineno, node.value


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield arguments of functions, and names that a statement or a comprehension in one binds."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.arg):
                    yield node.lineno, node.arg
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.lineno, node.id


def phrases(text: str, refused: dict[str, str]) -> list[str]:
    return [
        f"{hit[0]!r}: {instead}" for phrase, instead in refused.items() if (hit := re.search(phrase, text))
    ]


def violations(source: str) -> list[str]:
    """Return what breaks a rule in a file of Python, with its line."""
    tree = ast.parse(source)
    found = [
        (line, f"docstring: {text}")
        for line, text in docstrings(tree)
        if re.split(r"\W", text)[0] in FIRST_WORDS
    ]
    found += [(line, f"local: {name}") for line, name in set(bound_names(tree)) if name in LOCALS]
    found += [(line, hit) for line, text in texts(tree) for hit in phrases(text, PHRASES)]
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]:
        is_untranslated = isinstance(call.args[0], ast.Constant | ast.JoinedStr)
        if is_untranslated and ast.unparse(call.func).rpartition(".")[2] in request_errors():
            found += [(call.lineno, "error without translation")]
    bound = set()
    for node in tree.body:
        targets = [*node.targets] if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        for name in (target.id for target in targets if isinstance(target, ast.Name)):
            found += [(node.lineno, f"bound again: {name}")] if name in bound else []
            bound.add(name)
    return [f"{line} {text}" for line, text in sorted(found)]


def test_sources_keep_the_style() -> None:
    broken = [f"{path.relative_to(ROOT)}:{one}" for path in SOURCES for one in violations(path.read_text())]
    assert broken == []


def test_a_violation_is_found_at_its_line() -> None:
    source = '''"""What it is."""
WAIT = 5
WAIT: int = 6
def f(kept):
    print("It can not", _("It can not"))
    raise InvalidRequest("Enter a name.")
    return [told for told in kept]'''
    assert violations(source) == [
        "1 docstring: What it is.",
        "3 bound again: WAIT",
        "4 local: kept",
        "5 'can not': cannot",
        "6 error without translation",
        "7 local: told",
    ]


def test_documents_avoid_forbidden_phrases() -> None:
    hits = {path.name: phrases(path.read_text(), PHRASES) for path in DOCUMENTS}
    assert {name: found for name, found in hits.items() if found} == {}


def test_texts_for_users_avoid_phrases_of_translations() -> None:
    with (ROOT / "app/web/translations/messages.pot").open("rb") as file:
        messages = [message.id for message in read_po(file)]
    for text in (text for id in messages for text in (id if isinstance(id, tuple) else (id,))):
        assert phrases(text, WORDS) == [], text


def test_prose_says_what_seldom_and_whoever_never() -> None:
    words: Counter[str] = Counter()
    for source in (path.read_text() for path in SOURCES):
        for _, text in (*docstrings(ast.parse(source)), *comments(source)):
            words.update(re.findall(r"[a-z']+", text.lower()))
    assert 1000 * words["what"] / words.total() <= WHAT_MAX
    assert words["whoever"] == WHOEVER_MAX
