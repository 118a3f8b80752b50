"""Measuring side by side: runs that alternate in one process, peaks of memory in fresh ones, results as JSON and a table."""

import json
import math
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression, median
import torch
from danet_nb.comparison import markdown_table

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
SEED = 0


def clock(function):
    "Seconds that one call takes, the work on a GPU included."
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternate(functions, repeats):
    "`{name: median seconds}`: after one round to warm up, every round runs each of `{name: function}` once, so a slow minute meets all."
    rounds = [
        {name: clock(function) for name, function in functions.items()} for _ in range(repeats + 1)
    ]
    return {name: median(r[name] for r in rounds[1:]) for name in functions}


def fresh(function, *args):
    "What `function(*args)` returns in a process of its own, in which nothing has run before."
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def resident():
    "Largest resident memory of this process so far, in bytes."
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(
            status.read_text().split("VmHWM:")[1].split()[0]
        )  # ru_maxrss would begin with the parent's
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def slope(x, y):
    "Slope of the straight line through the points on log-log paper."
    return linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def processor():
    "The name of the CPU, as the system tells it."
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def circumstances():
    "Command, seed, device and versions: what it takes to repeat a measurement."
    name = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{processor()}, {torch.get_num_threads()} threads"
    )
    command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}".strip()
    return dict(
        command=command,
        seed=SEED,
        device=name,
        torch=torch.__version__,
        python=platform.python_version(),
    )


def cell(value):
    "A number with three digits; what is not there as a dash."
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "–" if value is None else str(value)


def table(rows):
    "Markdown for a list of dicts with the same keys."
    return markdown_table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def document(name, saved):
    "The text of `name.md`: the circumstances, then every table."
    facts = "\n".join(f"- {key}: {value}" for key, value in saved.items() if key != "tables")
    return (
        "\n\n".join(
            [
                f"# {name}",
                facts,
                *(f"## {title}\n\n{table(rows)}" for title, rows in saved["tables"].items()),
            ]
        )
        + "\n"
    )


def write(name, tables, folder=RESULTS, **more):
    "Save `{title: rows}` and further results as `name.json` and `name.md` in `folder`, and print the document."
    saved = {**circumstances(), **more, "tables": tables}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    (folder / f"{name}.md").write_text(document(name, saved))
    print(document(name, saved))
