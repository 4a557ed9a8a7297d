"""The public URL: no Host or X-Forwarded-* header of a request ever reaches a link.

RECOVERY_PUBLIC_URL sets Flask's SERVER_NAME, APPLICATION_ROOT and PREFERRED_URL_SCHEME. Every request is
rewritten to it before anything builds a URL.
"""

import ipaddress
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flask import Flask, redirect, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.middleware.proxy_fix import ProxyFix

from ..settings.schema import Settings
from .errors import InvalidRequest, OriginNotAllowed

# Load balancers request these by any host name or address.
ANY_HOST = ("pages.alive", "pages.ready", "metrics.show", "static")
FORWARD_AUTH = "whoami.authenticate"  # proxies ask it, by any host name, about one in X-Forwarded-Host
# Keys in the WSGI environment: the host name of the request, and the scheme that the proxy reports.
REQUESTED_HOST = "sparekey.requested_host"
REQUESTED_SCHEME = "sparekey.requested_scheme"
# RFC 6265 §4.1.1. Any other pair is dropped whole, because a name without its odd characters could be that of
# a `__Host-` cookie, which a sibling domain cannot set. Flask-Login fails on values that are not ASCII.
COOKIE_PAIR = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\x20-\x7e]*")


class PublicUrlMiddleware:
    """WSGI middleware that rewrites a request's URL to RECOVERY_PUBLIC_URL, and notes host and scheme.

    The path prefix moves to SCRIPT_NAME, even if the proxy has stripped it.
    """

    def __init__(self, wsgi: Any, public: SplitResult, proxies: int) -> None:
        self.wsgi, self.public, self.proxies = wsgi, public, proxies

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path, prefix = environ.get("PATH_INFO", ""), self.public.path
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            environ["PATH_INFO"] = path[len(prefix) :]
        environ["SCRIPT_NAME"] = prefix
        environ[REQUESTED_HOST] = _host_name(environ.get("HTTP_HOST", ""))
        schemes = [scheme.strip() for scheme in environ.get("HTTP_X_FORWARDED_PROTO", "").split(",")]
        environ[REQUESTED_SCHEME] = schemes[-self.proxies] if 0 < self.proxies <= len(schemes) else ""
        environ["HTTP_HOST"] = self.public.netloc
        environ["wsgi.url_scheme"] = self.public.scheme
        environ["REMOTE_ADDR"] = _address(environ.get("REMOTE_ADDR", ""))
        if "HTTP_COOKIE" in environ:
            pairs = (pair.strip(" \t") for pair in environ["HTTP_COOKIE"].split(";"))
            environ["HTTP_COOKIE"] = "; ".join(filter(COOKIE_PAIR.fullmatch, pairs))
        return self.wsgi(environ, start_response)


def _host_name(text: str) -> str | None:
    """Return the host name without the port. None if it is malformed."""
    try:
        return urlsplit(f"//{text.strip()}").hostname
    except ValueError:
        return None


def _address(text: str) -> str:
    """Return an IP address without zone and port, which some load balancers add. "" if it is malformed."""
    try:
        bare = re.sub(r"^\[(.*)\](:\d+)?$|^([\d.]+):\d+$", r"\1\3", text).partition("%")[0]
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return ""


def _trim_token(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Cut a link's token at the first character that none holds, such as punctuation behind the link."""
    if values and "token" in values:
        values["token"] = re.match(r"~?[\w.-]*", values["token"], re.ASCII)[0].rstrip(".")  # type: ignore[index]  # it fits any text


def init_app(app: Flask, settings: Settings) -> None:
    """Rewrite every request, trust RECOVERY_TRUSTED_PROXIES proxies, refuse other hosts and plain HTTP."""
    hops, public_url = settings.RECOVERY_TRUSTED_PROXIES, settings.RECOVERY_PUBLIC_URL
    public = urlsplit(public_url)
    wsgi = PublicUrlMiddleware(app.wsgi_app, public, hops)
    app.wsgi_app = ProxyFix(wsgi, x_for=hops, x_proto=0, x_host=0)  # type: ignore[method-assign]  # Flask's seam
    app.url_map.strict_slashes = False  # people and mail programs append a slash
    app.url_value_preprocessor(_trim_token)

    @app.before_request
    def refuse_misdirected() -> ResponseReturnValue | None:
        """Refuse plain HTTP instead of redirecting, because an eavesdropper has already read the request."""
        if not request.environ["PATH_INFO"]:  # with the home page, a proxy that meant /auth would let all in
            return redirect(f"{public_url}/", HTTPStatus.PERMANENT_REDIRECT)
        if request.endpoint in ANY_HOST:
            return None
        host = request.environ[REQUESTED_HOST]
        if request.endpoint == FORWARD_AUTH and (forwarded := request.headers.get("X-Forwarded-Host")):
            host = _host_name(forwarded.rpartition(",")[2])
        if host != public.hostname and request.endpoint == FORWARD_AUTH:
            raise OriginNotAllowed(
                _("Signing in at %(url)s doesn't give access to %(host)s.", url=public_url, host=host)
            )
        if host != public.hostname:
            raise InvalidRequest(_("To use this service, go to %(url)s", url=public_url))
        if (request.environ[REQUESTED_SCHEME], public.scheme) == ("http", "https"):
            text = _("Plain HTTP isn't accepted (X-Forwarded-Proto). To use this service, go to %(url)s")
            raise InvalidRequest(text % {"url": public_url})
        return None
