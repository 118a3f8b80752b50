"""Position attention alone: the map written down, as in public code, against `attend`. `python -m benchmarks.attention`"""

import torch
from danet_nb.self_attention import attend
from benchmarks.measure import SEED, alternate, fresh, resident, slope, write
from benchmarks.peers import authors_attention, mmseg_attention, products

WAYS = {
    "authors": authors_attention,
    "mmsegmentation": mmseg_attention,
    "products": products,
    "ours": attend,
}
MATERIALISED = ("authors", "mmsegmentation")
SHAPES = [
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
SPREADS = (1, 8, 24, 80)  # standard deviations of the energies


def maps(batch, positions, spread=8, width=64, channels=512):
    "Queries, keys and values `(B, N, D)` as 1x1 convolutions leave them, positions last in memory, whose energies have this standard deviation."
    torch.manual_seed(SEED)
    factor = (spread / width**0.5) ** 0.5
    q, k, v = (torch.randn(batch, d, positions) for d in (width, width, channels))
    return [t.requires_grad_().mT for t in (factor * q, factor * k, v)]


def forward(way, inputs):
    "One forward pass without gradients."
    with torch.no_grad():
        return way(*inputs)


def both(way, inputs):
    "One forward and one backward pass."
    out = way(*inputs)
    return torch.autograd.grad(out, inputs, torch.ones_like(out))


PASSES = {"forward": forward, "forward + backward": both}


def peak(name, step, positions):
    "Bytes that a pass needs on top of its inputs; for a fresh process."
    PASSES[step](WAYS[name], maps(1, 64))  # what the libraries load at the first call
    inputs = maps(1, positions)
    before = resident()
    PASSES[step](WAYS[name], inputs)
    return resident() - before


def ratios(seconds):
    "How many times ours is faster than each peer."
    return {f"{name} / ours": seconds[name] / seconds["ours"] for name in seconds if name != "ours"}


def times(shapes):
    "Rows of the table of times."
    rows = []
    for batch, positions, repeats in shapes:
        inputs = maps(batch, positions)
        for step, run in PASSES.items():
            seconds = alternate(
                {name: lambda way=way: run(way, inputs) for name, way in WAYS.items()}, repeats
            )
            rows.append(
                {
                    "B": batch,
                    "N": positions,
                    "pass": step,
                    **{f"{n}, ms": 1e3 * t for n, t in seconds.items()},
                    **ratios(seconds),
                }
            )
            print(rows[-1], flush=True)
    return rows


def memory(sizes):
    "Rows of the table of memory, and the slope of every way on log-log paper from 4096 positions on."
    rows = []
    for positions in sizes:
        for step in PASSES:
            mebibytes = {
                name: fresh(peak, name, step, positions) / 2**20 for name in (*MATERIALISED, "ours")
            }
            rows.append(
                {
                    "N": positions,
                    "pass": step,
                    **{f"{n}, MiB": v for n, v in mebibytes.items()},
                    **ratios(mebibytes),
                }
            )
            print(rows[-1], flush=True)
    return rows, {
        step: slopes([row for row in rows if row["pass"] == step and row["N"] >= 4096])
        for step in PASSES
    }


def slopes(rows):
    "The slope of memory in the number of positions for every way."
    return {
        name: slope([row["N"] for row in rows], [row[f"{name}, MiB"] for row in rows])
        for name in (*MATERIALISED, "ours")
    }


def spreads(positions, values):
    "Rows of the table of energies that are far apart: where weights become subnormal numbers."
    rows = []
    for spread in values:
        inputs = maps(1, positions, spread)
        seconds = alternate(
            {name: lambda way=WAYS[name]: forward(way, inputs) for name in (*MATERIALISED, "ours")},
            1,
        )
        rows.append(
            {
                "N": positions,
                "deviation of energies": spread,
                **{f"{n}, ms": 1e3 * t for n, t in seconds.items()},
                **ratios(seconds),
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    memory_rows, fits = memory([1024, 2304, 4096, 9216, 16384, 32768])
    tables = {
        "Time (energies with deviation 8)": times(SHAPES),
        "Peak memory on top of the inputs, in fresh processes": memory_rows,
        "Time of a forward pass, by the spread of the energies": spreads(4096, SPREADS),
    }
    write("attention", tables, slopes=fits)
