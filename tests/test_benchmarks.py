"The benchmarks measure what they say: peers agree with ours, fresh processes are fresh."

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from benchmarks import attention, gpu, training
from benchmarks.measure import RESULTS, alternate, document, fresh, resident, slope, write
from benchmarks.peers import AuthorsDANet
from danet_nb.danet import DANet
from danet_nb.self_attention import attend

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", attention.MATERIALISED)
def test_peers_compute_attention(name):
    q, k, v = (
        t.detach().double().requires_grad_() for t in attention.projections(2, 60, channels=24)
    )
    want = attend(q, k, v, method="full")
    assert_close(attention.WAYS[name](q, k, v), want)
    grads = [
        torch.autograd.grad(way(q, k, v).square().sum(), (q, k, v))
        for way in (attention.WAYS[name], attend)
    ]
    assert_close(*grads)


@pytest.mark.parametrize("spread", attention.SPREADS)
def test_energies_have_the_spread_that_is_named(spread):
    q, k, _ = attention.projections(1, 1000, spread)
    assert (q @ k.mT).std().item() == pytest.approx(spread, rel=0.05)


def test_the_authors_form_is_the_same_network():
    torch.manual_seed(0)
    options = {"backbone": "resnet18", "width": 8, "stem_width": 8, "on_grid": False}
    ours = DANet(5, **options).eval()
    theirs = AuthorsDANet(5, **options).eval()
    for name, tensor in ours.state_dict().items():
        if name.endswith("gate"):
            tensor.fill_(0.7)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 40, 56)
    assert_close(theirs(x)["fused"], ours(x), rtol=1e-4, atol=1e-5)
    assert set(theirs(x)) == {"fused", "position", "channel"}


def test_rounds_alternate():
    ran = []
    seconds = alternate({name: lambda name=name: ran.append(name) for name in "ab"}, repeats=2)
    assert "".join(ran) == "ab" * 3 and set(seconds) == {"a", "b"} and min(seconds.values()) > 0


def test_fresh_processes_do_not_inherit_the_peak():
    ballast = torch.ones(2**28)
    assert resident() > ballast.nbytes > fresh(resident)


def test_measured_processes_load_nothing_of_the_package_but_its_table():
    code = "from benchmarks.measure import fresh; import sys; print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    modules = [name for name in ran.stdout.split() if name.startswith("danet_nb.")]
    assert modules == ["danet_nb.tables"]


def test_slope():
    assert slope([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)


def test_results_are_written(tmp_path, capsys):
    write("x", {"Title": [{"a": 1, "b": 0.12345, "c": None}]}, folder=tmp_path, note="n")
    saved = json.loads((tmp_path / "x.json").read_text())
    assert saved["tables"] == {"Title": [{"a": 1, "b": 0.12345, "c": None}]}
    assert saved["note"] == "n"
    assert saved["seed"] == 0
    assert "0.123" in (tmp_path / "x.md").read_text()
    assert "–" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_tables_come_from_the_committed_numbers(path):
    saved = json.loads(path.read_text())
    assert saved["command"] == f"python -m benchmarks.{path.stem}"
    assert saved["device"]
    assert saved["torch"]
    assert path.with_suffix(".md").read_text() == document(path.stem, saved)


def test_slopes_are_those_of_the_committed_memory():
    saved = json.loads((RESULTS / "attention.json").read_text())
    rows = saved["tables"]["Peak memory on top of the inputs, in fresh processes"]
    assert attention.slopes(rows) == saved["slopes"]


def test_a_step_of_training_changes_the_network():
    torch.manual_seed(0)
    model = DANet(5, backbone="small").train()
    before = [p.detach().clone() for p in model.parameters()]
    label = torch.randint(5, (2, 32, 32))
    training.stepper(model, model, torch.randn(2, 3, 32, 32), label)()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_times_and_spreads_run_on_small_maps():
    row, _ = attention.times([(2, 16, 1)])
    assert row["pass"] == "forward"
    assert row["ours, ms"] > 0
    assert [row["deviation of energies"] for row in attention.spreads(16, (1, 8))] == [1, 8]


def test_gpu_says_that_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0 and "no GPU" in ran.stdout


def test_kernels_that_refuse_are_named():
    def refuse():
        raise RuntimeError("not on this device\nmore")

    results = gpu.measure({"able": lambda: None, "unable": refuse}, 1, "cpu")
    assert results["unable"] == "not on this device" and results["able"][0] > 0
    rows = list(gpu.rows({"N": 1}, results))
    assert rows[1] == {"N": 1, "way": "unable", "ms": "not on this device", "MiB": None}


# Kernels say why they refuse.
@pytest.mark.filterwarnings("ignore:(?i).*(kernel|attention|head_dim|dimension)")
def test_gpu_measures_every_way_on_any_device(monkeypatch):
    monkeypatch.setattr(gpu, "flex", lambda: attend)  # compiling is not what is tested
    rows = list(gpu.attention("cpu", (16,), (torch.float32,), 1))
    assert {row["way"] for row in rows} == set(gpu.ways())
    assert all(row["ms"] for row in rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_network_on_a_gpu():
    assert all(isinstance(row["ms"], float) for row in gpu.network("cuda", ((64, 96),), 1))
    assert all(isinstance(row["ms"], float) for row in gpu.training("cuda", 64, 2, 1))
