"""The rules, one file a family. Importing this package registers them all."""

from . import (
    annotations,
    categories,
    cvat,
    images,
    labelme,
    overlap,
    panoptic,
    polygons,
    reading,
    rle,
    splits,
    voc,
    yolo,
)

__all__ = [
    "annotations",
    "categories",
    "cvat",
    "images",
    "labelme",
    "overlap",
    "panoptic",
    "polygons",
    "reading",
    "rle",
    "splits",
    "voc",
    "yolo",
]
