"""The sample in examples/: what its page says of it, and what refinement makes of it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from publisher import ritm, workspace
from publisher.card import parse
from publisher.masks import Mask, Rle
from publisher.refine import refine
from publisher.refinement.scoring import boundary_iou, harmed, iou
from publisher.refining import answers
from publisher.stages import intake

SAMPLE = Path(__file__).parents[1] / "examples" / "sample"
CAREFUL = json.loads((Path(__file__).parent / "data" / "careful.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample") / "in"
    card = parse((SAMPLE / "dataset.yaml").read_bytes())
    intake.take_in([SAMPLE / "cvat-export.zip"], out, card=card)
    return workspace.read(out)


def test_its_page_counts_what_is_in_it(dataset):
    page = (SAMPLE / "README.md").read_text("utf-8")
    segments = [segment for sample in dataset for segment in sample.segments]
    used = {segment.category_id for segment in segments}
    assert len(dataset) == page.count(".jpg` | ") - 1 == 10  # one row each, and the overlay's
    assert "Ten photographs" in page
    assert f"{len(segments)} segments of {len(used)}\ncategories" in page
    assert used == {category.id for category in dataset.categories}


def test_each_picture_has_its_source_and_licence_and_a_row_on_the_page(dataset):
    page = (SAMPLE / "README.md").read_text("utf-8")
    card = parse((SAMPLE / "dataset.yaml").read_bytes())
    licences = {name: source.license for source in card.sources for name in source.files}
    assert set(licences) == {sample.file_name for sample in dataset}
    assert set(licences.values()) == {"CC0-1.0", "LicenseRef-PublicDomain"}
    for name in licences:
        assert f"| `{name}` |" in page


def compared(dataset, name):
    """Each careful mask beside the outline that means the same object, before and after."""
    sample = next(s for s in dataset if s.file_name == name)
    size = sample.height, sample.width
    networks = [ritm.load(name) for name in ritm.SHIPPED]
    (done,) = refine([(sample, answers.picture(dataset.images, sample))], networks)
    for rle in CAREFUL[name]:
        truth = Mask.from_rle(Rle(*rle["size"], rle["counts"]), *size)
        outcome = max(done.outcomes, key=lambda o: truth.iou(o.before))
        before, after, true = (m.to_array() for m in (outcome.before, outcome.after, truth))
        diagonal = math.hypot(*size)
        yield (
            (iou(before, true), iou(after, true)),
            (boundary_iou(before, true, diagonal), boundary_iou(after, true, diagonal)),
        )


@pytest.mark.parametrize(
    "name", ["house cat.jpg", pytest.param("allium.jpg", marks=pytest.mark.nightly)]
)
def test_refinement_makes_its_hurried_outlines_better_and_none_worse(dataset, name):
    found = list(compared(dataset, name))
    assert len(found) == len(CAREFUL[name])
    assert not any(harmed(*ious) for ious, _ in found)
    gains = [after - before for _, (before, after) in found]
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 0.05


def test_its_hurried_outlines_have_few_clicks_and_lie_near_their_objects(dataset):
    hurried = [s for s in dataset if s.file_name in CAREFUL]
    clicks = [len(s.segmentation[0]) // 2 for sample in hurried for s in sample.segments]
    page = re.sub(r"\s+", " ", (SAMPLE / "README.md").read_text("utf-8"))
    assert f"{len(clicks)} objects with {min(clicks)} to {max(clicks)} clicks each" in page
    for sample in hurried:
        size = sample.height, sample.width
        for rle in CAREFUL[sample.file_name]:
            truth = Mask.from_rle(Rle(*rle["size"], rle["counts"]), *size)
            assert 0.65 < max(truth.iou(s.mask(*size)) for s in sample.segments) < 0.9
