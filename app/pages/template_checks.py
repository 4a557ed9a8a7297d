"""Checks of an admin's templates: every file is read, and every mail is rendered with made-up data.

The shipped template is the sample of a page: it tells which variables it has and which fields it sends.
"""

from __future__ import annotations

import difflib
import html
import traceback
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flask import current_app
from jinja2 import BaseLoader, FileSystemLoader, TemplateNotFound, TemplateSyntaxError

from ..mail import flask_security_mails
from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings, declared
from ..web import templates
from . import samples
from .template_sources import REMOTE_CONTENT, Template, missing_fields, read, read_all, unused_blocks

# The setting that brings a page, by how the page's name begins.
COMES_WITH = {
    "change_email": "SECURITY_CHANGE_EMAIL",
    "change_password": "SECURITY_CHANGEABLE",
    "forgot_password": "sends_mail",
    "mf_": "SECURITY_MULTI_FACTOR_RECOVERY_CODES",
    "recover_username": "SECURITY_USERNAME_RECOVERY",
    "register_user": "SECURITY_REGISTERABLE",
    "send_confirmation": "SECURITY_CONFIRMABLE",
    "two_factor_": "SECURITY_TWO_FACTOR",
    "us_": "SECURITY_UNIFIED_SIGNIN",
    "wan_": "SECURITY_WEBAUTHN",
}
PARTS = {samples.SUBJECT: "subject", samples.TEXT: "plain text", samples.HTML: "HTML"}


def of_templates() -> list[Finding]:
    """Return all that is wrong with templates. Needs an app context, and no database."""
    mail_of = {name: mail for mail in samples.MAILS for name in mail.parts().values()}
    found = []
    for name in templates.replaced(current()):
        found += _collect(_of_source(name, mail_of.get(name)), name, mail_of.get(name))
    broken = {one.where for one in found if one.id in ("template-broken", "template-variable")}
    for mail in samples.MAILS:
        if broken.isdisjoint(_path(name) for name in mail.parts().values()):
            found += _collect(_of_letter(mail), mail.parts()[samples.TEXT], mail)
    return list(dict.fromkeys(found))  # several mails may need one file


@check
def of_own_templates() -> Iterator[Finding]:
    """Check the templates, if the admin has any, and the subjects that are settings."""
    for mail in samples.MAILS:
        if mail.subject and samples.is_sent(mail, current()):
            yield from _of_subject(flask_security_mails.subject_of(mail.subject), setting=mail.subject)
    if any(templates.replaced(current())):
        yield from of_templates()


def _collect(check: Iterator[Finding], name: str, mail: samples.Mail | None) -> list[Finding]:
    """Run a check. About a mail that is never sent it gives mere warnings, because those stop no start."""
    # Pages and Flask-Security's mails are written within a request, ours in the worker.
    with nullcontext() if mail and not mail.subject else samples.a_request():
        try:
            found = list(check)
        except Exception as error:  # a template can raise anything
            found = [_broken(error, name)]
    is_sent = mail is None or samples.is_sent(mail, current())
    return found if is_sent else [replace(finding, severity="warning") for finding in found]


def _of_letter(mail: samples.Mail) -> Iterator[Finding]:
    """Yield what a mail lacks whose templates render."""
    letter, parts = samples.letter(mail), mail.parts()
    if not mail.subject:
        yield from _of_subject(letter.subject, where=_path(parts[samples.SUBJECT]))
    needs = [(KINDS["template-without-link"], need) for need in mail.needs]
    needs += [(KINDS["template-without-objection"], need) for need in mail.wants]
    for ending, text in ((samples.TEXT, letter.body), (samples.HTML, html.unescape(letter.html))):
        place = {"where": _path(parts[ending]), "part": PARTS[ending]}
        if not text.strip():
            yield KINDS["template-empty"].found(**place)
            continue
        for kind, need in needs:
            if _bare(str(mail.context[need.variable])) not in _bare(text):
                yield kind.found(**place, what=need.what, expression=need.expression or need.variable)
    if loaded := REMOTE_CONTENT.search(letter.html):
        yield KINDS["template-remote"].found(where=_path(parts[samples.HTML]), what=loaded[0])


def _of_subject(subject: str, **place: str) -> Iterator[Finding]:
    if not subject.strip():
        yield KINDS["template-empty"].found(part=PARTS[samples.SUBJECT], **place)
    elif len(subject.splitlines()) > 1:
        yield KINDS["template-subject"].found(**place)


def _bare(text: str) -> str:
    """Undo wrapping, spacing and quoting for a URL."""
    return "".join(unquote(text).split()).casefold()


def _of_source(name: str, mail: samples.Mail | None) -> Iterator[Finding]:
    env, where, loaders = current_app.jinja_env, _path(name), _original_loaders()
    originals = [read(env, name, loader) for loader in loaders if name in loader.list_templates()]
    if not originals and not _is_mentioned(name):
        known_names = {name for loader in loaders for name in loader.list_templates()}
        yield KINDS["template-replaces-nothing"].found(where=where, near=_near(name, known_names, 0.75))
        return
    template, *needed = read_all(env, name)
    if unused := sorted(unused_blocks(template, *needed)):
        known = sorted(set[str]().union(*(other.blocks() for other in needed)))
        yield KINDS["template-block-unused"].found(
            where=where, names=", ".join(unused), known=", ".join(known)
        )
    for setting in sorted(template.settings() - {*declared(), *dir(Settings)}):
        near = _near(setting, declared(), 0.6)
        yield KINDS["template-setting"].found(where=where, name=setting, near=near)
    is_page = not name.startswith(samples.FOLDER)
    if is_page and (blocked := template.blocked()):
        yield KINDS["template-blocked"].found(where=where, what=blocked[0])
    if name in templates.shipped() and _is_shown(name):
        yield from _of_variables(template, originals, mail)
        if is_page and (missing := missing_fields(originals[0].fields(), template, *needed)):
            yield KINDS["template-without-field"].found(where=where, names=", ".join(missing), template=name)


def _of_variables(
    template: Template, originals: list[Template], mail: samples.Mail | None
) -> Iterator[Finding]:
    """Compare a template's variables with those of the made-up mail, or of the page that it replaces."""
    everywhere: dict[str, Any] = {**current_app.jinja_env.globals}
    current_app.update_template_context(everywhere)
    given = set(mail.context) if mail else set[str]().union(*(one.undeclared() for one in originals))
    # A parent sets some of the names that the original uses.
    in_use = set() if mail else set[str]().union(*(one.names() for one in originals))
    if unknown := sorted(template.undeclared() - given - in_use - set(everywhere)):
        names, known = ", ".join(unknown), ", ".join(samples.known_in(given - set(everywhere)))
        yield KINDS["template-variable"].found(where=_path(template.name), names=names, known=known)


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


def _is_shown(name: str) -> bool:
    page = name.removeprefix("security/")
    return all(getattr(current(), by) for start, by in COMES_WITH.items() if page.startswith(start))


def _near(name: str, known: Iterable[str], cutoff: float) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def _broken(error: Exception, name: str) -> Finding:
    where, problem = _path(name), f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = traceback.extract_tb(error.__traceback__)  # with a template's file and line, thanks to Jinja
    if places := [frame for frame in frames if frame.filename.endswith(templates.SUFFIXES)]:
        where, problem = _short(places[-1].filename), f"Line {places[-1].lineno}: {problem}"
    if isinstance(error, TemplateNotFound):
        problem = f"There is no {error.name}, which it needs."
    elif isinstance(error, TemplateSyntaxError):
        where, problem = _short(error.filename or where), f"Line {error.lineno}: {error.message}"
    elif isinstance(error, UnicodeDecodeError):
        problem = "The file is not UTF-8."
    return KINDS["template-broken"].found(where=where, said=problem)


def _path(name: str) -> str:
    """Return the file behind a template's name, as people know it."""
    own = Path(current().RECOVERY_TEMPLATE_DIR, name)
    return str(own) if current().RECOVERY_TEMPLATE_DIR and own.exists() else f"templates/{name}"


def _short(file: str) -> str:
    """Return the path of a shipped file as the repository has it."""
    return file.removeprefix(f"{templates.SHIPPED.parent}/")
