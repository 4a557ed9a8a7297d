"""Every absolute URL, Flask-Security's own mails included, is made here from RECOVERY_PUBLIC_URL.

What a request says about itself (Host, X-Forwarded-*) never reaches a link.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, has_request_context, request
from flask_babel import gettext as _
from werkzeug.middleware.proxy_fix import ProxyFix

from ..settings import current
from ..settings.schema import Settings
from .errors import InvalidRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Load balancers ask for these by whatever name or number they know.
ANY_HOST = ("pages.alive", "pages.ready", "metrics.show", "static")
# What was asked for, in the WSGI environment: the Host that was sent, and the scheme that our proxy says.
ASKED_HOST = "sparekey.asked_host"
ASKED_SCHEME = "sparekey.asked_scheme"


class Application(Flask):
    """Flask whose external URLs ignore the request; `url_for` is Flask's own seam for this."""

    def url_for(self, /, endpoint: str, **values: Any) -> str:
        """As Flask's. With `_external`, and outside a request, the URL starts with the public one."""
        if not values.pop("_external", not has_request_context()):
            return super().url_for(endpoint, _external=False, **values)
        if endpoint.startswith("."):
            endpoint = f"{request.blueprint}{endpoint}"
        public = urlsplit(self.config["RECOVERY_PUBLIC_URL"])
        adapter = self.url_map.bind(public.netloc, public.path or "/", url_scheme=public.scheme)
        return adapter.build(endpoint, values, force_external=True)


class Entrance:
    """What the app sees of a request's address is what RECOVERY_PUBLIC_URL says, not what was sent.

    The path prefix goes, whether or not the proxy has stripped it. Host and scheme become the public
    ones, since Flask-Security and Werkzeug build URLs from them; what was asked for is kept aside.
    """

    def __init__(self, wsgi: WSGIApplication, public_url: str, proxies: int) -> None:
        self.wsgi, self.public, self.proxies = wsgi, urlsplit(public_url), proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path, prefix = environ.get("PATH_INFO", ""), self.public.path
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            environ["PATH_INFO"] = path[len(prefix) :]
        environ["SCRIPT_NAME"] = prefix
        environ[ASKED_HOST] = environ.get("HTTP_HOST", "")
        said = [scheme.strip() for scheme in environ.get("HTTP_X_FORWARDED_PROTO", "").split(",")]
        environ[ASKED_SCHEME] = said[-self.proxies] if 0 < self.proxies <= len(said) else ""
        environ["HTTP_HOST"] = self.public.netloc
        environ["wsgi.url_scheme"] = self.public.scheme
        environ["REMOTE_ADDR"] = _address(environ.get("REMOTE_ADDR", ""))
        if "HTTP_COOKIE" in environ:  # Flask-Login fails on others; ours are ASCII
            environ["HTTP_COOKIE"] = environ["HTTP_COOKIE"].encode("latin-1").decode("ascii", "ignore")
        return self.wsgi(environ, start_response)


def _address(text: str) -> str:
    """A proxy hands on what it is told: only an address counts as one."""
    try:
        # Without a zone, and without the port that some load balancers add.
        bare = re.sub(r"^\[(.*)\](:\d+)?$|^([\d.]+):\d+$", r"\1\3", text).partition("%")[0]
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return ""


def init_app(app: Flask, settings: Settings) -> None:
    """Tell the app its place: address, and how many proxies are believed."""
    hops = settings.RECOVERY_TRUSTED_PROXIES
    app.wsgi_app = Entrance(app.wsgi_app, settings.RECOVERY_PUBLIC_URL, hops)  # type: ignore[method-assign]  # Flask's seam
    if hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=0, x_host=0)  # type: ignore[method-assign]  # as above
    app.before_request(_refuse_unknown_host)
    app.before_request(_refuse_plain_http)


def _refuse_unknown_host() -> None:
    """Whoever asks for another host was sent here by mistake, or means to mislead us."""
    public_url = current().RECOVERY_PUBLIC_URL
    if (
        request.endpoint not in ANY_HOST
        and _host_in(request.environ[ASKED_HOST]) != urlsplit(public_url).hostname
    ):
        raise InvalidRequest(_("This service is reached at %(url)s", url=public_url))


def _refuse_plain_http() -> None:
    """Where https is promised, nothing is served over less, and no redirect makes up for it: what was sent in
    the clear was read already."""
    public_url = current().RECOVERY_PUBLIC_URL
    asked = request.environ[ASKED_SCHEME]
    if request.endpoint not in ANY_HOST and asked == "http" and urlsplit(public_url).scheme == "https":
        said = _("This service is reached at %(url)s, and not by http (X-Forwarded-Proto).", url=public_url)
        raise InvalidRequest(said)


def _host_in(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
