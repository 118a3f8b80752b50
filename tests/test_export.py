"What leaves the package answers as the network does, at sizes that the trace has not seen."

import json

import onnxruntime
import pytest
import torch
from published import CLASSES, thin

from danet_nb.weight_files import CheckpointError
from danet_nb.backbone import resnet
from danet_nb.pretrained import PretrainedDANet
from danet_nb.export import export, export_onnx, run_onnx

SIZES = [(1, 3, 33, 50), (3, 3, 64, 64), (1, 3, 97, 120)]


def image(size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    "Every operation of the published networks, in small: bottlenecks, deep stem, multi-grid, other resizing."
    return thin(
        "resnet50", stem="deep", multi_grid=(4, 8, 16), align_corners=False, classes=CLASSES
    )


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    return export_onnx(model, tmp_path_factory.mktemp("onnx") / "danet.onnx")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_onnxruntime_agrees(model, onnx_file, size):
    with torch.no_grad():
        ours = model(image(size))
    theirs = run_onnx(onnx_file, image(size))
    assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
    assert (theirs - ours).abs().max() < 1e-4 * (ours.max() - ours.min())


def test_axes_and_metadata_have_names(onnx_file):
    session = onnxruntime.InferenceSession(str(onnx_file))
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("image", ["batch", 3, "height", "width"])
    ]
    assert [(o.name, o.shape[1]) for o in session.get_outputs()] == [("logits", 5)]
    about = session.get_modelmeta().custom_metadata_map
    assert (
        json.loads(about["classes"]) == CLASSES
        and about["output"] == "logits"
        and "minus (0.485" in about["input"]
    )


def test_bytes_in_and_classes_out_of_a_saved_small_network(tmp_path):
    torch.manual_seed(0)
    model = PretrainedDANet(5, "small", channels=16).eval()
    model.save_pretrained(tmp_path / "saved")
    file = export(tmp_path / "saved", tmp_path / "whole.onnx", normalise=True, argmax=True)
    pixels = torch.randint(
        0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        ours = model((pixels / 255 - mean) / std).argmax(1)
    theirs = run_onnx(file, pixels)
    assert theirs.dtype == torch.int64 and theirs.shape == (2, 40, 56)
    assert (theirs == ours).float().mean() > 0.999


def test_torch_export_agrees_and_carries_its_classes(tmp_path):
    model = thin("resnet18", auxiliary=True, classes=CLASSES)
    about = {"about.json": ""}
    program = torch.export.load(export(model, tmp_path / "danet.pt2"), extra_files=about).module()
    assert json.loads(json.loads(about["about.json"])["classes"]) == CLASSES
    with torch.no_grad():
        for size in SIZES:
            torch.testing.assert_close(program(image(size)), model(image(size)), rtol=0, atol=1e-4)


def test_what_cannot_be_exported_is_named(tmp_path):
    with pytest.raises(ValueError, match="choose an ending among .onnx, .pt2"):
        export(thin(), tmp_path / "danet.tflite")
    torch.save(resnet("resnet18", width=8, stem_width=8).state_dict(), tmp_path / "r18.pth")
    with pytest.raises(CheckpointError, match="ImageNet backbone"):
        export(tmp_path / "r18.pth", tmp_path / "danet.onnx")
    assert not list(tmp_path.glob("*.onnx"))
