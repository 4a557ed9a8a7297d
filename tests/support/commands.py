"""Runs commands of manage.py within the test's process, on a site."""

import re

from click.testing import Result
from flask.testing import FlaskCliRunner

import manage

from .site import PUBLIC_URL, Site


def run(site: Site, *words: str, fails: bool = False) -> Result:
    """Run a command. Without `fails` it must exit with 0, with it otherwise."""
    result = FlaskCliRunner(site.app).invoke(manage.cli, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code != 0) is fails, result.output
    return result


def hand_over(site: Site, identity: str = "alice", reason: str = "called back") -> str:
    """Let an admin make a reset link."""
    output = run(site, "users", "reset-link", identity, "--reason", reason).output
    [link] = re.findall(rf"^{re.escape(PUBLIC_URL)}/reset/\S+$", output, re.M)
    return str(link)
