"""The rules, one file a family. Importing this package registers them all."""

from . import (
    annotations,
    categories,
    images,
    labelme,
    overlap,
    panoptic,
    polygons,
    reading,
    rle,
    splits,
    voc,
)

__all__ = [
    "annotations",
    "categories",
    "images",
    "labelme",
    "overlap",
    "panoptic",
    "polygons",
    "reading",
    "rle",
    "splits",
    "voc",
]
