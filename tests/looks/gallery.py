"""Every page in its states, and every mail, as they are sent: what the checks of looks look at, and the pictures.

Names are stable and say what is shown, such as `reset_password-with-errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from accounts.test_switches import ALL
from flask import Flask, flash, render_template
from flask_security.utils import get_message
from looks import page_samples
from looks.page_samples import Page
from support.site import load_settings
from werkzeug.exceptions import default_exceptions

from app.mail.composing import Mail
from app.pages import samples
from app.recovery.link_errors import LinkError
from app.web import errors, i18n
from app.web.errors import NoMail, RequestError
from examples.demo import create_app

LOCALES = ("en", "de", "fr", "es", "ar")
HELP = "help@example.com"

MAILING = {
    "RECOVERY_PUBLIC_URL": "https://id.example.com",
    "MAIL_SERVER": "mail.example.com",
    "MAIL_USE_TLS": True,
    "MAIL_DEFAULT_SENDER": "no-reply@example.com",
}
# Deployments that show what others do not.
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "full": {
        **ALL,
        **MAILING,
        "SECURITY_SMS_SERVICE": "app.accounts.one_time_codes:FileSender",
        "RECOVERY_SUPPORT_CONTACT": HELP,
        "RECOVERY_OPERATOR": "operator@example.com",
    },
    "plain": MAILING,
    "without-mail": {**MAILING, "MAIL_SERVER": "", "RECOVERY_SUPPORT_CONTACT": HELP},
    "demo": {"RECOVERY_INBOX": True, "RECOVERY_SITE_NAME": "Sparekey demo"},
}

ELSEWHERE = {
    "plain": {"home", "home-signed-in", "login_user", "verify", "check_mail", "not_me-address_notice-done"},
    "without-mail": {"forgot_password"},
}

# One kind of mail may say several things.
SAID_OTHERWISE = {
    "registration-username-taken": ("registration", {"missed": "alice"}),
    "reset_notice-nothing-known": ("reset_notice", {"source": None, "user_agent": None}),
    "address_notice-nothing-known": ("address_notice", {"source": None, "user_agent": None}),
    "operator_alert-of-no-account": ("operator_alert", {"account": None}),
}

# One of each kind.
MESSAGES = {
    "info": "UNAUTHENTICATED",
    "success": "REAUTHENTICATION_SUCCESSFUL",
    "error": "TWO_FACTOR_SETUP_EXPIRED",
}


@cache
def deployment(name: str) -> Flask:
    return create_app(load_settings(**DEPLOYMENTS[name]))


def pages_in(locale: str = "en") -> dict[str, str]:
    """The HTML of every page, by name."""
    found = [
        *_samples("full", locale),
        *_problems(locale),
        *_with_messages(locale),
        *_without_features(locale),
        *_of_the_demo(locale),
    ]
    named = dict(found)
    assert len(named) == len(found), "two states of a page have one name"
    first = {html: name for name, html in reversed(found)}  # what looks the same is looked at once
    return {name: html for name, html in found if first[html] == name}


def mails_in(locale: str = "en") -> dict[str, Mail]:
    """Every mail, by name; and those that say something else where less is known or set."""
    kinds = {mail.name: mail for mail in samples.MAILS}
    otherwise = {
        name: replace(kinds[kind], variables={**kinds[kind].variables, **given})
        for name, (kind, given) in SAID_OTHERWISE.items()
    }
    with asked("full", locale):
        found = {name: samples.compose(mail) for name, mail in {**kinds, **otherwise}.items()}
    with asked("plain", locale):
        found |= {f"{name}-without-contact": samples.compose(mail) for name, mail in kinds.items()}
    return found


@contextmanager
def asked(deployed: str, locale: str, messages: Sequence[str] = ()) -> Iterator[Flask]:
    app = deployment(deployed)
    with app.app_context(), i18n.use_language(locale), samples.request_context():
        for name in messages:
            flash(*get_message(name))
        yield app


def rendered(page: Page) -> str:
    return render_template(f"security/{page.template}.html", **page.context)


def _samples(deployed: str, locale: str) -> Iterator[tuple[str, str]]:
    with asked(deployed, locale):
        for page in page_samples.pages():
            if page.template != "problem":
                yield page.name, rendered(page)


def _problems(locale: str) -> Iterator[tuple[str, str]]:
    """As the app itself answers them."""
    for name, refuse in _refusals():
        with asked("full", locale) as app:
            answer = app.make_response(app.handle_user_exception(refuse()))
        yield f"problem-{name}", answer.get_data(as_text=True)


def _refusals() -> Iterator[tuple[str, Callable[[], Exception]]]:
    for kind in (errors.CsrfFailed, *_kinds_of(RequestError)):
        yield kind.code, partial(kind, HELP) if kind is NoMail else kind
    for status, (code, _, _) in errors.HTTP_ERRORS.items():
        yield f"{code}-{status}", default_exceptions[status]


def _kinds_of(root: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        if kind not in (LinkError, errors.CsrfFailed):
            yield kind
        yield from _kinds_of(kind)


def _with_messages(locale: str) -> Iterator[tuple[str, str]]:
    for kind, message in MESSAGES.items():
        with asked("full", locale, [message]):
            yield f"home-told-{kind}", rendered(Page("home", {}))
    with asked("full", locale, [*MESSAGES.values()]):
        login = next(page for page in page_samples.pages() if page.template == "login_user")
        yield "login_user-told-everything", rendered(login)


def _without_features(locale: str) -> Iterator[tuple[str, str]]:
    """What looks different where nothing is switched on, and where no mail is sent."""
    for deployed, names in ELSEWHERE.items():
        with asked(deployed, locale):
            for page in page_samples.pages():
                if page.name in names:
                    yield f"{page.name}-{deployed}", rendered(page)


def _of_the_demo(locale: str) -> Iterator[tuple[str, str]]:
    with asked("demo", locale):
        mail = _in_the_inbox(samples.compose(samples.MAILS[0]))
        long = {**mail, "subject": "A subject that goes on and on, as some do, " * 3}
        yield "inbox-empty", render_template("inbox.html", mails=[])
        yield "inbox", render_template("inbox.html", mails=[mail, long])
        yield "inbox_mail", render_template("inbox_mail.html", mail=mail)


def _in_the_inbox(letter: Mail) -> dict[str, Any]:
    return {
        "number": "1",
        "subject": letter.subject,
        "sender": "no-reply@example.com",
        "recipient": letter.recipient,
        "at": datetime(2026, 2, 28, 14, 5, tzinfo=UTC),
        "text": letter.body,
        "html": letter.html,
    }
