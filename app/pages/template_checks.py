"""Checks of an admin's templates: every file is read, and every mail is rendered with sample data.

The shipped template is the sample of a page: it tells which variables it has and which fields it sends.
"""

from __future__ import annotations

import difflib
import html
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flask import current_app
from jinja2 import BaseLoader, FileSystemLoader, TemplateNotFound, TemplateSyntaxError, nodes

from ..mail import flask_security_mails
from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings, declared
from ..web import templates
from . import samples
from .template_sources import Template, missing_fields, read, read_all

# What a mail program loads: a picture, a background, a style sheet.
REMOTE_CONTENT = re.compile(
    r"""(?ix)
    (?: \b (?: src | srcset | background | poster ) \s*=\s* ["']? \s* | url\( \s* ["']? | @import \s+ ["']? )
    (?: https?: )? //[^"'\s)>]*"""
)


@check
def of_templates() -> list[Finding]:
    """Return all that is wrong with the admin's templates, and with the subjects that are settings."""
    found: list[Finding] = []
    for mail in samples.MAILS:
        if mail.subject and samples.is_used(mail.name):
            found += _of_subject(flask_security_mails.subject_of(mail.subject), setting=mail.subject)
    mail_of = {name: mail for mail in samples.MAILS for name in mail.parts.values()}
    own = [*templates.replaced(current())]
    for name in own:
        found += _collect(_of_source(name, mail_of.get(name)), name, mail_of.get(name))
    broken = {one.where for one in found if one.id in ("template-broken", "template-variable")}
    for mail in samples.MAILS if own else ():
        if samples.is_used(mail.name) and broken.isdisjoint(map(_path, mail.parts.values())):
            found += _collect(_of_letter(mail), mail.parts[samples.TEXT], mail)
    return list(dict.fromkeys(found))  # several mails may need one file


def _collect(findings: Iterator[Finding], name: str, mail: samples.Mail | None) -> list[Finding]:
    """Run a check. Pages and Flask-Security's mails are written within a request, ours in the worker."""
    with nullcontext() if mail and not mail.subject else samples.a_request():
        try:
            return list(findings)
        except Exception as error:  # a template can raise anything
            return [_broken(error, name)]


def _of_letter(mail: samples.Mail) -> Iterator[Finding]:
    """Yield what a mail lacks whose templates render."""
    letter = samples.letter(mail)
    if not mail.subject:
        yield from _of_subject(letter.subject, where=_path(mail.parts[samples.SUBJECT]))
    for ending, part, text in (
        (samples.TEXT, "plain text", letter.body),
        (samples.HTML, "HTML", html.unescape(letter.html)),
    ):
        place = {"where": _path(mail.parts[ending]), "part": part}
        if not text.strip():
            yield KINDS["template-empty"].found(**place)
            continue
        for variable, (words, expression) in mail.needs.items():
            if _bare(str(mail.context[variable])) not in _bare(text):
                id = "template-without-objection" if variable == "objection" else "template-without-link"
                yield KINDS[id].found(**place, what=words, expression=expression)
    if loaded := REMOTE_CONTENT.search(letter.html):
        yield KINDS["template-remote"].found(where=_path(mail.parts[samples.HTML]), what=loaded[0])


def _of_subject(subject: str, **place: str) -> Iterator[Finding]:
    if not subject.strip():
        yield KINDS["template-empty"].found(part="subject", **place)
    elif len(subject.splitlines()) > 1:
        yield KINDS["template-subject"].found(**place)


def _bare(text: str) -> str:
    """Undo wrapping, spacing and quoting for a URL."""
    return "".join(unquote(text).split()).casefold()


def _of_source(name: str, mail: samples.Mail | None) -> Iterator[Finding]:
    where, loaders = _path(name), _original_loaders()
    originals = [read(name, loader) for loader in loaders if name in loader.list_templates()]
    if not originals and not _is_mentioned(name):
        known_names = {name for loader in loaders for name in loader.list_templates()}
        yield KINDS["template-replaces-nothing"].found(where=where, near=_near(name, known_names))
        return
    template, *needed = read_all(name)
    if template.tree.find(nodes.Extends):
        filled = {node.name for node in template.tree.body if isinstance(node, nodes.Block)}
        known = {block.name for other in needed for block in other.tree.find_all(nodes.Block)}
        if unused := sorted(filled - known):
            yield KINDS["template-block-unused"].found(
                where=where, names=", ".join(unused), known=", ".join(sorted(known))
            )
    for setting in sorted(template.settings() - {*declared(), *dir(Settings)}):
        yield KINDS["template-setting"].found(where=where, name=setting, near=_near(setting, declared()))
    is_page = not name.startswith(samples.FOLDER)
    if is_page and (blocked := template.blocked()):
        yield KINDS["template-blocked"].found(where=where, what=blocked)
    if name in templates.shipped() and samples.is_used(name):
        yield from _of_variables(template, originals, mail)
        if is_page and (missing := missing_fields(originals[0].fields(), template, *needed)):
            yield KINDS["template-without-field"].found(where=where, names=", ".join(missing), template=name)


def _of_variables(
    template: Template, originals: list[Template], mail: samples.Mail | None
) -> Iterator[Finding]:
    """Compare a template's variables with those of the sample mail, or of the page that it replaces."""
    everywhere: dict[str, Any] = {}
    current_app.update_template_context(everywhere)
    if mail:
        allowed = known = set(mail.context)
    else:  # a parent sets some of the names that the original uses
        allowed = {name for original in originals for name in original.names()}
        known = {name for original in originals for name in original.undeclared()} - everywhere.keys()
    if unknown := sorted(template.undeclared() - allowed - everywhere.keys()):
        names, known_names = ", ".join(unknown), ", ".join(samples.known_in(known))
        yield KINDS["template-variable"].found(where=_path(template.name), names=names, known=known_names)


def _original_loaders() -> list[BaseLoader]:
    """Return the loaders of the templates that an admin's may replace: ours, and Flask-Security's."""
    stock = current_app.blueprints["security"].jinja_loader
    assert stock is not None
    return [FileSystemLoader(templates.SHIPPED), stock]


def _is_mentioned(name: str) -> bool:
    """True if another file of the admin's may include this one."""
    folder = Path(current().RECOVERY_TEMPLATE_DIR)
    return any(
        name in (folder / other).read_text(errors="replace") for other in templates.replaced(current())
    )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _broken(error: Exception, name: str) -> Finding:
    where, problem = _path(name), f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, TemplateNotFound):
        problem = f"There is no {error.name}, which it needs."
    elif isinstance(error, TemplateSyntaxError):
        problem = error.message or ""
    elif isinstance(error, UnicodeDecodeError):
        problem = "The file is not UTF-8."
    frames = traceback.extract_tb(error.__traceback__)  # with a template's file and line, thanks to Jinja
    if places := [frame for frame in frames if frame.filename.endswith(templates.SUFFIXES)]:
        where = places[-1].filename.removeprefix(f"{templates.SHIPPED.parent}/")
        problem = f"Line {places[-1].lineno}: {problem}"
    return KINDS["template-broken"].found(where=where, said=problem)


def _path(name: str) -> str:
    """Return the file behind a template's name, as people know it."""
    own = Path(current().RECOVERY_TEMPLATE_DIR, name)
    return str(own) if current().RECOVERY_TEMPLATE_DIR and own.exists() else f"templates/{name}"
