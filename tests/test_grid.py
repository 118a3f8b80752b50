"The ablation from an empty folder to its report: interrupted, resumed, borrowed from the demo."

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_nb import comparison, demo, grid
from danet_nb.runs import RunError
from danet_nb.scenes import write_worlds

TINY = dict(seeds=1, steps=1, batch_size=2, log_every=1, crop_size=64, device="cpu")


@pytest.fixture
def trained(monkeypatch):
    "A small plan, trained in this process; the list of what was trained, by name."
    names = []

    def train_all(configs, processes, progress):
        for config in configs:
            comparison.train(replace(config, progress=False))
            names.append(Path(config.out).name)

    monkeypatch.setattr(grid, "train_all", train_all)
    plan = (("three", "authors", ("none", "both")), ("one", "paper", ("both",)))
    monkeypatch.setattr(grid, "PLAN", plan)
    return names


def lines(path):
    "The rows of a report."
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_ablation_goes_on_where_it_was(tmp_path, trained, capsys):
    root = write_worlds(tmp_path / "data", train=4, val=2, size=64)
    asked = dict(out=tmp_path / "out", root=root, demo=tmp_path / "none", **TINY)
    planned = grid.world_configs(tmp_path / "out", root, (0,), 1)
    assert len(planned) == 3 * 3
    grid.train_all(
        grid.world_configs(
            tmp_path / "out", root, (0,), **{k: v for k, v in TINY.items() if k != "seeds"}
        )[:4],
        1,
        False,
    )
    first = list(trained)
    grid.ablate(**asked)
    assert len(first) == 4 and len(trained) == len(set(trained)) == 9  # nothing twice
    grid.ablate(**asked)
    assert len(trained) == 9
    rows = lines(tmp_path / "out" / "metrics.jsonl")
    assert [(row["data"], row["network"], row["losses"], row["form"]) for row in rows[::4]] == [
        ("far", "none", "three", "authors"),
        ("pair", "none", "three", "authors"),
        ("pair", "both", "one", "paper"),
    ]
    assert all(
        row["command"] == "danet ablate --steps 1" and row["versions"]["torch"] for row in rows
    )
    for name in ("boats.md", "mean_iou.md", "figures/boats.png", "figures/mean_iou.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert "| both, paper's form | one" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"holds another run: steps \(1 there, 2 here\)"):
        grid.ablate(**{**asked, "steps": 2})


def test_runs_of_the_demo_are_borrowed_only_where_they_are_the_same(tmp_path, trained):
    root = write_worlds(tmp_path / "data", train=4, val=2, size=64)
    settings = {k: v for k, v in TINY.items() if k not in ("seeds", "steps")}
    for config in demo.demo_configs(tmp_path / "demo", root, (0,), 1, **settings)[:2]:
        comparison.train(replace(config, progress=False))
    configs = grid.world_configs(tmp_path / "out", root, (0,), 1, **settings)
    assert grid.borrow(configs, tmp_path / "demo") == [
        "scenes-none-three-0",
        "scenes-both-three-0",
    ]
    other = grid.world_configs(tmp_path / "two", root, (0,), 2, **settings)
    assert grid.borrow(other, tmp_path / "demo") == []  # its runs are of one step
    left = grid.unfinished(configs)
    assert len(left) == 7 and not (tmp_path / "out" / "scenes-both-three-0.part").exists()


def test_photographs_get_a_folder_and_a_report_of_their_own(tmp_path, trained):
    root = tmp_path / "cells"
    for split, part in [(s, p) for s in ("train", "val") for p in ("images", "labels")]:
        folder = root / split / part
        folder.mkdir(parents=True)
        for name in "abcd":
            picture = np.eye(48, dtype=np.uint8) * (200 if part == "images" else 1)
            if part == "images":
                picture = np.stack([picture] * 3, -1)
            Image.fromarray(picture).save(folder / f"{name}.png")
    (root / "classes.txt").write_text("ground\ncell")
    grid.ablate(out=tmp_path / "out", data="folder", root=root, **{**TINY, "crop_size": 33})
    assert trained[0] == "cells-none-three-0" and len(trained) == len(grid.EVERY)
    rows = lines(tmp_path / "out" / "cells" / "metrics.jsonl")
    assert {row["data"] for row in rows} == {"cells"} and len(rows[0]["iou"]) == 2
    table = (tmp_path / "out" / "cells" / "mean_iou.md").read_text()
    assert table.splitlines()[0].split("|")[1:5] == [
        " network     ",
        " losses ",
        " seeds ",
        " cells ",
    ]
    assert not (tmp_path / "out" / "cells" / "boats.md").exists()


@pytest.mark.parametrize("name", ["seeds", "steps", "processes"])
def test_nothing_to_do_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it has to be 1 or more"):
        grid.ablate(**{name: 0})
