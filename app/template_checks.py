"""The checks of templates: every mail and page is rendered with made-up data, and looked at."""

from __future__ import annotations

import difflib
import html
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from flask import current_app

from . import samples, stock_mails, templating
from .elements import elements_of, loaded_from_elsewhere
from .findings import Finding, Kind, file_check
from .settings import current, declared
from .trees import Trees, short

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
UNKNOWN_SETTING = Kind(
    "template-setting",
    "error",
    "It uses settings.{name}, and there is no such setting{near}.",
    "There would be a hole in the text.",
    "manage.py config show lists what there is.",
    DIRECTORY,
)
UNUSED_BLOCK = Kind(
    "template-block-unused",
    "warning",
    "It fills {names}, which the template that it extends does not have.",
    "What stands there is shown to nobody.",
    "There are: {known}.",
    DIRECTORY,
)
PARTS = {samples.SUBJECT: "subject", samples.TEXT: "plain text", samples.HTML: "HTML"}


def of_templates() -> list[Finding]:
    """All that is wrong with templates, the admin's and ours. Needs an app context, and no database."""
    trees = Trees(current_app.jinja_env)
    found = list(_of_mails(trees))
    with samples.a_request():
        found += _of_pages(trees)
        found += _of_own_files(trees)
    return list(dict.fromkeys(found))  # several states of a page, one finding


@file_check
def of_own_templates() -> list[Finding]:
    """The same, unless the admin has none: ours were looked at by our tests. Looks once in an app's life."""
    known: dict[str, Any] = current_app.extensions
    if "template_findings" not in known:
        of_files = of_templates() if any(templating.replaced(current())) else []
        known["template_findings"] = [*_of_set_subjects(), *of_files]
    found: list[Finding] = known["template_findings"]
    return found


def _of_set_subjects() -> Iterator[Finding]:
    """Subjects that are settings: of the mails that Flask-Security writes."""
    for mail in samples.MAILS:
        if mail.subject and samples.is_sent(mail, current()):
            yield from _of_subject(stock_mails.subject_of(mail.subject), setting=mail.subject)


def _of_mails(trees: Trees) -> Iterator[Finding]:
    for mail in samples.MAILS:
        # What Flask-Security mails, it writes within a request.
        with samples.a_request() if mail.subject else nullcontext():
            wrong = [
                finding for name in mail.parts().values() for finding in _of_one(trees, name, mail.context)
            ]
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


def _of_pages(trees: Trees) -> Iterator[Finding]:
    for page in samples.pages():
        name = f"security/{page.template}.html"
        if wrong := list(_of_one(trees, name, page.context)):
            yield from wrong
            continue
        elements = elements_of(samples.render(name, page.context))
        sent = {element.attributes.get("name") for element in elements}
        if missing := [field for field in page.fields if field not in sent]:
            yield WITHOUT_FIELD.found(where=trees.path(name), names=", ".join(missing), template=name)
        if blocked := [element for element in elements if element.is_blocked()]:
            yield BLOCKED.found(where=trees.path(name), what=blocked[0])


def _of_own_files(trees: Trees) -> Iterator[Finding]:
    """What can be seen without rendering: of other pages of Flask-Security's, and of what has no effect."""
    known = {*templating.shipped(), *_of_flask_security()}
    own = list(templating.replaced(current()))
    used = {name for one in own if one in known for name in trees.reached(one)}
    for name in own:
        where = trees.path(name)
        if name not in known | used:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
            yield REPLACES_NOTHING.found(where=where, near=f" (did you mean {near[0]}?)" if near else "")
        elif said := trees.problem(name):
            yield BROKEN.found(where=where, said=said)
        else:
            unused, there = trees.unused_blocks(name)
            if unused:
                yield UNUSED_BLOCK.found(where=where, names=", ".join(unused), known=", ".join(there))
            for setting in trees.unknown_settings(name):
                like = difflib.get_close_matches(setting, declared(), 1, cutoff=0.6)
                near_by = f" (did you mean {like[0]}?)" if like else ""
                yield UNKNOWN_SETTING.found(where=where, name=setting, near=near_by)


def _of_one(trees: Trees, name: str, context: dict[str, Any]) -> Iterator[Finding]:
    """Whether one template can be rendered with this context, whatever branch is taken."""
    for reached in trees.reached(name):
        if said := trees.problem(reached):
            at_fault = trees.path(reached)
            yield BROKEN.found(where=trees.path(name) if at_fault == reached else at_fault, said=said)
            return
    given: dict[str, Any] = {**current_app.jinja_env.globals, **context}
    current_app.update_template_context(given)
    if unknown := trees.unknown_names(name, given):
        names, known = ", ".join(unknown), ", ".join(samples.known_in(context))
        yield UNKNOWN_VARIABLE.found(where=trees.path(next(iter(unknown.values()))), names=names, known=known)
        return
    try:
        samples.render(name, context)
    except Exception as error:  # a template can raise anything
        where, line = _place(trees, name, error)
        said = f"{line}{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, RecursionError):
            said = f"It extends or includes itself. Ours is shipped/{name}."
        yield BROKEN.found(where=where, said=said)


def _place(trees: Trees, name: str, error: Exception) -> tuple[str, str]:
    """The file and line that an error came from: Jinja puts them into the traceback."""
    paths = {trees.path(reached) for reached in trees.reached(name)}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if short(frame.filename) in paths:
            return short(frame.filename), f"Line {frame.lineno}: "
    return trees.path(name), ""


def _of_flask_security() -> set[str]:
    loader = current_app.blueprints["security"].jinja_loader
    return set(loader.list_templates()) if loader else set()
