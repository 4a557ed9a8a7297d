"""The table of `make plant` fits the source and the tests."""

from support import plant
from support.security_table import proofs, rows

DEFECTS, TESTS = plant.defects(), proofs()


def test_every_defect_can_be_planted() -> None:
    counts = {one.name: (plant.ROOT / one.file).read_text().count(one.old) for one in DEFECTS}
    assert [name for name, count in counts.items() if count != 1] == []


def test_every_defect_names_tests_that_prove_its_requirements() -> None:
    wanting = [
        (one.name, name)
        for one in DEFECTS
        for name in one.tests
        if name not in TESTS or not set(one.requirements) <= TESTS[name]
    ]
    assert wanting == []


def test_every_requirement_has_a_defect() -> None:
    broken = {requirement for one in DEFECTS for requirement in one.requirements}
    assert [row.id for row in rows() if row.id not in broken] == []
