"""Flask-Security's mails: changes of address, and codes.

They are rendered in a request, in the language of the reader and not of the page, and queued in the outbox.
"""

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

import flask
from flask import Response, after_this_request, current_app, has_request_context
from flask_babel import get_locale
from flask_security import MailUtil
from flask_security.mail_util import EmailValidateException
from flask_security.utils import get_message

from ..accounts import identity_mappers
from ..db.engine import db
from ..web import i18n, user_agents
from . import composing, outbox, quota

EXPIRED = "its link or code has expired meanwhile"
# By template: the setting of the validity of its code or link.
VALIDITIES = {
    "change_email_instructions": "SECURITY_CHANGE_EMAIL_WITHIN",
    "two_factor_instructions": "SECURITY_TWO_FACTOR_MAIL_VALIDITY",
    "two_factor_rescue": "",
    "us_instructions": "SECURITY_US_TOKEN_VALIDITY",
}


def render_template(template: str, **context: Any) -> str:
    """Flask-Security's seam for templates: a page in the request's language, a mail in its reader's."""
    name = PurePath(template).stem
    if name not in VALIDITIES:
        return flask.render_template(template, **context)
    context |= {"occurred_at": datetime.now(UTC), **user_agents.requester()}
    with _reader_language(name, context.get("user")):
        if span := _validity(name):
            context["within"] = i18n.duration(span)
        return flask.render_template(template, **context)


def _validity(name: str) -> timedelta | None:
    """Return how long the code or link of a mail works, or None for a mail without either."""
    validity = current_app.config.get(VALIDITIES.get(name, ""))
    return timedelta(seconds=validity) if isinstance(validity, (int, float)) else validity


def _reader_language(name: str, user: Any) -> AbstractContextManager[None]:
    """Use the language of a mail's reader: the account's, or else the requester's; the default for others."""
    languages = () if name == "two_factor_rescue" else (getattr(user, "language", None), str(get_locale()))
    return i18n.use_language(*languages)


class QueuedMailUtil(MailUtil):
    """Flask-Security's seam for mail: queues it in the outbox."""

    def normalize(self, email: str) -> str:
        """Return an address in normal form. Raises EmailValidateException."""
        if (normal := identity_mappers.normalize_identity("email", email)) is None:
            raise EmailValidateException(get_message("INVALID_EMAIL_ADDRESS")[0])
        return normal

    validate = normalize  # no DNS in a request

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **context: Any
    ) -> None:
        """Queue a mail, and commit it, because some of Flask-Security's views commit nothing."""
        name, user = PurePath(template).name, context.get("user")
        if name in VALIDITIES:
            with _reader_language(name, user):
                subject = composing.render_subject(name, **context)
        parts = {"recipient": recipient, "subject": str(subject), "text": body or "", "html": html or ""}
        if span := _validity(name):
            parts["until"] = (datetime.now(UTC) + span).isoformat()
        # A new address is one that the requester typed.
        own_quota = quota.of_address(recipient) if name == "change_email_instructions" else ""
        outbox.enqueue(outbox.RENDERED, user_id=user.id if user else None, quota=own_quota, **parts)
        if has_request_context():
            after_this_request(_commit)


def _commit(response: Response) -> Response:
    db.session.commit()
    return response


@composing.composer(outbox.RENDERED)
def _compose(message: outbox.OutboxMessage) -> composing.Mail:
    content = dict(message.content)
    if (until := content.pop("until", None)) and datetime.now(UTC) > datetime.fromisoformat(until):
        raise composing.Undeliverable(EXPIRED)
    if message.quota:
        quota.refuse_excess(message)
    return composing.compose(**content, message_id=message.message_id)
