"What leaves the package answers as the network does, at sizes that the trace has not seen."

import json

import onnxruntime
import pytest
import torch
from published import CLASSES, thin

from danet_nb import export as export_module
from danet_nb.backbone import resnet
from danet_nb.danet import DANet
from danet_nb.export import export, export_onnx, run_onnx
from danet_nb.pretrained import save_danet
from danet_nb.transforms import MEAN, STD
from danet_nb.weight_files import CheckpointError

SIZES = [(1, 3, 33, 50), (3, 3, 64, 64), (1, 3, 97, 120)]


def image(size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    "Every operation of the published networks, in small."
    options = dict(stem="deep", multi_grid=(4, 8, 16), align_corners=False)
    return thin("resnet50", classes=CLASSES, **options)


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
    assert json.loads(about["classes"]) == CLASSES
    assert about["output"] == "logits" and "minus (0.485" in about["input"]
    assert json.loads(about["network"])["multi_grid"] == [4, 8, 16]


def test_bytes_in_and_classes_out_of_a_saved_small_network(tmp_path):
    torch.manual_seed(0)
    model = DANet(5, "small", channels=16).eval()
    saved = save_danet(model, tmp_path / "saved")
    file = export(saved, tmp_path / "whole.onnx", normalise=True, argmax=True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=generator)
    mean = torch.tensor(MEAN)[:, None, None]
    std = torch.tensor(STD)[:, None, None]
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


@pytest.fixture
def no_work(monkeypatch):
    "Loading or tracing is an error of another kind."

    def work(*arguments, **options):
        raise AssertionError("the work began")

    monkeypatch.setattr(export_module, "load_danet", work)
    monkeypatch.setattr(export_module, "Deployed", work)


def test_a_missing_folder_is_refused_before_any_work(tmp_path, no_work):
    for name in ("danet.onnx", "danet.pt2"):
        with pytest.raises(FileNotFoundError, match="there is no folder .*absent; make it first"):
            export("somewhere", tmp_path / "absent" / name)


def test_a_missing_package_is_named_with_its_cure(tmp_path, no_work, monkeypatch):
    monkeypatch.setattr(export_module, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"onnx and onnxscript .*pip install 'danet_nb\[export\]'"
    ):
        export("somewhere", tmp_path / "danet.onnx")


def test_an_error_inside_of_a_package_is_not_taken_for_a_missing_one(model, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise ImportError("libsomething.so: cannot open shared object file")

    monkeypatch.setattr(torch.onnx, "export", broken)
    with pytest.raises(ImportError, match="libsomething"):
        export(model, tmp_path / "danet.onnx")
