"""Position attention alone: the map written down, as in public code, against `attend`.

`python -m benchmarks.attention`
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import SEED, alternate, fresh, resident, slope, write
from benchmarks.peers import authors_attention, mmseg_attention, products
from danet_nb.self_attention import attend

WAYS = {
    "authors": authors_attention,
    "mmsegmentation": mmseg_attention,
    "products": products,
    "ours": attend,
}
MATERIALISED = ("authors", "mmsegmentation")
MEASURED = (*MATERIALISED, "ours")
SHAPES = [  # images, positions, repeats
    (1, 256, 100),
    (1, 512, 50),
    (8, 256, 30),
    (1, 1024, 30),
    (8, 1024, 9),
    (1, 2304, 9),
    (1, 4096, 9),
    (1, 9216, 5),
    (1, 16384, 3),
    (1, 32768, 1),
]
SIZES = [1024, 2304, 4096, 9216, 16384, 32768]  # positions
SPREADS = (1, 8, 24, 80)  # standard deviations of the energies
MEBIBYTE = 2**20


def projections(
    batch: int,  # images B
    positions: int,  # N
    spread: float = 8,  # standard deviation of the energies
    width: int = 64,  # D of queries and keys
    channels: int = 512,  # of the values
) -> list[Tensor]:
    "q, k and v `(B, N, D)` as 1x1 convolutions leave them: positions last in memory."
    torch.manual_seed(SEED)
    factor = (spread / width**0.5) ** 0.5
    q, k, v = (torch.randn(batch, d, positions) for d in (width, width, channels))
    return [t.requires_grad_().mT for t in (factor * q, factor * k, v)]


def forward(way: Callable, inputs: list[Tensor]) -> Tensor:
    "One forward pass without gradients."
    with torch.no_grad():
        return way(*inputs)


def both(way: Callable, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    "One forward and one backward pass."
    out = way(*inputs)
    return torch.autograd.grad(out, inputs, torch.ones_like(out))


PASSES = {"forward": forward, "forward + backward": both}


def peak(
    name: str,  # a key of WAYS
    step: str,  # a key of PASSES
    positions: int,  # N
) -> int:
    "Bytes that a pass needs on top of its inputs; for a fresh process."
    run = PASSES[step]
    run(WAYS[name], projections(1, 64))  # what the libraries load at the first call
    inputs = projections(1, positions)
    before = resident()
    run(WAYS[name], inputs)
    return resident() - before


def with_unit(values: dict[str, float], unit: str) -> dict[str, float]:
    "The values by `name, unit`."
    return {f"{name}, {unit}": value for name, value in values.items()}


def ratios(values: dict[str, float]) -> dict[str, float]:
    "How many times each peer's seconds or bytes are ours."
    peers = [name for name in values if name != "ours"]
    return {f"{name} / ours": values[name] / values["ours"] for name in peers}


def milliseconds(
    names: tuple[str, ...],  # keys of WAYS
    run: Callable,  # one of PASSES
    inputs: list[Tensor],  # q, k, v
    repeats: int,  # rounds
) -> dict[str, float]:
    "Median milliseconds of a pass, by way."
    seconds = alternate({name: partial(run, WAYS[name], inputs) for name in names}, repeats)
    return {name: 1e3 * value for name, value in seconds.items()}


def times(shapes: list[tuple[int, int, int]]) -> list[dict]:
    "Rows of the table of times."
    rows = []
    for batch, positions, repeats in shapes:
        inputs = projections(batch, positions)
        for step, run in PASSES.items():
            ms = milliseconds(tuple(WAYS), run, inputs, repeats)
            facts = {"B": batch, "N": positions, "pass": step}
            rows.append({**facts, **with_unit(ms, "ms"), **ratios(ms)})
            print(rows[-1], flush=True)
    return rows


def memory(sizes: list[int]) -> list[dict]:
    "Rows of the table of memory."
    rows = []
    for positions in sizes:
        for step in PASSES:
            mib = {name: fresh(peak, name, step, positions) / MEBIBYTE for name in MEASURED}
            facts = {"N": positions, "pass": step}
            rows.append({**facts, **with_unit(mib, "MiB"), **ratios(mib)})
            print(rows[-1], flush=True)
    return rows


def slopes(
    rows: list[dict],  # of the table of memory
    least: int = 4096,  # positions from which on the line is drawn
) -> dict[str, dict[str, float]]:
    "The slope of memory in the number of positions on log-log paper, by pass and way."
    fits = {}
    for step in PASSES:
        chosen = [row for row in rows if row["pass"] == step and row["N"] >= least]
        sizes = [row["N"] for row in chosen]
        fits[step] = {
            name: slope(sizes, [row[f"{name}, MiB"] for row in chosen]) for name in MEASURED
        }
    return fits


def spreads(positions: int, values: tuple[float, ...]) -> list[dict]:
    "Rows of the table of energies far apart: where weights become subnormal numbers."
    rows = []
    for spread in values:
        ms = milliseconds(MEASURED, forward, projections(1, positions, spread), repeats=1)
        facts = {"N": positions, "deviation of energies": spread}
        rows.append({**facts, **with_unit(ms, "ms"), **ratios(ms)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    "Measure and write."
    memory_rows = memory(SIZES)
    tables = {
        "Time (energies with deviation 8)": times(SHAPES),
        "Peak memory on top of the inputs, in fresh processes": memory_rows,
        "Time of a forward pass, by the spread of the energies": spreads(4096, SPREADS),
    }
    write("attention", tables, slopes=slopes(memory_rows))


if __name__ == "__main__":
    main()
