"""
What every format must do that is both written and read.

A format declares what it keeps; the contract holds it to that: what it keeps comes back
exactly, and what it does not is itemised, so that the counts on both sides add up.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from publisher import formats
from publisher.conservation import Item, balance, tally
from publisher.dataset import Category, Dataset, Sample
from publisher.files import open_tree
from publisher.formats import Format, Trait
from publisher.masks import Mask
from publisher.names import collision_key
from publisher.panoptic import paint
from publisher.stages import intake
from tests import strategies

ATTRIBUTES = st.dictionaries(
    st.sampled_from(["side", "count", "gloved"]),
    st.sampled_from(["left", 'above "q" <&> é', 3, 2.5, True, False]),
    max_size=2,
)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def convertible(draw) -> Dataset:
    """A sound dataset whose files have different stems, with all that a format may lose."""
    data = draw(strategies.datasets())
    names = ("hand", "knife & fork", "フライパン")
    categories = tuple(
        replace(c, name=n, supercategory=draw(st.sampled_from(["", "tool"])))
        for c, n in zip(data.categories, names, strict=False)
    )
    samples, seen = [], set()
    for s in data:
        key = collision_key(PurePosixPath(s.file_name).with_suffix("").as_posix())
        if key not in seen:
            seen.add(key)
            segments = tuple(replace(g, attributes=draw(ATTRIBUTES)) for g in s.segments)
            samples.append(replace(s, segments=segments))
    return replace(data, categories=categories, samples=tuple(samples))


class FormatContract:
    """Subclass it with `name`; whatever passes may stand in the table of formats."""

    name: str

    @property
    def format(self) -> Format:
        return formats.get(self.name)

    @SLOW
    @given(convertible())
    def test_what_it_keeps_comes_back_and_what_it_loses_is_itemised(self, data):
        with tempfile.TemporaryDirectory() as folder:
            items = self.write(data, Path(folder))
            back = intake.read(Path(folder), self.name)
        counted, kept = (tally(d, {c.id: c.name for c in d.categories}) for d in (data, back))
        balance(self.name, counted, kept, items)
        keeps = self.format.keeps
        assert {self.key(s) for s in back} <= {self.key(s) for s in data}
        if "empty images" in keeps:
            assert len(back) == len(data)
        if {"holes", "parts"} <= keeps:
            self.same_segments(data, back)
        if "splits" in keeps:
            splits = {self.key(s): s.split for s in data}
            assert all(s.split == splits[self.key(s)] for s in back)
        if "unused categories" in keeps:
            assert {c.name for c in back.categories} == {c.name for c in data.categories}
        self.same_categories(data, back)

    @SLOW
    @given(convertible())
    def test_the_same_dataset_is_the_same_bytes(self, data):
        assert self.bytes_of(data) == self.bytes_of(data)

    @given(convertible().filter(lambda d: any(s.segments for s in d)))
    @settings(SLOW, max_examples=10)
    def test_its_content_tells_it_from_every_other_format(self, data):
        with tempfile.TemporaryDirectory() as folder:
            self.write(data, Path(folder))
            with open_tree(Path(folder)) as tree:
                assert formats.detect(tree).name == self.name

    def write(self, data: Dataset, folder: Path) -> tuple[Item, ...]:
        assert self.format.write is not None
        return (
            self.format.write(data, folder, "z-order")
            if self.format.flat
            else self.format.write(data, folder)
        )

    def bytes_of(self, data: Dataset) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            self.write(data, Path(folder))
            files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
            return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}

    def key(self, sample: Sample) -> str:
        """How to recognise an image after it was written and read."""
        if "extensions" in self.format.keeps:
            return sample.file_name
        return PurePosixPath(sample.file_name).with_suffix("").as_posix()

    def same_segments(self, data: Dataset, back: Dataset) -> None:
        expected = {self.key(s): Counter(self.expected(s, data)) for s in data}
        for sample in back:
            found = Counter(self.described(sample, back, self.format.keeps))
            assert found == expected[self.key(sample)], sample.file_name

    def expected(self, sample: Sample, data: Dataset) -> Iterator[Hashable]:
        """What must come back of a sample: of flat formats, the regions of its panoptic map."""
        keeps = self.format.keeps
        if not self.format.flat:
            whole = [s for s in sample.segments if s.mask(sample.height, sample.width).area]
            yield from self.described(replace(sample, segments=tuple(whole)), data, keeps)
            return
        painted = paint(sample, data.category_of, "z-order")
        names = {c.id: c.name for c in data.categories}
        regions = [r for r in painted.regions if "crowds" in keeps or not r.iscrowd]
        if "instances" in keeps:
            for r in regions:
                mask = Mask.from_array(painted.ids == r.id)
                yield self.facts(names[r.category_id], mask, r.iscrowd, keeps)
            return
        for category in sorted({r.category_id for r in regions}):
            mine = [r.id for r in regions if r.category_id == category]
            yield self.facts(
                names[category], Mask.from_array(np.isin(painted.ids, mine)), False, keeps
            )

    def described(
        self, sample: Sample, data: Dataset, keeps: frozenset[Trait]
    ) -> Iterator[Hashable]:
        names = {c.id: c.name for c in data.categories}
        for s in sample.segments:
            mask = s.mask(sample.height, sample.width)
            if not mask.area:
                continue  # a format may drop what has no pixels; the counts tell
            more: list[Hashable] = []
            if not self.format.flat:
                if "z-order" in keeps:
                    more.append(s.z_order)
                if "attributes" in keeps:
                    more.append(repr(sorted(s.attributes.items())))
                if "outlines" in keeps and isinstance(s.segmentation, tuple):
                    more.append(s.segmentation)
            yield self.facts(names[s.category_id], mask, s.iscrowd, keeps, *more)

    def facts(
        self, name: str, mask: Mask, crowd: bool, keeps: frozenset[Trait], *more: Hashable
    ) -> Hashable:
        return (name, mask, crowd if "crowds" in keeps else None, *more)

    def same_categories(self, data: Dataset, back: Dataset) -> None:
        keeps, before = self.format.keeps, {c.name: c for c in data.categories}
        for c in back.categories:
            was = before[c.name]
            kept = Category(
                was.id if "category ids" in keeps else c.id,
                c.name,
                was.supercategory if "supercategories" in keeps else c.supercategory,
                was.isthing if "isthing" in keeps else c.isthing,
                was.color if "colors" in keeps else c.color,
            )
            assert c == kept
