"""The mails that Flask-Security writes itself, while somebody waits: a change of address or password, codes.

They rest sealed in the outbox, like all mail. Flask-Security writes them in the language of the page; an
account with a language of its own gets them in that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from flask import Response, after_this_request, current_app, has_request_context, render_template
from flask_security import MailUtil
from flask_security.mail_util import EmailValidateException
from flask_security.utils import get_message, localize_callback

from ..accounts import identities
from ..db.engine import db
from ..settings import current
from ..settings.schema import Settings
from ..web import i18n
from ..web.i18n import N_
from . import composing, outbox
from .composing import composer
from .outbox import OutboxMessage


@composer(outbox.WRITTEN)
def _by_flask_security(message: OutboxMessage) -> composing.Mail:
    """A mail that Flask-Security has written itself: change of address, a code, ..."""
    return composing.compose(**message.content, message_id=message.message_id)


class Stock(NamedTuple):
    """One of them: settings of Flask-Security's, without their SECURITY_."""

    subject: str
    ours: str  # what it is unless it is set; %(site)s stands for RECOVERY_SITE_NAME in whatever it is
    within: str = ""  # how long what is in it works


STOCK = {
    "change_notice": Stock("EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE", N_("Your %(site)s password was changed")),
    "change_email_instructions": Stock(
        "CHANGE_EMAIL_SUBJECT", N_("Confirm your new address for %(site)s"), "CHANGE_EMAIL_WITHIN"
    ),
    "two_factor_instructions": Stock(
        "EMAIL_SUBJECT_TWO_FACTOR", N_("Your code for %(site)s"), "TWO_FACTOR_MAIL_VALIDITY"
    ),
    "us_instructions": Stock("US_EMAIL_SUBJECT", N_("Your code for %(site)s"), "US_TOKEN_VALIDITY"),
    "two_factor_rescue": Stock(
        "EMAIL_SUBJECT_TWO_FACTOR_RESCUE", N_("Somebody has lost a second factor at %(site)s")
    ),
}


def subjects(settings: Settings) -> dict[str, str]:
    """Whoever sets one of these has it."""
    ours = {f"SECURITY_{stock.subject}": stock.ours for stock in STOCK.values()}
    return {name: text for name, text in ours.items() if name not in settings.handed_on}


def subject_of(setting: str) -> str:
    """In the language that is spoken."""
    return _with_site(localize_callback(current_app.config[setting]))


class QueuedMailUtil(MailUtil):
    """Flask-Security's seam for mail: what it writes goes through our outbox."""

    def normalize(self, email: str) -> str:
        """The one normal form of an address. Raises EmailValidateException."""
        if (normal := identities.email(email)) is None:
            raise EmailValidateException(get_message("INVALID_EMAIL_ADDRESS")[0])
        return normal

    validate = normalize  # no DNS in a request

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **context: Any
    ) -> None:
        """Queue it. Some of Flask-Security's views commit nothing, so this sees to that itself."""
        user = context.get("user")
        spoken = i18n.spoken()
        said = {"subject": _with_site(subject), "text": body or "", "html": html or ""}
        is_operators = recipient == current().RECOVERY_OPERATOR
        language = None if is_operators else composing.language_of(user, spoken.name)
        with i18n.speaking(language):
            if i18n.spoken() != spoken:
                said = _said_again(template, said, context)
        outbox.enqueue(outbox.WRITTEN, user_id=user.id if user else None, recipient=recipient, **said)
        if has_request_context():
            after_this_request(_commit)


def _said_again(template: str, said: dict[str, str], context: dict[str, Any]) -> dict[str, str]:
    """The same in the language that is spoken now. What was not said is not said again."""
    endings = {"text": ".txt", "html": ".html"}
    if stock := STOCK.get(template.rpartition("/")[2]):
        said = {**said, "subject": subject_of(f"SECURITY_{stock.subject}")}
        if stock.within:
            valid = current_app.config[f"SECURITY_{stock.within}"]
            span = valid if isinstance(valid, timedelta) else timedelta(seconds=valid)
            context = {**context, "within": i18n.duration(span)}
    again = {part: render_template(template + end, **context) for part, end in endings.items() if said[part]}
    return {**said, **again}


def _with_site(subject: Any) -> str:
    return str(subject).replace("%(site)s", current().RECOVERY_SITE_NAME)


def _commit(response: Response) -> Response:
    db.session.commit()
    return response
