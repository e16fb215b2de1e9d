"""
The table of formats. Each is one file with `detect` and `read`, and `write` where we write it;
the table below is all there is to plugging one in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..conservation import Item
from ..errors import UsageError
from ..files import Tree
from . import (
    cityscapes,
    coco,
    coco_panoptic,
    cvat,
    datumaro,
    kitti,
    labelme,
    labelme_xml,
    semantic,
    two_channel,
    voc,
    yolo,
)
from .cvat import tracks as cvat_tracks
from .cvat import video as cvat_video
from .keeping import Trait, everything_but, keeps
from .reading import Reading


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format by its functions. `keeps` declares what survives writing it and reading it back.

    `write` takes a dataset and a folder, writes annotations only, and gives an Item for
    each way in which what it wrote differs from the dataset in images, segments or pixels.
    A `flat` format gives each pixel to one segment; its `write` takes the overlap policy, too.
    """

    name: str
    title: str
    keeps: frozenset[Trait]
    detect: Callable[[Tree], bool] | None = None
    read: Callable[[Tree], Reading] | None = None
    write: Callable[..., tuple[Item, ...]] | None = None  # (dataset, folder[, overlap])
    flat: bool = False


FORMATS = {
    f.name: f
    for f in (
        Format(
            "cvat",
            "CVAT for images 1.1",
            everything_but("isthing", "supercategories", "category ids", "ids", "extras", "flags"),
            cvat.detect,
            cvat.read,
            cvat.write,
        ),
        Format(
            "cvat-video",
            "CVAT for video 1.1",
            everything_but("isthing", "supercategories", "category ids", "ids", "extras", "flags"),
            cvat_video.detect,
            cvat_video.read,
            cvat_tracks.write,
        ),
        Format(
            "datumaro",
            "Datumaro 1.0",
            everything_but("isthing", "category ids", "marks", "subsets", "flags"),
            datumaro.detect,
            datumaro.read,
            datumaro.write,
        ),
        Format(
            "labelme",
            "Labelme",
            keeps("instances", "overlaps", "holes", "parts", "outlines", "z-order", "attributes")
            | keeps("unused categories", "extensions", "empty images", "flags")
            | keeps("extras"),
            labelme.detect,
            labelme.read,
            labelme.write,
        ),
        Format(
            "coco",
            "COCO instances",
            everything_but("marks", "subsets", "flags"),
            coco.detect,
            coco.read,
            coco.write,
        ),
        Format(
            "coco-panoptic",
            "COCO panoptic",
            keeps("instances", "holes", "parts", "crowds", "isthing", "colors", "supercategories")
            | keeps("category ids", "unused categories", "splits", "extensions", "empty images")
            | keeps("attributes", "z-order", "extras"),
            coco_panoptic.detect,
            coco_panoptic.read,
            coco_panoptic.write,
            flat=True,
        ),
        Format(
            "panoptic-2ch",
            "panopticapi's two-channel PNGs",
            keeps("instances", "holes", "parts", "crowds"),
            two_channel.detect,
            two_channel.read,
        ),
        Format(
            "voc",
            "Pascal VOC segmentation, CVAT's Segmentation mask 1.1",
            keeps("instances", "holes", "parts", "unused categories", "splits", "empty images"),
            voc.detect,
            voc.read,
            voc.write,
            flat=True,
        ),
        Format(
            "labelme-xml",
            "LabelMe 3.0 (XML)",
            frozenset(),
            labelme_xml.detect,
            labelme_xml.read,
        ),
        Format("cityscapes", "Cityscapes", frozenset(), cityscapes.detect, cityscapes.read),
        Format("kitti", "KITTI segmentation", frozenset(), kitti.detect, kitti.read),
        Format(
            "semantic",
            "Semantic masks",
            keeps("holes", "parts", "unused categories", "splits", "empty images"),
            semantic.detect,
            semantic.read,
            semantic.write,
            flat=True,
        ),
        Format(
            "yolo",
            "YOLO segmentation",
            keeps("instances", "overlaps", "holes", "parts", "unused categories", "splits")
            | keeps("extensions", "empty images"),
            yolo.detect,
            yolo.read,
            yolo.write,
        ),
    )
}


def get(name: str) -> Format:
    """
    A format by its name.

    Raises:
        UsageError: there is none of this name.
    """
    try:
        return FORMATS[name]
    except KeyError:
        known = ", ".join(sorted([*FORMATS, "publisher"]))
        raise UsageError(f"unknown format {name!r}", hint=f"known formats: {known}") from None
