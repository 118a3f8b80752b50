"An ablation's runs, whole and by windows; the committed lines belong to the committed table."

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import windows
from benchmarks.measure import saved_lines
from danet_nb.danet import DANet
from danet_nb.evaluation import evaluate
from danet_nb.published_sets import open_dataset
from danet_nb.scenes import scene

RESULTS = Path("results/ablation/camvid-1000")


@pytest.fixture
def folder(tmp_path):
    "Two runs with random weights, and beside them two scenes in CamVid's folders."
    for seed in (0, 1):
        for name, pixels in zip(("val", "valannot"), scene(seed, 64)[:2], strict=True):
            (tmp_path / "streets" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "streets" / name / f"{seed}.png")
    for seed in (0, 1):
        torch.manual_seed(seed)
        run = {"seed": seed, "crop_size": 25}
        model = DANet(11, "small", channels=8, attention="none", run=run)
        place = tmp_path / f"camvid-none-three-{seed}"
        (place / "checkpoints").mkdir(parents=True)
        (place / "summary.json").write_text("{}")
        saved = {"model": model.state_dict(), "config": json.dumps(vars(model.config))}
        torch.save(saved, place / "checkpoints/last.pt")
    return tmp_path


def test_runs_are_scored_once_each(folder):
    words = [str(folder), "--root", str(folder / "streets")]
    windows.main(words)
    rows = saved_lines(folder / "windows.jsonl")
    assert [(row["network"], row["seed"]) for row in rows] == [("none", 0), ("none", 1)]
    model = windows.load_danet(folder / "camvid-none-three-1/checkpoints/last.pt")
    dataset = open_dataset("camvid", folder / "streets", "val")
    for key, window in (("whole", None), ("windows", 25)):
        expected = evaluate(model, dataset, window=window, progress=False).mean_iou()
        assert rows[1][key] == pytest.approx(expected, abs=1e-9)
    windows.main(words)
    assert len(saved_lines(folder / "windows.jsonl")) == 2


def test_the_committed_lines_are_of_the_committed_runs():
    table = saved_lines(RESULTS / "metrics.jsonl")
    scores = {(row["network"], row["seed"]): row["mean_iou"] for row in table}
    rows = saved_lines(RESULTS / "windows.jsonl")
    assert {(row["network"], row["seed"]) for row in rows} == {
        (network, seed) for network in ("none", "both") for seed in range(3)
    }
    for row in rows:
        assert row["whole"] == pytest.approx(scores[row["network"], row["seed"]], abs=1e-6)
