"""Queries on templates that need no rendering: does Jinja accept them, and what do they use?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, TemplateNotFound, TemplateSyntaxError, meta, nodes

from ..settings import current
from ..settings.schema import Settings, declared
from ..web import templates
from .html_elements import Element, elements_of_template

MACROS = "security/_macros.html"  # writes only the fields that a page hands to it
# What a page reads of a form, and no browser has to send.
OPTIONAL = {"errors", "generate_new_codes", "phone", "remember", "submit", "usage", "user", "username"}
CSRF_TOKEN = {"csrf_token", "hidden_tag", "render_csrf"}  # each writes it
_GUARDS = ("default", "d", "defined", "undefined")  # a variable that these look at may be missing
_UNREADABLE = (TemplateSyntaxError, TemplateNotFound, UnicodeDecodeError, OSError)


@dataclass(frozen=True)
class Facts:
    """One template, and what it uses."""

    tree: nodes.Template
    source: str = ""
    used: frozenset[str] = frozenset()  # variables
    made: frozenset[str] = frozenset()  # set or imported, for its blocks and parents, too
    guarded: frozenset[str] = frozenset()
    needed: tuple[str, ...] = ()  # other templates


class Trees:
    """Parsed templates, each parsed once."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self._read: dict[str, Facts | str] = {}

    def problem(self, name: str) -> str | None:
        """Return why Jinja refuses a template; None when it does not."""
        read = self._get(name)
        return read if isinstance(read, str) else None

    def reached(self, name: str, before: frozenset[str] = frozenset()) -> list[str]:
        """Return the template and all that it needs, directly or not, without what it can do without."""
        found = [name]
        for other in self._facts(name).needed:
            if other not in before and other not in found:
                found += [one for one in self.reached(other, before | set(found)) if one not in found]
        return found

    def needs_itself(self, name: str) -> bool:
        return any(name in self._facts(reached).needed for reached in self.reached(name))

    def names(self, name: str) -> set[str]:
        """Return the variables that a template and all that it needs take from the context."""
        facts = [self._facts(reached) for reached in self.reached(name)]
        return {used for one in facts for used in one.used}.difference(*(one.made for one in facts))

    def unknown_names(self, name: str, given: Iterable[str]) -> dict[str, str]:
        """Return variables that nothing gives, in whatever branch, and the template that uses each."""
        facts = {reached: self._facts(reached) for reached in self.reached(name)}
        known = set(given).union(*(one.made | one.guarded for one in facts.values()))
        return {used: reached for reached, one in facts.items() for used in sorted(one.used - known)}

    def unknown_settings(self, name: str) -> list[str]:
        """Return attributes of `settings` that are no settings."""
        asked = {attribute for owner, attribute in _reads(self._facts(name).tree) if owner == "settings"}
        return sorted(asked - {*declared(), *dir(Settings)})

    def unused_blocks(self, name: str) -> tuple[list[str], list[str]]:
        """Return the blocks that it fills and its parents lack; and those that they have."""
        tree = self._facts(name).tree
        if not any(tree.find_all(nodes.Extends)):
            return [], []
        filled = [node.name for node in tree.body if isinstance(node, nodes.Block)]
        others = [self._facts(other).tree for other in self.reached(name) if other != name]
        known = {node.name for other in others for node in other.find_all(nodes.Block)}
        return [block for block in filled if block not in known], sorted(known)

    def fields_needed(self, name: str, variables: set[str]) -> set[str]:
        """Return the fields of a shipped page: those read of a form, and inputs named for a variable."""
        read = {field for owner, field in _reads(self._facts(name).tree) if owner.endswith("_form")}
        inputs = {one.attributes.get("name", "") for one in self.elements(name) if one.tag == "input"}
        needed = read - OPTIONAL | inputs & variables
        return {"csrf_token", *needed} - {"hidden_tag"} if needed else needed

    def fields_missing(self, name: str, needed: set[str]) -> list[str]:
        """Return the fields that a page never mentions, whatever its form is called there."""
        content = [block for block in self._facts(name).tree.find_all(nodes.Block) if block.name == "content"]
        replaces = any("super" not in {node.name for node in one.find_all(nodes.Name)} for one in content)
        written: set[str] = set()
        for reached in self.reached(name):
            if reached.endswith(MACROS) or (replaces and reached.startswith("shipped/")):
                continue
            facts = self._facts(reached)
            if any(
                getattr(loop.iter, "name", "").endswith("form") for loop in facts.tree.find_all(nodes.For)
            ):
                return []  # it writes all that there are
            written |= {field for owner, field in _reads(facts.tree) if owner != "current_user"}
            written |= {one.attributes.get("name", "") for one in self.elements(reached)}
            written |= (facts.used | facts.made) & CSRF_TOKEN
        written |= {"csrf_token"} if written & CSRF_TOKEN else set()
        written |= {"email"} if "identity" in written else set()  # its name in HTML
        return sorted(needed - written)

    def elements(self, name: str) -> list[Element]:
        return elements_of_template(self._facts(name).source)

    def path(self, name: str) -> str:
        """Return the file behind a name, for people."""
        own = Path(current().RECOVERY_TEMPLATE_DIR or ".", name)
        if current().RECOVERY_TEMPLATE_DIR and own.exists():
            return str(own)
        return name if self._is_missing(name) else short(self._source(name)[1] or name)

    def _facts(self, name: str) -> Facts:
        """Return nothing of a template that Jinja refuses."""
        read = self._get(name)
        return read if isinstance(read, Facts) else Facts(nodes.Template([]))

    def _get(self, name: str) -> Facts | str:
        if name not in self._read:
            try:
                self.env.get_template(name)  # finds unknown filters, too
                self._read[name] = self._facts_of(*self._source(name)[:2], name)
            except _UNREADABLE as error:
                self._read[name] = _in_words(error)
        return self._read[name]

    def _source(self, name: str) -> tuple[str, str | None, object]:
        assert self.env.loader is not None
        return self.env.loader.get_source(self.env, name)

    def _is_missing(self, name: str) -> bool:
        try:
            self._source(name)
        except TemplateNotFound:
            return True
        except (UnicodeDecodeError, OSError):
            pass
        return False

    def _facts_of(self, source: str, file: str | None, name: str) -> Facts:
        tree = self.env.parse(source, name, file)
        guards = (one for one in tree.find_all((nodes.Filter, nodes.Test)) if one.name in _GUARDS)
        return Facts(
            tree,
            source,
            frozenset(meta.find_undeclared_variables(tree)),
            frozenset(_made_in(tree)),
            frozenset(one.node.name for one in guards if isinstance(one.node, nodes.Name)),
            tuple(self._needed(tree)),
        )

    def _needed(self, tree: nodes.Template) -> Iterator[str]:
        optional = {
            found
            for node in tree.find_all(nodes.Include)
            if node.ignore_missing or isinstance(node.template, (nodes.List, nodes.Tuple))
            for found in meta.find_referenced_templates(nodes.Template([node]))
        }
        for found in meta.find_referenced_templates(tree):
            if found and (found not in optional or not self._is_missing(found)):
                yield found


def short(path: str) -> str:
    """Return the path of a shipped file as the repository has it."""
    return path.removeprefix(f"{templates.SHIPPED.parent}/")


def _made_in(tree: nodes.Template) -> set[str]:
    names = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    for node in tree.find_all(nodes.FromImport):
        names |= {name if isinstance(name, str) else name[1] for name in node.names}
    return names | {node.target for node in tree.find_all(nodes.Import)}


def _reads(tree: nodes.Node) -> Iterator[tuple[str, str]]:
    """Yield attributes and keys that are read, each after the variable it is read of, if it is of one."""
    for read in tree.find_all(nodes.Getattr):
        yield getattr(read.node, "name", ""), read.attr
    for read_by_key in tree.find_all(nodes.Getitem):
        yield getattr(read_by_key.node, "name", ""), str(getattr(read_by_key.arg, "value", ""))


def _in_words(error: Exception) -> str:
    if isinstance(error, TemplateNotFound):
        return f"There is no {error.name}, which it needs."
    if isinstance(error, TemplateSyntaxError):
        return f"Line {error.lineno}: {error.message}"
    if isinstance(error, UnicodeDecodeError):
        return "The file is not UTF-8."
    return f"The file can not be read: {getattr(error, 'strerror', None) or error}"
