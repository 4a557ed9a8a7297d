"""Template sources, parsed with Jinja: what they need, the variables they use, the fields they send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flask import current_app
from jinja2 import BaseLoader, TemplateNotFound, TemplateSyntaxError, meta, nodes

MACROS = "security/_macros.html"  # writes only the fields that a page hands to it
# A page may read these of a form, and no browser has to send them.
OPTIONAL_FIELDS = {"errors", "generate_new_codes", "hidden_tag", "phone", "remember", "submit", "usage"}
OPTIONAL_FIELDS |= {"user", "username"}
GUARDS = ("default", "d", "defined", "undefined")  # a variable that one of these looks at may be missing
# The words that write a field, where its name is not the only one. The HTML name of `email` is `identity`.
WRITTEN_BY = {"csrf_token": {"csrf_token", "hidden_tag", "render_csrf"}, "email": {"email", "identity"}}
_FIELD = re.compile(r'\w+_form\.(\w+)|name="(\w+)" value="{{ \w+ }}"')
_MENTION = re.compile(
    r"""(?<!current_user)\.(\w+)|\bname=["']?(\w+)|\[["'](\w+)["']\]|(csrf_token|render_csrf)"""
)
_LOOP_OVER_FORM = re.compile(r"{%-?\s*for\s+\w+\s+in\s+\w*form\s")
_JINJA = re.compile(r"{{.*?}}|{%.*?%}|{#.*?#}", re.DOTALL)
# A script without a nonce, a style, a handler, and what comes from elsewhere.
_BLOCKED = re.compile(
    r"""(?ix) <(?: style | iframe ) \b [^>]* >
    | <script \b (?! [^>]* nonce ) [^>]* >
    | <\w+ \b [^>]* \s (?: style | on\w+ ) \s* = [^>]* >
    | <(?: script | img | link | source ) \b [^>]* \s (?: src | href ) \s* = \s* ["']? (?: https?: )? //
      [^>]* >"""
)


@dataclass(frozen=True)
class Template:
    """A template's source, and the tree that Jinja makes of it."""

    name: str
    text: str
    tree: nodes.Template

    def names(self) -> set[str]:
        """Return the variables that it sets or uses."""
        return {node.name for node in self.tree.find_all(nodes.Name)}

    def undeclared(self) -> set[str]:
        """Return the variables that it expects to be given, in whatever branch."""
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

    def blocked(self) -> str | None:
        """Return a tag that the Content-Security-Policy of web/headers.py blocks."""
        html = _JINJA.sub(lambda code: "nonce" if "nonce" in code[0] else "", self.text)
        tag = _BLOCKED.search(html)
        return tag[0] if tag else None

    def fields(self) -> set[str]:
        """Return the fields that a shipped page sends."""
        fields = {field or hidden for field, hidden in _FIELD.findall(self.text)}
        return fields - OPTIONAL_FIELDS | {"csrf_token"} if fields else fields


def read(name: str, loader: BaseLoader | None = None) -> Template:
    """Read and parse a template. Raises what Jinja and the file system raise for a broken one."""
    env = current_app.jinja_env
    loader = loader or env.loader
    assert loader is not None
    text, file, _ = loader.get_source(env, name)
    tree = env.parse(text, name, file)
    env.compile(tree, name, file)  # raises for an unknown filter, as parsing does not
    return Template(name, text, tree)


def read_all(name: str) -> list[Template]:
    """Return a template and all that it extends, includes or imports."""
    found = [read(name)]
    for template in found:  # which grows
        for other in _needed(template):
            if other == name:
                raise TemplateSyntaxError(f"It extends or includes itself. Ours is shipped/{name}.", 1, name)
            if all(other != one.name for one in found):
                found.append(read(other))
    return found


def _needed(template: Template) -> Iterator[str]:
    for node in template.tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        choices = [name for name in meta.find_referenced_templates(nodes.Template([node])) if name]
        try:
            if choices:
                yield current_app.jinja_env.select_template(choices).name or ""
        except TemplateNotFound:
            if not getattr(node, "ignore_missing", False):
                raise


def missing_fields(fields: set[str], page: Template, *needed: Template) -> list[str]:
    """Return the fields that a page never mentions, whatever its form is called there."""
    replaces_content = "block content" in page.text and "super()" not in page.text
    text = page.text + "".join(
        other.text
        for other in needed
        if not other.name.endswith(MACROS) and not (replaces_content and other.name.startswith("shipped/"))
    )
    if _LOOP_OVER_FORM.search(text):
        return []  # it writes every field
    mentioned = {word for words in _MENTION.findall(text) for word in words}
    return sorted(field for field in fields if mentioned.isdisjoint(WRITTEN_BY.get(field, {field})))
