"""
What CVAT's own server says of the fixtures, as masks: an oracle that shares no code with us.

Built from `truth.json` (REST answers) with pycocotools and numpy only.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

DATA = Path(__file__).parent / "data" / "cvat-2.15"
TRUTH = json.loads((DATA / "truth.json").read_text("utf-8"))
LABELS = {label["id"]: label["name"] for label in TRUTH["labels"]["results"]}
AREAS = ("polygon", "mask", "rectangle", "ellipse")

Instances = list[tuple[str, NDArray[np.bool_]]]


def frames(task: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Name and size of every frame that is not deleted."""
    meta = task["meta"]
    listed = meta["frames"]
    if len(listed) == 1 and meta["size"] > 1:  # a video
        listed = [{**listed[0], "name": f"frame_{i:06}.PNG"} for i in range(meta["size"])]
    return {i: f for i, f in enumerate(listed) if i not in meta["deleted_frames"]}


def instances(annotations: dict[str, Any], frame: int, height: int, width: int) -> Instances:
    """(label, mask) of every object with an area; same-label members of a group are one."""
    shapes = [s for s in annotations["shapes"] if s["frame"] == frame]
    shapes += [s for t in annotations["tracks"] if (s := interpolated(t, frame)) is not None]
    parts: dict[Any, list[NDArray[np.bool_]]] = defaultdict(list)
    for index, shape in enumerate(shapes):
        if shape["type"] in AREAS:
            label = LABELS[shape["label_id"]]
            key = (label, shape["group"] or f"alone {index}")
            parts[key].append(raster(shape, height, width))
    return [(label, np.logical_or.reduce(masks)) for (label, _), masks in parts.items()]


def raster(shape: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    points = shape["points"]
    if shape["type"] == "mask":
        *runs, x0, y0, x1, y1 = (int(p) for p in points)
        pixels = np.zeros((height, width), bool)
        values = np.arange(len(runs)) % 2 == 1
        pixels[y0 : y1 + 1, x0 : x1 + 1] = np.repeat(values, runs).reshape(y1 - y0 + 1, -1)
        return pixels
    if shape["type"] == "ellipse":
        return ellipse(points, shape["rotation"], height, width)
    if shape["type"] == "rectangle":
        x0, y0, x1, y1 = points
        points = turned([x0, y0, x1, y0, x1, y1, x0, y1], shape["rotation"])
    points = [round(p, 2) for p in points]  # exports write two decimals
    rles = coco.frPyObjects([points], height, width)
    return coco.decode(coco.merge(rles)).astype(bool)


def ellipse(points: list[float], degrees: float, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels whose centre is inside."""
    cx, cy, right, top = points
    a = math.radians(degrees)
    y, x = np.mgrid[:height, :width] + 0.5
    u = (x - cx) * math.cos(a) + (y - cy) * math.sin(a)
    v = -(x - cx) * math.sin(a) + (y - cy) * math.cos(a)
    return (u / (right - cx)) ** 2 + (v / (cy - top)) ** 2 <= 1


def turned(ring: list[float], degrees: float) -> list[float]:
    if not degrees:
        return ring
    cx, cy = sum(ring[::2]) / 4, sum(ring[1::2]) / 4
    a = math.radians(degrees)
    out = []
    for x, y in zip(ring[::2], ring[1::2], strict=True):
        out.append(cx + (x - cx) * math.cos(a) - (y - cy) * math.sin(a))
        out.append(cy + (x - cx) * math.sin(a) + (y - cy) * math.cos(a))
    return out


def interpolated(track: dict[str, Any], frame: int) -> dict[str, Any] | None:
    """The track's shape in a frame: keyframes, and straight lines between them."""
    keys = sorted(track["shapes"], key=lambda s: s["frame"])
    before = [k for k in keys if k["frame"] <= frame]
    after = [k for k in keys if k["frame"] > frame]
    if not before or before[-1]["outside"]:
        return None
    shape, points = before[-1], before[-1]["points"]
    if after and shape["frame"] < frame:
        t = (frame - shape["frame"]) / (after[0]["frame"] - shape["frame"])
        points = [p + t * (q - p) for p, q in zip(points, after[0]["points"], strict=True)]
    return {**shape, "points": points, "label_id": track["label_id"], "group": track["group"]}
