"""Rules about categories."""

from __future__ import annotations

import pytest

from publisher.dataset import Category
from tests.rules.build import CATEGORIES, clean, dataset, only

HAND, KNIFE, TABLE = CATEGORIES


def with_categories(*categories):
    return dataset(*clean(), categories=categories)


EXAMPLES = {
    "C201": (
        with_categories(*CATEGORIES, Category(3, "cloth")),
        "dataset: error C201: 2 categories have id 3: table, cloth",
    ),
    "C202": (
        with_categories(*CATEGORIES, Category(4, " Hand")),
        "dataset: error C202: category names are too much alike: 'hand' (1), ' Hand' (4)",
    ),
    "C203": (
        with_categories(Category(0, "cup"), *CATEGORIES),
        "dataset: warning C203: category 'cup' has id 0, below 1",
    ),
    "C205": (
        with_categories(*CATEGORIES, Category(4, " ")),
        "dataset: error C205: category 4 has no name",
    ),
    "C206": (
        with_categories(*CATEGORIES, Category(4, "cup")),
        "dataset: warning C206: category 'cup' (4) is not used",
    ),
    "C209": (
        with_categories(HAND, KNIFE, Category(3, "table", color=(255, 0, 0))),
        "dataset: warning C209: colour #ff0000 is shared by 'hand', 'table'",
    ),
    "C212": (
        with_categories(HAND, TABLE, KNIFE),
        "dataset: info C212: categories are not in the order of their ids",
    ),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_rule_fires_on_its_example(code):
    data, said = EXAMPLES[code]
    assert only(data, code) == [said]


def test_black_is_the_colour_of_void():
    data = with_categories(HAND, KNIFE, Category(3, "table", color=(0, 0, 0)))
    assert only(data, "C209") == ["dataset: warning C209: 'table' is black, the colour of void"]
