"A run that is killed at any moment and started again ends bit for bit where an undisturbed run ends."

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
from danet_nb.runs import RunError, TrainConfig, load_run, read_metrics
from danet_nb.training import train

SETTINGS = dict(
    data="scenes",
    count=12,
    val_count=2,
    cache=True,
    crop_size=48,
    channels=16,
    steps=24,
    batch_size=2,
    log_every=1,
    evaluate_every=8,
    checkpoint_every=3,
    device="cpu",
    progress=False,
)
PROGRAM = """
import json, os, signal, sys, torch
from io import BytesIO
torch.set_num_threads(1)
from danet_nb import training
config, (place, _, count) = training.TrainConfig(**json.loads(sys.argv[1])), sys.argv[2].partition(":")

def die(): os.kill(os.getpid(), signal.SIGKILL)
def dies_before(module, name):
    whole, calls = getattr(module, name), []
    def call(*args, **kwargs):
        calls.append(name)
        if len(calls) == int(count): die()
        return whole(*args, **kwargs)
    setattr(module, name, call)
def torn(state, f, save=torch.save):
    save(state, whole := BytesIO())
    if state["step"] < int(count): return f.write(whole.getvalue())
    f.write(whole.getvalue()[:whole.tell()//2]); f.flush(); die()

if place in ("update", "validate"): dies_before(training, place)
if place == "save": dies_before(training.Run, "save")
if place == "rename": dies_before(os, "replace")
if place == "write": torch.save = torn
training.train(config)
"""
DEATHS = [
    "update:2",  # before there is any checkpoint
    "write:6",  # half of a checkpoint is on the disk
    "update:4",  # between two checkpoints
    "validate:1",  # after a step, before its validation
    "save:2",  # the best weights are saved, the last are not
    "rename:3",
]  # a checkpoint is written but has not got its name


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


def weights(folder, name="last"):
    return torch.load(Path(folder) / "checkpoints" / f"{name}.pt", weights_only=True)


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
        for x, y in zip(a, b):
            assert_same_state(x, y)
    else:
        assert a == b


def assert_same_run(folder, other):
    "Metrics, weights, batch norm's statistics and the optimizer's momenta of both folders."
    assert (Path(folder) / "metrics.jsonl").read_bytes() == (
        Path(other) / "metrics.jsonl"
    ).read_bytes()
    for name in ("last", "best"):
        a, b = weights(folder, name), weights(other, name)
        for state in (a, b):
            state.pop("seconds")
        assert_same_state(a, b)


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
    settings = {**SETTINGS, "evaluate_every": 2, "checkpoint_every": 24}
    code, said = start(TrainConfig(out=str(tmp_path / "run"), **settings))
    assert code == 0, said
    assert_same_state(weights(whole)["model"], weights(tmp_path / "run")["model"])


def test_a_finished_run_stays_as_it_is(whole):
    before = (whole / "metrics.jsonl").read_bytes(), weights(whole)
    assert start(TrainConfig(out=str(whole), **SETTINGS))[0] == 0
    assert (whole / "metrics.jsonl").read_bytes() == before[0]
    assert_same_state(weights(whole), before[1])
    assert not load_run(whole)[0].training
    assert all(
        (whole / name).stat().st_size > 1000
        for name in ("figures/curves.png", "figures/predictions.png")
    )


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
