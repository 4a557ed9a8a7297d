"""Checks of an admin's templates: every file is parsed, and every mail is rendered with sample data.

A page is compared with the shipped template of its name, which shows its variables and form fields.
"""

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
from jinja2 import FileSystemLoader, TemplateNotFound, TemplateSyntaxError, nodes

from ..mail import composing
from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings, declared
from ..web import templates
from ..web.responses import context_names
from . import samples, translation_checks
from .template_sources import Template, missing_fields, parse, parse_with_references

NOT_RENDERED = ("template-broken", "template-variable")  # a mail with such a template is not rendered
# Content that a mail program would load: images, backgrounds, style sheets.
REMOTE_CONTENT = re.compile(
    r"""(?ix)
    (?: \b (?: src | srcset | background | poster ) \s*=\s* ["']? \s* | url\( \s* ["']? | @import \s+ ["']? )
    (?: https?: )? //[^"'\s)>]*"""
)
PLACEHOLDER = re.compile(r"%\(\w*\)?s?|\{\{.*?\}\}")  # in a subject that is ready to send


@check
def check_templates() -> list[Finding]:
    """Return the findings in the admin's templates, and in the subjects of mails that are settings."""
    if translation_checks.errors():
        return []
    findings: list[Finding] = []
    names = templates.overridden(current())
    mails = {name: mail for mail in samples.MAILS for name in mail.templates.values()}
    for name in names:
        findings += _run(_check_source(name, mails.get(name)), name, mails.get(name))
    broken = {finding.where for finding in findings if finding.id in NOT_RENDERED}
    for mail in samples.MAILS:
        if not templates.is_enabled(mail.name):
            continue
        if setting := composing.subject_setting(mail.name):
            findings += _check_subject(composing.render_subject(mail.name), setting=setting)
        if names and broken.isdisjoint(map(_path, mail.templates.values())):
            findings += _run(_check_mail(mail), mail.templates[samples.TEXT], mail)
    return list(dict.fromkeys(findings))  # several mails may include one broken file


def _run(findings: Iterator[Finding], name: str, mail: samples.Mail | None) -> list[Finding]:
    """Run a check in the context of its template: our mails are rendered by the worker, outside a request."""
    with nullcontext() if mail and not mail.is_rendered_in_request else samples.request_context():
        try:
            return list(findings)
        except Exception as error:  # a template can raise anything
            return [_broken_template(error, name)]


def _check_mail(mail: samples.Mail) -> Iterator[Finding]:
    """Compose a mail and yield the findings in it. Raises any error of its templates."""
    composed = samples.compose(mail)
    if not composing.subject_setting(mail.name):
        yield from _check_subject(composed.subject, where=_path(mail.templates[samples.SUBJECT]))
    for ending, part, text in (
        (samples.TEXT, "plain text", composed.body),
        (samples.HTML, "HTML", html.unescape(composed.html)),
    ):
        place = {"where": _path(mail.templates[ending]), "part": part}
        if not text.strip():
            yield KINDS["template-empty"].found(**place)
            continue
        for variable, (description, expression) in mail.required.items():
            if _normalized(str(mail.context[variable])) not in _normalized(text):
                id = "template-without-objection" if variable == "objection" else "template-without-link"
                yield KINDS[id].found(**place, missing=description, expression=expression)
    if remote := REMOTE_CONTENT.search(composed.html):
        yield KINDS["template-remote"].found(where=_path(mail.templates[samples.HTML]), content=remote[0])


def _check_subject(subject: str, **place: str) -> Iterator[Finding]:
    if not subject.strip():
        yield KINDS["template-empty"].found(part="subject", **place)
    if literal := PLACEHOLDER.findall(subject):
        yield KINDS["subject-placeholder"].found(names=", ".join(literal), **place)


def _normalized(text: str) -> str:
    """Return text without line breaks, spaces and URL quoting."""
    return "".join(unquote(text).split()).casefold()


def _check_source(name: str, mail: samples.Mail | None) -> Iterator[Finding]:
    """Parse one of the admin's templates and yield the findings in it. Raises as parse()."""
    # Of templates that an admin may replace: ours and Flask-Security's.
    stock = current_app.blueprints["security"].jinja_loader
    assert stock is not None
    where, loaders = _path(name), [FileSystemLoader(templates.SHIPPED), stock]
    originals = [parse(name, loader) for loader in loaders if name in loader.list_templates()]
    if not originals and not _is_included(name):
        replaceable = {name for loader in loaders for name in loader.list_templates()}
        yield KINDS["template-replaces-nothing"].found(where=where, near=_suggestion(name, replaceable))
        return
    template, *references = parse_with_references(name)
    for setting in sorted(template.settings() - {*declared(), *dir(Settings)}):
        near = _suggestion(setting, declared())
        yield KINDS["template-setting"].found(where=where, name=setting, near=near)
    yield from _check_blocks(template, references)
    is_page = not name.startswith(samples.FOLDER)
    if (templates.SHIPPED / name).is_file() and templates.is_enabled(name):
        yield from _check_variables(template, originals, mail)
        if is_page and (missing := missing_fields(originals[0].fields(), template, *references)):
            yield KINDS["template-without-field"].found(where=where, names=", ".join(missing), template=name)


def _check_blocks(template: Template, references: list[Template]) -> Iterator[Finding]:
    """Find blocks that no extended template renders. A parent that only rendering knows may do so."""
    parents = [parent for source in (template, *references) for parent in source.parents()]
    if template.parents() and all(isinstance(parent, nodes.Const) for parent in parents):
        known = {block for reference in references for block in reference.blocks()}
        for block in sorted(template.unrendered_blocks(known)):
            facts = {"name": block, "near": _suggestion(block, known), "known": ", ".join(sorted(known))}
            yield KINDS["template-block"].found(where=_path(template.name), **facts)


def _check_variables(
    template: Template, originals: list[Template], mail: samples.Mail | None
) -> Iterator[Finding]:
    """Compare a template's variables with those of the sample mail, or of the page that it replaces."""
    common: dict[str, Any] = {}
    current_app.update_template_context(common)
    common |= dict.fromkeys(context_names())
    if mail:
        allowed = documented = set(mail.context)
    else:  # a parent template may set some of the names that the original uses
        allowed = {name for original in originals for name in original.names()}
        documented = {name for original in originals for name in original.undeclared()} - common.keys()
    if unknown := sorted(template.undeclared() - allowed - common.keys()):
        names, known = ", ".join(unknown), ", ".join(samples.variable_names(documented))
        yield KINDS["template-variable"].found(where=_path(template.name), names=names, known=known)


def _is_included(name: str) -> bool:
    """True if another of the admin's templates mentions this one."""
    folder = Path(current().RECOVERY_TEMPLATE_DIR)
    others = templates.overridden(current())
    return any(name in (folder / other).read_text(errors="replace") for other in others)


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _broken_template(error: Exception, name: str) -> Finding:
    """Return the finding for an error of a template, with the file and line that raised it."""
    where, problem = _path(name), f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, TemplateNotFound):
        problem = f"The template {error.name} does not exist."
    elif isinstance(error, TemplateSyntaxError):
        problem = error.message or ""
    elif isinstance(error, UnicodeDecodeError):
        problem = "The file is not UTF-8."
    frames = traceback.extract_tb(error.__traceback__)  # Jinja puts a template's file and line into it
    if places := [frame for frame in frames if frame.filename.endswith(templates.SUFFIXES)]:
        where = places[-1].filename.removeprefix(f"{templates.SHIPPED.parent}/")
        problem = f"Line {places[-1].lineno}: {problem}"
    return KINDS["template-broken"].found(where=where, problem=problem)


def _path(name: str) -> str:
    """Return the path of a template's file; of a shipped one, relative to the repository."""
    own = Path(current().RECOVERY_TEMPLATE_DIR, name)
    return str(own) if current().RECOVERY_TEMPLATE_DIR and own.exists() else f"templates/{name}"
