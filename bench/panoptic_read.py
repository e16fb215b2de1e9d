"""
How much CPU it takes to read panoptic maps back to masks, against panopticapi's way.

    python bench/panoptic_read.py [--maps 320] [--rounds 5]

Made-up scenes of 640 x 480 px, three patches of stuff behind some seven things, the same for
the same seed, written once with our writer (filter Up, but for lines without a segment) and
once with Pillow.
panopticapi's way: decode with Pillow, put ids together, and for each segment compare and
encode with pycocotools; it takes areas and boxes from the JSON, and ours counts them.

* maps: from PNG files to the RLE of every segment.
* all: from the JSON and its PNGs to segments, ours checked against each other.

CPU is user + system time of this process, the median of the rounds; ways take turns within a
round. Every RLE is compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from publisher.files import Folder
from publisher.formats import coco_panoptic
from publisher.formats.id_maps import load, patches
from publisher.panoptic import rgb_from_ids
from publisher.png import writer as png
from publisher.shapes.runs import runs_of_ids

HEIGHT, WIDTH = 480, 640
SEED = 20
CHUNK = 64


def scene(rng: np.random.Generator) -> np.ndarray:
    """A map of ids, 1 and up, with some void between."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    wall, table = np.sort(rng.integers(60, HEIGHT - 60, 2))
    ids[:wall], ids[wall:table], ids[table + rng.integers(1, 30) :] = 1, 2, 3
    for number in range(4, 4 + max(1, rng.poisson(7.2))):
        points = rng.integers(20, 45)
        angle = np.sort(rng.uniform(0, 2 * np.pi, points))
        reach = rng.lognormal(4, 0.5) * rng.uniform(0.8, 1, points)
        x = rng.uniform(0, WIDTH) + np.cos(angle) * reach
        y = rng.uniform(0, HEIGHT) + np.sin(angle) * reach
        ring = np.stack([x, y], axis=1).ravel().tolist()
        ids[coco.decode(coco.frPyObjects([ring], HEIGHT, WIDTH))[..., 0] > 0] = number
    return ids


def generate(folder: Path, count: int) -> dict[str, Path]:
    """The same scenes by two writers; gives the folder of each."""
    homes = {"ours": folder / "ours", "Pillow's": folder / "pillow"}
    said: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    said["categories"] = [
        {"id": i, "name": f"class {i}", "isthing": int(i > 3)} for i in range(1, 99)
    ]
    rng = np.random.default_rng(SEED)
    maps = []
    for home in homes.values():
        (home / "panoptic").mkdir(parents=True)
    for i in range(1, count + 1):
        ids = scene(rng)
        rgb = np.ascontiguousarray(rgb_from_ids(ids))
        infos = []
        for number in np.unique(ids[ids > 0]).tolist():
            rle = coco.encode(np.asfortranarray(ids == number, dtype=np.uint8))
            box = [int(v) for v in coco.toBbox(rle)]
            area = int(coco.area(rle))
            infos.append(
                {"id": number, "category_id": number, "area": area, "bbox": box, "iscrowd": 0}
            )
        said["images"].append({"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH})
        said["annotations"].append({"image_id": i, "file_name": f"{i}.png", "segments_info": infos})
        maps.append(runs_of_ids(ids))
        Image.fromarray(rgb).save(homes["Pillow's"] / "panoptic" / f"{i}.png")
    for i, body in enumerate(png.encode(maps), 1):
        (homes["ours"] / "panoptic" / f"{i}.png").write_bytes(body)
    for home in homes.values():
        (home / "panoptic.json").write_text(json.dumps(said))
    return homes


def theirs(home: Path, said: dict[str, Any]) -> list[dict[str, Any]]:
    """Each segment of each map on its own, as panopticapi's converter to instances does."""
    found = []
    for entry in said["annotations"]:
        with Image.open(home / "panoptic" / entry["file_name"]) as image:
            rgb = np.array(image, dtype=np.uint32)
        ids = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 65536 * rgb[:, :, 2]
        for info in entry["segments_info"]:
            pixels = np.expand_dims((ids == info["id"]).astype(np.uint8), axis=2)
            rle = coco.encode(np.asfortranarray(pixels))[0]
            rle["counts"] = rle["counts"].decode("utf8")
            found.append({**info, "image_id": entry["image_id"], "segmentation": rle})
    return found


def ours(tree: Folder, names: list[str]) -> list[str]:
    """The counts of every segment; areas and boxes come with them."""
    found = []
    for start in range(0, len(names), CHUNK):
        maps = [load(tree, f"panoptic/{n}", n).changes for n in names[start : start + CHUNK]]
        for parts in patches(maps):
            assert isinstance(parts, list)
            found += [str(p.rle.counts) for p in parts]
    return found


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--maps", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        homes = generate(Path(folder), options.maps)
        for writer, home in homes.items():
            report(writer, home, options.maps, options.rounds)


def report(writer: str, home: Path, count: int, rounds: int) -> None:
    said = json.loads((home / "panoptic.json").read_bytes())
    names = [entry["file_name"] for entry in said["annotations"]]
    tree = Folder(home)
    expected = [a["segmentation"]["counts"] for a in theirs(home, said)]
    assert ours(tree, names) == expected
    reading = coco_panoptic.read(tree)
    read = [s.segmentation.counts for p in reading.pictures for s in p.sample.segments]
    assert read == expected
    assert not reading.findings
    assert not reading.mended
    ways: dict[str, Callable[[], object]] = {
        "maps, theirs": lambda: theirs(home, said),
        "maps, ours": lambda: ours(tree, names),
        "all, theirs": lambda: theirs(home, json.loads((home / "panoptic.json").read_bytes())),
        "all, ours": lambda: coco_panoptic.read(tree),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            times[way].append(cpu(work))
    each = {way: 1000 * statistics.median(t) / count for way, t in times.items()}
    print(f"{writer} PNGs, {count} maps, {len(expected) / count:.1f} segments each; CPU ms a map")
    for what in ("maps", "all"):
        a, b = each[f"{what}, theirs"], each[f"{what}, ours"]
        print(f"  {what:4}  panopticapi's way {a:6.2f}   ours {b:6.3f}   ratio {a / b:5.1f}")


if __name__ == "__main__":
    main()
