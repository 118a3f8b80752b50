"""How long each notebook takes: the minutes that their first cells claim, measured.

`python -m benchmarks.minutes` (`make minutes`) runs every notebook in a real kernel with one thread
and writes results/minutes.json. Measure on an idle machine. A test compares the claims with it.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from benchmarks.measure import circumstances

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "nbs"
RESULTS = ROOT / "results" / "minutes.json"


def seconds_of(path: Path) -> float:
    "Seconds by the clock for all cells of a notebook, the start of the kernel included."
    notebook = nbformat.read(path, 4)
    place = {"metadata": {"path": path.parent}}
    start = time.perf_counter()
    NotebookClient(notebook, timeout=600, resources=place).execute()
    return time.perf_counter() - start


def chosen(names: list[str]) -> list[Path]:
    "The numbered notebooks whose names begin so; all of them without a name."
    paths = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    return [path for path in paths if path.stem.startswith(tuple(names or [""]))]


def saved(path: Path) -> dict[str, Any]:
    "What was measured before; nothing before the first time."
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seconds": {}}


def main() -> None:
    "Measure, and write after each notebook; named ones replace theirs among the others."
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="beginnings of names; all if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    there = {path.stem for path in chosen([])}
    before = saved(options.out)["seconds"] if options.notebooks else {}
    seconds = {name: value for name, value in before.items() if name in there}
    for path in chosen(options.notebooks):
        seconds[path.stem] = round(seconds_of(path), 1)
        print(f"{path.stem:24}{seconds[path.stem]:6.1f} s", flush=True)
        facts = {k: v for k, v in circumstances().items() if k != "seed"}
        text = json.dumps({**facts, "seconds": dict(sorted(seconds.items()))}, indent=1)
        options.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
