"""Findings of the template checks."""

from __future__ import annotations

from functools import partial

from ..settings.checks import Kind

TemplateKind = partial(Kind, setting="RECOVERY_TEMPLATE_DIR")
TAKE_AWAY = "Correct the file, or take it away: ours is used then."
BROKEN = TemplateKind(
    "template-broken", "error", "{said}", "Whoever should get this mail or page gets none.", TAKE_AWAY
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
