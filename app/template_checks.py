"""The checks of templates: every mail and page is rendered with made-up data, and looked at."""

from __future__ import annotations

import difflib
import html
import traceback
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from flask import current_app
from jinja2 import Environment, StrictUndefined, TemplateNotFound, TemplateSyntaxError, meta, nodes

from . import samples, templating
from .findings import Finding, Kind
from .settings import current

DIRECTORY = "RECOVERY_TEMPLATE_DIR"
TAKE_AWAY = "Correct the file, or take it away: ours is used then."

BROKEN = Kind(
    "template-broken",
    "error",
    "{said}",
    "Whoever should get this mail or page gets none.",
    TAKE_AWAY,
    DIRECTORY,
)
UNKNOWN_VARIABLE = Kind(
    "template-variable",
    "error",
    "It uses {names}, which no page or mail of this name is given.",
    "There would be a hole in the text, or an error.",
    "It may use: {known}.",
    DIRECTORY,
)
WITHOUT_LINK = Kind(
    "template-without-link",
    "error",
    "The {part} lacks {what}.",
    "Whoever gets this mail can not use it.",
    "Put {{{{ {expression} }}}} into it.",
    DIRECTORY,
)
WITHOUT_OBJECTION = Kind(
    "template-without-objection",
    "warning",
    "The {part} lacks {what}.",
    "Whoever did not do it can not end it at once.",
    "Put {{{{ {expression} }}}} into it.",
    DIRECTORY,
)
EMPTY = Kind(
    "template-empty",
    "error",
    "The {part} is empty.",
    "Not every mail program shows HTML, and none shows what is not there.",
    TAKE_AWAY,
    DIRECTORY,
)
SUBJECT_LINES = Kind(
    "template-subject",
    "error",
    "The subject has several lines.",
    "A subject is one line.",
    "Leave one line in the file.",
    DIRECTORY,
)
WITHOUT_FIELD = Kind(
    "template-without-field",
    "error",
    "The form lacks {names}.",
    "What people send with it is refused.",
    "Take over the form of templates/{template}.",
    DIRECTORY,
)
BLOCKED = Kind(
    "template-blocked",
    "warning",
    "It holds {what}.",
    "Browsers drop that: the Content-Security-Policy allows only what comes from here.",
    'Leave it out; a script needs nonce="{{{{ csp_nonce() }}}}".',
    DIRECTORY,
)
REMOTE = Kind(
    "template-remote",
    "warning",
    "The mail loads {what}.",
    "It tells that server who reads the mail, and many mail programs do not show it.",
    "Leave it out.",
    DIRECTORY,
)
REPLACES_NOTHING = Kind(
    "template-replaces-nothing",
    "warning",
    "There is no template of this name{near}.",
    "The file has no effect.",
    "Give it the name of the template that it is to replace.",
    DIRECTORY,
)
KINDS = [
    BROKEN,
    UNKNOWN_VARIABLE,
    WITHOUT_LINK,
    WITHOUT_OBJECTION,
    EMPTY,
    SUBJECT_LINES,
    WITHOUT_FIELD,
    BLOCKED,
    REMOTE,
    REPLACES_NOTHING,
]
PARTS = {samples.SUBJECT: "subject", samples.TEXT: "plain text", samples.HTML: "HTML"}


def of_templates() -> list[Finding]:
    """All that is wrong with templates, the admin's and ours. Needs an app context, and no database."""
    env = current_app.jinja_env.overlay(undefined=StrictUndefined)
    found = list(_of_mails(env))
    with current_app.test_request_context():
        found += _of_pages(env)
        found += _of_others(env, found)
    return list(dict.fromkeys(found))  # several states of a page, one finding


def is_needed() -> bool:
    """Whether there is anything that Sparekey's own tests did not look at."""
    return any(templating.replaced(current()))


def _of_mails(env: Environment) -> Iterator[Finding]:
    for mail in samples.MAILS:
        wrong = [
            finding for name in mail.parts().values() for finding in _of_template(env, name, mail.context)
        ]
        yield from wrong or _of_letter(env, mail)


def _of_letter(env: Environment, mail: samples.Mail) -> Iterator[Finding]:
    """A mail whose templates render: whether it holds what it must."""
    letter, parts = samples.letter(mail, env), mail.parts()
    said = {
        samples.SUBJECT: letter.subject,
        samples.TEXT: letter.text,
        samples.HTML: html.unescape(letter.html),
    }
    for ending, name in parts.items():
        if not said[ending].strip():
            yield EMPTY.found(where=_path(env, name), part=PARTS[ending])
        elif ending == samples.SUBJECT and len(letter.subject.splitlines()) > 1:
            yield SUBJECT_LINES.found(where=_path(env, name))
        elif ending != samples.SUBJECT:
            for kind, what, expression in _missing(env, mail, said[ending]):
                yield kind.found(where=_path(env, name), part=PARTS[ending], what=what, expression=expression)
    if remote := [element for element in _elements(letter.html) if element.loads_from_elsewhere()]:
        yield REMOTE.found(where=_path(env, parts[samples.HTML]), what=remote[0])


def _missing(env: Environment, mail: samples.Mail, text: str) -> Iterator[tuple[Kind, str, str]]:
    for kind, needed in ((WITHOUT_LINK, mail.needs), (WITHOUT_OBJECTION, mail.wants)):
        for what, expression in needed.items():
            if str(env.compile_expression(expression)(**mail.context)) not in text:
                yield kind, what, expression


def _of_pages(env: Environment) -> Iterator[Finding]:
    for page in samples.pages():
        name = f"security/{page.template}.html"
        if wrong := list(_of_template(env, name, page.context)):
            yield from wrong
            continue
        elements = _elements(samples.render(env, name, page.context))
        sent = {element.attributes.get("name") for element in elements}
        if missing := [field for field in page.fields if field not in sent]:
            yield WITHOUT_FIELD.found(where=_path(env, name), names=", ".join(missing), template=name)
        if blocked := [element for element in elements if element.is_blocked()]:
            yield BLOCKED.found(where=_path(env, name), what=blocked[0])


def _of_others(env: Environment, found: list[Finding]) -> Iterator[Finding]:
    """The admin's files that no sample has rendered: other pages of Flask-Security's, or nothing at all."""
    known = {*templating.shipped(), *_of_flask_security()}
    used = {name for own in templating.replaced(current()) for name in _reached(env, own) if name != own}
    for name in templating.replaced(current()):
        if error := _syntax_error(env, name):
            broken = BROKEN.found(where=_path(env, name), said=error)
            if broken not in found:
                yield broken
        elif name not in known | used:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
            yield REPLACES_NOTHING.found(
                where=_path(env, name), near=f"; did you mean {near[0]}?" if near else ""
            )


def _of_template(env: Environment, name: str, context: dict[str, Any]) -> Iterator[Finding]:
    """Whether one template can be rendered with this context, whatever branch is taken."""
    for reached in _reached(env, name):
        if error := _syntax_error(env, reached):
            at_fault = _path(env, reached)
            yield BROKEN.found(where=_path(env, name) if at_fault == reached else at_fault, said=error)
            return
    if unknown := _unknown_names(env, name, context):
        names, known = ", ".join(sorted(unknown)), ", ".join(sorted({*context, "settings", "url_for"}))
        yield UNKNOWN_VARIABLE.found(where=_path(env, name), names=names, known=known)
        return
    try:
        samples.render(env, name, context)
    except Exception as error:  # a template can raise anything
        where, line = _place(env, name, error)
        yield BROKEN.found(where=where, said=f"{line}{type(error).__name__}: {_one_line(error)}")


def _syntax_error(env: Environment, name: str) -> str | None:
    try:
        _source(env, name)
    except TemplateSyntaxError as error:
        return f"Line {error.lineno}: {error.message}"
    except TemplateNotFound:
        return f"There is no {name}, which it needs."
    except UnicodeDecodeError:
        return "The file is not UTF-8."
    return None


def _source(env: Environment, name: str) -> nodes.Template:
    assert env.loader is not None
    return env.parse(env.loader.get_source(env, name)[0])


def _reached(env: Environment, name: str, before: frozenset[str] = frozenset()) -> list[str]:
    """The template, and all that it extends, includes or imports, themselves and by way of others."""
    try:
        names = [ref for ref in meta.find_referenced_templates(_source(env, name)) if ref]
    except (TemplateSyntaxError, TemplateNotFound, UnicodeDecodeError):
        names = []
    found = [name]
    for ref in names:
        if ref not in before and ref not in found:
            found += _reached(env, ref, before | set(found))
    return found


def _unknown_names(env: Environment, name: str, context: dict[str, Any]) -> set[str]:
    """Variables that nothing gives, in any branch."""
    trees = [_source(env, reached) for reached in _reached(env, name)]
    given: dict[str, Any] = {**env.globals, **context}
    current_app.update_template_context(given)
    used = set().union(*(meta.find_undeclared_variables(tree) for tree in trees))
    made = set().union(*(_made_in(tree) for tree in trees))
    return used - made - given.keys()


def _made_in(tree: nodes.Template) -> set[str]:
    """What a template sets or imports itself, for its blocks and its parents."""
    names = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    for node in tree.find_all(nodes.FromImport):
        names |= {name if isinstance(name, str) else name[1] for name in node.names}
    return (
        names | {node.target for node in tree.find_all(nodes.Import)} | {"title"}
    )  # base.html has a default


def _place(env: Environment, name: str, error: Exception) -> tuple[str, str]:
    """The file and line that an error came from: Jinja puts them into the traceback."""
    paths = {_path(env, reached) for reached in _reached(env, name)}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _short(frame.filename) in paths:
            return _short(frame.filename), f"Line {frame.lineno}: "
    return _path(env, name), ""


def _path(env: Environment, name: str) -> str:
    """The file behind a name, for people."""
    try:
        assert env.loader is not None
        return _short(env.loader.get_source(env, name)[1] or name)
    except UnicodeDecodeError:
        return _short(str(Path(current().RECOVERY_TEMPLATE_DIR, name)))
    except TemplateNotFound:
        return name


def _short(path: str) -> str:
    return path.removeprefix(f"{templating.SHIPPED.parent}/")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _of_flask_security() -> set[str]:
    loader = current_app.blueprints["security"].jinja_loader
    return set(loader.list_templates()) if loader else set()


class Element:
    """One element of a page or mail, as far as it matters."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes

    def __str__(self) -> str:
        shown = next(
            (f' {key}="{self.attributes[key][:60]}"' for key in ("src", "style") if self.attributes.get(key)),
            "",
        )
        return f"<{self.tag}{shown}>"

    def loads_from_elsewhere(self) -> bool:
        source = self.attributes.get("src") or (self.tag == "link" and self.attributes.get("href")) or ""
        return self.tag != "a" and str(source).startswith(("http:", "https:", "//"))

    def is_blocked(self) -> bool:
        """By the policy of headers.py."""
        is_script = self.tag == "script" and not self.attributes.get("nonce")
        handlers = any(name.startswith("on") for name in self.attributes)
        return (
            is_script
            or handlers
            or self.tag in ("style", "iframe")
            or "style" in self.attributes
            or self.loads_from_elsewhere()
        )


def _elements(text: str) -> list[Element]:
    found: list[Element] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.append(Element(tag, {name: value or "" for name, value in attributes}))

    Reader().feed(text)
    return found
