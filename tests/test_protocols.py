"""Protocols against those who invented them: the authors' and mmsegmentation's windows.

`fixtures/mmseg_slide.safetensors` holds what mmsegmentation's `slide_inference` answered on the
same weights, `authors_windows.safetensors` what the authors' evaluation did; where mmsegmentation
is installed it is asked again.
"""

import importlib.machinery
import json
import subprocess
import sys
import types
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from published import thin, write_mmseg
from safetensors.torch import load_file
from seeded import seeded_image, seeded_state
from torch.testing import assert_close

from danet_nb.evaluation import logits_of, predict
from danet_nb.protocols import (
    PROTOCOLS,
    Protocol,
    blend,
    find_protocol,
    grid,
    predict_by,
    shown_size,
)
from danet_nb.published import load_danet

FIXTURES = Path(__file__).parent / "fixtures"
WINDOWS = [((65, 65), (43, 43)), ((49, 97), (33, 65)), ((200, 65), (100, 43))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "mmsegmentation's DANet-18 with seeded weights, in our network."
    state = seeded_state(json.loads((FIXTURES / "mmseg_r18.json").read_text()))
    return load_danet(write_mmseg(tmp_path_factory.mktemp("mmseg") / "r18.pth", state)).eval()


def mean_logits(model, x, crop, stride, batch=1):
    protocol = Protocol(crop, stride, merge="logits", resizing="plain")
    with torch.no_grad():
        return blend(partial(logits_of, model), x, protocol, batch)


@pytest.mark.parametrize("crop, stride", WINDOWS)
@pytest.mark.parametrize("batch", [1, 4])
def test_windows_as_mmsegmentation_answered(model, crop, stride, batch):
    answered = load_file(FIXTURES / "mmseg_slide.safetensors")
    expected = answered[f"{crop[0]}x{crop[1]}_{stride[0]}x{stride[1]}"]
    got = mean_logits(model, seeded_image(97, 130), crop, stride, batch)[..., ::8, ::8]
    assert_close(got, expected, rtol=0, atol=1e-5)


def test_whole_as_mmsegmentation_answered(model):
    expected = load_file(FIXTURES / "mmseg_slide.safetensors")["whole"]
    p = predict_by(model, seeded_image(97, 130), Protocol(merge="logits", resizing="plain"))
    assert_close(p[..., ::8, ::8], expected.softmax(1), rtol=0, atol=1e-5)


def test_windows_are_not_the_whole(model):
    "The comparison above can fail."
    answered = load_file(FIXTURES / "mmseg_slide.safetensors")
    assert (answered["65x65_43x43"] - answered["whole"]).abs().max() > 0.01
    other = mean_logits(model, seeded_image(97, 130), (65, 65), (44, 44))[..., ::8, ::8]
    assert (other - answered["65x65_43x43"]).abs().max() > 1e-3


def operator(name):
    "A compiled operator that nobody calls."
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def theirs(state, crop, stride):
    "mmsegmentation's own network around a state dict; its compiled operators are not needed."
    pytest.importorskip("mmengine")
    pytest.importorskip("mmcv")
    missing = types.ModuleType("mmcv.ops")
    missing.__spec__, missing.__path__ = importlib.machinery.ModuleSpec("mmcv.ops", None), []
    missing.__getattr__ = operator
    sys.modules.setdefault("mmcv.ops", missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mmseg.models")
    from mmengine.config import ConfigDict
    from mmseg.registry import MODELS

    common = {"num_classes": 19, "norm_cfg": {"type": "BN"}, "align_corners": False}
    backbone = {"type": "ResNetV1c", "depth": 18, "num_stages": 4, "out_indices": (0, 1, 2, 3)}
    backbone |= {"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1), "norm_cfg": {"type": "BN"}}
    head = {"type": "DAHead", "in_channels": 512, "in_index": 3, "channels": 128}
    head |= {"pam_channels": 16, "loss_decode": {"type": "CrossEntropyLoss"}, **common}
    aside = {"type": "FCNHead", "in_channels": 256, "in_index": 2, "channels": 64, "num_convs": 1}
    aside |= {"concat_input": False, "loss_decode": {"type": "CrossEntropyLoss"}, **common}
    settings = {
        "type": "EncoderDecoder",
        "backbone": {**backbone, "contract_dilation": True},
        "decode_head": head,
        "auxiliary_head": aside if any("auxiliary" in name for name in state) else None,
        "test_cfg": {"mode": "slide", "crop_size": crop, "stride": stride},
    }
    network = MODELS.build(ConfigDict(settings))
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize("crop, stride", WINDOWS)
def test_mmsegmentation_is_asked_again(model, crop, stride):
    "Every pixel, where it is installed."
    state = seeded_state(json.loads((FIXTURES / "mmseg_r18.json").read_text()))
    x = seeded_image(97, 130)
    with torch.no_grad():
        expected = theirs(state, crop, stride).slide_inference(x, [{}])
    for batch in (1, 3):
        got = mean_logits(model, x, crop, stride, batch)
        assert (got - expected).abs().max() < 1e-5 * (expected.max() - expected.min())
        assert_close(got.softmax(1), expected.softmax(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "size, base, crop, scales",
    [
        ((64, 128), 128, 48, (1.0,)),
        ((75, 50), 81, 65, (0.5, 1.0, 1.75)),
        ((50, 75), 60, 65, (1.0, 1.3)),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_windows_as_the_authors_answered(size, base, crop, scales, batch):
    "Black borders, sides from the longer one, corners on corners, exp of summed logits."
    answered = load_file(FIXTURES / "authors_windows.safetensors")
    named = "_".join(map(str, (f"{size[0]}x{size[1]}", base, crop, *scales)))
    way = Protocol(crop, int(crop * 2 / 3), "black", base, None, scales, True, "authors", "corners")
    p = predict_by(thin(align_corners=True), seeded_image(*size), way, batch)
    assert_close(p[..., ::4, ::4], answered[named], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_several_windows_at_once_answer_as_one_at_a_time(batch):
    model = thin()
    x = seeded_image(70, 111)
    for border, merge in product(("shift", "black"), ("mean", "authors", "logits")):
        way = Protocol(48, 32, border, flip=True, merge=merge, scales=(1.0, 1.5))
        assert_close(predict_by(model, x, way, batch), predict_by(model, x, way), rtol=0, atol=1e-5)


def test_our_own_way_is_that_of_predict():
    model = thin()
    x = seeded_image(64, 96)
    for settings in ({}, {"flip": True}, {"window": 40, "scales": (0.5, 1.5), "merge": "authors"}):
        got = predict_by(model, x, Protocol(**settings), batch=2)
        assert_close(got, predict(model, x, **settings), rtol=0, atol=1e-5)


@pytest.mark.parametrize("border", ["shift", "black"])
def test_every_pixel_is_seen_and_no_window_is_wasted(border):
    for length, window, stride in product(range(1, 60), (1, 7, 30), (1, 5, 7)):
        stride = min(stride, window)
        starts = grid(length, window, stride, border)
        seen = [0] * length
        for start in starts:
            inside = range(start, min(start + window, length))
            assert len(inside) > 0, "a window without a pixel"
            for i in inside:
                seen[i] += 1
        assert min(seen) > 0 and starts == sorted(set(starts))


def test_steps_larger_than_the_window_are_refused():
    with pytest.raises(ValueError, match="pixels that no window sees"):
        Protocol(window=8, stride=9)
    with pytest.raises(ValueError, match="pixels that no window sees"):
        Protocol(window=(8, 20), stride=(4, 21))
    Protocol(window=8, stride=8)


def test_published_protocols_hold_the_published_numbers():
    way = find_protocol("authors-multi", "cityscapes")
    assert (way.window, way.stride, way.long_side) == (768, 384, 2048)
    assert way.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2) and way.flip
    assert find_protocol("paper", "cityscapes").stride == 512
    slide = find_protocol("mmseg-slide", "pascal_context")
    assert (slide.window, slide.stride) == (480, 320)
    assert shown_size((375, 500), 1, slide) == (390, 520)
    whole = find_protocol("mmseg-whole", "ade20k")
    assert shown_size((512, 683), 1, whole) == (512, 683)
    assert all(way.source for ways in PROTOCOLS.values() for way in ways.values())


MEMORY = """
import resource, sys, torch
from danet_nb.protocols import Protocol, blend
layer = torch.nn.Conv2d(3, 19, 1).requires_grad_(False)
x = torch.zeros(1, 3, 512, 1024)
layer(x[..., :64, :64])
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blend(lambda part: layer(part).softmax(1), x, Protocol(64, int(sys.argv[1])), batch=4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


def grown(stride):
    "Kilobytes by which a process grew."
    command = [sys.executable, "-c", MEMORY, str(stride)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has other units")
def test_memory_is_that_of_the_votes_however_many_windows():
    votes = 19 * 512 * 1024 * 4 / 1024
    few, many = grown(64), grown(8)  # 128 windows and 7000
    assert many < 1.5 * votes and many < few + 0.3 * votes
