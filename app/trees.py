"""What can be read in templates without rendering them: whether Jinja takes them, and what they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, TemplateNotFound, TemplateSyntaxError, meta, nodes

from . import templating
from .settings import Settings, current, declared

_GUARDS = ("default", "d", "defined", "undefined")  # who asks with these knows that it may not be there
_UNREADABLE = (TemplateSyntaxError, TemplateNotFound, UnicodeDecodeError, OSError)


@dataclass(frozen=True)
class Facts:
    """What one template is, and what it uses."""

    tree: nodes.Template
    used: frozenset[str] = frozenset()  # variables
    made: frozenset[str] = frozenset()
    needed: tuple[str, ...] = ()  # other templates


NOTHING = Facts(nodes.Template([]))


class Trees:
    """Templates as Jinja reads them, each of them once."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self._read: dict[str, Facts | str] = {}

    def problem(self, name: str) -> str | None:
        """Why Jinja does not take it; None when it does."""
        read = self._get(name)
        return read if isinstance(read, str) else None

    def reached(self, name: str, before: frozenset[str] = frozenset()) -> list[str]:
        """The template, and all that it needs, by way of others, too. What it can do without is left out."""
        found = [name]
        for other in self._facts(name).needed:
            if other not in before and other not in found:
                found += [one for one in self.reached(other, before | set(found)) if one not in found]
        return found

    def unknown_names(self, name: str, given: Iterable[str]) -> dict[str, str]:
        """Variables that nothing gives, in whatever branch, and the template that uses each."""
        facts = {reached: self._facts(reached) for reached in self.reached(name)}
        made = set(given).union(*(one.made for one in facts.values()))
        return {used: reached for reached, one in facts.items() for used in sorted(one.used - made)}

    def unknown_settings(self, name: str) -> list[str]:
        """What it takes for settings and is none."""
        reads = self._facts(name).tree.find_all(nodes.Getattr)
        asked = {
            node.attr for node in reads if isinstance(node.node, nodes.Name) and node.node.name == "settings"
        }
        return sorted(asked - {*declared(), *dir(Settings)})

    def unused_blocks(self, name: str) -> tuple[list[str], list[str]]:
        """Blocks that it fills and what it extends does not have; and those that there are."""
        tree = self._facts(name).tree
        if not any(tree.find_all(nodes.Extends)):
            return [], []
        filled = [node.name for node in tree.body if isinstance(node, nodes.Block)]
        others = [self._facts(other).tree for other in self.reached(name) if other != name]
        known = {node.name for other in others for node in other.find_all(nodes.Block)}
        return [block for block in filled if block not in known], sorted(known)

    def path(self, name: str) -> str:
        """The file behind a name, for people."""
        own = Path(current().RECOVERY_TEMPLATE_DIR or ".", name)
        if current().RECOVERY_TEMPLATE_DIR and own.exists():
            return str(own)
        return name if self._is_missing(name) else short(self._source(name)[1] or name)

    def _facts(self, name: str) -> Facts:
        """Of one that Jinja does not take: nothing."""
        read = self._get(name)
        return read if isinstance(read, Facts) else NOTHING

    def _get(self, name: str) -> Facts | str:
        if name not in self._read:
            try:
                self.env.get_template(name)  # finds unknown filters, too
                source, file, _ = self._source(name)
                self._read[name] = self._facts_of(self.env.parse(source, name, file))
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

    def _facts_of(self, tree: nodes.Template) -> Facts:
        used = frozenset(meta.find_undeclared_variables(tree))
        return Facts(tree, used, frozenset(_made_in(tree)), tuple(self._needed(tree)))

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
    """Ours without what stands before."""
    return path.removeprefix(f"{templating.SHIPPED.parent}/")


def _made_in(tree: nodes.Template) -> set[str]:
    """What a template sets or imports itself, for its blocks and parents, and what it can do without."""
    names = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    for node in tree.find_all(nodes.FromImport):
        names |= {name if isinstance(name, str) else name[1] for name in node.names}
    for guard in tree.find_all((nodes.Filter, nodes.Test)):
        if guard.name in _GUARDS and isinstance(guard.node, nodes.Name):
            names.add(guard.node.name)
    return names | {node.target for node in tree.find_all(nodes.Import)}


def _in_words(error: Exception) -> str:
    if isinstance(error, TemplateNotFound):
        return f"There is no {error.name}, which it needs."
    if isinstance(error, TemplateSyntaxError):
        return f"Line {error.lineno}: {error.message}"
    if isinstance(error, UnicodeDecodeError):
        return "The file is not UTF-8."
    return f"The file can not be read: {getattr(error, 'strerror', None) or error}"
