"""A mail relay with TLS and a login."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from .mailbox import Mailbox
from .servers import free_port

LOGIN = LoginPassword(b"sparekey", b"the relay's password")


class ImplicitTLS(Controller):
    """TLS from the first byte, as on port 465."""

    def __init__(self, *args: Any, tls: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(*args, ssl_context=tls, **kwargs)


def check_login(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
    return AuthResult(success=login == LOGIN, handled=False)


def certificate(authority: trustme.CA, host: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


@contextmanager
def relay(kind: type[Controller] = Controller, **options: Any) -> Iterator[Mailbox]:
    box = Mailbox(free_port())
    controller = kind(box, hostname="localhost", port=box.port, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
