"""What an ablation's runs on photographs score on whole images, and by windows as large as crops.

`python -m benchmarks.windows runs/ablation/camvid --data camvid --root CAMVID`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import add_line, saved_lines
from danet_nb import __version__
from danet_nb.datasets import SegmentationDataset
from danet_nb.evaluation import evaluate
from danet_nb.published import load_danet
from danet_nb.published_sets import open_dataset


def scores(
    run: Path,  # folder of a run that has ended
    dataset: SegmentationDataset,  # to score on
) -> dict[str, Any]:
    "mIoU of the weights after the last step, asked about the whole image and by windows."
    model = load_danet(run / "checkpoints" / "last.pt")
    settings = model.config.run or {}
    crop = settings["crop_size"]
    row = {"network": model.config.attention, "seed": settings["seed"], "window": crop}
    row["whole"] = evaluate(model, dataset, progress=False).mean_iou()
    row["windows"] = evaluate(model, dataset, window=crop, progress=False).mean_iou()
    return row


def main(words: Sequence[str] | None = None) -> None:
    "Score every run of the folder that is not in the result yet, a line each."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of an ablation, with its runs")
    parser.add_argument("--data", default="camvid", help="a name that `open_dataset` knows")
    parser.add_argument("--root", type=Path, required=True, help="its folder")
    parser.add_argument("--networks", nargs="+", default=["none", "both"], help="rows to score")
    given = parser.parse_args(words)
    dataset = open_dataset(given.data, given.root, "val", cache=True)
    path = given.folder / "windows.jsonl"
    done = {(row["network"], row["seed"]) for row in saved_lines(path)}
    for run in sorted(given.folder.glob("*/summary.json")):
        *_, network, _, seed = run.parent.name.split("-")
        if network in given.networks and (network, int(seed)) not in done:
            row = {**scores(run.parent, dataset), "version": __version__}
            row["command"] = f"python -m benchmarks.windows FOLDER --data {given.data} --root ROOT"
            add_line(path, row)
            print(row["network"], row["seed"], row["whole"], row["windows"], flush=True)


if __name__ == "__main__":
    main()
