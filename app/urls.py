"""Every absolute URL, Flask-Security's own mails included, is made here from RECOVERY_PUBLIC_URL.

What a request says about itself (Host, X-Forwarded-*) never reaches a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, has_request_context, request
from werkzeug.middleware.proxy_fix import ProxyFix

from .errors import InvalidRequest
from .settings import Settings, current

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


# Load balancers ask for these by whatever name or number they know.
ANY_HOST = ("pages.alive", "pages.ready")


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


class PathPrefix:
    """Serves the app under the public URL's path, whether or not the proxy strips it."""

    def __init__(self, wsgi: WSGIApplication, prefix: str) -> None:
        self.wsgi, self.prefix = wsgi, prefix

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path = environ.get("PATH_INFO", "")
        if path == self.prefix or path.startswith(f"{self.prefix}/"):
            environ["PATH_INFO"] = path[len(self.prefix) :]
        environ["SCRIPT_NAME"] = self.prefix
        return self.wsgi(environ, start_response)


def _refuse_unknown_host() -> None:
    """Whoever asks for another host was sent here by mistake, or means to mislead us."""
    settings = current()
    asked, ours = (urlsplit(url).hostname for url in (f"//{request.host}", settings.RECOVERY_PUBLIC_URL))
    if asked != ours and request.endpoint not in ANY_HOST:
        raise InvalidRequest(f"This service is reached at {settings.RECOVERY_PUBLIC_URL}")


def init_app(app: Flask, settings: Settings) -> None:
    """Tell the app its place: path, and how many proxies are believed."""
    app.before_request(_refuse_unknown_host)
    if prefix := urlsplit(settings.RECOVERY_PUBLIC_URL).path:
        app.wsgi_app = PathPrefix(app.wsgi_app, prefix)  # type: ignore[method-assign]  # Flask's documented seam
    if hops := settings.RECOVERY_TRUSTED_PROXIES:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
