"""Runs commands of manage.py within the test's process, on a site."""

from __future__ import annotations

from click.testing import Result
from flask.testing import FlaskCliRunner

import manage

from .site import Site


def run(site: Site, *words: str, fails: bool = False) -> Result:
    """Run a command. Without `fails` it must exit with 0, with it otherwise."""
    result = FlaskCliRunner(site.app).invoke(manage.cli, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code != 0) is fails, result.output
    return result
