"""Flask-Security-Too with the recipe that one finds for slow mail: send it in a thread, answer at once."""

from __future__ import annotations

import threading
from typing import Any

import stock
from flask import Flask, current_app
from flask_security import MailUtil

fill = stock.fill


class ThreadedMail(MailUtil):
    """Hands each mail to a thread of its own."""

    def send_mail(self, *what: Any, **named: Any) -> None:
        app = current_app._get_current_object()

        def send() -> None:
            with app.app_context():
                super(ThreadedMail, self).send_mail(*what, **named)

        threading.Thread(target=send).start()


def create_app() -> Flask:
    return stock.create_app(mail_util_cls=ThreadedMail)
