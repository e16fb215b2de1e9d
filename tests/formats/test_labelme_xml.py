"""LabelMe 3.0 XML: CVAT's export to the server's masks, MIT's own layout, and hostile files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from publisher import formats
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.stages import intake
from tests.formats.test_cvat_truth import PROJECT, expected, iou, masks_of
from tests.makers import picture, zipped
from tests.truth import DATA

EXPORT = DATA / "project__labelme-3.0.zip"
SUBSETS = {"train": "Train", "train2": "Train", "val": "Validation", "video": "Video"}


def test_cvats_export_has_the_masks_of_the_server(tmp_path):
    taken = intake.take_in([EXPORT], tmp_path / "out")
    assert {s.source["subset"] for s in taken.dataset} == {"Train", "Validation", "Video"}
    found = {(s.source["subset"], s.source["name"]): s for s in taken.dataset}
    inexact = []
    for task in PROJECT:
        for (_, name), (size, instances) in expected(task, project=True).items():
            sample = found[SUBSETS[task], name]
            assert (sample.height, sample.width) == size
            got = [(label, mask) for label, mask, _ in masks_of(sample, taken.dataset)]
            assert len(got) == len(instances)
            for label, mask in instances:
                if not any(g == label and np.array_equal(m, mask) for g, m in got):
                    inexact.append(max(iou(m, mask) for g, m in got if g == label))
    assert len(inexact) == 1  # the ellipse, of which CVAT writes its own raster
    assert inexact[0] > 0.9


def annotation(objects: str = "", size: str = "<nrows>20</nrows><ncols>30</ncols>") -> str:
    head = "<filename>a.jpg</filename><folder>street</folder>"
    return f"<annotation>{head}<imagesize>{size}</imagesize>{objects}</annotation>"


def outline(name: str = "hand", points: str = "1,1 9,1 9,9", more: str = "") -> str:
    pts = "".join(
        f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in (p.split(",") for p in points.split())
    )
    return f"<object><name>{name}</name>{more}<polygon>{pts}</polygon></object>"


def mits(path, objects: str, **members: bytes):
    """An archive as MIT's LabelMe lays it out."""
    files = {"Annotations/street/a.xml": annotation(objects), "Images/street/a.jpg": picture()}
    return zipped(path, {**files, **members})


def test_mits_own_layout_is_read_with_its_pictures_and_masks(tmp_path):
    out = io.BytesIO()
    Image.fromarray(np.pad(np.full((3, 4), 255, np.uint8), ((0, 17), (0, 26)))).save(out, "PNG")
    mask = "<object><name>cup</name><segm><mask>a_mask_0.png</mask></segm></object>"
    source = mits(
        tmp_path / "in.zip", outline() + mask, **{"Masks/street/a_mask_0.png": out.getvalue()}
    )
    taken = intake.take_in([source], tmp_path / "out")
    (sample,) = taken.dataset
    assert sample.file_name == "street/a.jpg"
    assert taken.kept.pixels["cup"] == 12
    assert (tmp_path / "out" / "images" / "street" / "a.jpg").is_file()


def test_attributes_are_typed_and_a_comma_in_a_value_stays(tmp_path):
    said = r"<attributes>note=red, round \"q\", count=3.0, wet=True</attributes>"
    (sample,) = intake.read(mits(tmp_path / "in.zip", outline(more=said)))
    (segment,) = sample.segments
    assert segment.attributes == {"note": 'red, round "q"', "count": 3, "wet": True}


def test_who_drew_an_object_and_when_is_kept(tmp_path):
    more = "<verified>1</verified><date>1-May-2009</date><mood>good</mood>"
    drawn = outline(more=more).replace("</polygon>", "<username>ann</username></polygon>")
    usual = outline(more="<verified>0</verified><date></date>")
    said = annotation(drawn + usual).replace(
        "<imagesize>", "<source><sourceImage>A camera</sourceImage></source><imagesize>"
    )
    source = zipped(tmp_path / "in.zip", {"Annotations/street/a.xml": said})
    (sample,) = intake.read(source)
    assert sample.source["extra"] == {"source": {"sourceImage": "A camera"}}
    extra = {"username": "ann", "verified": "1", "date": "1-May-2009", "mood": "good"}
    assert [s.origin.get("extra") for s in sample.segments] == [extra, None]
    assert any("J007: unknown field 'mood'; kept aside" in n for n in intake.source(source).notes)


def test_deleted_objects_are_left_out_and_said(tmp_path):
    gone = outline(more="<deleted>1</deleted>")
    source = intake.source(mits(tmp_path / "in.zip", outline() + gone))
    assert source.counted.segments == 1
    assert any("1 object(s) were deleted" in n for n in source.notes)


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        (outline(points="1,1 2,2"), "P404"),
        (outline(points="1,nan 2,2 3,4"), "P406"),
        (outline(points="1,x 2,2 3,4"), "P406"),
        (outline(name=""), "A304"),
        ("<object><name>a</name></object>", "P401"),
        ("<object><name>a</name><segm><mask>no.png</mask></segm></object>", "J002"),
        ("<object><name>a</name><segm><mask>../x.png</mask></segm></object>", "I109"),
    ],
)
def test_a_bad_object_costs_only_itself(objects, code, tmp_path):
    source = mits(tmp_path / "in.zip", objects + outline())
    with open_tree(source) as tree:
        reading = formats.detect(tree).read(tree)
    assert reading.format == "labelme-xml"
    assert [f.code for f in reading.findings] == [code]
    assert len(reading.pictures[0].sample.segments) == 1
    with pytest.raises(InvalidDataset):
        intake.read(source)


@pytest.mark.parametrize("rows", ["0", "99999999999", "9" * 5000])
def test_a_size_that_no_image_has_is_an_error(tmp_path, rows):
    bad = annotation(outline(), f"<nrows>{rows}</nrows><ncols>30</ncols>")
    with pytest.raises((FormatError, InvalidDataset), match="image is"):
        intake.read(zipped(tmp_path / "in.zip", {"Annotations/street/a.xml": bad}))


def test_a_name_that_leads_out_is_refused(tmp_path):
    bad = annotation().replace("a.jpg", "../../a.jpg")
    with pytest.raises(FormatError) as error:
        intake.read(zipped(tmp_path / "in.zip", {"Annotations/street/a.xml": bad}))
    assert error.value.code == "I109"
