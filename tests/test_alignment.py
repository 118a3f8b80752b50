"The grid under the picture: padding to it, files of before, exports, and where labels are drawn."

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from published import thin

from benchmarks import alignment
from danet_nb.alignment import CONTENDERS, THIRDS, by_third, displacement, peak
from danet_nb.attention_maps import AttentionMaps
from danet_nb.cli import file_settings
from danet_nb.config import DANetConfig, config_from
from danet_nb.danet import DANet, enlarged, grid_padding, pad_to_grid
from danet_nb.demo import demo_configs
from danet_nb.evaluation import predict
from danet_nb.evidence import answer, look_inside
from danet_nb.export import export_onnx, export_program, run_onnx
from danet_nb.fine_tuning import unlike
from danet_nb.folding import fold_batch_norm
from danet_nb.grid import data_configs, world_configs
from danet_nb.pretrained import save_danet
from danet_nb.published import load_danet
from danet_nb.scenes import scene
from danet_nb.settings import RECIPES, TrainConfig, read_settings

SIZES = [(1, 1), (2, 9), (33, 65), (40, 50), (64, 97), (96, 96)]


def twins(**options):
    "A network with open gates that pads to the grid, and one with its weights that does not."
    torch.manual_seed(0)
    on, off = (DANet(4, dropout=0.0, on_grid=pads, **options).eval() for pads in (True, False))
    with torch.no_grad():
        on.head.position_attention.gate.fill_(0.5)
        on.head.channel_attention.gate.fill_(0.5)
    off.load_state_dict(on.state_dict())
    return on, off


def side_on_grid(side, stride):
    "The next side of the form `stride * k + 1`, by counting up."
    while (side - 1) % stride:
        side += 1
    return side


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_network_without_padding_on_a_larger_picture(stride, size):
    options = dict(backbone="resnet18", width=4, stem_width=4, channels=8, output_stride=stride)
    on, off = twins(**options)
    x = torch.randn(2, 3, *size)
    padded = torch.zeros(2, 3, *(side_on_grid(side, stride) for side in size))
    padded[..., : size[0], : size[1]] = x
    names = ("fused", "position", "channel")
    for mode in (False, True):
        if mode and max(size) == 1:
            continue  # two values are too few for a batch norm to learn much from
        with torch.no_grad():
            ours, whole = (
                model.train(mode).outputs(image, names) for model, image in ((on, x), (off, padded))
            )
        for name in names:
            assert ours[name].shape == (2, 4, *size)
            torch.testing.assert_close(ours[name], whole[name][..., : size[0], : size[1]])


@pytest.mark.parametrize("size", [(1, 9), (65, 97), (769, 33)])
def test_on_the_grid_nothing_is_padded(size):
    on, off = twins(backbone="small", channels=8)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(on(x), off(x), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(40, 48), (40, 50), (41, 57), (1, 1)])
def test_without_aligned_corners_the_grid_is_that_of_whole_strides(size):
    on, off = twins(backbone="small", channels=8, align_corners=False)
    x = torch.randn(1, 3, *size)
    padded = torch.zeros(1, 3, *(8 * math.ceil(side / 8) for side in size))
    padded[..., : size[0], : size[1]] = x
    with torch.no_grad():
        expected = off(padded)[..., : size[0], : size[1]]
        torch.testing.assert_close(on(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("side", [8, 40, 96])
def test_without_aligned_corners_the_shift_is_the_same_everywhere(side):
    config = DANetConfig(num_classes=2, align_corners=False)
    sits = (8.0 * torch.arange(side // 8)).expand(1, 1, side // 8, -1)
    shift = enlarged(sits, (side, side), config)[0, 0, 0] - torch.arange(side)
    torch.testing.assert_close(shift[4:-4], torch.full((side - 8,), -3.5))


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(2, 2), (9, 18), (96, 131), (360, 480)])
def test_every_pixel_gets_its_own_number_back(stride, size):
    "The map that says where its features sit is enlarged to the numbers of the rows and columns."
    config = DANetConfig(num_classes=2, output_stride=stride)
    sides = [side + more for side, more in zip(size, grid_padding(size, config), strict=True)]
    rows, columns = (torch.arange(0.0, side, stride) for side in sides)
    sits = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
    assert pad_to_grid(torch.zeros(1, 3, *size), config).shape[2:] == tuple(sides)
    got = enlarged(sits, size, config)[0]
    pixels = torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")
    torch.testing.assert_close(got, torch.stack(pixels), rtol=0, atol=1e-3)


def test_every_part_of_the_package_answers_on_the_grid():
    on, off = twins(backbone="small", channels=8)
    image = torch.randint(256, (3, 70, 101), dtype=torch.uint8)
    p = predict(on, image)
    assert (p - predict(off, image)).abs().max() > 1e-3
    torch.testing.assert_close(AttentionMaps(on, image).probabilities(), p[0])
    torch.testing.assert_close(fold_batch_norm(on)(torch.zeros(1, 3, 7, 9)).shape, (1, 4, 7, 9))
    said = answer(on, look_inside(on, image[None]), (70, 101))
    assert (said == p.argmax(1)).float().mean() > 0.999
    fast = torch.compile(on, backend="aot_eager")
    for size in ((40, 50), (41, 57), (33, 64)):  # the second is on the grid
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(fast(x), on(x), rtol=1e-4, atol=1e-5)


EXPORTED = [(1, 3, 33, 50), (2, 3, 65, 97), (3, 3, 64, 64), (1, 3, 9, 120), (1, 3, 96, 91)]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_exports_pad_inside(kind, tmp_path):
    model, _ = twins(backbone="small", channels=8)
    if kind == "onnx":
        path = export_onnx(model, tmp_path / "danet.onnx")
        run = lambda x: run_onnx(path, x)  # noqa: E731
    else:
        run = torch.export.load(export_program(model, tmp_path / "danet.pt2")).module()
    for size in EXPORTED:
        x = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(run(x), model(x), rtol=0, atol=1e-4)
    assert model.config.on_grid


# Files of before, and what they stand for


def test_a_file_that_says_nothing_was_trained_without_padding(tmp_path):
    on, off = twins(backbone="small", channels=8)
    assert on.config.on_grid and TrainConfig().on_grid and TrainConfig().crop_size % 8 == 1
    folder = save_danet(on, tmp_path / "saved")
    assert load_danet(folder).config.on_grid
    path = folder / "config.json"
    said = json.loads(path.read_text())
    assert said.pop("on_grid") is True
    path.write_text(json.dumps(said))
    assert not load_danet(folder).config.on_grid
    assert load_danet(folder, on_grid=True).config.on_grid
    x = torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        torch.testing.assert_close(load_danet(folder)(x), off(x), rtol=0, atol=0)
    assert unlike(off.config, on.config) == ["on_grid is False there and True here"]


def test_settings_of_old_runs_stay_off_the_grid(tmp_path):
    path = tmp_path / "config.json"
    for text, on_grid in [
        ({"steps": 3}, True),
        ({"num_classes": 6, "run": {"steps": 3}}, False),
        ({"config": {"steps": 3}}, False),
        ({"num_classes": 6, "on_grid": True, "run": {"steps": 3}}, True),
    ]:
        path.write_text(json.dumps(text))
        assert TrainConfig(**read_settings(path)).on_grid is on_grid
        assert file_settings(["--config", str(path)])["on_grid"] is on_grid  # from a shell too
    assert config_from(DANetConfig, {"num_classes": 6, "on_grid": True}, path).on_grid


def test_published_networks_and_recipes_stay_as_they_were(tmp_path):
    assert not any(recipe["on_grid"] for recipe in RECIPES.values())
    assert {RECIPES[name]["crop_size"] for name in RECIPES} == {768, 769}
    torch.save(thin().state_dict(), tmp_path / "bare.pth")
    assert load_danet(tmp_path / "bare.pth").config.on_grid  # ours, and nothing is known
    for folder in [*Path("data/networks").iterdir(), Path("results/camvid")]:
        config = json.loads((folder / "config.json").read_text())
        assert config["on_grid"] is False and config["align_corners"] is True


def test_the_demo_is_off_the_grid_and_photographs_are_on_it():
    worlds = [*demo_configs("runs/demo"), *world_configs("runs/ablation")]
    assert {(config.crop_size, config.on_grid) for config in worlds} == {(96, False)}
    for config in data_configs("runs/ablation", "camvid", "CamVid"):
        assert config.on_grid and config.crop_size % 8 == 1
    assert math.ceil((768 - 1) / 8) * 8 + 1 == 769


# Where labels are drawn


def labels_of(*size):
    "Smooth random labels of three classes."
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, 9, 1, 4).argmax(1)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("shift", [-9, -3, 0, 1, 8])
def test_a_shift_is_found_in_every_part(dim, shift):
    truth = labels_of(90, 120)
    said = truth.roll(shift, dim)
    for part in [(0, 1), *THIRDS.values()]:
        assert displacement(said, truth, dim, part, reach=12) == pytest.approx(shift, abs=0.2)


def test_void_is_not_counted_and_tiny_parts_are_refused():
    truth = labels_of(60, 60)
    said = truth.roll(4, 2)
    truth[:, :, :40] = 255
    assert displacement(said, truth, 2) == pytest.approx(4, abs=0.3)
    with pytest.raises(ValueError, match="too few for shifts of 30"):
        displacement(said, truth, 2, reach=30)
    assert peak(torch.tensor([1.0, 1.0, 1.0])) == 0 and peak(torch.tensor([0.0, 1.0, 0.5])) > 1


def test_a_third_is_the_mean_of_both_directions():
    truth = labels_of(120, 120)
    found = by_third(truth.roll((2, 6), (1, 2)), truth)
    assert list(found) == list(THIRDS)
    assert all(value == pytest.approx(4, abs=0.3) for value in found.values())


def test_the_committed_discs_are_whole():
    saved = json.loads((alignment.RESULTS / "discs.json").read_text())
    rows = {(row["network"], row["seed"], tuple(row["size"])) for row in saved["runs"]}
    assert len(rows) == len(saved["runs"]) == len(CONTENDERS) * 3 * len(alignment.SIZES)
    assert saved["command"] == "python -m benchmarks.alignment discs" and saved["torch"]
    for row in saved["runs"]:
        if row["network"] == "padded, 96":
            assert max(abs(row[third]) for third in THIRDS) < 0.5


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    "Three scenes in CamVid's folders."
    folder = tmp_path_factory.mktemp("camvid")
    (folder / "val").mkdir()
    (folder / "valannot").mkdir()
    for seed in range(3):
        drawn = scene(seed, 80)
        Image.fromarray(drawn.image[:64]).save(folder / "val" / f"{seed}.png")
        Image.fromarray(drawn.label[:64]).save(folder / "valannot" / f"{seed}.png")
    return folder


def test_runs_are_scored_with_and_without_padding(camvid, tmp_path):
    torch.manual_seed(0)
    model = DANet(11, "small", channels=8, run={"seed": 3, "steps": 5, "crop_size": 129})
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    config = json.dumps(vars(model.config))
    torch.save({"model": model.state_dict(), "config": config}, run / "checkpoints" / "last.pt")
    alignment.main(["camvid", str(run), "--root", str(camvid), "--out", str(tmp_path)])
    saved = json.loads((tmp_path / "camvid.json").read_text())
    assert saved["frames"] == 3 and len(saved["runs"]) == 2
    on, off = saved["runs"]
    assert (on["shown on the grid"], off["shown on the grid"]) == (True, False)
    assert on["seed"] == 3 and on["crop"] == 129 and on["trained on the grid"]
    assert len(on["iou"]) == 11 and "pole" in on["iou"]
    image = torch.from_numpy(scene(0, 80).image[:64]).movedim(-1, 0)
    again = load_danet(run / "checkpoints" / "last.pt", on_grid=False)
    said = predict(again, image).argmax(1)
    found, _ = alignment.answers(again, [(image, said[0])])
    assert torch.equal(found.long(), said)


def test_discs_are_learned_by_every_network(tmp_path):
    alignment.main(["discs", "--seeds", "1", "--steps", "2", "--out", str(tmp_path)])
    saved = json.loads((tmp_path / "discs.json").read_text())
    assert saved["steps"] == 2 and len(saved["runs"]) == len(CONTENDERS) * len(alignment.SIZES)


def test_the_committed_streets_are_whole():
    "Each network twice; best where it was trained, with every seed."
    saved = json.loads((alignment.RESULTS / "camvid.json").read_text())
    pairs = {}
    for row in saved["runs"]:
        key = (row["trained on the grid"], row["crop"], row["attention"], row["seed"])
        pairs.setdefault(key, {})[row["shown on the grid"]] = row["mean_iou"]
    assert saved["frames"] == 101 and len(pairs) == 13
    assert all(
        len(pair) == 2 and (pair[True] > pair[False]) == key[0] for key, pair in pairs.items()
    )
