"The runs behind the notebook on the plateau: complete, repeatable, and read rightly."

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from benchmarks import plateau
from benchmarks.measure import saved_lines
from danet_nb.evaluation import to_batch
from danet_nb.position import PositionAttention
from danet_nb.scenes import FAR_CLASSES, LAMPS, scene, split_seeds

SAVED = saved_lines(plateau.RESULTS / "runs.jsonl")


def test_every_planned_run_is_there_once():
    plans = [asdict(plan) for plan in plateau.plans()]
    saved = [{name: row[name] for name in plans[0]} for row in SAVED]
    assert sorted(map(str, saved)) == sorted(map(str, plans))


@pytest.mark.parametrize("row", SAVED, ids=lambda row: f"{row['question']} {row['weights']}")
def test_a_run_was_read_to_its_end(row):
    read = row["read"]
    steps = [1, *range(plateau.EVERY, row["stop"] + 1, plateau.EVERY)]
    assert read["step"] == steps
    assert {len(values) for values in read.values()} == {len(steps)}
    assert all(0 <= right <= 1 for right in read["right"])


def test_the_first_readings_are_those_that_were_saved():
    plan = plateau.plans()[5]
    saved = next(row for row in SAVED if asdict(plan).items() <= row.items())
    again = plateau.result_of(replace(plan, stop=5))["read"]
    for name in ("step", "loss", "position"):
        assert_close(
            torch.tensor(again[name]), torch.tensor(saved["read"][name][:2]), rtol=0.02, atol=0
        )


def test_both_lamps_show_the_same_bays():
    views, boats = plateau.both_lamps()
    for i, seed in enumerate(split_seeds("val", plateau.BAYS)):
        for j, lamp in enumerate(LAMPS):
            bay = scene(seed, 96, lamp=lamp)
            image = torch.from_numpy(bay.image).permute(2, 0, 1)
            assert_close(views[i, j], to_batch(image)[0])
        assert torch.equal(boats[i], torch.from_numpy(bay.label) >= FAR_CLASSES[0])


class Planted(nn.Module):
    "Outbound where the image is brighter than a threshold, by as much as it is."

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        logits = torch.zeros(len(x), 6, *x.shape[2:])
        logits[:, FAR_CLASSES[1]] = x[:, 0] - self.threshold
        return logits


def test_effect_and_share_are_read_with_the_right_signs():
    views = torch.zeros(2, 2, 3, 4, 4)
    views[:, 0] = 3.0  # the red lamp makes everything brighter
    boats = torch.zeros(2, 4, 4, dtype=torch.bool)
    boats[:, 1:3] = True
    assert plateau.read(Planted(1.0), views, boats) == {"right": 1.0, "effect": 3.0}
    assert plateau.read(Planted(5.0), views, boats)["right"] == 0.5  # homeward under both
    assert plateau.read(Planted(1.0), views.flip(1), boats) == {"right": 0.0, "effect": -3.0}


def test_the_wrong_axis_is_the_other_one():
    torch.manual_seed(0)
    module, x = PositionAttention(8), torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        module.gate.fill_(1.0)
        module.value_conv.weight.zero_()
        module.value_conv.bias.fill_(1.0)
        gathered = plateau.through_columns(module, x) - x  # the sum of each row of the map
        assert_close(module(x) - x, torch.ones_like(x))
    assert_close(gathered.mean(), torch.tensor(1.0))  # as many as there are columns
    assert gathered.std() > 1e-3


def test_an_interrupted_command_goes_on(tmp_path, monkeypatch):
    plans = [plateau.Plan("tried", seed, seed) for seed in (0, 1)]
    monkeypatch.setattr(plateau, "plans", lambda: plans)
    monkeypatch.setattr(
        plateau, "result_of", lambda plan: {**asdict(plan), "read": {"step": [1], "right": [0.5]}}
    )
    (tmp_path / "runs.jsonl").write_text(json.dumps(plateau.result_of(plans[0])) + "\n")
    plateau.main(["--out", str(tmp_path)])
    assert [row["weights"] for row in saved_lines(tmp_path / "runs.jsonl")] == [0, 1]
