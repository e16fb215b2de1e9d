"""Every real export goes to every format and back, and each difference has its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from publisher.errors import FormatError
from publisher.files import open_tree
from publisher.formats import FORMATS, detect
from publisher.stages import conversion, intake
from tests.truth import DATA


def readable() -> list[Path]:
    found = []
    for path in sorted(DATA.glob("*.zip")):
        with open_tree(path) as tree:
            try:
                detect(tree).read(tree)
            except FormatError:
                continue
        found.append(path)
    return found


def test_every_fixture_is_read():
    assert readable() == sorted(DATA.glob("*.zip"))


WRITTEN = [f.name for f in FORMATS.values() if f.write] + ["publisher"]
LARGE = "project__cvat-for-images-1.1.zip"


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("source", readable(), ids=lambda p: p.stem)
def test_an_export_converts_and_adds_up(source, target, tmp_path):
    """`run` itself reads back and balances; here, what a reader of the target then sees."""
    plan = conversion.plan(source, target)
    overlap = "z-order" if target != "publisher" and FORMATS[target].flat else None
    converted = conversion.run(plan, tmp_path / "out", overlap)
    change = converted.kept - converted.counted
    for item in converted.items:
        change -= item.change
    assert not change
    assert converted.kept.pixels


@pytest.mark.parametrize("target", WRITTEN)
def test_there_and_back_again_keeps_what_the_format_keeps(target, tmp_path):
    flat = target != "publisher" and FORMATS[target].flat
    there = conversion.plan(DATA / LARGE, target)
    conversion.run(there, tmp_path / "there", "z-order" if flat else None)
    back = conversion.plan(tmp_path / "there", "publisher", target)
    conversion.run(back, tmp_path / "back")
    kept = FORMATS[target].keeps if target != "publisher" else {"holes", "parts", "overlaps"}
    if {"holes", "parts", "overlaps"} <= kept:
        assert masks_of(tmp_path / "back") == masks_of(DATA / LARGE)


def masks_of(path: Path) -> Counter[object]:
    dataset = intake.read(path)
    names = {c.id: c.name for c in dataset.categories}
    return Counter(
        (s.height, s.width, names[g.category_id], mask)
        for s in dataset
        for g in s.segments
        if (mask := g.mask(s.height, s.width)).area
    )
