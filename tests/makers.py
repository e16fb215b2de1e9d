"""Small datasets and exports for tests."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

XML_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>t</name><mode>annotation</mode>
<labels><label><name>hand</name><color>#fa3253</color><attributes></attributes></label>
<label><name>table</name><color>#33ddff</color><attributes></attributes></label></labels>
</task></meta>"""


def picture(
    height: int = 20, width: int = 30, kind: str = "JPEG", seed: int = 0, **how: Any
) -> bytes:
    """An image file of random blocks; equal seeds give equal bytes."""
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def zipped(path: Path, members: dict[str, bytes | str], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as z:
        for name, body in members.items():
            z.writestr(name, body)
    return path


def cvat_xml(images: str) -> str:
    return f"{XML_HEAD}{images}</annotations>"


def cvat_image(
    name: str, shapes: str = "", number: int = 0, size: tuple[int, int] = (20, 30)
) -> str:
    return (
        f'<image id="{number}" name="{name}" width="{size[1]}" height="{size[0]}">{shapes}</image>'
    )


def cvat_polygon(points: str = "1,1;9,1;9,9;1,9", label: str = "hand", **attributes: object) -> str:
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return f'<polygon label="{label}" points="{points}" z_order="0"{extra}></polygon>'


def cvat_zip(path: Path, images: dict[str, str]) -> Path:
    """An export whose images, by name, hold these shapes."""
    nodes = "".join(cvat_image(n, s, i) for i, (n, s) in enumerate(images.items()))
    members: dict[str, bytes | str] = {"annotations.xml": cvat_xml(nodes)}
    for i, name in enumerate(images):
        kind = "PNG" if name.endswith(".png") else "JPEG"
        members[f"images/{name}"] = picture(kind=kind, seed=i)
    return zipped(path, members)


SQUARE = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]]


def coco_document(annotations: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """One 20x30 image, two categories, and annotations with the usual fields filled in."""
    filled = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "segmentation": SQUARE,
            "iscrowd": 0,
            "bbox": [1, 1, 8, 8],
            "area": 64,
            **a,
        }
        for i, a in enumerate(annotations or [], start=1)
    ]
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "hand"}, {"id": 2, "name": "table"}],
        "annotations": filled,
        **more,
    }


def coco_folder(path: Path, document: dict[str, Any] | str) -> Path:
    """A folder with instances.json and the image a.jpg in images/."""
    (path / "images").mkdir(parents=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (path / "instances.json").write_text(text, "utf-8")
    (path / "images" / "a.jpg").write_bytes(picture())
    return path
