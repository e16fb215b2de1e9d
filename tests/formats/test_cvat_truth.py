"""Every export of the two formats imports to what CVAT's server says, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from publisher.stages import intake
from tests import truth
from tests.truth import DATA, TRUTH

XML = "cvat-for-images-1.1"
PROJECT = ("train", "val", "train2", "video")
# CVAT renames equal stems in project exports, so names differ from the tasks' own
MANGLED = {("train", "sheep.png"): "sheep_1.png", ("train2", "sheep.jpg"): "sheep_2.jpg"}


def expected(key, *, project):
    """{(task, name in the export): instances} of one task."""
    task = TRUTH["tasks"][key]
    result = {}
    for number, frame in truth.frames(task).items():
        name = frame["name"]
        if project:
            name = MANGLED.get((key, name), name)
        size = frame["height"], frame["width"]
        result[key, name] = size, truth.instances(task["annotations"], number, *size)
    return result


def imported(zip_name, tmp_path):
    taken = intake.take_in([DATA / zip_name], tmp_path / "out")
    return taken.dataset


def masks_of(sample, dataset):
    names = {c.id: c.name for c in dataset.categories}
    return [
        (names[s.category_id], s.mask(sample.height, sample.width).to_array(), s)
        for s in sample.segments
    ]


def assert_same(got, want, where):
    """The same instances; ellipses, which have no one raster, to within the outline."""
    got = list(got)
    assert len(got) == len(want), where
    for label, mask in want:
        exact = [g for g in got if g[0] == label and np.array_equal(g[1], mask)]
        close = [
            g for g in got if g[0] == label and "ellipse" in g[2].origin and iou(g[1], mask) > 0.98
        ]
        assert exact or close, f"{where}: no {label} of {mask.sum()} px"
        taken = (exact or close)[0]
        got = [g for g in got if g is not taken]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def samples_by_task(dataset):
    keys = {str(TRUTH["tasks"][k]["task"]["id"]): k for k in PROJECT}
    return {
        (keys[s.source["task_id"]], Path(s.file_name).name, s.source["name"]): s for s in dataset
    }


@pytest.mark.parametrize(
    ("zip_name", "tasks"),
    [
        (f"project__{XML}.zip", PROJECT),
        (f"task-val__{XML}.zip", ("val",)),
        (f"task-video__{XML}.zip", ("video",)),
    ],
)
def test_an_xml_export_imports_to_the_masks_of_the_server(zip_name, tasks, tmp_path):
    dataset = imported(zip_name, tmp_path)
    want = {}
    for key in tasks:
        want |= expected(key, project=len(tasks) > 1)
    found = {}
    for (task, base, name), sample in samples_by_task(dataset).items():
        found[task, base if name.startswith("frame_") else name] = sample
    assert found.keys() == want.keys()
    for where, sample in found.items():
        size, instances = want[where]
        assert (sample.height, sample.width) == size
        assert_same(masks_of(sample, dataset), instances, where)


def test_a_ground_truth_job_imports_its_own_frame_only(tmp_path):
    dataset = imported(f"job-gt__{XML}.zip", tmp_path)
    (sample,) = dataset
    assert sample.file_name == "val_1.jpg"
    want = truth.instances(TRUTH["gt_annotations"], 2, sample.height, sample.width)
    assert_same(masks_of(sample, dataset), want, "val_1.jpg")


def test_coco_of_a_task_imports_to_the_masks_of_the_server(tmp_path):
    dataset = imported("task-val__coco-1.0.zip", tmp_path)
    want = expected("val", project=False)
    assert {s.file_name for s in dataset} == {name for _, name in want}
    for sample in dataset:
        assert_same(masks_of(sample, dataset), want["val", sample.file_name][1], sample.file_name)
        assert not any(s.iscrowd for s in sample.segments)


def test_coco_of_a_project_keeps_every_mask_but_the_labels_that_cvat_merged(tmp_path):
    """CVAT gives a group of two labels the label of its largest part, and loses groups' boxes."""
    dataset = imported("project__coco-1.0.zip", tmp_path)
    want = {}
    for key in PROJECT:
        want |= expected(key, project=True)
    names = {"Train": ("train", "train2"), "Validation": ("val",), "Video": ("video",)}
    for sample in dataset:
        tasks = names[sample.source["subset"]]
        (where,) = [(t, sample.source["name"]) for t in tasks if (t, sample.source["name"]) in want]
        lost_by_cvat = {("train", "session 1/bowl.jpg"), ("video", "frame_000005.PNG")}
        if where not in lost_by_cvat:
            assert_same(masks_of(sample, dataset), want[where][1], where)
    bowl = next(s for s in dataset if s.file_name == "session 1/bowl.jpg")
    exact = sum(
        any(np.array_equal(mask, m) for _, m in want["train", "session 1/bowl.jpg"][1])
        for _, mask, _ in masks_of(bowl, dataset)
    )
    assert len(bowl.segments) == 15
    assert exact == 13  # all but CVAT's own raster of the ellipse, and the mixed group
