"""
RITM for CVAT's interactor tool: a nuclio function, contract version 2.

CVAT sends the frame and all clicks so far; the answer is the mask inside its bounding box, which
is a hundredth of what the whole frame would be. The model is named by `RITM_WEIGHTS` (a name or a
path, as for `publisher refine --weights`), the device by `RITM_DEVICE`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from publisher import images, ritm
from publisher.errors import FormatError
from publisher.refine import Click

MOST_CLICKS = 200


class BadRequest(ValueError):
    """What CVAT sent is not a request of its interactor tool."""


def init_context(context: Any) -> None:
    """Load the model once for each worker."""
    weights, device = os.environ.get("RITM_WEIGHTS", "h18"), os.environ.get("RITM_DEVICE", "cpu")
    context.user_data.predictor = ritm.load(weights, device=device)
    context.logger.info(f"RITM {weights} on {device}")


def handler(context: Any, event: Any) -> Any:
    """Answer one request of CVAT; what is wrong with it is said with status 400."""
    try:
        answer, status = answer_to(event.body, context.user_data.predictor), 200
    except (BadRequest, FormatError) as error:
        context.logger.warning(str(error))
        answer, status = {"message": str(error)}, 400
    return context.Response(
        body=json.dumps(answer), headers={}, content_type="application/json", status_code=status
    )


def answer_to(body: object, predictor: ritm.Predictor) -> dict[str, Any]:
    """
    The mask of the object that was clicked on, as `{"mask": rows of 0 and 255, "bounds": box}`.

    The box is [left, top, right, bottom], all inclusive; the mask is cut to it.
    """
    request = _decoded(body)
    picture = images.pixels_of(_bytes(request.get("image")))
    height, width = picture.shape[:2]
    clicks = [
        *_clicks(request, "pos_points", height, width),
        *_clicks(request, "neg_points", height, width),
    ]
    if not any(click.positive for click in clicks):
        raise BadRequest("pos_points: at least one click on the object is needed")
    mask = ritm.object_at(predictor, picture, clicks, threshold=_threshold(request))
    return _cut(mask)


def _decoded(body: object) -> Mapping[str, Any]:
    """The request as nuclio hands it over: decoded where the content type says JSON, else bytes."""
    if isinstance(body, bytes | str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest("the body is not JSON") from error
    if not isinstance(body, Mapping):
        raise BadRequest("the body is not a JSON object")
    return body


def _bytes(image: object) -> bytes:
    if not isinstance(image, str):
        raise BadRequest("image: not a base64 string")
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("image: not a base64 string") from error


def _clicks(request: Mapping[str, Any], key: str, height: int, width: int) -> list[Click]:
    """The clicks under a key, which CVAT gives as [x, y] in pixels of the frame."""
    points = request.get(key) or []
    if not isinstance(points, list) or len(points) > MOST_CLICKS:
        raise BadRequest(f"{key}: not a list of at most {MOST_CLICKS} points")
    clicks = []
    for point in points:
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))):
            raise BadRequest(f"{key}: {point!r:.60} is not a point [x, y]")
        x, y = point
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadRequest(f"{key}: [{x}, {y}] is outside the {width} x {height} frame")
        clicks.append(Click(min(y, height - 1), min(x, width - 1), key == "pos_points"))
    return clicks


def _threshold(request: Mapping[str, Any]) -> float:
    threshold = request.get("threshold")
    if threshold is None:
        return 0.5
    if not _is_number(threshold) or not 0 < threshold < 1:
        raise BadRequest("threshold: not a number between 0 and 1")
    return float(threshold)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _cut(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (H, W) as CVAT wants it; where nothing was found, one empty pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom = (int(rows[0]), int(rows[-1])) if len(rows) else (0, 0)
    left, right = (int(columns[0]), int(columns[-1])) if len(columns) else (0, 0)
    inside = mask[top : bottom + 1, left : right + 1]
    return {
        "mask": np.where(inside, 255, 0).tolist(),
        "bounds": [left, top, right, bottom],
    }
