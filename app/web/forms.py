"""Forms and variables of pages, as Flask-Security's extension points give them to the views that are ours."""

from typing import Any

from flask_security.proxies import _security


def new_form(name: str, **options: Any) -> Any:
    """Return a form of the class that has this name in Flask-Security; RECOVERY_CLASSES may replace it."""
    info = _security.forms[name]
    return info.instantiator(name, info.cls, **options)


def context_of(page: str) -> dict[str, Any]:
    """Return the variables of the context processors for one of Flask-Security's pages, or for "mail"."""
    variables: dict[str, Any] = _security._run_ctx_processor(page)
    return variables


def context_names() -> set[str]:
    """Return the variables of the context processors for any page or mail."""
    return {name for page in list(_security._context_processors) for name in context_of(page)}
