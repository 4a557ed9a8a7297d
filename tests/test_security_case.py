"""docs/security.md is true: every requirement has a row, and every row its tests or its argument."""

import re

from support.security_table import proofs, rows, weaknesses

ROWS, TESTS = rows(), proofs()


def test_every_requirement_has_one_row_in_order() -> None:
    assert [row.id for row in ROWS] == [f"R{number}" for number in range(1, 71)]


def test_every_row_is_proven_or_argued() -> None:
    assert [row.id for row in ROWS if not (row.tests or row.argument or row.to_do)] == []


def test_every_test_that_the_page_names_exists() -> None:
    named = set().union(*(row.tests for row in ROWS), *weaknesses().values())
    assert named - TESTS.keys() == set()


def test_rows_and_marks_say_the_same() -> None:
    said = {(row.id, name) for row in ROWS for name in row.tests}
    marked = {(requirement, name) for name, ids in TESTS.items() for requirement in ids}
    assert sorted(marked - said) == [], "marked with an id, but not in its row"
    assert sorted(said - marked) == [], "in a row, but not marked with its id"


def test_every_weakness_of_the_stock_stack_has_its_test() -> None:
    assert len(weaknesses()) >= 17
    assert [weakness for weakness, named in weaknesses().items() if not named] == []


def test_titles_are_short_and_differ_and_nothing_is_left_to_do() -> None:
    titles = [row.title for row in ROWS]
    assert len(set(titles)) == len(titles)
    assert [title for title in titles if len(title) > 52 or not re.match("[A-Z]", title)] == []
    assert [(row.id, row.to_do) for row in ROWS if row.to_do] == []
