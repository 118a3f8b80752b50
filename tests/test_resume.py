"A run killed at any moment and started again ends bit for bit where an undisturbed run ends."

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from danet_nb.published import load_danet
from danet_nb.runs import RunError, read_metrics, read_run
from danet_nb.settings import TrainConfig
from danet_nb.training import train

SETTINGS = {
    "data": "scenes",
    "count": 12,
    "val_count": 2,
    "cache": True,
    "crop_size": 48,
    "channels": 16,
    "steps": 24,
    "batch_size": 2,
    "log_every": 1,
    "evaluate_every": 8,
    "checkpoint_every": 3,
    "device": "cpu",
    "progress": False,
}
PROGRAM = """
import json, os, signal, sys
from io import BytesIO

import torch

from danet_nb import training
from danet_nb.settings import TrainConfig

torch.set_num_threads(1)
place, _, count = sys.argv[2].partition(":")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dies_before(module, name):
    "Let the call number `count` of a function be the end."
    whole = getattr(module, name)
    calls = []

    def call(*args, **kwargs):
        calls.append(name)
        if len(calls) == int(count):
            die()
        return whole(*args, **kwargs)

    setattr(module, name, call)


def torn(state, file, save=torch.save):
    "Write half of the checkpoint of step `count`, and die."
    whole = BytesIO()
    save(state, whole)
    if state["step"] < int(count):
        return file.write(whole.getvalue())
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    die()


if place in ("update", "validate", "save_danet"):
    dies_before(training, place)
if place == "save":
    dies_before(training.Run, "save")
if place == "rename":
    dies_before(os, "replace")
if place == "write":
    torch.save = torn
training.train(TrainConfig(**json.loads(sys.argv[1])))
"""
DEATHS = [  # each goes on where the one before it ended
    "rename:1",  # there is no config.json yet
    "rename:2",  # there is, and nothing else
    "update:2",  # before there is any checkpoint
    "write:6",  # half of a checkpoint is on the disk
    "update:4",  # between two checkpoints
    "validate:1",  # after a step, before its validation
    "save_danet:1",  # the score is logged, the best weights are not saved
    "rename:2",  # the best weights are written but have not got their name
    "rename:3",  # they have, but config.json has the old score
    "rename:4",  # the card is missing
    "save:1",  # the best weights are saved, the checkpoint is not
    "rename:5",  # it is written but has not got its name
]


def start(config, death="never"):
    "Train in a process of its own; its return code and the end of what it said."
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asdict(config)), death],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr[-2000:]


def last_checkpoint(folder):
    return torch.load(Path(folder) / "checkpoints" / "last.pt", weights_only=True)


def best_weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def without_place(config):
    "What a configuration says, but for where its run lies and how it loads."
    run = {k: v for k, v in config["run"].items() if k not in ("out", "workers")}
    return {**config, "run": run}


def assert_same_state(a, b):
    "Tensors equal in every bit, and the same structure around them."
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            assert_same_state(a[k], b[k])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_state(x, y)
    else:
        assert a == b


def assert_same_run(folder, other):
    "Metrics, weights, batch norm's statistics and the optimizer's momenta of both folders."
    lines = [(Path(path) / "metrics.jsonl").read_bytes() for path in (folder, other)]
    assert lines[0] == lines[1]
    states = [last_checkpoint(path) for path in (folder, other)]
    for state in states:
        del state["seconds"]
        state["config"] = without_place(json.loads(state["config"]))
    assert_same_state(*states)
    assert_same_state(best_weights(folder), best_weights(other))
    configs = [without_place(asdict(read_run(path))) for path in (folder, other)]
    assert configs[0] == configs[1]
    assert (Path(other) / "README.md").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A run that nobody disturbed."
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, said = start(TrainConfig(out=str(folder), **SETTINGS))
    assert code == 0, said
    return folder


def test_killed_at_chosen_moments_one_after_the_other(whole, tmp_path):
    config = TrainConfig(out=str(tmp_path / "run"), **SETTINGS)
    for death in DEATHS:
        code, said = start(config, death)
        assert code == -signal.SIGKILL, f"{death}: {said}"
    code, said = start(config)
    assert code == 0, said
    assert_same_run(whole, config.out)
    assert not list(Path(config.out).rglob("*.part"))


def test_killed_at_any_moment_with_workers(whole, tmp_path):
    "Killed from outside, again and again, while two processes load the images."
    config = TrainConfig(out=str(tmp_path / "run"), **SETTINGS, workers=2)
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(config)), "never"]
    for lines in (2, 9, 17):
        process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(read_metrics(config.out)) < lines:
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    code, said = start(config)
    assert code == 0, said
    assert_same_run(whole, config.out)


def test_validating_more_often_changes_no_weight(whole, tmp_path):
    "Nor does a kill between the first validation and the first checkpoint."
    settings = {**SETTINGS, "evaluate_every": 2, "checkpoint_every": 24}
    config = TrainConfig(out=str(tmp_path / "run"), **settings)
    assert start(config, "save:1")[0] == -signal.SIGKILL
    assert best_weights(config.out) and not (tmp_path / "run" / "checkpoints").exists()
    code, said = start(config)
    assert code == 0, said
    assert_same_state(last_checkpoint(whole)["model"], last_checkpoint(config.out)["model"])


def test_a_finished_run_stays_as_it_is(whole):
    metrics = (whole / "metrics.jsonl").read_bytes()
    checkpoint = last_checkpoint(whole)
    assert start(TrainConfig(out=str(whole), **SETTINGS))[0] == 0
    assert (whole / "metrics.jsonl").read_bytes() == metrics
    assert_same_state(last_checkpoint(whole), checkpoint)
    for name in ("figures/curves.png", "figures/predictions.png"):
        assert (whole / name).stat().st_size > 1000


def test_a_run_is_a_saved_network(whole):
    best = load_danet(whole)
    assert not best.training
    assert_same_state(dict(best.state_dict()), best_weights(whole))
    scores = [row["mean_iou"] for row in read_metrics(whole) if "mean_iou" in row]
    assert best.config.metrics["mean_iou"] == max(scores)
    last = load_danet(whole / "checkpoints" / "last.pt")
    assert_same_state(dict(last.state_dict()), dict(last_checkpoint(whole)["model"]))


def test_other_settings_are_refused(whole):
    with pytest.raises(RunError, match=r"seed \(0 there, 3 here\)"):
        train(TrainConfig(out=str(whole), **SETTINGS, seed=3))


def test_damage_is_named(whole, tmp_path):
    config = TrainConfig(out=str(tmp_path / "run"), **{**SETTINGS, "steps": 2})
    train(config)
    path = Path(config.out) / "checkpoints" / "last.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="last.pt is damaged.*delete"):
        train(config)
