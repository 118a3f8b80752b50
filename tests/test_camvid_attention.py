"What is measured on CamVid: against loops, planted maps, and the network's own prediction."

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from benchmarks import camvid_attention as ca
from danet_nb.attention_maps import AttentionMaps
from danet_nb.danet import DANet
from danet_nb.evaluation import predict
from danet_nb.evidence import answer, apart, delete_cells, look_inside, most_attended
from danet_nb.pretrained import save_danet
from danet_nb.published_sets import open_dataset
from danet_nb.scenes import scene

ROOT = Path(__file__).parents[1]
SAVED = json.loads((ca.RESULTS / "attention.json").read_text())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "Three scenes for each split of a stand-in for CamVid."
    folder = tmp_path_factory.mktemp("camvid")
    for start, split in enumerate(("val", "train")):
        images, labels = folder / split, folder / f"{split}annot"
        images.mkdir()
        labels.mkdir()
        for seed in range(3 * start, 3 * start + 3):
            drawn = scene(seed, 80)
            Image.fromarray(drawn.image[:64]).save(images / f"{seed}.png")
            Image.fromarray(drawn.label[:64]).save(labels / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def model():
    "A network with open gates."
    torch.manual_seed(0)
    model = DANet(11, backbone="small", channels=16).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.8)
            if "query_conv" in name:
                parameter.mul_(8)
    return model


@pytest.fixture(scope="module")
def dataset(root):
    return open_dataset("camvid", root, "val", cache=True)


@pytest.fixture(scope="module")
def looks(model, dataset, root):
    others = [image for image, _ in open_dataset("camvid", root, "train")]
    before = ca.never_trained(model, others)
    return ca.look(model, before, dataset, others)


def test_rows_are_those_of_the_maps(model, dataset, looks, monkeypatch):
    monkeypatch.setattr(ca, "BLOCK", 7)  # the last block is shorter
    common = ca.mean_rows(looks)
    parts = [maps for _, maps in ca.blocks(looks, common)]
    whole = {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}
    maps = AttentionMaps(model, dataset[1][0])
    h, w = maps.size
    rows = torch.stack([maps.row(r, c).flatten() for r in range(h) for c in range(w)])
    assert_close(whole["trained"][1], rows)
    assert_close(common[1], rows.mean(0))
    for name, S in whole.items():
        assert_close(S.sum(-1), torch.ones(S.shape[:2]), msg=name)
    others = (whole["trained"][0] + whole["trained"][2]) / 2
    assert_close(whole["same cell"][1], others)
    assert_close(ca.other_row(looks, 5).flatten(), whole["other streets"][1, 5])
    ordered = [S.sort(-1).values for S in (whole["shuffled keys"], whole["trained"])]
    assert_close(*ordered)


def test_distances_stay_where_cells_are_forgotten():
    between = apart((4, 5))
    S = torch.rand(2, 20, 20).softmax(-1)
    even = ca.same_distances(S, between)
    for ring in between.round().unique():
        inside = between.round() == ring
        assert_close((even * inside).sum(-1), (S * inside).sum(-1))
        for row, chosen in zip(even[0], inside, strict=True):
            assert row[chosen].numel() == 0 or row[chosen].std(correction=0) < 1e-6


def test_measures_are_those_of_loops():
    torch.manual_seed(0)
    n, k = 24, 3
    S = (3 * torch.randn(1, n, n)).softmax(-1)
    cover = torch.rand(1, n, k) / k
    between = 4 * apart((4, 6))
    mine = torch.randint(k, (1, n))
    common = S.mean(1)
    got = ca.measure_rows(S, mine, cover, between, common)
    for j in range(n):
        c = mine[0, j]
        area = sum(cover[0, i, c] for i in range(n)) / n
        share = sum(S[0, j, i] * cover[0, i, c] for i in range(n))
        far = [i for i in range(n) if between[j, i] >= ca.FAR]
        far_area = sum(cover[0, i, c] for i in far) / len(far)
        there = sum(S[0, j, i] for i in far)
        far_share = sum(S[0, j, i] * cover[0, i, c] for i in far) / there
        want = {"own": share / area, "far own": far_share / far_area, "share": share, "far": there}
        want["common"] = sum(min(S[0, j, i], common[0, i]) for i in range(n))
        want["top"] = S[0, j].max()  # one cell of twenty-four
        want["distance"] = sum(S[0, j, i] * between[j, i] for i in range(n))
        for name, value in want.items():
            assert_close(got[name][0, j], torch.as_tensor(value), msg=name)


def hard(looks):
    "The same with one class in every cell."
    cover = torch.nn.functional.one_hot(looks.cover.argmax(-1), looks.cover.shape[-1]).float()
    return looks._replace(cover=cover)


def test_one_map_for_all_cells_has_a_lift_of_one_whatever_it_is(looks):
    sums = ca.measure_all(hard(looks))
    for name in ("one for all", "even"):
        own = sums[name]["own"]
        assert own.total.sum().item() == pytest.approx(own.count.sum().item(), rel=1e-5)
    assert sums["one for all"]["common"].total.sum() == pytest.approx(looks.mine.numel(), rel=1e-5)
    assert sums["even"]["entropy"].total.sum() == pytest.approx(looks.mine.numel(), rel=1e-5)


def test_a_planted_look_at_the_own_class_is_found(looks):
    cover = hard(looks).cover[:1]
    mine = cover.argmax(-1)
    S = (mine[:, :, None] == mine[:, None]).float()
    S = S / S.sum(-1, keepdim=True)
    got = ca.measure_rows(S, mine, cover, apart(looks.size), S.mean(1))["own"]
    assert_close(got, 1 / cover.mean(1).gather(1, mine))


def test_no_intervention_is_the_network_itself(model, dataset):
    image, label = dataset[0]
    changed = ca.interventions(AttentionMaps(model, image))
    [said] = answer(model, changed["nothing", ""][0], label.shape)
    assert torch.equal(said, predict(model, image).argmax(1)[0])
    [closed] = answer(model, changed["close gate", "both"][0], label.shape)
    assert torch.equal(closed, AttentionMaps(model, image).prediction(0, 0))


def test_deletion_in_blocks_is_that_of_the_whole_map(model, dataset):
    image, _ = dataset[0]
    maps, inside = AttentionMaps(model, image), look_inside(model, image[None])
    whole = delete_cells(inside, most_attended(inside.energy, 8))
    with torch.no_grad():
        got = ca.gathered(maps, inside.values, lambda energy: most_attended(energy, 8), block=9)
    assert_close(got, whole.gathered)


def test_the_whole_run_on_a_stand_in(model, root, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    save_danet(model, run)
    (run / "metrics.jsonl").write_text('{"step": 5, "mean_iou": 0.1}\n')
    ca.main([str(run), "--root", str(root), "--out", str(out), "--points", "sky,building"])
    saved = json.loads((out / "attention.json").read_text())
    assert json.loads(capsys.readouterr().out) == saved
    assert saved["step of the weights"] == 5 and saved["frames"] == 3
    assert str(tmp_path) not in json.dumps(saved)
    assert {row["map"] for row in saved["maps"]} == {row["map"] for row in SAVED["maps"]}
    assert set(saved) == set(SAVED)
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert drawn == {path.name for path in (ca.RESULTS / "figures").iterdir()}
    with pytest.raises(ValueError, match="name fewer classes"):
        ca.main([str(run), "--root", str(root), "--out", str(out), "--points", "bicyclist"])


def test_committed_numbers_belong_together():
    assert SAVED["command"] == ca.COMMAND and SAVED["frames"] == 101
    assert {"device", "torch", "python", "seed", "steps"} <= set(SAVED)
    rows = {(row["test"], row["part"]): row for row in SAVED["causal"]}
    assert rows["nothing", ""]["changed"] == [0, 0, 0]
    for row in [*SAVED["maps"], *SAVED["causal"]]:
        for value in row.values():
            if isinstance(value, list):
                assert value[1] <= value[0] <= value[2]
