"""Checks of templates: the sources of all are read, and mails are rendered with made-up data, too."""

from __future__ import annotations

import html
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from flask import current_app

from ..mail import flask_security_mails
from ..settings import current
from ..settings.checks import Finding, file_check
from ..web import templates
from . import samples
from .html_elements import loaded_from_elsewhere
from .template_lint import BROKEN, TAKE_AWAY, TemplateKind, of_names, of_own_files
from .template_trees import Trees, short

WITHOUT_LINK = TemplateKind(
    "template-without-link",
    "error",
    "The {part} lacks {what}.",
    "Whoever gets this mail can not use it.",
    "Put {{{{ {expression} }}}} into it.",
)
WITHOUT_OBJECTION = TemplateKind(
    "template-without-objection",
    "warning",
    "The {part} lacks {what}.",
    "Whoever did not do it can not end it at once.",
    "Put {{{{ {expression} }}}} into it.",
)
EMPTY = TemplateKind(
    "template-empty",
    "error",
    "The {part} is empty.",
    "Not every mail program shows HTML, and none shows what is not there.",
    TAKE_AWAY,
)
SUBJECT_LINES = TemplateKind(
    "template-subject",
    "error",
    "The subject has several lines.",
    "A subject is one line.",
    "Leave one line in the file.",
)
REMOTE = TemplateKind(
    "template-remote",
    "warning",
    "The mail loads {what}.",
    "It tells that server who reads the mail, and many mail programs do not show it.",
    "Leave it out.",
)
PARTS = {samples.SUBJECT: "subject", samples.TEXT: "plain text", samples.HTML: "HTML"}


def of_templates() -> list[Finding]:
    """Return all that is wrong with templates. Needs an app context, and no database."""
    trees = Trees(current_app.jinja_env)
    found = list(_of_mails(trees))
    with samples.a_request():
        found += of_own_files(trees)
    return list(dict.fromkeys(found))  # one file may be reached from several


@file_check
def of_own_templates() -> list[Finding]:
    """The same, unless the admin has none: ours were looked at by our tests. Looks once in an app's life."""
    known: dict[str, Any] = current_app.extensions
    if "template_findings" not in known:
        of_files = of_templates() if any(templates.replaced(current())) else []
        known["template_findings"] = [*_of_set_subjects(), *of_files]
    found: list[Finding] = known["template_findings"]
    return found


def _of_set_subjects() -> Iterator[Finding]:
    """Subjects that are settings: of the mails that Flask-Security writes."""
    for mail in samples.MAILS:
        if mail.subject and samples.is_sent(mail, current()):
            yield from _of_subject(flask_security_mails.subject_of(mail.subject), setting=mail.subject)


def _of_mails(trees: Trees) -> Iterator[Finding]:
    for mail in samples.MAILS:
        # What Flask-Security mails, it writes within a request.
        with samples.a_request() if mail.subject else nullcontext():
            wrong = [one for name in mail.parts().values() for one in _of_part(trees, name, mail.context)]
            found = wrong or list(_of_letter(trees, mail))
        for finding in found:  # what is never sent stops nothing
            is_sent = samples.is_sent(mail, current())
            yield finding if is_sent or finding.severity == "info" else replace(finding, severity="warning")


def _of_letter(trees: Trees, mail: samples.Mail) -> Iterator[Finding]:
    """A mail whose templates render: whether it holds what it must."""
    letter, parts = samples.letter(mail), mail.parts()
    if not mail.subject:
        yield from _of_subject(letter.subject, where=trees.path(parts[samples.SUBJECT]))
    for ending, text in ((samples.TEXT, letter.text), (samples.HTML, html.unescape(letter.html))):
        where = trees.path(parts[ending])
        if not text.strip():
            yield EMPTY.found(where=where, part=PARTS[ending])
            continue
        for kind, need in [
            *((WITHOUT_LINK, n) for n in mail.needs),
            *((WITHOUT_OBJECTION, n) for n in mail.wants),
        ]:
            if _bare(str(mail.context[need.variable])) not in _bare(text):
                yield kind.found(
                    where=where,
                    part=PARTS[ending],
                    what=need.what,
                    expression=need.expression or need.variable,
                )
    if loaded := loaded_from_elsewhere(letter.html):
        yield REMOTE.found(where=trees.path(parts[samples.HTML]), what=loaded)


def _of_subject(subject: str, **place: str) -> Iterator[Finding]:
    if not subject.strip():
        yield EMPTY.found(part=PARTS[samples.SUBJECT], **place)
    elif len(subject.splitlines()) > 1:
        yield SUBJECT_LINES.found(**place)


def _bare(text: str) -> str:
    """However it is wrapped, spaced or quoted for a URL."""
    return "".join(unquote(text).split()).casefold()


def _of_part(trees: Trees, name: str, context: dict[str, Any]) -> Iterator[Finding]:
    """Yield why one template of a mail cannot be rendered, whatever branch is taken."""
    if wrong := list(of_names(trees, name, set(context))):
        yield from wrong
        return
    try:
        samples.render(name, context)
    except Exception as error:  # a template can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        # Jinja puts a template's file and line into the traceback.
        place = next((one for one in reversed(frames) if one.filename.endswith(templates.SUFFIXES)), None)
        where, line = (short(place.filename), f"Line {place.lineno}: ") if place else (trees.path(name), "")
        said = f"{line}{type(error).__name__}: {' '.join(str(error).split())}"
        yield BROKEN.found(where=where, said=said)
