"""The style of code and documents, as far as a program can hold it. Run it as a script for the figures."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("doctor/**/*.py"), ROOT / "manage.py"])
TEMPLATES = (ROOT / "templates", ROOT / "examples/demo/templates")
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
# Left: in texts that users read, of pages, emails and errors. Right: instead. Templates hold some of the words
# in names, too, so they are searched for the sentences only.
SENTENCES = {
    r"It happens\.|Tell us who you are": "name the field and the action",
    r"what you typed|[Ww]ith the button|To the content|[Ss]ay this number|[Gg]o on\b": "what you entered, this, skip, quote, continue",
    r"on its way": "we've emailed",
    r"works once, within": "expires in … and works once",
    r"Nothing there\?|[Ll]ook into": "didn't get it? check",
    r"\b[Aa]sk for a": "request",
    r"\bpassword again\b$": "confirm new password",
    r"[Ll]ook at this|must be another one|in a row do well|no keyboard|first passwords": "say what to do",
    r"\b(password|address) is changed|works? no longer": "has been changed, no longer works",
    r"You did not|[Tt]here is nothing to do|That was you|all is well|It was not me": "didn't request this? you can ignore",
    r"soon too old|none of your": "expire quickly, isn't one of your",
}
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


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, DOCSTRING_OWNERS) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:")):
            yield token.start[0], token.string


def bound_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    """Yield arguments, and names that a statement or a comprehension binds."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        yield argument.lineno, argument.arg
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


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
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.lineno not in documentation
        ):
            yield node.lineno, node.value


def texts_for_users() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every text of the catalogs, and every template without its comments, with what is refused there."""
    with (ROOT / "app/web/translations/messages.pot").open("rb") as file:
        for message in read_po(file):
            for text in message.id if isinstance(message.id, tuple) else (message.id,):
                yield text, SENTENCES | WORDS
    for path in (path for folder in TEMPLATES for path in sorted(folder.rglob("*.*"))):
        yield re.sub(r"{#.*?#}", "", path.read_text(), flags=re.DOTALL), SENTENCES


def figures() -> tuple[float, int, int]:
    """Return "what" in 1,000 words of comments and docstrings, "whoever" in all, and how many words."""
    words: Counter[str] = Counter()
    for path in SOURCES:
        for _, text in (*docstrings(ast.parse(path.read_text())), *comments(path)):
            words.update(re.findall(r"[a-z']+", text.lower()))
    return 1000 * words["what"] / words.total(), words["whoever"], words.total()


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.fixture(scope="module", params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request: pytest.FixtureRequest) -> tuple[Path, ast.Module]:
    path: Path = request.param
    return path, ast.parse(path.read_text())


def test_docstrings_begin_with_the_name_of_the_thing(source: tuple[Path, ast.Module]) -> None:
    path, tree = source
    assert [
        at(path, line) for line, text in docstrings(tree) if re.split(r"\W", text)[0] in FIRST_WORDS
    ] == []


def test_locals_are_named_for_what_they_hold(source: tuple[Path, ast.Module]) -> None:
    path, tree = source
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    vague = {at(path, line) for node in functions for line, name in bound_names(node) if name in LOCALS}
    assert sorted(vague) == []


def test_module_constants_are_bound_once(source: tuple[Path, ast.Module]) -> None:
    path, tree = source
    targets = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert [name for name, count in Counter(targets).items() if count > 1] == [], path


def test_messages_avoid_forbidden_phrases(source: tuple[Path, ast.Module]) -> None:
    path, tree = source
    assert [
        f"{at(path, line)}: {instead}"
        for line, text in texts(tree)
        for phrase, instead in PHRASES.items()
        if re.search(phrase, text)
    ] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_avoid_forbidden_phrases(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), start=1)
    assert [
        f"{at(path, number)}: {instead}"
        for number, line in lines
        for phrase, instead in PHRASES.items()
        if re.search(phrase, line)
    ] == []


def test_texts_for_users_avoid_phrases_of_translations() -> None:
    assert [
        f"{hit[0]!r} in {text[:60]!r}: {instead}"
        for text, refused in texts_for_users()
        for phrase, instead in refused.items()
        if (hit := re.search(phrase, text))
    ] == []


def test_prose_says_what_seldom_and_whoever_never() -> None:
    what, whoever, _ = figures()
    assert what <= WHAT_MAX
    assert whoever == WHOEVER_MAX


if __name__ == "__main__":
    what, whoever, total = figures()
    print(
        f'"what": {what:.1f} in 1,000 words; "whoever": {whoever}; {total:,} words of comments and docstrings'
    )
