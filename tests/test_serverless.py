"""The adapters for CVAT: requests as CVAT sends them, answers as its page reads them."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from publisher.ritm import Config, Network, Predictor

HERE = Path(__file__).parent.parent / "serverless" / "ritm"


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"serverless_{name}", HERE / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


main = module("main")


class Near:
    """Stands for a network: the object is a disk around its first click."""

    def session(self, image, **_options):
        height, width = image.shape[:2]
        y, x = np.mgrid[:height, :width]

        def predict(clicks, mask=None):
            first = clicks[0]
            inside = (y - first.row) ** 2 + (x - first.col) ** 2 <= 25
            for click in clicks:
                if not click.positive:
                    inside &= (y - click.row) ** 2 + (x - click.col) ** 2 > 9
            return inside.astype(np.float32)

        return SimpleNamespace(predict=predict)


def frame(height=60, width=80) -> str:
    body = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(body, "JPEG")
    return base64.b64encode(body.getvalue()).decode("ascii")


def call(predictor=None, as_bytes=False, **request):
    said = []
    context = SimpleNamespace(
        user_data=SimpleNamespace(predictor=predictor or Near()),
        logger=SimpleNamespace(info=said.append, warning=said.append),
        Response=lambda **kinds: SimpleNamespace(**kinds),
    )
    request = {"image": frame(), "pos_points": [[30, 20]], "neg_points": [], **request}
    body = json.dumps(request).encode() if as_bytes else request
    answer = main.handler(context, SimpleNamespace(body=body))
    return answer.status_code, json.loads(answer.body)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_click_gives_the_mask_inside_its_box(as_bytes):
    status, answer = call(as_bytes=as_bytes, obj_bbox=None)
    assert status == 200
    assert answer["bounds"] == [25, 15, 35, 25]
    mask = np.array(answer["mask"])
    assert mask.shape == (11, 11)
    assert sorted(np.unique(mask)) == [0, 255]
    assert mask[5, 5] == 255
    assert mask[0, 0] == 0


def test_a_click_beside_it_takes_away():
    status, answer = call(neg_points=[[35, 20]])
    assert status == 200
    left, top, _, _ = answer["bounds"]
    mask = np.array(answer["mask"])
    assert mask[20 - top, 30 - left] == 255
    assert mask[20 - top, 33 - left] == 0


def test_points_on_the_right_and_lower_edge_of_the_frame_are_inside():
    assert call(pos_points=[[80, 60]])[0] == 200


def test_where_nothing_is_found_the_mask_is_one_empty_pixel():
    assert call(neg_points=[[30, 20]], pos_points=[[30, 20]])[0] == 200
    cut = main._cut(np.zeros((5, 5), dtype=bool))
    assert cut == {"mask": [[0]], "bounds": [0, 0, 0, 0]}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"image": "no base64!"}, "base64"),
        ({"image": None}, "base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "not an image"),
        ({"image": frame()[:200]}, "image"),
        ({"pos_points": []}, "at least one"),
        ({"pos_points": [[1]]}, "not a point"),
        ({"pos_points": [[1, "2"]]}, "not a point"),
        ({"pos_points": [[True, 2]]}, "not a point"),
        ({"pos_points": [[float("nan"), 2]]}, "not a point"),
        ({"pos_points": [[1e9, 2]]}, "outside"),
        ({"neg_points": [[-1, 2]]}, "outside"),
        ({"neg_points": {"a": 1}}, "not a list"),
        ({"pos_points": [[1, 1]] * 201}, "at most 200"),
        ({"threshold": 2}, "between 0 and 1"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why(request_, said):
    status, answer = call(**request_)
    assert status == 400
    assert said in answer["message"]


@pytest.mark.parametrize("body", [b"\xff", b"[1]", "[" * 100_000, None, 7])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(main.BadRequest):
        main.answer_to(body, Near())


def test_a_picture_larger_than_any_frame_is_refused():
    body = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(body, "PNG")
    image = base64.b64encode(body.getvalue()).decode()
    status, answer = call(image=image)
    assert status == 400
    assert "too large" in answer["message"]


def test_a_real_network_answers():
    torch.manual_seed(0)
    predictor = Predictor(Network(Config(width=4, ocr_width=8)))
    status, answer = call(predictor, neg_points=[[5, 5]])
    left, top, right, bottom = answer["bounds"]
    assert status == 200
    assert np.shape(answer["mask"]) == (bottom - top + 1, right - left + 1)


def test_the_model_is_chosen_by_the_environment(monkeypatch):
    asked = []
    monkeypatch.setattr(main.ritm, "load", lambda *a, **k: asked.append((a, k)))
    monkeypatch.setenv("RITM_WEIGHTS", "h32")
    context = SimpleNamespace(user_data=SimpleNamespace(), logger=SimpleNamespace(info=print))
    main.init_context(context)
    assert asked == [(("h32",), {"device": "cpu"})]


def test_an_agent_of_cvat_gets_the_same_mask(monkeypatch):
    """Against a stand-in for cvat_sdk, which has some hundred packages of its own."""
    sdk = ModuleType("cvat_sdk.auto_annotation")
    sdk.InteractionFunctionSpec = SimpleNamespace
    sdk.InteractionFunctionContext = sdk.InteractionPrompts = object
    sdk.InteractionResultShape = SimpleNamespace
    masks = ModuleType("cvat_sdk.masks")
    masks.encode_mask = lambda bitmap: bitmap
    package = ModuleType("cvat_sdk")
    package.auto_annotation, package.masks = sdk, masks
    for part in (package, sdk, masks):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    native = module("native")
    monkeypatch.setattr(native.ritm, "load", lambda *_a, **_k: Near())
    function = native.create(weights="h18")
    picture = function.preprocess_image(None, Image.new("L", (80, 60)))
    prompts = SimpleNamespace(pos_points=[(30.0, 20.0)], neg_points=[], bounding_box=None)
    (shape,) = function.detect(None, picture, prompts)
    assert (function.spec.min_pos_points, function.spec.min_neg_points) == (1, 0)
    assert (shape.type, shape.points.dtype, shape.points.shape) == ("mask", np.bool_, (60, 80))
    assert np.argwhere(shape.points).mean(axis=0).tolist() == [20, 30]


@pytest.mark.parametrize("name", ["function.yaml", "function-gpu.yaml"])
def test_the_function_is_an_interactor_of_version_two(name):
    document = yaml.safe_load((HERE / name).read_text("utf-8"))
    notes, spec = document["metadata"]["annotations"], document["spec"]
    assert (notes["type"], notes["version"]) == ("interactor", 2)
    assert spec["description"]  # CVAT does not list a function without
    assert spec["handler"] == "main:handler"
    assert ("resources" in spec) == ("gpu" in name)
