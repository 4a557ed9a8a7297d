"""Template sources, parsed with Jinja: what they need, the variables they use, the fields they send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import BaseLoader, Environment, TemplateNotFound, TemplateSyntaxError, meta, nodes

MACROS = "security/_macros.html"  # writes only the fields that a page hands to it
# A page may read these of a form, and no browser has to send them.
OPTIONAL_FIELDS = {"errors", "generate_new_codes", "hidden_tag", "phone", "remember", "submit", "usage"}
OPTIONAL_FIELDS |= {"user", "username"}
GUARDS = ("default", "d", "defined", "undefined")  # a variable that one of these looks at may be missing
_FIELD = re.compile(r'\w+_form\.(\w+)|name="(\w+)" value="{{ \w+ }}"')
_LOOP_OVER_FORM = re.compile(r"{%-?\s*for\s+\w+\s+in\s+\w*form\s")
_EXPRESSION = re.compile(r"{{.*?}}", re.DOTALL)
_STATEMENT = re.compile(r"{%.*?%}|{#.*?#}", re.DOTALL)
# A script without a nonce, a style, a handler, and what comes from elsewhere.
_BLOCKED = re.compile(
    r"""(?ix) <(?: style | iframe ) \b [^>]* >
    | <script \b (?! [^>]* nonce ) [^>]* >
    | <\w+ \b [^>]* \s (?: style | on\w+ ) \s* = [^>]* >
    | <(?: script | img | link | source ) \b [^>]* \s (?: src | href ) \s* = \s* ["']? (?: https?: )? //
      [^>]* >"""
)


# What a mail program loads: a picture, a background, a style sheet.
REMOTE_CONTENT = re.compile(
    r"""(?ix)
    (?: \b (?: src | srcset | background | poster ) \s*=\s* ["']? \s* | url\( \s* ["']? | @import \s+ ["']? )
    (?: https?: )? //[^"'\s)>]*"""
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

    def blocks(self) -> set[str]:
        return {block.name for block in self.tree.find_all(nodes.Block)}

    def blocked(self) -> list[str]:
        """Return the tags that the Content-Security-Policy of web/headers.py blocks."""
        # The words of an expression stay, because a macro may write a script's nonce.
        html = _EXPRESSION.sub(lambda expression: re.sub(r"\W", "", expression[0]), self.text)
        return _BLOCKED.findall(_STATEMENT.sub("", html))

    def fields(self) -> set[str]:
        """Return the fields that a shipped page sends."""
        found = {field or hidden for field, hidden in _FIELD.findall(self.text)}
        return found - OPTIONAL_FIELDS | {"csrf_token"} if found else found


def read(env: Environment, name: str, loader: BaseLoader | None = None) -> Template:
    """Read and parse a template. Raises what Jinja and the file system raise for a broken one."""
    env = env.overlay(loader=loader) if loader else env
    env.get_template(name)  # raises for an unknown filter, as parsing does not
    assert env.loader is not None
    text, file, _ = env.loader.get_source(env, name)
    return Template(name, text, env.parse(text, name, file))


def read_all(env: Environment, name: str) -> list[Template]:
    """Return a template and all that it extends, includes or imports."""
    found: dict[str, Template] = {}
    names = [name]
    while names:
        if (each := names.pop(0)) not in found:
            found[each] = read(env, each)
            names += _needed(env, found[each].tree)
            if name in names:
                raise TemplateSyntaxError(f"It extends or includes itself. Ours is shipped/{name}.", 1, name)
    return list(found.values())


def _needed(env: Environment, tree: nodes.Template) -> Iterator[str]:
    for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        choices = [name for name in meta.find_referenced_templates(nodes.Template([node])) if name]
        try:
            if choices:
                yield env.select_template(choices).name or ""
        except TemplateNotFound:
            if not getattr(node, "ignore_missing", False):
                raise


def unused_blocks(template: Template, *needed: Template) -> set[str]:
    """Return the blocks that a template fills and its parents lack."""
    if not template.tree.find(nodes.Extends):
        return set()
    filled = {node.name for node in template.tree.body if isinstance(node, nodes.Block)}
    return filled.difference(*(other.blocks() for other in needed))


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
    return [field for field in sorted(fields) if not _mention(field).search(text)]


def _mention(field: str) -> re.Pattern[str]:
    if field == "csrf_token":
        return re.compile("csrf_token|hidden_tag|render_csrf")  # each writes it
    names = "email|identity" if field == "email" else field  # the HTML name of `email` is `identity`
    return re.compile(rf"""(?<!current_user)\.({names})\b|\bname=["']?({names})\b|\[["']({names})["']\]""")
