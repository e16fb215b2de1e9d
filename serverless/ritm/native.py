"""
RITM for CVAT's agents: a native function that runs where you are, without nuclio.

    cvat-cli function create-native RITM --function-file native.py -p weights=str:h18
    cvat-cli function run-agent ID --function-file native.py -p weights=str:h18

Agents need a CVAT that has them (CVAT Online or Enterprise); elsewhere, deploy `function.yaml`.
"""

from __future__ import annotations

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image
from cvat_sdk.masks import encode_mask
from numpy.typing import NDArray

from publisher import ritm
from publisher.refine import Click


class Interactor:
    """An object from clicks on it and beside it."""

    spec = cvataa.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0)

    def __init__(self, weights: str = "h18", device: str = "cpu") -> None:
        self._predictor = ritm.load(weights, device=device)

    def preprocess_image(
        self, context: cvataa.InteractionFunctionContext, image: PIL.Image.Image
    ) -> NDArray[np.uint8]:
        """The frame as RGB (H, W, 3); CVAT keeps it between the clicks on it."""
        return np.asarray(image.convert("RGB"))

    def detect(
        self,
        context: cvataa.InteractionFunctionContext,
        pp_image: NDArray[np.uint8],
        prompts: cvataa.InteractionPrompts,
    ) -> list[cvataa.InteractionResultShape]:
        """One mask, of the object that all clicks together mean."""
        clicks = [
            *(Click(y, x) for x, y in prompts.pos_points),
            *(Click(y, x, positive=False) for x, y in prompts.neg_points),
        ]
        mask = ritm.object_at(self._predictor, pp_image, clicks)
        return [cvataa.InteractionResultShape(type="mask", points=encode_mask(mask))]


create = Interactor
