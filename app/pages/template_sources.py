"""Template sources, parsed with Jinja: their references, variables and form fields."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flask import current_app
from jinja2 import BaseLoader, TemplateNotFound, TemplateSyntaxError, meta, nodes

MACROS = "security/_macros.html"  # renders only the fields that a page passes to it
# Attributes of a form that a page may read, but that a browser need not send.
OPTIONAL_FIELDS = {"errors", "generate_new_codes", "hidden_tag", "phone", "remember", "submit", "usage"}
OPTIONAL_FIELDS |= {"user", "username"}
GUARDS = ("default", "d", "defined", "undefined")  # filters and tests of a variable that may be missing
# The names that render a field, if there are others than its own. `identity` is the HTML name of `email`.
FIELD_ALIASES = {"csrf_token": {"csrf_token", "hidden_tag", "render_csrf"}, "email": {"email", "identity"}}
_FIELD = re.compile(r'\w+_form\.(\w+)|name="(\w+)" value="{{ \w+ }}"')
_MENTION = re.compile(
    r"""(?<!current_user)\.(\w+)|\bname=["']?(\w+)|\[["'](\w+)["']\]|(csrf_token|render_csrf)"""
)
_LOOP_OVER_FORM = re.compile(r"{%-?\s*for\s+\w+\s+in\s+\w*form\s")


@dataclass(frozen=True)
class Template:
    """A template's source and its syntax tree."""

    name: str
    text: str
    tree: nodes.Template

    def names(self) -> set[str]:
        """Return the variables that it sets or uses."""
        return {node.name for node in self.tree.find_all(nodes.Name)}

    def undeclared(self) -> set[str]:
        """Return the variables that it needs from its context, in any branch."""
        assigned = {node.name for node in self.tree.find_all(nodes.Name) if node.ctx != "load"}
        assigned |= {node.target for node in self.tree.find_all(nodes.Import)}
        for node in self.tree.find_all(nodes.FromImport):
            assigned |= {name if isinstance(name, str) else name[1] for name in node.names}
        guards = self.tree.find_all((nodes.Filter, nodes.Test))
        optional = {getattr(guard.node, "name", "") for guard in guards if guard.name in GUARDS}
        return meta.find_undeclared_variables(self.tree) - assigned - optional

    def settings(self) -> set[str]:
        """Return each NAME of `settings.NAME`."""
        reads = self.tree.find_all(nodes.Getattr)
        return {read.attr for read in reads if getattr(read.node, "name", "") == "settings"}

    def blocks(self) -> set[str]:
        """Return the blocks that it defines or replaces."""
        return {block.name for block in self.tree.find_all(nodes.Block)}

    def unrendered_blocks(self, known: set[str]) -> set[str]:
        """Return the blocks that are lost, if it extends a template with the known ones."""
        blocks, reads = self.tree.find_all(nodes.Block), self.tree.find_all(nodes.Getattr)
        inner = {inner.name for block in blocks for inner in block.find_all(nodes.Block)}
        return (
            self.blocks()
            - known
            - inner
            - {read.attr for read in reads if getattr(read.node, "name", "") == "self"}
        )

    def parents(self) -> list[nodes.Expr]:
        """Return what it always extends: names, or expressions that only rendering evaluates."""
        return [node.template for node in self.tree.body if isinstance(node, nodes.Extends)]

    def fields(self) -> set[str]:
        """Return the fields that the form of a shipped page sends."""
        fields = {field or hidden for field, hidden in _FIELD.findall(self.text)}
        return fields - OPTIONAL_FIELDS | {"csrf_token"} if fields else fields


def parse(name: str, loader: BaseLoader | None = None) -> Template:
    """Read and parse a template. Raises TemplateError, OSError or UnicodeDecodeError."""
    env = current_app.jinja_env
    loader = loader or env.loader
    assert loader is not None
    text, file, _ = loader.get_source(env, name)
    tree = env.parse(text, name, file)
    env.compile(tree, name, file)  # raises for an unknown filter, which parsing accepts
    return Template(name, text, tree)


def parse_with_references(name: str) -> list[Template]:
    """Return a template, followed by all that it extends, includes or imports. Raises as parse()."""
    templates = [parse(name)]
    for template in templates:  # the list grows
        for other in _references(template):
            if other == name:
                message = f"It extends or includes itself. The shipped template is shipped/{name}."
                raise TemplateSyntaxError(message, 1, name)
            if all(other != known.name for known in templates):
                templates.append(parse(other))
    return templates


def _references(template: Template) -> Iterator[str]:
    """Yield the names of other templates; of alternatives, the first that exists."""
    for node in template.tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        choices = [name for name in meta.find_referenced_templates(nodes.Template([node])) if name]
        try:
            if choices:
                yield current_app.jinja_env.select_template(choices).name or ""
        except TemplateNotFound:
            if not getattr(node, "ignore_missing", False):
                raise


def missing_fields(fields: set[str], page: Template, *references: Template) -> list[str]:
    """Return the fields that a page and its references never mention, under any name of the form."""
    replaces_content = "block content" in page.text and "super()" not in page.text
    text = page.text + "".join(
        other.text
        for other in references
        if not other.name.endswith(MACROS) and not (replaces_content and other.name.startswith("shipped/"))
    )
    if _LOOP_OVER_FORM.search(text):
        return []  # the loop renders every field
    mentioned = {word for words in _MENTION.findall(text) for word in words}
    return sorted(field for field in fields if mentioned.isdisjoint(FIELD_ALIASES.get(field, {field})))
