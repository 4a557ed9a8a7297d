"""Sparekey: self-hosted password recovery for web applications. Read `factory.py` as the contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .settings import Settings
    from .urls import Application


def create_app(settings: Settings | None = None, *, checked: bool = True) -> Application:
    """The WSGI application: `factory.create_app`, which tells what may be given and what it raises."""
    from . import factory  # and with it everything, which the admin's tools do not all need

    return factory.create_app(settings, checked=checked)
