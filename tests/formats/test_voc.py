"""Pascal VOC: what CVAT's exports hold, what other tools read of ours, what is wrong and said."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, InvalidDataset, UsageError
from publisher.files import open_tree
from publisher.formats import voc
from publisher.masks import Mask, Rle
from publisher.names import safe_path
from publisher.stages import intake
from tests import truth
from tests.makers import zipped
from tests.truth import AREAS, DATA, LABELS, TRUTH

MASKS = DATA / "project__segmentation-mask-1.1.zip"
BOXES = DATA / "project__pascal-voc-1.1.zip"
RENAMED = {("train", "sheep.png"): "sheep_1", ("train2", "sheep.jpg"): "sheep_2"}
VOC_COLORS = voc.PALETTE.tolist()


def reading(path: Path):
    with open_tree(path) as tree:
        assert voc.detect(tree)
        return voc.read(tree)


def png(values, palette=None) -> bytes:
    """A PNG as other programs write it: P where there is a palette, else L or RGB."""
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette is not None:
        image.putpalette([v for color in palette for v in color])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def folder_of(tmp_path: Path, members: dict[str, bytes | str]) -> Path:
    return zipped(tmp_path / "voc.zip", members)


def one(tmp_path, classes, objects=None, **files):
    """An export of one image, `a`, in VOC's palette."""
    members = {"SegmentationClass/a.png": png(classes, VOC_COLORS)}
    if objects is not None:
        members["SegmentationObject/a.png"] = png(objects, VOC_COLORS)
    return reading(folder_of(tmp_path, {**members, **files}))


# ── CVAT's exports against its server's answers ──────────────────────────────────────────────


def truth_of_classes(key: str, frame: int, size: tuple[int, int]):
    """For each label, the pixels where one of the topmost shapes has it."""
    annotations = TRUTH["tasks"][key]["annotations"]
    shapes = [s for s in annotations["shapes"] if s["frame"] == frame]
    shapes += [s for t in annotations["tracks"] if (s := truth.interpolated(t, frame))]
    drawn = [(s, truth.raster(s, *size)) for s in shapes if s["type"] in AREAS]
    top = np.full(size, -1000)
    for s, mask in drawn:
        top[mask] = np.maximum(top[mask], s["z_order"])
    may: dict[str, np.ndarray] = {}
    for s, mask in drawn:
        label = LABELS[s["label_id"]]
        may[label] = may.get(label, False) | (mask & (top == s["z_order"]))
    return may, top > -1000


def test_segmentation_masks_hold_what_the_server_says_lies_on_top():
    dataset = intake.read(MASKS)
    names = {c.id: c.name for c in dataset.categories}
    samples = {s.source["name"]: s for s in dataset}
    wrong = {}
    for key in ("train", "val", "train2", "video"):
        for number, frame in truth.frames(TRUTH["tasks"][key]).items():
            stem = RENAMED.get((key, frame["name"]), frame["name"].rpartition(".")[0])
            if (key, stem) == ("train", "sheep"):
                continue  # overwritten by the other task's
            size = frame["height"], frame["width"]
            sample = samples[stem]
            assert (sample.height, sample.width) == size
            may, covered = truth_of_classes(key, number, size)
            seen, bad = np.zeros(size, bool), 0
            for s in sample.segments:
                mask = s.mask(*size).to_array()
                bad += int((mask & ~may[names[s.category_id]]).sum())
                seen |= mask
            assert np.array_equal(seen, covered), stem
            if bad:
                wrong[key, stem] = bad
    assert wrong == {("train", "session 1/bowl"): 459}  # a group of two labels, which CVAT merges


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (MASKS, "painted by z-order"),
        (MASKS, "maybe renamed: sheep_1, sheep_2"),
        (BOXES, "3 box annotation(s) have no pixels"),
        (BOXES, "polygons are dropped"),
        (BOXES, "16 image(s) are only in ImageSets/Main"),
    ],
)
def test_what_cvat_lost_is_said(path, said):
    found = reading(path)
    assert len([n for n in (*found.notes, *map(str, found.mended)) if said in n]) == 1


def test_parts_and_actions_of_classes_are_named_where_they_are_left(tmp_path):
    lines = "bg:0,0,0::\nhand:128,0,0:thumb,palm:wave\ntable:0,128,0::\n"
    found = one(tmp_path, np.zeros((3, 3), np.uint8), **{"labelmap.txt": lines})
    assert [f.message for f in found.mended] == [
        "parts of hand in labelmap.txt; not kept",
        "actions of hand in labelmap.txt; not kept",
    ]


@pytest.mark.parametrize("path", [MASKS, BOXES])
def test_one_file_for_two_images_is_one_image_and_said(path, tmp_path):
    taken = intake.take_in([path], tmp_path / "out")
    (item,) = taken.items
    assert item.reason.startswith("Train, Validation list one image, sheep")
    assert item.reason.endswith("one file for all, which is in none of them here")
    assert item.change.images == -1
    sheep = next(s for s in taken.dataset if s.file_name == "sheep.jpg")
    assert sheep.split is None
    assert sheep.source["image_shared_with"] == "JPEGImages/sheep.jpg"


def test_boxes_are_kept_beside_the_segments():
    bowl = next(p.sample for p in reading(BOXES).pictures if "1/bowl" in p.sample.file_name)
    assert [b["label"] for b in bowl.source["not_segments"]] == ["food", "food"]
    assert bowl.source["not_segments"][0]["xmin"] == "70.5"


# ── ours, read by others ─────────────────────────────────────────────────────────────────────


def dataset(*segments: tuple[int, np.ndarray], crowd=False, names=("hand", "table")) -> Dataset:
    """One 4 x 6 image, `b c/x.png`, with these (category, mask)."""
    categories = tuple(Category(10 * n, name) for n, name in enumerate(names, start=1))
    made = tuple(
        Segment(n, c, Rle(*m.shape, Mask.from_array(m).counts.decode()), crowd)
        for n, (c, m) in enumerate(segments, start=1)
    )
    return Dataset("d", categories, (Sample(1, "b c/x.png", 4, 6, made, split="train"),))


def box(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((4, 6), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_torchvision_reads_the_very_indices(tmp_path):
    """VOCSegmentation reads the list's lines, and gives Image.open of the class PNG."""
    voc.write(
        dataset((10, box(0, 2, 0, 2)), (20, box(2, 4, 3, 6)), (10, box(0, 1, 5, 6))), tmp_path
    )
    lines = (tmp_path / "ImageSets/Segmentation/train.txt").read_text("utf-8").splitlines()
    assert [line.strip() for line in lines] == ["b c/x"]
    target = Image.open(tmp_path / "SegmentationClass" / f"{lines[0]}.png")
    assert target.mode == "P"
    classes = np.array(target)
    expected = 1 * box(0, 2, 0, 2) + 2 * box(2, 4, 3, 6) + 1 * box(0, 1, 5, 6)
    assert np.array_equal(classes, expected)
    assert target.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    objects = np.array(Image.open(tmp_path / "SegmentationObject/b c/x.png"))
    assert np.array_equal(objects, expected + 2 * box(0, 1, 5, 6))
    assert (tmp_path / "labelmap.txt").read_text("utf-8").splitlines()[1:] == [
        "background:0,0,0::",
        "hand:128,0,0::",
        "table:0,128,0::",
    ]


def test_the_palette_is_vocs():
    named = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}
    assert {i: tuple(voc.PALETTE[i].tolist()) for i in named} == named


def test_crowds_become_void_and_are_booked(tmp_path):
    (item,) = voc.write(dataset((10, box(0, 2, 0, 2)), crowd=True), tmp_path)
    assert (item.change.segments, item.change.pixels) == (-1, {"hand": -4})
    for folder in ("SegmentationClass", "SegmentationObject"):
        values = np.array(Image.open(tmp_path / folder / "b c/x.png"))
        assert np.array_equal(values, 255 * box(0, 2, 0, 2))
    assert any("void" in n for n in reading(tmp_path).notes)


def test_train_and_val_are_also_listed_together(tmp_path):
    made = dataset((10, box(0, 2, 0, 2)))
    (s,) = made
    other = replace(s, file_name="a.jpg", id=2, split="val", segments=())
    voc.write(replace(made, samples=(other, s)), tmp_path)
    assert (tmp_path / "ImageSets/Segmentation/trainval.txt").read_text() == "a\nb c/x\n"
    assert {x.file_name: x.split for x in intake.read(tmp_path)} == {
        "a.jpg": "val",
        "b c/x.jpg": "train",
    }


def test_more_than_254_objects_are_refused_before_anything_is_written(tmp_path):
    size = 16, 16
    one_px = [np.arange(256).reshape(size) == n for n in range(255)]
    rles = [Rle(*size, Mask.from_array(m).counts.decode()) for m in one_px]
    segments = tuple(Segment(n, 1, r) for n, r in enumerate(rles, start=1))
    full = Sample(1, "heap.jpg", *size, segments)
    made = Dataset("d", (Category(1, "screw"),), (Sample(2, "a.jpg", 4, 4), full))
    with pytest.raises(FormatError, match=r"heap.jpg: 255 objects") as error:
        voc.write(made, tmp_path)
    assert error.value.code == "V804"
    assert "coco-panoptic" in str(error.value.hint)
    assert not list(tmp_path.iterdir())
    voc.write(replace(made, samples=(replace(full, segments=segments[:254]),)), tmp_path)
    assert len(intake.read(tmp_path)[0].segments) == 254


def test_two_images_of_one_stem_are_refused(tmp_path):
    samples = (Sample(1, "a.jpg", 4, 4), Sample(2, "A.png", 4, 4))
    with pytest.raises(FormatError, match="stem"):
        voc.write(Dataset("d", (), samples), tmp_path)
    assert not list(tmp_path.iterdir())


# ── theirs, read by us ───────────────────────────────────────────────────────────────────────


def test_a_classic_mask_has_twenty_classes_a_border_and_objects(tmp_path):
    classes = [[0, 255, 15, 15], [0, 255, 15, 15]]
    objects = [[0, 255, 1, 2], [0, 255, 1, 2]]
    members = {
        "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png": png(classes, VOC_COLORS),
        "VOCdevkit/VOC2012/SegmentationObject/2007_000032.png": png(objects, VOC_COLORS),
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": "2007_000032\n",
        "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt": "2007_000032\n",
    }
    found = reading(folder_of(tmp_path, members))
    (picture,) = found.pictures
    assert picture.sample.source["subset"] == "train"
    assert [s.mask(2, 4).area for s in picture.sample.segments] == [2, 2]
    assert {c.id: c.name for c in found.categories}[15] == "person"
    assert found.counted.pixels == {"person": 4}
    said = "2 px (25.0 %) are void: of no segment, and background in what is written"
    assert said in found.notes
    assert not found.mended
    assert not found.findings


def test_without_objects_a_class_is_one_segment(tmp_path):
    found = one(tmp_path, [[1, 0, 1], [2, 0, 1]])
    assert [s.category_id for s in found.pictures[0].sample.segments] == [1, 2]
    assert "1 image(s) have no map of objects: one segment a class" in found.notes


@pytest.mark.parametrize(
    ("classes", "objects", "areas", "said"),
    [
        ([[1, 1, 2]], [[3, 3, 3]], [2, 1], "object 3 spans aeroplane, bicycle"),
        ([[1, 1, 0]], [[1, 1, 2]], [2], "object 2 has no class"),
        ([[1, 1, 2]], [[1, 1, 0]], [1, 2], "pixels of bicycle belong to no object"),
        ([[1, 1, 2]], [[1, 1, 255]], [1, 2], "pixels of bicycle belong to no object"),
    ],
)
def test_maps_that_disagree_are_told_and_counted(tmp_path, classes, objects, areas, said):
    found = one(tmp_path, classes, objects)
    (finding,) = found.mended
    assert (finding.code, finding.message) == ("V803", said)
    sample = found.pictures[0].sample
    assert [s.mask(1, 3).area for s in sample.segments] == areas
    change = sum(item.change.segments for item in found.items)
    assert found.counted.segments + change == len(areas)


def test_maps_of_two_sizes_are_refused(tmp_path):
    (finding,) = one(tmp_path, [[1, 1]], [[1], [1]]).findings
    assert finding.code == "V803"


def test_values_and_colours_of_no_class_are_errors(tmp_path):
    (finding,) = one(tmp_path, [[1, 77, 77]]).findings
    assert (finding.code, finding.message) == ("V802", "2 px have values that are no class: 77")
    labels = "background:0,0,0::\nhand:250,50,83::\n"
    blended = {"SegmentationClass/a.png": png([[[125, 25, 41], [250, 50, 83]]])}
    path = folder_of(tmp_path, {**blended, "labelmap.txt": labels})
    (finding,) = reading(path).findings
    assert finding.code == "V802"
    assert "(125, 25, 41)" in finding.message
    with pytest.raises(InvalidDataset):
        intake.read(path)


def test_another_palette_is_a_warning(tmp_path):
    greys = [(0, 0, 0), (127, 127, 127)]
    members = {f"SegmentationClass/{n}.png": png([[0, 1]], greys) for n in "ab"}
    (finding,) = reading(folder_of(tmp_path, members)).mended
    assert (finding.code, finding.severity) == ("V801", "warning")
    assert finding.message.startswith("2 class PNG(s)")


def test_labels_of_one_colour_cannot_be_told_apart_and_that_is_said(tmp_path):
    labels = "# label:color_rgb:parts:actions\nbackground:0,0,0::\na:9,9,9::\nb:9,9,9::\n"
    members = {"SegmentationClass/x.png": png([[[9, 9, 9]]]), "labelmap.txt": labels}
    found = reading(folder_of(tmp_path, members))
    assert found.counted.pixels == {"a": 1}
    assert any("a, b have one colour" in n for n in found.notes)


def test_labelme2vocs_list_of_classes_is_read(tmp_path):
    names = "_background_\naeroplane\nbottle\n"
    found = one(tmp_path, [[2, 255]], **{"class_names.txt": names})
    assert found.counted.pixels == {"bottle": 1}


def test_a_listed_image_without_mask_is_empty_and_takes_its_size_from_the_picture(tmp_path):
    members = {
        "SegmentationClass/a.png": png([[1]], VOC_COLORS),
        "ImageSets/Segmentation/val.txt": "a\nb\nc\n",
        "JPEGImages/b.PNG": png(np.zeros((3, 5, 3))),
        "labelmap.txt": "background:0,0,0::\nhand:128,0,0::\n",
    }
    found = reading(folder_of(tmp_path, members))
    b = found.pictures[1].sample
    assert (b.file_name, b.height, b.width, b.segments) == ("b.PNG", 3, 5, ())
    assert [(f.file_name, f.code) for f in found.findings] == [("c.jpg", "I103")]


def test_noise_is_no_map_of_labels(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 300, 3))
    labels = "background:0,0,0::\nhand:128,0,0::\n"
    members = {"SegmentationClass/a.png": png(noise), "labelmap.txt": labels}
    (finding,) = reading(folder_of(tmp_path, members)).findings
    assert finding.message == "more than 65,536 colours: no map of labels"


@pytest.mark.parametrize("split", ["default", "trainval"])
def test_a_split_named_like_another_list_is_refused(tmp_path, split):
    made = dataset((10, box(0, 2, 0, 2)))
    made = replace(made, samples=(replace(made[0], split=split),))
    with pytest.raises(UsageError, match=split):
        voc.write(made, tmp_path)


def test_several_releases_in_one_tree_are_not_mixed(tmp_path):
    members = {f"VOC{y}/SegmentationClass/a.png": png([[1]]) for y in (2007, 2012)}
    with pytest.raises(FormatError, match="several VOC folders: VOC2007/, VOC2012/"):
        reading(folder_of(tmp_path, members))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Annotations/a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"),
        ("Annotations/a.xml", "<annotation>"),
        ("SegmentationObject/a.png", b"\x89PNG\r\n\x1a\n"),
        ("SegmentationObject/a.png", png([[1, 2]])[:-1]),
    ],
)
def test_one_broken_file_costs_one_finding(tmp_path, name, body):
    members = {
        "SegmentationClass/a.png": png([[1, 2]], VOC_COLORS),
        "SegmentationClass/b.png": png([[1, 2]], VOC_COLORS),
    }
    found = reading(folder_of(tmp_path, {**members, name: body}))
    assert [f.file_name for f in found.findings] == ["a.jpg"]
    assert [p.sample.file_name for p in found.pictures] == ["b.jpg"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_files_give_findings_only(tmp_path, data):
    good = {
        "SegmentationClass/a.png": png([[1, 2]], VOC_COLORS),
        "SegmentationObject/a.png": png([[1, 2]], VOC_COLORS),
        "Annotations/a.xml": b"<annotation><size><width>2</width></size><object/></annotation>",
        "ImageSets/Segmentation/train.txt": b"a\n../b\n",
        "labelmap.txt": b"background:0,0,0::\nhand:128,0,0::\nx:0,128,0::",
    }
    name = data.draw(st.sampled_from(sorted(good)))
    body = bytearray(good[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    path = folder_of(tmp_path, {**good, name: bytes(body[:cut])})
    try:
        found = reading(path)
    except FormatError:
        return
    for picture in found.pictures:
        sample = picture.sample
        safe_path(sample.file_name)
        for s in sample.segments:
            assert s.mask(sample.height, sample.width).area
