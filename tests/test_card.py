"""dataset.yaml, and the documents rendered from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import yaml

from publisher import card as cards
from publisher.card import Card, parse
from publisher.dataset import Category
from publisher.errors import FormatError
from publisher.stats import SplitStats, Stats

FULL = """
name: hands
pretty_name: Hands in a kitchen
description: Hands and food.
license: CC-BY-4.0
creators: [{name: Ada, orcid: 0000-0001}]
keywords: [hands]
uses: {intended: "find hands", out_of_scope: "find people"}
personal_data: Hands of two people, who agreed.
sources:
  - {files: ["kitchen/*.jpg"], license: CC0-1.0, title: Kitchen, author: Bo, url: "https://example.org"}
categories:
  - {id: 3, name: table, isthing: false}
  - {name: hand}
"""
STATS = Stats(3, 5, {"train": SplitStats(3, 5)}, {"hand": (5, 900)})


def test_the_front_matter_is_what_hugging_face_reads():
    text = cards.readme(parse(FULL.encode()), STATS, (Category(1, "hand"),))
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["image-segmentation"]
    assert front["pretty_name"] == "Hands in a kitchen"


def test_a_licence_that_hugging_face_does_not_know_is_other():
    text = cards.readme(parse(b"{name: d, license: LicenseRef-Mine}"), STATS, ())
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["license"], front["license_name"]) == ("other", "LicenseRef-Mine")


def test_nothing_is_left_to_fill_in():
    text = cards.readme(parse(b"name: d"), STATS, ())
    assert "More Information Needed" not in text
    assert "Intended use" not in text


def test_numbers_and_licences_stand_in_the_card():
    card = parse(FULL.encode())
    text = cards.readme(card, STATS, (Category(1, "hand"), Category(3, "table", isthing=False)))
    assert "| train | 3 | 5 |" in text
    assert "| 1 | hand | thing | 5 | 900 |" in text
    assert "| 3 | table | stuff | 0 | 0 |" in text
    licence = cards.license_text(card)
    assert "https://creativecommons.org/licenses/by/4.0/" in licence
    assert "kitchen/*.jpg: CC0-1.0" in licence
    cff = yaml.safe_load(cards.citation(card))
    assert (cff["type"], cff["authors"][0]["name"]) == ("dataset", "Ada")


def test_names_cannot_smuggle_markup_into_the_card():
    evil = "<script>alert(1)</script>|`x`[a](javascript:b)"
    card = parse(yaml.safe_dump({"name": "d", "pretty_name": evil, "description": evil}).encode())
    text = cards.readme(card, STATS, (Category(1, evil),)).split("---\n", 2)[2]
    assert "<script>" not in text
    assert r"\[a\](javascript:b)" in text  # escaped brackets make no link
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert row.replace("\\|", "").count("|") == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "not valid YAML"),
        ("a: &a [1]\nb: *a", "aliases are refused"),
        ("a: " + "[" * 200_000, "deep nesting"),  # took three minutes to fail
        ("name: Big Name", "is not [a-z0-9]"),
        ("name: d\nnmae: e", "unknown field `nmae`"),
        ("name: d\ncategories: [{name: a, id: 0}]", "not positive"),
        ("name: d\ncategories: [{name: a}, {name: a}]", "share a name"),
        ("name: d\ncategories: [{name: a, color: red}]", "not #rrggbb"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("- 1", "Expected `object`"),
    ],
)
def test_a_bad_card_is_refused_with_the_reason(text, said):
    with pytest.raises(FormatError) as e:
        parse(text.encode())
    assert said in str(e.value)


def test_ids_of_the_card_are_kept_and_new_names_get_free_ones():
    found = (Category(1, "knife", color=(1, 2, 3)), Category(2, "table"))
    got = cards.categories(parse(FULL.encode()), found)
    assert [(c.id, c.name, c.isthing) for c in got] == [
        (1, "hand", True),
        (2, "knife", True),
        (3, "table", False),
    ]
    assert got[1].color == (1, 2, 3)


def test_the_card_says_how_many_masks_a_network_refined_and_which_network():
    assert "refined" not in cards.readme(Card("hands"), STATS, ())
    refined = Counter({("ab" * 32, "cd" * 32): 2, ("|<b>",): 1})
    text = cards.readme(Card("hands"), replace(STATS, refined=refined), ())
    assert "Of all 5 masks, 3 were refined by a network from outlines that people drew" in text
    assert f"`{'ab' * 8}`, `{'cd' * 8}`" in text
    assert "|<b>" not in text
