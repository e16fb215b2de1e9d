"""
CVAT's own XML, both ways: `images` is "CVAT for images 1.1", `video` is "CVAT for video 1.1".

Rules as seen on CVAT 2.15 and 2.54, and in what its importer "CVAT 1.1" takes: it reads
labels, shapes and attributes by name, passes over `<meta>`, and parses any float.
"""

from .images import detect, read, write
from .shapes import box_ring

__all__ = ["box_ring", "detect", "read", "write"]
