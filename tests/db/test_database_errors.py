"""What a database error says."""

import pytest
from sqlalchemy.exc import OperationalError

from app import cli
from app.db.engine import reason_of


class Silent(Exception):
    """An error of a driver without a text."""


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Silent(), "Silent"),
        (Silent("no such table: user\nLINE 1"), "no such table: user"),
        (Silent("\n"), "Silent"),
    ],
)
def test_database_error_is_one_line_of_words(cause: Exception, reason: str) -> None:
    error = OperationalError("SELECT 1", {}, cause)
    assert reason_of(error) == reason
    assert f"cannot be used: {reason}." in cli._describe(error)
