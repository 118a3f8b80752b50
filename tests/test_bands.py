"Other than three channels: from the file through training and scoring to the exported network."

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from danet_nb.bands import read_bands
from danet_nb.cli import main
from danet_nb.data_check import check_data
from danet_nb.datasets import DataError, channel_statistics
from danet_nb.evaluation import predict
from danet_nb.export import export, run_onnx
from danet_nb.published import load_danet
from danet_nb.published_sets import open_dataset
from danet_nb.transforms import Normalize

CHANNELS = 5


def danet(*words):
    main([str(word) for word in words])


def cube(seed, size=(40, 48)):
    "An image `(H, W, C)` of uint16 whose fourth channel alone says the class."
    rng = np.random.default_rng(seed)
    label = np.zeros(size, dtype=np.uint8)
    label[:, rng.integers(12, 36) :] = 1
    bands = rng.integers(500, 700, (*size, CHANNELS))
    bands[..., 3] += 3000 * label.astype(int)
    return bands.astype(np.uint16), label


def write_pages(path, bands):
    pages = [Image.fromarray(bands[..., k]) for k in range(CHANNELS)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def instrument(root, kind="npy"):
    "A folder of images with five channels."
    for split, count in (("train", 6), ("val", 3)):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for k in range(count):
            bands, label = cube(10 * k + len(split))
            path = root / split / "images" / f"{k}.{kind}"
            np.save(path, bands) if kind == "npy" else write_pages(path, bands)
            Image.fromarray(label).save(root / split / "labels" / f"{k}.png")
    (root / "classes.txt").write_text("soil\nleaf\n")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run of some steps on it, and its data."
    place = tmp_path_factory.mktemp("bands")
    root = instrument(place / "data")
    words = f"train --data folder --root {root} --out {place / 'run'} --in-channels {CHANNELS}"
    danet(
        *words.split(), *"--steps 80 --batch-size 4 --crop-size 41 --channels 16".split(),
        *"--optimizer adamw --learning-rate 0.005 --head-factor 1 --evaluate-every 80".split(),
        *"--device cpu --no-progress".split(),
    )  # fmt: skip
    return place / "run", root


def test_statistics_are_those_of_the_training_set_and_kept(run):
    folder, root = run
    config = json.loads((folder / "config.json").read_text())
    values = np.concatenate(
        [np.load(path).reshape(-1, CHANNELS) for path in (root / "train/images").iterdir()]
    )
    assert config["in_channels"] == CHANNELS
    np.testing.assert_allclose(config["mean"], values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(config["std"], values.std(0), rtol=1e-6)


def test_it_learns_what_one_channel_says(run):
    folder, _ = run
    danet("evaluate", folder, "--device", "cpu", "--no-progress")
    scores = json.loads((folder / "evaluation_val.json").read_text())
    assert scores["mean_iou"] > 0.8
    assert (folder / "figures/predictions.png").exists()


def test_files_are_predicted(run, tmp_path):
    folder, root = run
    danet("predict", root / "val/images", "--run", folder, "--out", tmp_path / "out",
          "--device", "cpu", "--no-progress")  # fmt: skip
    label = np.asarray(Image.open(tmp_path / "out/0_label.png"))
    assert (label == cube(3)[1]).mean() > 0.8


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_the_exported_network_takes_the_numbers_of_the_file(run, tmp_path, ending):
    if ending == ".onnx":
        pytest.importorskip("onnxruntime")
    folder, root = run
    model = load_danet(folder)
    path = root / "val/images/0.npy"
    stored = torch.from_numpy(read_bands(path, CHANNELS))[None]
    out = export(folder, tmp_path / f"net{ending}", normalise=True)
    if ending == ".onnx":
        logits = run_onnx(out, stored)
    else:
        logits = torch.export.load(out).module()(stored)
    x, _ = Normalize(model.config.mean, model.config.std)(stored)
    with torch.no_grad():
        assert_close(logits, model(x), rtol=1e-3, atol=1e-3)
    assert_close(predict(model, path), logits.softmax(1), rtol=1e-3, atol=1e-3)


def test_a_run_goes_on_where_it_was(run, tmp_path, capsys):
    folder, root = run
    danet("train", "--config", folder / "config.json", "--out", tmp_path / "again")
    same = [json.loads((f / "summary.json").read_text()) for f in (folder, tmp_path / "again")]
    assert same[0]["best_mean_iou"] == same[1]["best_mean_iou"]


def test_pages_and_arrays_are_the_same_set(tmp_path):
    sets = [open_dataset("folder", instrument(tmp_path / kind, kind), channels=CHANNELS)
            for kind in ("npy", "tif")]  # fmt: skip
    for i in range(6):
        assert_close(sets[0][i], sets[1][i])
    assert channel_statistics(sets[0]) == channel_statistics(sets[1])


def test_wrong_numbers_of_channels_are_named(tmp_path):
    root = instrument(tmp_path)
    with pytest.raises(DataError, match=r"0.npy: shape \(40, 48, 5\) has no 4 channels"):
        open_dataset("folder", root, channels=4)[0]
    with pytest.raises(DataError, match="scenes is RGB"):
        open_dataset("scenes", channels=4)
    np.save(root / "train/images/1.npy", np.full((40, 48, 5), np.inf))
    with pytest.raises(DataError, match="not finite"):
        open_dataset("folder", root, channels=5)[1]
    report = check_data(root, channels=5, progress=False)
    assert len(report.faults) == 1 and "1.npy" in report.faults[0]


def test_tiff_of_other_programs(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    kinds = (np.uint8, np.uint16, np.int16, np.float32)
    for kind in kinds:
        bands = (100 * rng.normal(size=(37, 53, 7))).astype(kind)
        for planar in ("contig", "separate"):
            for options in ({}, {"tile": (16, 32)}, {"rowsperstrip": 5}, {"byteorder": ">"},
                            {"compression": "zlib"}):  # fmt: skip
                array = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
                about = {"photometric": "minisblack", "planarconfig": planar, **options}
                tifffile.imwrite(tmp_path / "a.tif", array, **about)
                found = read_bands(tmp_path / "a.tif", 7)
                np.testing.assert_array_equal(found, np.moveaxis(bands, -1, 0), str(about))
