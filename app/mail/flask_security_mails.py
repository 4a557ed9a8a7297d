"""Flask-Security's mails: changes of address or password, and codes.

They are rendered in a request, in the language of the reader and not of the page, and queued in the outbox.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import PurePath
from typing import Any

import flask
from flask import Response, after_this_request, current_app, has_request_context
from flask_babel import get_locale
from flask_security import MailUtil
from flask_security.mail_util import EmailValidateException
from flask_security.utils import get_message

from ..accounts import identities
from ..db.engine import db
from ..settings.schema import Settings
from ..web import i18n
from ..web.i18n import N_
from . import composing, outbox, quota

# The default subjects. In any subject, %(site)s stands for RECOVERY_SITE_NAME.
SUBJECTS = {
    "SECURITY_CHANGE_EMAIL_SUBJECT": N_("Confirm your new address for %(site)s"),
    "SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE": N_("Your %(site)s password was changed"),
    "SECURITY_EMAIL_SUBJECT_TWO_FACTOR": N_("Your code for %(site)s"),
    "SECURITY_EMAIL_SUBJECT_TWO_FACTOR_RESCUE": N_("Somebody has lost a second factor at %(site)s"),
    "SECURITY_US_EMAIL_SUBJECT": N_("Your code for %(site)s"),
}
# By template: the setting of its subject, and the setting of the validity of its code or link.
MAILS = {
    "change_email_instructions": ("SECURITY_CHANGE_EMAIL_SUBJECT", "SECURITY_CHANGE_EMAIL_WITHIN"),
    "change_notice": ("SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE", ""),
    "two_factor_instructions": ("SECURITY_EMAIL_SUBJECT_TWO_FACTOR", "SECURITY_TWO_FACTOR_MAIL_VALIDITY"),
    "two_factor_rescue": ("SECURITY_EMAIL_SUBJECT_TWO_FACTOR_RESCUE", ""),
    "us_instructions": ("SECURITY_US_EMAIL_SUBJECT", "SECURITY_US_TOKEN_VALIDITY"),
}


def subjects(settings: Settings) -> dict[str, str]:
    """Return the default subjects that the admin has not replaced."""
    return {name: text for name, text in SUBJECTS.items() if name not in settings.library}


def render_template(template: str, **context: Any) -> str:
    """Flask-Security's seam for templates: a page in the request's language, a mail in its reader's."""
    name = PurePath(template).stem
    if name not in MAILS:
        return flask.render_template(template, **context)
    with _reader_language(name, context.get("user")):
        if validity := current_app.config.get(MAILS[name][1]):
            span = validity if isinstance(validity, timedelta) else timedelta(seconds=validity)
            context["within"] = i18n.duration(span)
        return flask.render_template(template, **context)


def _reader_language(name: str, user: Any) -> AbstractContextManager[None]:
    is_for_operator = name == "two_factor_rescue"
    return composing.reader_language(*((None, None) if is_for_operator else (user, str(get_locale()))))


class QueuedMailUtil(MailUtil):
    """Flask-Security's seam for mail: queues it in the outbox."""

    def normalize(self, email: str) -> str:
        """Return an address in normal form. Raises EmailValidateException."""
        if (normal := identities.normalize_identity("email", email)) is None:
            raise EmailValidateException(get_message("INVALID_EMAIL_ADDRESS")[0])
        return normal

    validate = normalize  # no DNS in a request

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **context: Any
    ) -> None:
        """Queue a mail, and commit it, because some of Flask-Security's views commit nothing."""
        name, user = PurePath(template).name, context.get("user")
        if name in MAILS:
            with _reader_language(name, user):
                subject = composing.subject_of(MAILS[name][0])
        parts = {"subject": str(subject), "text": body or "", "html": html or ""}
        number, is_typed = user.id if user else None, name == "change_email_instructions"  # by the requester
        own_quota = quota.of_address(recipient) if is_typed else ""
        outbox.enqueue(outbox.RENDERED, user_id=number, quota=own_quota, recipient=recipient, **parts)
        if has_request_context():
            after_this_request(_commit)


def _commit(response: Response) -> Response:
    db.session.commit()
    return response


@composing.composer(outbox.RENDERED)
def _compose(message: outbox.OutboxMessage) -> composing.Mail:
    if message.quota:
        quota.refuse_excess(message)
    return composing.compose(**message.content, message_id=message.message_id)
