"""Objects that settings name as "module:name": extensions, classes, the sender of text messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass
from pkgutil import resolve_name
from typing import Any

from flask import Flask

from .problems import Problem, SettingsError
from .schema import Settings


@contextmanager
def blamed_on(settings: Settings, setting: str, reference: str, failure: str) -> Iterator[None]:
    """Raise any error as a SettingsError that names the setting, the object and the failure."""
    try:
        yield
    except Exception as error:  # the code is not ours
        message = f"{reference} {failure}: {type(error).__name__}: {error}"
        raise SettingsError([Problem(setting, settings.origins.get(setting, ""), message)]) from error


def resolve(settings: Settings, setting: str, reference: str, base: type | None = None) -> Any:
    """Return the callable that `reference` names. Raises SettingsError if there is none.

    With `base`, it must be a class that derives from it.
    """
    with blamed_on(settings, setting, reference, "cannot be imported"):
        target = resolve_name(reference)
    with blamed_on(settings, setting, reference, "cannot be used"):
        if base and not (isclass(target) and issubclass(target, base)):
            raise TypeError(f"it does not derive from {base.__module__}.{base.__qualname__}")
        if not callable(target):
            raise TypeError("it cannot be called")
    return target


def run_extensions(app: Flask, settings: Settings) -> None:
    """Call every extension with the app, in the configured order. Raises SettingsError."""
    setting = "RECOVERY_EXTENSIONS"
    for reference in settings.RECOVERY_EXTENSIONS:
        extension = resolve(settings, setting, reference)
        with blamed_on(settings, setting, reference, "failed"):
            extension(app)
