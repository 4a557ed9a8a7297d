"""A site on a real socket, for browsers and HTTP clients."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import HTTPServer
from typing import Any

import trustme
from werkzeug.serving import WSGIRequestHandler, make_server

from .mailbox import link_in
from .servers import free_port
from .site import Site, served


@contextmanager
def live(make_site: Any, scheme: str = "http", **settings: Any) -> Iterator[Site]:
    """Serve a site at localhost, with a worker beside it."""
    port, tls = free_port(), None
    if scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost").configure_cert(tls)
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"{scheme}://localhost:{port}", **settings)
    with served(site.app, port, tls):
        yield site


def base_url(site: Site) -> str:
    return str(site.app.config["RECOVERY_PUBLIC_URL"])


def mailed_link(site: Site, identity: str = "alice") -> str:
    """Request a link, and wait until the worker has mailed it."""
    count = len(site.mailbox.mails)
    site.ask(identity)
    return link_in(site.mailbox.wait_for(count + 1))


@contextmanager
def serving(server: HTTPServer) -> Iterator[int]:
    """Run another server in a thread. Yields its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


def answering(app: Any, port: int = 0, tls: ssl.SSLContext | None = None) -> AbstractContextManager[int]:
    """Serve a WSGI application on a port. It writes no log."""
    handler = {"threaded": True, "request_handler": _Quiet}
    return serving(make_server("127.0.0.1", port, app, ssl_context=tls, **handler))
