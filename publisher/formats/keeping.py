"""What a format can hold: the traits of a dataset that survive writing it and reading it back."""

from __future__ import annotations

from typing import Literal, get_args

Trait = Literal[
    "instances",  # each object of a thing class apart from the others
    "overlaps",  # pixels that several segments claim
    "holes",  # pixels inside a segment that are not its own
    "parts",  # several separate regions as one segment
    "outlines",  # polygons with the very vertices that were drawn
    "crowds",  # iscrowd
    "z-order",  # which segment is nearer
    "attributes",  # what else was said of a segment
    "isthing",  # which classes are things, which stuff
    "colors",  # the colours of classes
    "supercategories",
    "category ids",  # the numbers of classes; else 1, 2, ... in the order of the file
    "unused categories",  # classes that no segment has
    "ids",  # the numbers of images and segments
    "splits",  # train, val, test
    "extensions",  # .jpg or .png; else .jpg is assumed
    "empty images",  # images without a segment
]

TRAITS: tuple[Trait, ...] = get_args(Trait)


def keeps(*traits: Trait) -> frozenset[Trait]:
    """A declaration, checked by the type checker and by tests/formats/contract.py."""
    return frozenset(traits)


def everything_but(*traits: Trait) -> frozenset[Trait]:
    """The declaration of a rich format."""
    return frozenset(TRAITS) - frozenset(traits)
