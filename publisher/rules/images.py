"""I: names, sizes and files of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from ..dataset import Sample
from ..errors import FormatError
from ..masks import MAX_PIXELS, Rle
from ..names import collision_key, listing, portable, safe_path, stem
from .rule import Finding, ImageFacts, Scene, Survey, dataset_rule, rule
from .seen import Seen
from .splits import near_pairs, says_enough

MOST_ALIKE = 2048  # pictures that share a band of their hash and are still compared

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}


@dataset_rule("I101", "error", renumbered=True)
def duplicate_id(survey: Survey) -> Iterator[Finding]:
    """
    Two images share an id.

    Why it matters: pycocotools keeps the last, and shows it with the annotations of both.
    Fix: automatic where each image still has its own annotations, as in two files that are both
    numbered from 1; all images get new ids. In one COCO file nobody can tell whose an annotation
    is: export again.
    Example: files of two tasks, both numbered from 1, joined by hand.
    """
    for first, s in survey.seen.repeated(lambda s: s.id):
        yield survey.find(f"image id {s.id} belongs to {first.file_name}", s)


@dataset_rule("I102", "error")
def duplicate_name(survey: Survey) -> Iterator[Finding]:
    """
    Two images have the same file name.

    Why it matters: one file cannot be two pictures; CVAT's COCO export overwrites one with the
    other when two tasks have an image of the same name.
    Fix: import tasks one by one, or rename the files.
    Example: `frame_000000.png` of two videos.
    """
    others = Counter(s.file_name for _, s in survey.seen.repeated(lambda s: s.file_name))
    for name, n in others.items():
        yield Finding("", "error", f"{n + 1} images have this file name", name)


@rule("I103", "error")
def missing(scene: Scene) -> Iterator[Finding]:
    """
    The image file is not there.

    Why it matters: a data loader stops at it, often hours into the first epoch.
    Fix: export with images, or say where they are with `--images`.
    Example: "Save images" was off when CVAT exported.
    """
    yield from _unreadable(scene, "I103")


@dataset_rule("I104", "warning")
def unclaimed(survey: Survey) -> Iterator[Finding]:
    """
    There are pictures that no annotation file lists.

    Why it matters: of 5,000 pictures and 4,200 entries, 800 were annotated for nothing, were
    forgotten, or have lost their entry; the release has none of them.
    Fix: annotate them, list them without segments, or move them away.
    Example: `images/0801.jpg`, which `instances.json` does not know.
    """
    found = survey.beside.unclaimed(s.file_name for s in survey.seen)
    for folder, names in found.items():
        yield survey.find(no_entry(folder, list(names)))


def no_entry(folder: str, names: Sequence[str]) -> str:
    """What is said of pictures of a folder that nothing lists."""
    where = folder or "the top folder"
    return f"{len(names)} picture(s) in {where} have no entry: {listing(names, 3)}"


def _sized_as_file(scene: Scene) -> Sample:
    """With the file's size, where every RLE has it already and none has the sample's."""
    facts, sample = scene.facts, scene.sample
    rles = [s.segmentation for s in sample.segments if isinstance(s.segmentation, Rle)]
    if facts is None or not rles or len(rles) < len(sample.segments):
        return sample
    if any((r.height, r.width) != (facts.height, facts.width) for r in rles):
        return sample
    return replace(sample, height=facts.height, width=facts.width)


@rule("I105", "error", fix_sample=_sized_as_file)
def size_differs(scene: Scene) -> Iterator[Finding]:
    """
    The image file has another size than its annotations say.

    Why it matters: all masks of the picture are shifted or scaled, and RLEs cannot be decoded.
    Fix: automatic where all segments are RLEs of the file's size. Otherwise find the picture that
    was annotated; if it was scaled since, scale the annotations.
    Example: annotated at 1920 x 1080, published at 1280 x 720.
    """
    facts, sample = scene.facts, scene.sample
    if facts is None or (facts.height, facts.width) == (sample.height, sample.width):
        return
    if not _turned(scene):
        yield scene.find(
            f"file is {facts.width} x {facts.height}, annotations are for "
            f"{sample.width} x {sample.height}"
        )


@rule("I106", "error")
def turned(scene: Scene) -> Iterator[Finding]:
    """
    Width and height are swapped: annotated upright, stored lying.

    Why it matters: the camera wrote EXIF orientation 5 to 8. Between tools that honour it
    (browsers, CVAT, labelme) and tools that do not (Pillow unless told to, cv2 with
    IMREAD_UNCHANGED), masks turn against pixels by 90 degrees.
    Fix: use the images of the CVAT export, which are stored upright; or bake the orientation in.
    Example: a phone photo, 4032 x 3024 in the file and 3024 x 4032 in the annotations.
    """
    if _turned(scene) and scene.facts is not None:
        yield scene.find(f"annotated upright, stored with EXIF orientation {_of(scene.facts)}")


@rule("I107", "warning")
def oriented(scene: Scene) -> Iterator[Finding]:
    """
    The file asks viewers to turn the picture.

    Why it matters: its annotations are for the stored pixels. Who opens it with a viewer that
    honours EXIF sees masks in the wrong place: 7 of the 8 orientations move pixels.
    Fix: bake the orientation in and annotate that, or remove the tag.
    Example: EXIF orientation 3, upside down.
    """
    if scene.facts is not None and _of(scene.facts) != 1 and not _turned(scene):
        yield scene.find(f"EXIF orientation is {_of(scene.facts)}")


@rule("I108", "error")
def no_size(scene: Scene) -> Iterator[Finding]:
    """
    The image has no height or no width.

    Why it matters: none of its masks can be decoded.
    Fix: read the size from the file; export again.
    Example: `"width": 0`.
    """
    if scene.sample.height <= 0 or scene.sample.width <= 0:
        yield scene.find(f"image is {scene.sample.width} x {scene.sample.height} px")


@rule("I109", "error")
def unsafe_name(scene: Scene) -> Iterator[Finding]:
    """
    The file name is not a plain relative path.

    Why it matters: `Path("/data") / "/etc/passwd"` is `/etc/passwd`: such a name lets a dataset
    read or write outside its folder.
    Fix: rename the file in the source; names part folders with "/" and have no "..", drive
    letter, backslash or control character.
    Example: `../secret.png`, `C:/photos/1.jpg`.
    """
    if (error := _refusal(scene.sample.file_name)) is not None:
        yield scene.find(str(error))
    else:
        yield from _unreadable(scene, "I109")  # a link that leads out of the folder


@dataset_rule("I110", "warning")
def not_portable(survey: Survey) -> Iterator[Finding]:
    """
    The file name cannot live on every file system, alone or beside another.

    Why it matters: Windows and macOS do not tell `A.jpg` from `a.jpg`: of two files one is
    left after unpacking. Windows has no `aux.png` and no `a:b.png`.
    Fix: `import` renames it and says so; rename it in the source to keep control.
    Example: `Photo.JPG` and `photo.jpg`; `what?.png`.
    """
    for s in survey.seen:
        if _refusal(s.file_name) is None and (name := portable(s.file_name)) != s.file_name:
            yield survey.find(f"name is not portable; {name} would be", s)
    for first, s in survey.seen.repeated(_place):
        if first.file_name != s.file_name:
            yield survey.find(f"name collides with {first.file_name} on some file systems", s)


@dataset_rule("I111", "error")
def same_stem(survey: Survey) -> Iterator[Finding]:
    """
    Two images differ only in the extension.

    Why it matters: panoptic maps and YOLO labels are named like the image, with another
    extension: two images would write one file (cvat issues 7523, 7545).
    Fix: rename one of them.
    Example: `a.jpg` and `a.png`.
    """
    for first, s in survey.seen.repeated(lambda s: stem(s.file_name)):
        if first.file_name != s.file_name:
            yield survey.find(f"has the stem of {first.file_name}", s)


@rule("I112", "error")
def damaged(scene: Scene) -> Iterator[Finding]:
    """
    The image file is damaged, or no image.

    Why it matters: loaders stop at it, or fill the missing part with grey and train on that.
    Fix: copy it again from the camera or the annotation server.
    Example: a JPEG of 0 bytes, or one whose download was cut off.
    """
    if isinstance(scene.image, FormatError) and scene.image.code not in ("I103", "I109", "I119"):
        yield scene.find(scene.image.message)


@rule("I113", "warning")
def wrong_extension(scene: Scene) -> Iterator[Finding]:
    """
    The extension names another format than the file has.

    Why it matters: tools that choose the decoder by the extension refuse or misread it, and web
    servers announce the wrong type.
    Fix: rename it to the extension that its content has.
    Example: a PNG named `a.jpg`.
    """
    if scene.facts is None:
        return
    suffix = PurePosixPath(scene.sample.file_name).suffix.lower()
    expected = SUFFIXES.get(scene.facts.format)
    if expected is not None and suffix not in expected:
        yield scene.find(f"file is {scene.facts.format}, extension is {suffix or 'missing'}")


@rule("I114", "warning")
def unusual_mode(scene: Scene) -> Iterator[Finding]:
    """
    The picture is neither plain RGB nor grey, or holds several frames.

    Why it matters: loaders convert CMYK, 16 bits, palettes and transparency each in their own
    way, so the same file gives different pixels; of several frames they take the first.
    Fix: convert it once, before annotating.
    Example: a CMYK JPEG from a print shop; an animated GIF.
    """
    if scene.facts is None:
        return
    if scene.facts.mode not in ("RGB", "L"):
        yield scene.find(f"mode is {scene.facts.mode}")
    elif scene.facts.frames > 1:
        yield scene.find(f"file holds {scene.facts.frames} frames")


@dataset_rule("I115", "warning")
def same_bytes(survey: Survey) -> Iterator[Finding]:
    """
    Two image files of one split are byte for byte the same.

    Why it matters: the picture counts twice, and if the annotations differ, the model is
    punished for either. Across splits it is worse: S902.
    Fix: keep the better annotated one.
    Example: `1.jpg` and `copy of 1.jpg`.
    """
    for first, s in survey.seen.repeated(_bytes_in_split):
        yield survey.find(f"has the bytes of {first.file_name}", s)


@dataset_rule("I116", "info")
def near_duplicate(survey: Survey) -> Iterator[Finding]:
    """
    Two pictures of one split look nearly the same, and belong to no common group.

    Why it matters: they count twice and add little; and as nothing holds them together, the next
    split may part them, which is S902. 91 % of one set's test frames leaked so.
    Fix: give both one group (a video, a burst, a place), or keep one.
    Looks at: 64-bit difference hashes that differ in at most 4 bits; each picture is told once.
    Example: two frames of one video, imported as loose pictures.
    """
    splits: dict[str | None, list[Seen]] = defaultdict(list)
    for s in survey.seen:
        if s.sha256 is not None and says_enough(s.dhash):
            splits[s.split].append(s)
    for members in splits.values():
        owners = {
            key: n for n, key in enumerate({s.group or f"\0{s.file_name}": 0 for s in members})
        }
        groups = np.array([owners[s.group or f"\0{s.file_name}"] for s in members], dtype=np.int64)
        hashes = np.array([s.dhash for s in members], dtype=np.uint64)
        told = set[int]()
        for i, j, bits in near_pairs(hashes, groups, most=MOST_ALIKE):
            if j not in told and members[i].sha256 != members[j].sha256:
                told.add(j)
                said = f"looks like {members[i].file_name} ({bits} of 64 bits differ)"
                yield survey.find(said, members[j])


@rule("I117", "info")
def no_annotation(scene: Scene) -> Iterator[Finding]:
    """
    The image has no segment.

    Why it matters: right if nothing is to be seen, wrong if nobody has looked. Some loaders
    leave such images out: torchvision's reference training drops them all.
    Fix: check that the job was finished.
    Example: the last frames of a CVAT job that ran out of time.
    """
    if not scene.sample.segments:
        yield scene.find("has no segment")


@rule("I119", "error")
def too_many_pixels(scene: Scene) -> Iterator[Finding]:
    """
    The image is larger than 134 million pixels.

    Why it matters: a file of 17.6 kB can hold 12,000 x 12,000 pixels and take gigabytes to
    decode; a map of ids takes 4 bytes a pixel. Masks that large are refused unread.
    Fix: cut it into tiles before annotating.
    Example: a whole-slide scan.
    """
    sample = scene.sample
    if min(sample.height, sample.width) > 0 and sample.height * sample.width > MAX_PIXELS:
        yield scene.find(f"image is {sample.width} x {sample.height} px")
    else:
        yield from _unreadable(scene, "I119")


@rule("I120", "info")
def location(scene: Scene) -> Iterator[Finding]:
    """
    The file says where it was taken (EXIF GPS).

    Why it matters: a phone knows its place to some 5 m, which is often somebody's home,
    and what is published cannot be called back.
    Fix: `build` publishes images without EXIF; clean the originals before sharing them otherwise.
    Example: any phone photo with location on.
    """
    if scene.facts is not None and scene.facts.has_location:
        yield scene.find("EXIF holds a GPS position")


@rule("I121", "error")
def overwritten(scene: Scene) -> Iterator[Finding]:
    """
    The export kept one file for several images, so the picture may belong to another one.

    Why it matters: CVAT's COCO export overwrites images of the same name from different tasks;
    all but one of them have masks on the wrong picture.
    Fix: export "CVAT for images 1.1", or task by task, and import again.
    Example: `1.jpg` in the tasks kitchen and garden.
    """
    if member := scene.sample.source.get("image_shared_with"):
        yield scene.find(f"{member} stands for several images; this may not be its picture")


def _unreadable(scene: Scene, code: str) -> Iterator[Finding]:
    if isinstance(scene.image, FormatError) and scene.image.code == code:
        yield scene.find(scene.image.message)


def _of(facts: ImageFacts) -> int:
    """EXIF orientation; what is out of range means upright, as in every viewer."""
    return facts.orientation if facts.orientation in range(1, 9) else 1


def _turned(scene: Scene) -> bool:
    """Are width and height swapped, and does EXIF say why?"""
    facts, sample = scene.facts, scene.sample
    return (
        facts is not None
        and _of(facts) >= 5
        and facts.height != facts.width
        and (facts.width, facts.height) == (sample.height, sample.width)
    )


def _refusal(name: str) -> FormatError | None:
    try:
        safe_path(name)
    except FormatError as error:
        return error
    return None


def _bytes_in_split(seen: Seen) -> tuple[str, str | None] | None:
    return None if seen.sha256 is None else (seen.sha256, seen.split)


def _place(seen: Seen) -> str | None:
    """Names with one of these fall together on some file system; unsafe ones have none."""
    if _refusal(seen.file_name) is not None:
        return None
    return collision_key(portable(seen.file_name))
