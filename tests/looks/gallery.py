"""The HTML of every page in each state, and every mail. Names are stable, such as `reset_password-with-errors`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from flask import Flask, flash, render_template
from flask_security.utils import get_message
from looks import page_samples
from looks.page_samples import Page
from support.features import ALL_FEATURES
from support.site import load_settings
from werkzeug.exceptions import default_exceptions

from app.mail.composing import Mail
from app.pages import samples
from app.recovery.link_errors import LinkError
from app.web import errors, i18n
from app.web.errors import NoMail, RequestError
from examples.demo import create_app

LOCALES = ("en", "de", "fr", "es", "ar")
HELP = "support.and.information@lagoon-services.example.com"  # as wide as they come

MAILING = {
    "RECOVERY_PUBLIC_URL": "https://id.example.com", "MAIL_SERVER": "mail.example.com", "MAIL_USE_TLS": True,
    "MAIL_DEFAULT_SENDER": "no-reply@example.com",
}  # fmt: skip
FULL = {
    **ALL_FEATURES, **MAILING, "SECURITY_SMS_SERVICE": "app.accounts.one_time_codes:FileSender",
    "RECOVERY_SUPPORT_CONTACT": HELP, "RECOVERY_OPERATOR": "operator@example.com",
}  # fmt: skip
# Each shows pages that the others do not have, or have in another form.
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "full": FULL,
    "plain": MAILING,
    "without-mail": {**MAILING, "MAIL_SERVER": "", "RECOVERY_SUPPORT_CONTACT": HELP},
    "demo": {"RECOVERY_INBOX": True, "RECOVERY_SITE_NAME": "Sparekey demo"},
}
# Pages that look different in these deployments.
OTHER_PAGES = {
    "plain": {"home-signed-in", "login_user", "verify", "check_mail", "not_me-address_notice-done"},
    "without-mail": {"forgot_password"},
}

# Other texts of one kind of mail, by the variables that cause them.
MAIL_VARIANTS = {
    "registration-username-taken": ("welcome", {"missed": "alice", "chosen": None}),
    "reset_notice-nothing-known": ("reset_notice", {"source": None, "user_agent": None}),
    "address_notice-nothing-known": ("address_notice", {"source": None, "user_agent": None}),
    "operator_alert-of-no-account": ("operator_alert", {"account": None}),
}

# A flashed message of each category.
MESSAGES = {"info": "UNAUTHENTICATED", "success": "REAUTHENTICATION_SUCCESSFUL", "error": "TWO_FACTOR_SETUP_EXPIRED"}  # fmt: skip


@cache
def deployment(name: str) -> Flask:
    return create_app(load_settings(**DEPLOYMENTS[name]))


@cache
def pages_in(locale: str = "en") -> dict[str, str]:
    """Return the HTML of every page by name. States that look the same are returned once."""
    pages = [*_of_deployments(locale), *_problems(locale), *_with_messages(locale), *_of_the_demo(locale)]
    assert len(dict(pages)) == len(pages), "two states of a page have one name"
    first_names = {html: name for name, html in reversed(pages)}
    return {name: html for name, html in pages if first_names[html] == name}


@cache
def mails_in(locale: str = "en") -> dict[str, Mail]:
    """Return every mail by name, with its variants, and as it is without a support contact."""
    kinds = {mail.name: mail for mail in samples.MAILS}
    variants = {
        name: replace(kinds[kind], variables={**kinds[kind].variables, **variables})
        for name, (kind, variables) in MAIL_VARIANTS.items()
    }
    with request_in("full", locale):
        mails = {name: samples.compose(mail) for name, mail in {**kinds, **variants}.items()}
    with request_in("plain", locale):
        mails |= {f"{name}-without-contact": samples.compose(mail) for name, mail in kinds.items()}
    return mails


@contextmanager
def request_in(deployed: str, locale: str, messages: Sequence[str] = ()) -> Iterator[Flask]:
    """A request to a deployment in a language, with flashed messages."""
    app = deployment(deployed)
    with app.app_context(), i18n.use_language(locale), samples.request_context():
        for name in messages:
            flash(*get_message(name))
        yield app


def rendered(page: Page) -> str:
    return render_template(f"security/{page.template}.html", **page.context)


def _of_deployments(locale: str) -> Iterator[tuple[str, str]]:
    for deployed, names in {"full": None, **OTHER_PAGES}.items():
        with request_in(deployed, locale):
            for page in page_samples.pages():
                if names is None or page.name in names:
                    yield page.name if names is None else f"{page.name}-{deployed}", rendered(page)


def _problems(locale: str) -> Iterator[tuple[str, str]]:
    """Let the application answer each error."""
    for name, make_error in _errors():
        with request_in("full", locale) as app:
            answer = app.make_response(app.handle_user_exception(make_error()))
        yield f"problem-{name}", answer.get_data(as_text=True)


def _errors() -> Iterator[tuple[str, Callable[[], Exception]]]:
    for kind in (errors.CsrfFailed, *_subclasses(RequestError)):
        yield kind.__name__, partial(kind, HELP) if kind is NoMail else kind
    for status, (code, _, _) in errors.HTTP_ERRORS.items():
        yield f"{code}-{status}", default_exceptions[status]


def _subclasses(root: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        if kind not in (LinkError, errors.CsrfFailed):
            yield kind
        yield from _subclasses(kind)


def _with_messages(locale: str) -> Iterator[tuple[str, str]]:
    for kind, names in {**{kind: [name] for kind, name in MESSAGES.items()}, "messages": [*MESSAGES.values()]}.items():  # fmt: skip
        with request_in("full", locale, names):
            login = next(page for page in page_samples.pages() if page.template == "login_user")
            yield f"login_user-with-{kind}", rendered(login)


def _of_the_demo(locale: str) -> Iterator[tuple[str, str]]:
    with request_in("demo", locale):
        composed = samples.compose(samples.MAILS[0])
        mail = {
            "number": "1", "subject": composed.subject, "sender": "no-reply@example.com", "recipient": composed.recipient,
            "at": datetime(2026, 2, 28, 14, 5, tzinfo=UTC), "text": composed.body, "html": composed.html,
        }  # fmt: skip
        long = {**mail, "subject": "A subject that goes on and on, as some do, " * 3}
        yield "inbox-empty", render_template("inbox.html", mails=[])
        yield "inbox", render_template("inbox.html", mails=[mail, long])
        yield "inbox_mail", render_template("inbox_mail.html", mail=mail)
