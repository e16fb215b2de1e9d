"""
Training pictures that nobody had to annotate: shapes cut from one photograph into another.

Their outlines are exact to the pixel, which no annotated set offers, and their photographs can
be free of any licence. Everything follows from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..masks import Mask
from ..shapes.components import numbered
from ..shapes.distance import signed
from .resizing import resized

SIDE = 192  # pixels
Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST, _MOST = 1500, 17000  # pixels of an object


@dataclass(frozen=True, slots=True)
class Example:
    """A picture (SIDE, SIDE, 3) uint8 and the object in its middle (SIDE, SIDE) bool."""

    image: Picture
    mask: Bools


def composite(
    photos: Sequence[Picture],
    rng: np.random.Generator,
    silhouettes: Sequence[Bools] = (),
    pale: float = 0,
) -> Example:
    """
    A shape with one texture on a ground with another, as cameras and codecs leave them.

    Some have little contrast, some shadows, some a neighbour of their own kind, and most have
    edges inside and outside that are not the outline: what a refiner has to tell apart.

    Args:
        silhouettes: masks (SIDE, SIDE) of real objects, which half of the shapes are taken
            from; the outline is exact in the composite, however coarsely they were annotated.
        pale: the share of pale ones around something that stands out, as cells are.
    """
    mask = shape(rng, silhouettes)
    photo = photos[int(rng.integers(len(photos)))]
    ground = _parts(_texture(photo, rng), photos, rng)
    other = photo if rng.random() < 0.15 else photos[int(rng.integers(len(photos)))]
    figure = _parts(_texture(other, rng), photos, rng)
    if pale and rng.random() < pale:
        figure, ground = _pale(mask, figure, ground, rng)
    if rng.random() < 0.3:
        figure = figure * (1 + 0.25 * _noise(30, rng)[..., None])
        shadow = np.roll(mask, rng.integers(-12, 13, 2), axis=(0, 1)).astype(float)
        ground = ground * (1 - 0.5 * _blurred(shadow, 4)[..., None])
    if rng.random() < 0.35:
        mask, ground = _beside_its_like(mask, figure, ground, rng, silhouettes)
    if rng.random() < 0.35:
        near = (signed(mask, 12) > -6) & ~mask
        pull = rng.uniform(0.3, 0.85)
        figure = figure + (ground[near].mean(axis=0) - figure[mask].mean(axis=0)) * pull
    edge = np.exp(rng.uniform(np.log(0.35), np.log(1.8)))
    alpha = _blurred(mask.astype(float), edge)[..., None]
    seen = ground * (1 - alpha) + figure * alpha
    if rng.random() < 0.4:
        seen = _blurred(seen, rng.uniform(0.4, 1.2))
    seen = seen + rng.normal(0, 1, seen.shape) * rng.choice([0, 2, 5, 10])
    if rng.random() < 0.3:
        seen = _blocky(seen, rng)
    return Example(np.clip(seen, 0, 255).astype(np.uint8), mask)


def _pale(
    mask: Bools, figure: Floats, ground: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """
    The figure little more than a shade of its ground, but for a kernel that stands out from both.

    So it is with cells and their nuclei, fruit and stones, eyes and irises: the strongest edge
    in sight lies within the object, and its outline is a faint one, if often a smooth one, too.
    """
    depth = signed(mask)
    kernel = depth > depth.max() * rng.uniform(0.08, 0.6)
    for _ in range(rng.integers(0, 4)):  # lobes, and bites
        middle = SIDE / 2 + rng.normal(0, 18, 2)
        blob = _blob(rng.uniform(8, 30), tuple(middle), rng)
        kernel = kernel & ~blob if rng.random() < 0.5 else kernel | blob
    kernel &= depth > 2
    if rng.random() < 0.6:
        ground = _even(rng) if rng.random() < 0.5 else _blurred(ground, rng.uniform(4, 16))
    near = ground[(signed(mask, 12) > -12) & ~mask].mean(axis=0)
    pale = near + rng.normal(0, 1, 3) * rng.choice([8, 16, 30])
    figure = figure + (pale - figure[mask].mean(axis=0))
    figure = pale + (figure - pale) * rng.uniform(0.05, 0.7)
    if rng.random() < 0.5:  # grains, as in plasma
        figure = figure + (_noise(rng.uniform(0.8, 2.5), rng) * rng.uniform(3, 18))[..., None]
    stark = np.clip(near + rng.choice([-1, 1]) * rng.uniform(40, 160, 3), 0, 255)
    stark = stark + (_noise(rng.uniform(1, 5), rng) * rng.uniform(0, 20))[..., None]
    alpha = _blurred(kernel.astype(float), np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    alpha = alpha[..., None] * rng.uniform(0.6, 1)
    return figure * (1 - alpha) + stark * alpha, ground


def _beside_its_like(
    mask: Bools,
    figure: Floats,
    ground: Floats,
    rng: np.random.Generator,
    silhouettes: Sequence[Bools],
) -> tuple[Bools, Floats]:
    """
    The shape and its ground with one or two more that look the same, touching it.

    As parked cars, leaves and crowds do: what parts them is a line, a shadow or a shade, and
    may be far weaker than the edges inside of them. One half lie in front, and hide a part.
    """
    for _ in range(rng.integers(1, 3)):
        other = _touching(mask, shape(rng, silhouettes), rng)
        if rng.random() < 0.5:
            left = largest_part(mask & ~other)
            if left.sum() > max(_LEAST, 0.6 * mask.sum()):
                mask = left
        like = np.rot90(figure, 2 * int(rng.integers(2)))[:, :: rng.choice([-1, 1])]
        like = (like - 128) * rng.uniform(0.85, 1.15) + 128 + rng.normal(0, 6, 3)
        far = np.sqrt(np.maximum(signed(~mask, 16), 0))[..., None] * rng.uniform(0.3, 1.5)
        like = like * (1 - rng.uniform(0.1, 0.7) * np.exp(-far))
        alpha = _blurred((other & ~mask).astype(float), rng.uniform(0.4, 1.2))[..., None]
        ground = ground * (1 - alpha) + like * alpha
    return mask, ground


def _touching(mask: Bools, other: Bools, rng: np.random.Generator) -> Bools:
    """The other mask moved so that some pixel of its border lies on one of this one's border."""
    one, another = (np.argwhere(m[1:, 1:] != m[:-1, :-1]) for m in (mask, other))
    moved = np.zeros_like(other)
    at = np.argwhere(other) + one[rng.integers(len(one))] - another[rng.integers(len(another))]
    at = at[((at >= 0) & (at < SIDE)).all(axis=1)]
    moved[at[:, 0], at[:, 1]] = True
    return moved


def cut_out(image: Picture, mask: Bools, size: float) -> Example:
    """The surroundings of an object, scaled so that sqrt(area) is `size` pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    side = round(SIDE * float(np.sqrt(mask.sum())) / size)
    top = (int(rows[0]) + int(rows[-1]) - side) // 2
    left = (int(columns[0]) + int(columns[-1]) - side) // 2
    at_rows = _mirrored(np.arange(top, top + side), mask.shape[0])
    at_columns = _mirrored(np.arange(left, left + side), mask.shape[1])
    window = np.ix_(at_rows, at_columns)
    scaled = _resized(image[window].astype(float), SIDE)
    covered = _resized(mask[window].astype(float)[..., None], SIDE)[..., 0]
    return Example(np.clip(scaled + 0.5, 0, 255).astype(np.uint8), covered > 0.5)


def shape(rng: np.random.Generator, silhouettes: Sequence[Bools] = ()) -> Bools:
    """One connected shape (SIDE, SIDE) that does not touch the border."""
    while True:
        if silhouettes and rng.random() < 0.5:
            taken = silhouettes[int(rng.integers(len(silhouettes)))]
            mask = np.rot90(taken, int(rng.integers(4)))
        else:
            mask = _drawn(rng)
        if rng.random() < 0.5:
            rough = _noise(rng.uniform(1.5, 5), rng) * rng.uniform(0.5, 3)
            mask = signed(mask, 16) + rough > 0
        mask = largest_part(mask)
        on_border = mask[[0, -1]].any() or mask[:, [0, -1]].any()
        if _LEAST < mask.sum() < _MOST and not on_border:
            return mask


def largest_part(mask: Bools) -> Bools:
    """The part with most pixels, hanging together by sides and corners."""
    labels, count = numbered(mask, corners=True)
    if not count:
        return mask
    return np.asarray(labels == 1 + np.bincount(labels[mask])[1:].argmax())


# ── shapes ───────────────────────────────────────────────────────────────────────────────────


def _drawn(rng: np.random.Generator) -> Bools:
    """A blob, a figure with limbs, some blobs in one, a cloud or a polygon."""
    radius = rng.uniform(30, 62)
    kind = rng.random()
    if kind < 0.35:
        return _blob(radius, (SIDE / 2, SIDE / 2), rng)
    if kind < 0.65:
        return _limbs(radius, rng)
    if kind < 0.8:
        mask = _blob(radius * 0.7, (SIDE / 2, SIDE / 2), rng)
        for _ in range(rng.integers(1, 4)):
            middle = SIDE / 2 + rng.normal(0, radius * 0.6, 2)
            mask |= _blob(radius * rng.uniform(0.25, 0.7), tuple(middle), rng)
        return mask
    if kind < 0.9:
        y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
        return np.asarray(_noise(rng.uniform(8, 22), rng) + 2.2 - np.hypot(y, x) / radius * 2 > 0)
    turn = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 10)))
    away = radius * 1.3 * rng.uniform(0.4, 1, len(turn))
    return _filled(SIDE / 2 + away * np.stack([np.cos(turn), np.sin(turn)]))


def _blob(radius: float, middle: tuple[float, ...], rng: np.random.Generator) -> Bools:
    """A circle bent by random waves, then squeezed and turned."""
    turn = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    away = np.ones(240)
    fall = rng.uniform(0.9, 1.8)
    for wave in range(1, rng.integers(2, 14) + 1):
        away += rng.normal() * 0.35 / wave**fall * np.cos(wave * turn + rng.uniform(0, 7))
    away = np.maximum(away, 0.2)
    squeeze, angle = np.exp(rng.normal() * 0.35), rng.uniform(0, 7)
    x, y = away * np.cos(turn) * squeeze, away * np.sin(turn) / squeeze
    across = x * np.cos(angle) - y * np.sin(angle)
    down = x * np.sin(angle) + y * np.cos(angle)
    return _filled(np.array(middle)[:, None] + radius * np.stack([across, down]))


def _limbs(radius: float, rng: np.random.Generator) -> Bools:
    """A trunk, a head and two to five limbs, as people, animals and hands have them."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = np.array([SIDE / 2, SIDE / 2])
    angle = rng.uniform(0, 6.28) if rng.random() < 0.4 else np.pi / 2 + rng.normal() * 0.1
    along = np.array([np.cos(angle), np.sin(angle)])
    length, width = radius * rng.uniform(0.8, 1.3), radius * rng.uniform(0.3, 0.6)

    def capsule(one: Floats, other: Floats, wide: float) -> Bools:
        reach = other - one
        share = ((x - one[0]) * reach[0] + (y - one[1]) * reach[1]) / max(reach @ reach, 1e-9)
        share = np.clip(share, 0, 1)
        strays = np.hypot(x - one[0] - share * reach[0], y - one[1] - share * reach[1])
        return np.asarray(strays <= max(1.5, wide))

    mask = capsule(middle - along * length * 0.5, middle + along * length * 0.4, width)
    head = middle - along * length * (0.5 + width / length * 0.9)
    mask |= capsule(head, head, width * rng.uniform(0.4, 0.9))
    for _ in range(rng.integers(2, 6)):
        joint = middle + along * length * rng.choice([-0.4, 0.4]) + rng.normal(0, width * 0.4, 2)
        limb = along * rng.choice([-0.3, 1]) + rng.normal(0, 0.35, 2)
        limb /= np.linalg.norm(limb) + 1e-6
        end = joint + limb * length * rng.uniform(0.5, 1.1)
        mask |= capsule(joint, end, width * rng.uniform(0.2, 0.5))
    return mask


def _filled(points: Floats) -> Bools:
    """The inside of a ring given as x and y (2, N)."""
    ring = tuple(np.clip(points.T, -SIDE, 2 * SIDE).ravel().tolist())
    return Mask.from_polygons((ring,), SIDE, SIDE).to_array().astype(bool)


# ── textures ─────────────────────────────────────────────────────────────────────────────────


def _texture(photo: Picture, rng: np.random.Generator) -> Floats:
    """A piece of a photograph (SIDE, SIDE, 3), or now and then an even or shaded ground."""
    if rng.random() < 0.18:
        return _even(rng)
    zoom = np.exp(rng.uniform(np.log(0.45), np.log(1.8)))
    side = int(min(SIDE * zoom, *photo.shape[:2]))
    row = rng.integers(photo.shape[0] - side + 1)
    column = rng.integers(photo.shape[1] - side + 1)
    piece = _resized(photo[row : row + side, column : column + side].astype(float), SIDE)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    if rng.random() < 0.3:
        piece = np.rot90(piece, int(rng.integers(4)))
    if rng.random() < 0.5:
        piece = piece[..., rng.permutation(3)]
    shade = rng.normal(0, 1, 3) * rng.choice([5, 25])
    return np.asarray((piece - 128) * rng.uniform(0.5, 1.2) + 128 + shade)


def _even(rng: np.random.Generator) -> Floats:
    """A ground of one shade, or of two that pass into each other."""
    one, other = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    share = np.linspace(0, 1, SIDE)[:, None, None] * rng.uniform(0, 0.6)
    if rng.random() < 0.5:
        share = share.transpose(1, 0, 2)
    even = (one * (1 - share) + other * share) * np.ones((SIDE, SIDE, 1))
    return np.asarray(even + rng.normal(0, 1, (SIDE, SIDE, 1)) * rng.uniform(0, 6))


def _parts(base: Floats, photos: Sequence[Picture], rng: np.random.Generator) -> Floats:
    """Up to three patches of other textures, some see-through: edges that are no outlines."""
    for _ in range(rng.integers(0, 4)):
        if rng.random() < 0.6:
            middle = rng.uniform(20, SIDE - 20, 2)
            patch = _blob(rng.uniform(15, 60), tuple(middle), rng)
        else:
            y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
            angle = rng.uniform(0, 7)
            patch = y * np.cos(angle) + x * np.sin(angle) > rng.normal() * 25
        alpha = _blurred(patch.astype(float), rng.uniform(0.4, 1.5))[..., None]
        alpha = alpha * (1 if rng.random() < 0.7 else 0.5)
        base = base * (1 - alpha) + _texture(photos[int(rng.integers(len(photos)))], rng) * alpha
    return base


def _noise(sigma: float, rng: np.random.Generator) -> Floats:
    """Smooth noise (SIDE, SIDE) of variance 1."""
    smooth = _blurred(rng.normal(0, 1, (SIDE, SIDE)), sigma)
    return np.asarray(smooth / smooth.std())


def _blurred(x: Floats, sigma: float) -> Floats:
    """A Gaussian blur along rows and columns, as if the picture went on around its edges."""
    waves = np.fft.fftfreq(x.shape[0]), np.fft.rfftfreq(x.shape[1])
    falls = [np.exp(-2 * (np.pi * sigma * wave) ** 2) for wave in waves]
    window = (falls[0][:, None] * falls[1]).reshape(len(falls[0]), -1, *[1] * (x.ndim - 2))
    return np.fft.irfft2(np.fft.rfft2(x, axes=(0, 1)) * window, s=x.shape[:2], axes=(0, 1))


def _blocky(x: Floats, rng: np.random.Generator) -> Floats:
    """What a codec leaves: the waves of 8 x 8 blocks, rounded, the fine ones more coarsely."""
    n = np.arange(8)
    waves = np.cos(np.pi / 8 * (n + 0.5) * n[:, None]) * np.where(n == 0, 8**-0.5, 0.5)[:, None]
    blocks = x.reshape(SIDE // 8, 8, SIDE // 8, 8, 3)
    found = np.einsum("ua,RaCbk,vb->RuCvk", waves, blocks, waves, optimize=True)
    step = rng.uniform(1, 6) * (2 + n[:, None] + n)[:, None, :, None]
    found = np.round(found / step) * step
    return np.asarray(
        np.einsum("ua,RuCvk,vb->RaCbk", waves, found, waves, optimize=True).reshape(x.shape)
    )


def _resized(x: Floats, side: int) -> Floats:
    """A picture (h, w, C) scaled to (side, side, C); shrinking takes all its pixels in."""
    tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
    return np.asarray(resized(tensor, (side, side))[0].permute(1, 2, 0).numpy())


def _mirrored(at: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Indices beyond an axis, as in a mirror at its ends."""
    at = np.abs(at) % max(2 * length - 2, 1)
    return np.where(at < length, at, 2 * length - 2 - at)
