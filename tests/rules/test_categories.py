"""Rules about categories."""

from __future__ import annotations

import pytest

from publisher.dataset import Category
from publisher.validate import Beside, surveyed
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
    "C204": (
        with_categories(*CATEGORIES, Category(7, "cup")),
        "dataset: info C204: no category has an id between 3 and 7",
    ),
    "C207": (
        clean(),
        "dataset: error C207: category 2 was 'spoon' and is 'knife'",
        Beside(previous=surveyed(with_categories(HAND, Category(2, "spoon"), TABLE))),
    ),
    "C210": (
        with_categories(*CATEGORIES, *(Category(n, f"class {n}") for n in range(4, 256))),
        "dataset: info C210: 255 categories; one byte a pixel holds 254",
    ),
    "C211": (
        with_categories(Category(1, "hand", "body"), KNIFE, TABLE),
        "dataset: info C211: no supercategory: 'knife', 'table'",
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
    data, said, *beside = EXAMPLES[code]
    assert only(data, code, **({"beside": beside[0]} if beside else {})) == [said]


def test_black_is_the_colour_of_void():
    data = with_categories(HAND, KNIFE, Category(3, "table", color=(0, 0, 0)))
    assert only(data, "C209") == ["dataset: warning C209: 'table' is black, the colour of void"]


def test_a_category_with_another_number_is_told_once():
    before = with_categories(HAND, Category(7, "knife"), TABLE)
    said = only(clean(), "C207", beside=Beside(previous=surveyed(before)))
    assert said == ["dataset: error C207: category 'knife' had id 7 and has 2"]


def test_new_categories_break_nothing():
    before = with_categories(HAND)
    assert not only(clean(), "C207", beside=Beside(previous=surveyed(before)))
