"""
Instances to COCO panoptic: CPU time an image, JSON in to PNG and JSON out, against peers.

    python bench/panoptic.py [--images 1000] [--panopticapi DIR] [--datumaro PYTHON]

Every run is a process of its own that imports, then measures itself and its children; runs
take turns, and medians are compared. Without --panopticapi (a checkout of
cocodataset/panopticapi) the plain way with pycocotools, numpy and Pillow stands for it alone;
--datumaro is a Python in which Datumaro is installed. TMPDIR may name a memory file system, so
that a disk costs nobody anything. A machine busy with other work slows us more than peers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HEIGHT, WIDTH = 480, 640
THINGS, CLASSES = 80, 133
ROLES = ("publisher", "writing", "plain", "panopticapi", "datumaro")


# ── data ─────────────────────────────────────────────────────────────────────────────────────


def generate(path: Path, images: int, *, overlap: bool, seed: int = 0) -> None:
    """
    A COCO instances file, seeded.

    Without overlap: some seven things as polygons (one in ten as RLE), each in a cell of its
    own, and three bands of stuff around them as RLE. With overlap: things anywhere, one in ten
    of two parts, one in fifty a crowd, and no stuff.
    """
    import numpy as np
    from pycocotools import mask as coco

    rng = np.random.default_rng(seed)
    document = {"images": [], "annotations": [], "categories": categories()}
    for image in range(1, images + 1):
        name = f"{image:012d}.jpg"
        document["images"].append(
            {"id": image, "file_name": name, "height": HEIGHT, "width": WIDTH}
        )
        free = np.ones((HEIGHT, WIDTH), dtype=bool)
        shapes = []
        cells = rng.permutation(20)
        for cell in cells[: min(18, max(1, rng.poisson(7.3)))]:
            rings, crowd = thing(rng, int(cell), overlap=overlap)
            rle = coco.merge(coco.frPyObjects(rings, HEIGHT, WIDTH))
            if not coco.area(rle):
                continue
            if not overlap:
                free &= coco.decode(rle) == 0
            as_rle = crowd or rng.random() < 0.1
            shapes.append((rings, rle, as_rle, crowd, int(rng.integers(1, THINGS + 1))))
        if not overlap:
            kinds = rng.permutation(np.arange(THINGS + 1, CLASSES + 1))
            for band, kind in zip(bands(rng), kinds.tolist(), strict=False):
                rle = coco.encode(np.asfortranarray(band & free, dtype=np.uint8))
                shapes.append((None, rle, True, False, kind))
        for rings, rle, as_rle, crowd, kind in shapes:
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": image,
                    "category_id": kind,
                    "segmentation": plain_rle(rle, crowd=crowd) if as_rle else rings,
                    "area": int(coco.area(rle)),
                    "bbox": coco.toBbox(rle).tolist(),
                    "iscrowd": int(crowd),
                }
            )
    path.write_text(json.dumps(document))


def categories():
    return [
        {
            "id": i,
            "name": f"class {i}",
            "supercategory": "",
            "isthing": int(i <= THINGS),
            "color": [i * 37 % 256, i * 91 % 256, i * 53 % 256],
        }
        for i in range(1, CLASSES + 1)
    ]


def thing(rng, cell: int, *, overlap: bool):
    """The rings of a wobbly blob, and whether it is a crowd."""
    import numpy as np

    if overlap:
        x, y = rng.uniform(30, WIDTH - 30), rng.uniform(30, HEIGHT - 30)
        radius = min(float(np.exp(rng.normal(3.7, 0.8))), 200.0)
    else:
        x, y, radius = cell % 5 * 128 + 64, cell // 5 * 120 + 60, rng.uniform(12, 57)
    corners = int(np.clip(rng.lognormal(3.2, 0.6), 6, 200))
    rings = [blob(rng, x, y, radius, corners)]
    if overlap and rng.random() < 0.1:
        rings.append(blob(rng, min(x + radius, WIDTH - 10), y, radius / 2, max(6, corners // 2)))
    return rings, bool(rng.random() < 0.02)


def blob(rng, x: float, y: float, radius: float, corners: int) -> list[float]:
    import numpy as np

    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    waves = np.arange(1, 5)[:, None]
    swing = rng.normal(0, 0.12, (4, 1)) / waves
    wobble = (swing * np.sin(waves * angle + rng.uniform(0, 6.28, (4, 1)))).sum(axis=0)
    reach = radius * np.clip(0.8 + wobble, 0.35, 1)
    points = np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)
    return np.round(np.clip(points, 0, [WIDTH, HEIGHT]), 2).ravel().tolist()


def bands(rng):
    """Sky, middle and ground, parted by wavy lines."""
    import numpy as np

    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    upper = HEIGHT * 0.35 + 30 * np.sin(x / 70 + rng.uniform(0, 6)) + 3 * np.sin(x / 3)
    lower = HEIGHT * 0.7 + 25 * np.sin(x / 50 + rng.uniform(0, 6)) + 2 * np.sin(x / 2)
    return y < upper, (y >= upper) & (y < lower), y >= lower


def plain_rle(rle, *, crowd: bool):
    """Compressed; crowds as lists of runs, as COCO has them."""
    from publisher.masks import decompress

    counts = decompress(rle["counts"]).tolist() if crowd else rle["counts"].decode()
    return {"size": list(rle["size"]), "counts": counts}


# ── what is compared ─────────────────────────────────────────────────────────────────────────


def run_publisher(source: Path, out: Path) -> None:
    import publisher
    import publisher.formats  # what a process loads once is not counted, here and below
    import publisher.formats.coco_panoptic

    read, write = publisher.read, publisher.write  # loaded when first asked for
    with cpu():
        dataset = read(source)
        write(dataset, out, "coco-panoptic", overlap="z-order")


def run_writing(source: Path, out: Path) -> None:
    """Of the same, the second half: from segments to PNG and JSON."""
    import publisher
    import publisher.formats.coco_panoptic

    dataset, write = publisher.read(source), publisher.write
    list(dataset)
    with cpu():
        write(dataset, out, "coco-panoptic", overlap="z-order")


def run_plain(source: Path, out: Path) -> None:
    """pycocotools, numpy and Pillow, an instance at a time; later ones on top."""
    import numpy as np
    from PIL import Image
    from pycocotools import mask as coco
    from pycocotools.coco import COCO

    (out / "panoptic").mkdir(parents=True)
    Image.init()
    with cpu():
        data = COCO(str(source))
        annotations = []
        for image_id in data.getImgIds():
            (image,) = data.loadImgs(image_id)
            ids = np.zeros((image["height"], image["width"]), dtype=np.uint32)
            found = data.loadAnns(data.getAnnIds(image_id))
            for number, annotation in enumerate(found, start=1):
                ids[data.annToMask(annotation) == 1] = number
            segments = []
            for number, annotation in enumerate(found, start=1):
                rle = coco.encode(np.asfortranarray(ids == number, dtype=np.uint8))
                if area := int(coco.area(rle)):
                    box = [int(v) for v in coco.toBbox(rle)]
                    kind, crowd = annotation["category_id"], annotation["iscrowd"]
                    segments.append(
                        {"id": number, "category_id": kind, "iscrowd": crowd, "area": area}
                        | {"bbox": box}
                    )
            rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=2)
            name = image["file_name"].rsplit(".", 1)[0] + ".png"
            Image.fromarray(rgb.astype(np.uint8)).save(out / "panoptic" / name)
            annotations.append({"image_id": image_id, "file_name": name, "segments_info": segments})
        document = {**data.dataset, "annotations": annotations}
        (out / "panoptic.json").write_text(json.dumps(document))


def run_panopticapi(source: Path, out: Path) -> None:
    """Its own converter, in one process; as shipped it dies on the image ids, which are int64."""
    import multiprocessing.pool
    import multiprocessing.queues

    from converters import detection2panoptic_coco_format as converter
    from PIL import Image

    Image.init()
    multiprocessing.cpu_count = lambda: 1
    converter.save_json = lambda d, f: Path(f).write_text(json.dumps(d, default=int))
    out.mkdir()
    (out / "categories.json").write_text(json.dumps(categories()))
    with cpu():
        converter.convert_detection_to_panoptic_coco_format(
            str(source), None, str(out / "panoptic.json"), str(out / "categories.json")
        )


def run_datumaro(source: Path, out: Path) -> None:
    """As its users do; its ids above 255 fail with numpy 2, polygons need merging to be kept."""
    import datumaro
    import datumaro.plugins.data_formats.coco.exporter
    import datumaro.plugins.data_formats.coco.importer

    folder = out.parent / "as datumaro likes it"
    (folder / "annotations").mkdir(parents=True)
    document = json.loads(source.read_text())
    numbers = {}
    for annotation in document["annotations"]:
        numbers[annotation["image_id"]] = numbers.get(annotation["image_id"], 0) + 1
        annotation["id"] = numbers[annotation["image_id"]]
    named = folder / "annotations" / "instances_train.json"
    named.write_text(json.dumps(document))
    (folder / "images").mkdir()
    with cpu():
        data = datumaro.Dataset.import_from(
            str(folder), "coco_instances", merge_instance_polygons=True
        )
        data.export(str(out), "coco_panoptic", save_media=False)


class cpu:  # noqa: N801
    """Prints the CPU seconds that this process and its children take inside."""

    def __enter__(self) -> None:
        self.begin = self.now()

    def __exit__(self, *_: object) -> None:
        print(f"\ncpu {self.now() - self.begin}")

    @staticmethod
    def now() -> float:
        used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)


# ── comparing ────────────────────────────────────────────────────────────────────────────────


def measured(role: str, source: Path, images: int, options: argparse.Namespace):
    """CPU milliseconds an image, and bytes of PNG an image; None where it failed."""
    python = options.datumaro if role == "datumaro" else sys.executable
    path = [str(Path(__file__).parents[1]), str(options.panopticapi or "")]
    with tempfile.TemporaryDirectory() as folder:
        command = [python, __file__, "--role", role, str(source), f"{folder}/out"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        environment |= {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        said = [line for line in done.stdout.splitlines() if line.startswith("cpu ")]
        sizes = [p.stat().st_size for p in Path(folder, "out").rglob("*.png")]
        if done.returncode or not said or len(sizes) != images:
            print(f"{role}: {(done.stderr.strip() or done.stdout.strip())[-300:]}", file=sys.stderr)
            return None
        return float(said[-1].split()[1]) / images * 1e3, sum(sizes) / images


def compare(title: str, options: argparse.Namespace, *, overlap: bool) -> None:
    """Print one table."""
    roles = ["publisher", "writing", "plain"]
    roles += ["panopticapi"] if options.panopticapi and not overlap else []  # refuses overlaps
    roles += ["datumaro"] if options.datumaro else []
    few = min(options.images, options.peer_images)
    with tempfile.TemporaryDirectory() as folder:
        sources = {n: Path(folder, f"{n}.json") for n in {options.images, few}}
        for n, path in sources.items():
            generate(path, n, overlap=overlap)
        found = {role: [] for role in roles}
        for _ in range(options.rounds):
            for role in roles:
                n = options.images if role in ("publisher", "writing") else few
                found[role].append(measured(role, sources[n], n, options))
    print(f"\n{title}: {options.images} images, {few} for peers, median of {options.rounds}")
    print(f"{'':12} {'ms/image':>9} {'times':>7} {'PNG kB':>7}")
    ours = None
    for role in roles:
        good = [f for f in found[role] if f is not None]
        if not good:
            print(f"{role:12} {'failed':>9}")
            continue
        milliseconds = statistics.median(ms for ms, _ in good)
        ours = ours or milliseconds
        print(f"{role:12} {milliseconds:9.2f} {milliseconds / ours:6.1f}x {good[0][1] / 1e3:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--peer-images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--panopticapi", type=Path, help="a checkout of it")
    parser.add_argument("--datumaro", type=Path, help="a Python that has it")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        globals()[f"run_{options.role}"](*options.paths)
        return
    compare("no overlap", options, overlap=False)
    compare("overlapping, the later on top", options, overlap=True)


if __name__ == "__main__":
    main()
