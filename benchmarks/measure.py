"""Measuring side by side: runs that alternate, peaks in fresh processes, JSON and a table."""

import json
import math
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import torch

from danet_nb.tables import markdown_table

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
SEED = 0


def synchronize() -> None:
    "Wait for the work on a GPU, where there is one."
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock(function: Callable[[], Any]) -> float:
    "Seconds that one call takes, the work on a GPU included."
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def alternate(
    functions: dict[str, Callable[[], Any]],  # by name
    repeats: int,  # rounds after the one to warm up; every round runs each function once
) -> dict[str, float]:
    "`{name: median seconds}`; the functions take turns, so a slow minute meets all."
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(clock(function))
    return {name: median(values) for name, values in seconds.items()}


def fresh(function: Callable, *args: Any) -> Any:
    "What `function(*args)` returns in a process of its own, in which nothing has run before."
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def resident() -> int:
    "Largest resident memory of this process so far, in bytes."
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the parent's
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def slope(x: list[float], y: list[float]) -> float:
    "Slope of the straight line through the points on log-log paper."
    return linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def processor() -> str:
    "The name of the CPU, as the system tells it."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def device() -> str:
    "The GPU, or the CPU with the number of threads in use."
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


def circumstances() -> dict[str, Any]:
    "Command, seed, device and versions: what it takes to repeat a measurement."
    module = Path(sys.argv[0]).stem
    return {
        "command": " ".join([f"python -m benchmarks.{module}", *sys.argv[1:]]),
        "seed": SEED,
        "device": device(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def saved_lines(path: Path) -> list[dict[str, Any]]:
    "The lines of a file of JSON lines that may not be there."
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_line(path: Path, row: dict[str, Any]) -> None:
    "One line more, written at once: what is interrupted keeps the lines before."
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def cell(value: object) -> str:
    "A number with three digits; what is not there as a dash."
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def table(rows: list[dict]) -> str:
    "Markdown for a list of dicts with the same keys."
    return markdown_table(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def document(name: str, saved: dict[str, Any]) -> str:
    "The text of `name.md`: the circumstances, then every table."
    facts = "\n".join(f"- {key}: {value}" for key, value in saved.items() if key != "tables")
    parts = [f"# {name}", facts]
    for title, rows in saved["tables"].items():
        parts.append(f"## {title}\n\n{table(rows)}")
    return "\n\n".join(parts) + "\n"


def write(
    name: str,  # of the benchmark; the files are `name.json` and `name.md`
    tables: dict[str, list[dict]],  # rows by title
    folder: Path = RESULTS,  # made if it is missing
    **more: Any,  # further results
) -> None:
    "Save tables and further results with the circumstances, and print the document."
    saved = {**circumstances(), **more, "tables": tables}
    text = document(name, saved)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
