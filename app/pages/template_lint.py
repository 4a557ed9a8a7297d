"""Template lint: what an admin's templates get wrong, read from their sources.

For a page the shipped one is the sample: it tells which variables there are, and which fields a form needs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from flask import current_app
from jinja2 import FileSystemLoader

from ..settings import current
from ..settings.checks import Finding, Kind
from ..settings.schema import declared
from ..web import templates
from . import samples
from .template_trees import Trees

TemplateKind = partial(Kind, setting="RECOVERY_TEMPLATE_DIR")
TAKE_AWAY = "Correct the file, or take it away: ours is used then."
BROKEN = TemplateKind(
    "template-broken",
    "error",
    "{said}",
    "Whoever should get this mail or page gets none.",
    TAKE_AWAY,
)
UNKNOWN_VARIABLE = TemplateKind(
    "template-variable",
    "error",
    "It uses {names}, which no page or mail of this name is given.",
    "There would be a hole in the text, or an error.",
    "It may use: {known}.",
)
WITHOUT_FIELD = TemplateKind(
    "template-without-field",
    "error",
    "The form lacks {names}.",
    "What people send with it is refused.",
    "Take over the form of templates/{template}.",
)
BLOCKED = TemplateKind(
    "template-blocked",
    "warning",
    "It holds {what}.",
    "Browsers drop that: the Content-Security-Policy allows only what comes from here.",
    'Leave it out; a script needs nonce="{{{{ csp_nonce() }}}}".',
)
REPLACES_NOTHING = TemplateKind(
    "template-replaces-nothing",
    "warning",
    "There is no template of this name{near}.",
    "The file has no effect.",
    "Give it the name of the template that it is to replace.",
)
UNKNOWN_SETTING = TemplateKind(
    "template-setting",
    "error",
    "It uses settings.{name}, and there is no such setting{near}.",
    "There would be a hole in the text.",
    "manage.py config show lists what there is.",
)
UNUSED_BLOCK = TemplateKind(
    "template-block-unused",
    "warning",
    "It fills {names}, which the template that it extends does not have.",
    "What stands there is shown to nobody.",
    "There are: {known}.",
)
# The setting that brings a page, by how the page's name begins.
COMES_WITH = {
    "change_email": "SECURITY_CHANGE_EMAIL",
    "change_password": "SECURITY_CHANGEABLE",
    "mf_": "SECURITY_MULTI_FACTOR_RECOVERY_CODES",
    "recover_username": "SECURITY_USERNAME_RECOVERY",
    "register_user": "SECURITY_REGISTERABLE",
    "send_confirmation": "SECURITY_CONFIRMABLE",
    "two_factor_": "SECURITY_TWO_FACTOR",
    "us_": "SECURITY_UNIFIED_SIGNIN",
    "wan_": "SECURITY_WEBAUTHN",
}


def of_names(trees: Trees, name: str, context: set[str]) -> Iterator[Finding]:
    """Yield templates that Jinja refuses, or else variables that nothing gives."""
    for reached in trees.reached(name):
        if said := trees.problem(reached):
            at_fault = trees.path(reached)
            yield BROKEN.found(where=trees.path(name) if at_fault == reached else at_fault, said=said)
            return
    if trees.needs_itself(name):
        said = f"It extends or includes itself. Ours is shipped/{name}."
        yield BROKEN.found(where=trees.path(name), said=said)
    elif unknown := trees.unknown_names(name, context | _given_everywhere()):
        names, known = ", ".join(unknown), ", ".join(samples.known_in(context))
        yield UNKNOWN_VARIABLE.found(where=trees.path(next(iter(unknown.values()))), names=names, known=known)


def _given_everywhere() -> set[str]:
    given: dict[str, Any] = {**current_app.jinja_env.globals}
    current_app.update_template_context(given)
    return set(given)


def of_own_files(trees: Trees) -> Iterator[Finding]:
    """Check every file of the admin's. A page that we do not ship, or that is never shown, is only parsed."""
    stock = current_app.blueprints["security"].jinja_loader
    assert stock is not None
    shipped, own = set(templates.shipped()), list(templates.replaced(current()))
    known = shipped.union(stock.list_templates())
    used = {name for one in own if one in known for name in trees.reached(one)}
    loaders = (FileSystemLoader(templates.SHIPPED), stock)
    originals = [Trees(trees.env.overlay(loader=loader)) for loader in loaders]
    for name in own:
        where = trees.path(name)
        if name not in known | used:
            yield REPLACES_NOTHING.found(where=where, near=_near(name, known, 0.75))
        elif said := trees.problem(name):
            yield BROKEN.found(where=where, said=said)
        else:
            yield from _of_parsed(trees, name)
            if name in shipped and not name.startswith(samples.FOLDER) and _is_shown(name):
                yield from _of_page(trees, name, set(own), *originals)


def _of_parsed(trees: Trees, name: str) -> Iterator[Finding]:
    unused, there = trees.unused_blocks(name)
    if unused:
        yield UNUSED_BLOCK.found(where=trees.path(name), names=", ".join(unused), known=", ".join(there))
    for setting in trees.unknown_settings(name):
        near = _near(setting, declared(), 0.6)
        yield UNKNOWN_SETTING.found(where=trees.path(name), name=setting, near=near)


def _is_shown(name: str) -> bool:
    page = name.removeprefix("security/")
    return all(getattr(current(), by) for start, by in COMES_WITH.items() if page.startswith(start))


def _near(name: str, known: Iterable[str], cutoff: float) -> str:
    near = difflib.get_close_matches(name, known, 1, cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def _of_page(trees: Trees, name: str, own: set[str], shipped: Trees, stock: Trees) -> Iterator[Finding]:
    """Compare a page with the shipped one, which is its sample. Flask-Security's has the same variables."""
    variables = (shipped.names(name) | stock.names(name)) - _given_everywhere()
    if wrong := list(of_names(trees, name, variables)):
        yield from wrong
        return
    missing = trees.fields_missing(name, shipped.fields_needed(name, variables))
    if missing and (current().sends_mail or not name.endswith("forgot_password.html")):
        yield WITHOUT_FIELD.found(where=trees.path(name), names=", ".join(missing), template=name)
    for reached in filter(own.__contains__, trees.reached(name)):
        fine = shipped.elements(reached)
        if blocked := [one for one in trees.elements(reached) if one.is_blocked() and one not in fine]:
            yield BLOCKED.found(where=trees.path(reached), what=blocked[0])
