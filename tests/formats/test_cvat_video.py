"""Tracks: what is seen in each frame is what CVAT's server shows, read and written."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from publisher import formats
from publisher.dataset import Category, Dataset, Sample, Segment
from publisher.errors import FormatError, InvalidDataset
from publisher.files import open_tree
from publisher.formats.cvat import video
from publisher.masks import Mask, Rle
from publisher.stages import intake
from tests import truth
from tests.makers import picture, zipped
from tests.truth import DATA, TRUTH

VIDEO = DATA / "task-video__cvat-for-video-1.1.zip"
RING = (1.0, 1.0, 9.0, 1.0, 9.0, 9.0)
TRIANGLE = "1,1;9,1;9,9"


def original() -> ElementTree.Element:
    with zipfile.ZipFile(VIDEO) as z:
        return ElementTree.parse(io.BytesIO(z.read("annotations.xml"))).getroot()


def repacked(root: ElementTree.Element, path: Path) -> Path:
    """The fixture with another XML."""
    with zipfile.ZipFile(VIDEO) as z:
        members = {n: z.read(n) for n in z.namelist() if n.endswith(".PNG")}
    return zipped(path, {**members, "annotations.xml": ElementTree.tostring(root)})


def read(path: Path, name: str = "cvat-video"):
    with open_tree(path) as tree:
        assert formats.detect(tree).name == name
        return formats.get(name).read(tree)


def masks(dataset) -> dict[str, Counter]:
    names = {c.id: c.name for c in dataset.categories}
    return {
        s.file_name: Counter(
            (names[g.category_id], g.mask(s.height, s.width), g.z_order) for g in s.segments
        )
        for s in dataset
    }


def facts(dataset) -> dict[str, list]:
    """All of a dataset's segments, in an order that does not depend on the writer."""
    return {
        s.file_name: sorted(
            repr((g.category_id, g.segmentation, g.z_order, sorted(g.attributes.items()), g.origin))
            for g in s.segments
        )
        for s in dataset
    }


def video_xml(*tracks: str, frames: str = "", meta: str = "", size: int = 4) -> str:
    return (
        "<annotations><version>1.1</version><meta><task><id>1</id><name>t</name>"
        f"<size>{size}</size>{frames}{meta}"
        "<labels><label><name>hand</name><attributes/></label></labels></task></meta>"
        + "".join(tracks)
        + "</annotations>"
    )


def track(*elements: str, key: int = 0) -> str:
    return f'<track id="{key}" label="hand">{"".join(elements)}</track>'


def polygon(frame: object, points: str = TRIANGLE, outside: int = 0, keyframe: int = 1) -> str:
    return (
        f'<polygon frame="{frame}" keyframe="{keyframe}" outside="{outside}" '
        f'points="{points}" z_order="0"/>'
    )


SIZE = "<original_size><width>30</width><height>20</height></original_size><source>v.mp4</source>"
ENDED = polygon(0), polygon(1, outside=1)


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def test_a_video_reads_as_what_the_server_shows_in_each_frame():
    dataset = intake.read(VIDEO)
    task = TRUTH["tasks"]["video"]
    assert [s.file_name for s in dataset] == [f["name"] for f in truth.frames(task).values()]
    got = masks(dataset)
    for number, frame in truth.frames(task).items():
        want = truth.instances(task["annotations"], number, frame["height"], frame["width"])
        found = Counter({(label, mask): n for (label, mask, _), n in got[frame["name"]].items()})
        assert found == Counter((label, Mask.from_array(mask)) for label, mask in want)


def test_both_of_cvats_formats_give_the_same_masks_and_groups():
    frames = intake.read(DATA / "task-video__cvat-for-images-1.1.zip")
    tracks = intake.read(VIDEO)
    assert masks(tracks) == masks(frames)
    assert {s.group for s in tracks} == {s.group for s in frames} == {"cvat task 4: video.mp4"}


def test_an_object_keeps_its_identity_over_frames():
    dataset = intake.read(VIDEO)
    hands = [s for sample in dataset for s in sample.segments if s.category_id == 1]
    assert {s.attributes["track_id"] for s in hands} == {0}
    assert len(hands) == 12
    alone = [s for s in dataset[5].segments if s.attributes.get("track_id") is None]
    assert len(alone) == 2  # masks of one frame are no track


def test_keyframes_alone_give_the_frames_between_as_cvat_does(tmp_path):
    root = original()
    for node in root.iter("track"):
        for element in [e for e in node if e.get("keyframe") == "0"]:
            node.remove(element)
    path = repacked(root, tmp_path / "keyframes.zip")
    taken = intake.take_in([path], tmp_path / "out")
    assert masks(taken.dataset) == masks(intake.read(VIDEO))
    assert "13 shape(s) between keyframes were interpolated" in [i.reason for i in taken.items]


def test_gaps_of_a_file_that_writes_frames_out_stay_empty(tmp_path):
    moved = polygon(0), polygon(3), polygon(4, outside=1)
    told = track(polygon(0), polygon(1, keyframe=0), polygon(2, outside=1), key=1)
    for tracks, many in (((track(*moved),), 4), ((track(*moved), told), 4)):
        path = tmp_path / "annotations.xml"
        path.write_text(video_xml(*tracks, meta=SIZE, size=6))
        assert sum(len(p.sample.segments) for p in read(tmp_path).pictures) == many


def test_a_track_that_never_ends_is_seen_to_the_end(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(polygon(1)), meta=SIZE, size=5))
    assert [len(p.sample.segments) for p in read(path).pictures] == [0, 1, 1, 1, 1]
    path.write_text(video_xml(track(polygon(3)), meta=SIZE, size=5))  # CVAT's way with a shape
    assert [len(p.sample.segments) for p in read(path).pictures] == [0, 0, 0, 1, 0]


def test_boxes_turn_the_short_way_and_masks_hold_still(tmp_path):
    box = (
        '<box frame="{}" keyframe="1" outside="0" xtl="{}" ytl="2" xbr="9" ybr="8" rotation="{}"/>'
    )
    mask = (
        '<mask frame="{}" keyframe="1" outside="{}" rle="0, 4" left="{}" top="0" '
        'width="2" height="2"/>'
    )
    path = tmp_path / "a.xml"
    path.write_text(
        video_xml(
            track(box.format(0, 1, 350), box.format(2, 3, 20)),
            track(mask.format(0, 0, 0), mask.format(2, 0, 6), mask.format(3, 1, 6)),
            meta=SIZE,
        )
    )
    between = read(path).pictures[1].sample.segments
    assert between[0].origin["box"] == {"bbox": [2.0, 2.0, 7.0, 6.0], "rotation": 5.0}
    assert between[1].mask(20, 30).bbox == (0, 0, 2, 2)


def test_polygons_of_unequal_points_hold_still_and_it_is_said(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(polygon(0), polygon(3, "1,1;9,1;9,9;1,9")), meta=SIZE))
    reading = read(path)
    outlines = [p.sample.segments[0].segmentation for p in reading.pictures]
    assert outlines[:3] == [((1, 1, 9, 1, 9, 9),)] * 3
    assert [f.code for f in reading.mended] == ["K823"]
    assert not reading.findings


def test_points_and_lines_are_named_by_validate_too(cli, tmp_path):
    points = track(*(f'<points frame="{n}" outside="0" points="1,1"/>' for n in range(3)))
    path = tmp_path / "annotations.xml"
    path.write_text(video_xml(points, meta=SIZE), "utf-8")
    said = "annotations.xml: info J007: 4 points annotation(s) have no pixels"
    assert said in cli("validate", path).stdout


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ([polygon(9)], "the task has no frame 9"),
        ([polygon(0), polygon(0), polygon(1, outside=1)], "a second element for frame 0"),
        ([polygon("x")], "frame is 'x', not an integer"),
        ([polygon(0, "1,1;2"), polygon(1, outside=1)], "points are not x,y"),
        ([polygon(0, "nan,1;2,2;3,3"), polygon(1, outside=1)], "not finite"),
    ],
)
def test_one_bad_element_costs_a_finding(tmp_path, elements, said):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(*elements), track(*ENDED, key=1), meta=SIZE))
    reading = read(path)
    assert [said in f.message for f in reading.findings] == [True]
    assert len(reading.pictures[0].sample.segments) >= 1
    with pytest.raises(InvalidDataset):
        intake.read(path)


def test_elements_outside_the_task_that_show_nothing_are_no_fault(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(polygon(3), polygon(4, outside=1)), meta=SIZE))
    assert not read(path).findings


def test_frames_that_were_deleted_have_no_picture_and_are_left_out(tmp_path):
    members = {f"images/frame_{n:06}.PNG": picture(kind="PNG", seed=n) for n in (0, 1, 3)}
    xml = video_xml(track(*ENDED), meta=SIZE)
    source = zipped(tmp_path / "in.zip", {"annotations.xml": xml, **members})
    taken = intake.take_in([source], tmp_path / "out")
    assert [s.file_name[-5:] for s in taken.dataset] == ["0.PNG", "1.PNG", "3.PNG"]
    assert any("1 frame(s) have no picture" in n for n in taken.notes)


def test_a_video_of_every_third_frame_keeps_their_numbers(tmp_path):
    meta = f"{SIZE}<start_frame>10</start_frame><stop_frame>17</stop_frame>"
    path = tmp_path / "a.xml"
    path.write_text(
        video_xml(track(polygon(13)), meta=f"{meta}<frame_filter>step=3</frame_filter>")
    )
    pictures = read(path).pictures
    assert [p.sample.file_name for p in pictures] == [f"frame_0000{n}" for n in (10, 13, 16)]


def test_frames_of_an_image_task_are_the_pictures_in_their_order(tmp_path):
    members = {f"images/{n}": picture(seed=i) for i, n in enumerate(("b/x.jpg", "a.jpg"))}
    xml = video_xml(track(polygon(1)), size=2)
    source = zipped(tmp_path / "in.zip", {"annotations.xml": xml, **members})
    dataset = intake.take_in([source], tmp_path / "out").dataset
    assert [(s.file_name, s.height, len(s.segments)) for s in dataset] == [
        ("a.jpg", 20, 0),
        ("b/x.jpg", 20, 1),
    ]


def test_where_pictures_do_not_fit_the_frames_nothing_is_guessed(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(*ENDED)))
    with pytest.raises(FormatError, match="nothing says which they are") as e:
        read(path)
    assert e.value.code == "K823"
    assert "CVAT for images 1.1" in (e.value.hint or "")


def test_a_few_bytes_cannot_claim_a_billion_frames(tmp_path, monkeypatch):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(*ENDED), meta=SIZE, size=999_999_999))
    with pytest.raises(FormatError, match="more than 262,144"):
        read(path)
    monkeypatch.setattr(video, "MAX_FRAMES", 800)
    tasks = (f"<task><id>{n}</id><size>100</size>{SIZE}</task>" for n in range(9))
    path.write_text(f"<annotations><meta><project>{''.join(tasks)}</project></meta></annotations>")
    with pytest.raises(FormatError, match="more than 800 frames without a picture"):
        read(path)


def test_a_few_keyframes_cannot_ask_for_millions_of_shapes(tmp_path, monkeypatch):
    path = tmp_path / "a.xml"
    path.write_text(video_xml(track(polygon(0)), meta=SIZE, size=50))
    for limit in ("MAX_FILLED", "MAX_TEXT"):
        with monkeypatch.context() as patch:
            patch.setattr(video, limit, 40)
            with pytest.raises(FormatError, match="too many shapes between keyframes"):
                read(path)
    assert not read(path).findings


def test_the_images_reader_says_which_format_tracks_are(tmp_path):
    with pytest.raises(FormatError, match="CVAT for video") as e:
        intake.read(VIDEO, "cvat")
    assert "cvat-video" in (e.value.hint or "")


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def write(dataset, folder):
    folder.mkdir(exist_ok=True)
    return formats.get("cvat-video").write(dataset, folder)


def test_a_video_goes_back_as_it_was(tmp_path):
    before = intake.read(VIDEO)
    write(before, tmp_path)
    after = intake.read(tmp_path)
    assert facts(after) == facts(before)
    assert [s.group for s in after] == [s.group for s in before]
    assert [s.split for s in after] == [s.split for s in before]


def seen(root: ElementTree.Element, frames: int) -> dict[int, Counter]:
    """
    What CVAT's importer makes of keyframes: each shows until the next, and of a track of masks
    the first alone is kept, as a shape of one frame.
    """
    shown: dict[int, Counter] = {n: Counter() for n in range(frames)}
    for node in root.iter("track"):
        keys = sorted((e for e in node if e.get("keyframe") == "1"), key=frame_of)
        if keys[0].tag == "mask":
            shown[frame_of(keys[0])][described(node, keys[0])] += 1
            continue
        for n in range(frames):
            before = [e for e in keys if frame_of(e) <= n]
            if before and before[-1].get("outside") != "1":
                shown[n][described(node, before[-1])] += 1
    return shown


def frame_of(element: ElementTree.Element) -> int:
    return int(element.get("frame"))


def described(node, element) -> tuple:
    told = {k: v for k, v in element.attrib.items() if k not in ("frame", "keyframe", "outside")}
    points = [float(v) for v in told.pop("points", "0").replace(";", ",").split(",")]
    box = [float(told.pop(k, "0")) for k in ("xtl", "ytl", "xbr", "ybr")]
    attributes = sorted((a.get("name"), a.text or "") for a in element)
    whose = node.get("label"), node.get("group_id"), node.get("source")
    return (element.tag, *whose, repr((points, box, sorted(told.items()), attributes)))


def test_cvats_importer_sees_in_each_frame_what_its_exporter_wrote(tmp_path):
    root = original()
    for element in root.iter():
        if element.get("keyframe") == "0":
            element.set("keyframe", "1")  # written out, as the server shows it
    write(intake.read(VIDEO), tmp_path)
    written = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    assert seen(written, 12) == seen(root, 12)


def dataset(*samples: Sample) -> Dataset:
    return Dataset("d", (Category(1, "hand"), Category(2, "food")), samples)


def segment(number: int, segmentation=(RING,), track_id=None, **more) -> Segment:
    attributes = {} if track_id is None else {"track_id": track_id}
    return Segment(number, 1, segmentation, attributes=attributes, **more)


def frames(*segments: list[Segment], **more) -> list[Sample]:
    return [
        Sample(n, f"{n}.jpg", 20, 30, tuple(s), **more) for n, s in enumerate(segments, start=1)
    ]


def round_trip(data, folder):
    write(data, folder)
    back = intake.read(folder)
    assert facts(back) == facts(data)
    return [ElementTree.parse(p).getroot() for p in sorted(folder.glob("*.xml"))]


def test_an_object_that_leaves_and_comes_back_is_outside_meanwhile(tmp_path):
    data = dataset(*frames([segment(1, track_id=5)], [], [segment(2, track_id=5)], []))
    data = replace(data, samples=tuple(replace(s, group="g") for s in data))
    write(data, tmp_path)
    (node,) = ElementTree.parse(tmp_path / "annotations.xml").getroot().iter("track")
    assert node.get("id") == "5"
    assert [(e.get("frame"), e.get("outside")) for e in node] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "0"),
        ("3", "1"),
    ]


@pytest.mark.parametrize("identity", [3, "walker 3", 0, True, -1, 2.5, ["x"], {"a": 1}, "7" * 5000])
def test_whatever_a_track_id_is_it_comes_back(tmp_path, identity):
    mask = Rle(20, 30, Mask.from_array(np.eye(20, 30)).counts.decode())
    two = (RING, (12.0, 1.0, 19.0, 1.0, 19.0, 9.0))
    data = dataset(
        *frames(
            [segment(1, track_id=identity), segment(2)],
            [segment(3, track_id=identity), segment(4, mask, identity)],
            [segment(5, mask, identity), segment(6, (RING,), "other")],
        )
    )
    write(data, tmp_path)
    back = intake.read(tmp_path)
    said = [sorted(repr(s.attributes) for s in sample.segments) for sample in data]
    assert [sorted(repr(s.attributes) for s in sample.segments) for sample in back] == said
    data = dataset(*frames([segment(1, two, identity)], [segment(2, track_id=identity)]))
    write(data, tmp_path / "parts")
    assert masks(intake.read(tmp_path / "parts")) == masks(data)


def test_two_segments_of_one_track_id_in_one_frame_stay_two(tmp_path):
    two = [segment(1, track_id=1), segment(2, track_id=1)]
    data = dataset(*frames(two, [segment(3, track_id=1)]))
    write(data, tmp_path)
    assert [len(s.segments) for s in intake.read(tmp_path)] == [2, 1]


def test_each_video_is_a_task_of_its_own_with_frames_from_0(tmp_path):
    a = frames([segment(1, track_id=1)], [segment(2, track_id=1)], group="cvat task 4: a.mp4")
    b = [replace(s, id=s.id + 2, file_name=f"b/{s.file_name}", group="b", split="val") for s in a]
    write(dataset(*a, *b), tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["b.xml", "cvat_task_4_a.mp4.xml"]
    back = intake.read(tmp_path)
    assert [(s.file_name, s.group, s.split) for s in back] == [
        ("1.jpg", "cvat task 4: a.mp4", None),
        ("2.jpg", "cvat task 4: a.mp4", None),
        ("b/1.jpg", "b", "val"),
        ("b/2.jpg", "b", "val"),
    ]
    assert masks(back) == masks(dataset(*a, *b))


def test_frames_that_cvat_has_named_keep_their_numbers(tmp_path):
    numbers = (0, 7, 9)
    names = [f"frame_{n:06}.PNG" for n in numbers]
    samples = [
        Sample(i, name, 20, 30, (segment(i),), group="g") for i, name in enumerate(names, start=1)
    ]
    write(dataset(*samples), tmp_path)
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    shown = [e.get("frame") for e in root.iter("polygon") if e.get("outside") == "0"]
    assert shown == ["0", "7", "9"]
    assert [s.file_name for s in intake.read(tmp_path)] == names


def test_points_stay_with_their_frame_and_tags_are_said(tmp_path):
    before = intake.read(DATA / "project__cvat-for-images-1.1.zip")
    items = write(before, tmp_path)
    assert [(i.reason, i.times) for i in items] == [("CVAT's tracks have no tags", 1)]
    after = intake.read(tmp_path)
    kept = {s.file_name: s.source.get("not_segments", []) for s in after}
    for sample in before:
        wanted = [a for a in sample.source.get("not_segments", []) if a["kind"] != "tag"]
        assert kept[sample.file_name] == wanted
    assert masks(after) == masks(before)
