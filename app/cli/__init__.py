"""The admin's tools, one file a group. The web app never imports them."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import FlaskGroup
from sqlalchemy.exc import IntegrityError, OperationalError


class Commands(FlaskGroup):
    """Flask's commands and ours; what the database refuses is one plain line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except IntegrityError as error:
            raise click.ClickException(f"the database refuses it: {_first_line(error)}") from None
        except OperationalError as error:
            hint = "Is it set up? manage.py db upgrade"
            raise click.ClickException(
                f"the database can not be used: {_first_line(error)}. {hint}"
            ) from None


def _first_line(error: IntegrityError | OperationalError) -> str:
    return str(error.orig).splitlines()[0]
