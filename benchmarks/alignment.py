"""Where labels are drawn: on discs, and on CamVid with trained networks.

`python -m benchmarks.alignment discs`
`python -m benchmarks.alignment camvid RUN RUN ... --root CAMVID`
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import circumstances
from danet_nb import __version__
from danet_nb.alignment import CONTENDERS, by_third, disc_batch, learn_discs
from danet_nb.danet import DANet
from danet_nb.datasets import SegmentationDataset
from danet_nb.evaluation import predict
from danet_nb.metrics import ConfusionMatrix
from danet_nb.published import load_danet
from danet_nb.published_sets import open_dataset

RESULTS = Path(__file__).parents[1] / "results" / "alignment"
SEEDS = (0, 1, 2)
SIZES = ((96, 96), (192, 144), (193, 145))


def disc_scores(
    model: DANet,  # in evaluation mode
    size: tuple[int, int],  # height and width in pixels
    count: int = 16,  # pictures
) -> dict[str, float]:
    "Displacement by third, and the IoU of the discs of both colours together."
    images, labels = disc_batch(count, size, torch.Generator().manual_seed(99))
    with torch.no_grad():
        said = model(images).argmax(1)
    right = ((said == labels) & (labels > 0)).sum() / ((said > 0) | (labels > 0)).sum()
    return {**by_third(said, labels), "IoU": right.item()}


def discs(
    seeds: Sequence[int] = SEEDS,  # of weights and pictures
    steps: int = 60,  # updates of each network
) -> list[dict[str, Any]]:
    "Every network, trained with every seed, on pictures of every size."
    rows = []
    for seed in seeds:
        for name in CONTENDERS:
            model = learn_discs(name, seed, steps)
            for size in SIZES:
                scores = {key: round(v, 4) for key, v in disc_scores(model, size).items()}
                rows.append({"network": name, "seed": seed, "size": list(size), **scores})
    return rows


def answers(
    model: DANet,  # in evaluation mode
    dataset: SegmentationDataset,  # frames of one size
) -> tuple[Tensor, Tensor]:  # what it says and the labels, `(B, H, W)` each
    "Whole frames, one after the other."
    said, labels = [], []
    for image, label in map(dataset.__getitem__, range(len(dataset))):
        said.append(predict(model, image).argmax(1)[0].byte())
        labels.append(label.byte())
    return torch.stack(said), torch.stack(labels)


def frame_scores(
    model: DANet,  # in evaluation mode
    dataset: SegmentationDataset,  # frames of one size
) -> dict[str, Any]:
    "Mean IoU, the IoU of every class, and the displacement by third."
    said, labels = answers(model, dataset)
    counts = ConfusionMatrix(dataset.num_classes)
    for one, label in zip(said, labels, strict=True):
        counts.update(one.long(), label.long())
    iou = dict(zip(dataset.classes, (round(v, 4) for v in counts.iou().tolist()), strict=True))
    shifts = {third: round(v, 2) for third, v in by_third(said, labels).items()}
    return {"mean_iou": round(counts.mean_iou(), 4), "iou": iou, **shifts}


def run_rows(
    run: Path,  # folder of a run that has ended
    dataset: SegmentationDataset,  # validation frames
) -> list[dict[str, Any]]:  # with and without the padding
    "The weights after the last step, which no validation chose."
    model = load_danet(run / "checkpoints" / "last.pt")
    settings = model.config.run or {}
    about = {
        "run": run.name,
        "attention": model.config.attention,
        "seed": settings.get("seed"),
        "steps": settings.get("steps"),
        "crop": settings.get("crop_size"),
        "trained on the grid": model.config.on_grid,
    }
    rows = []
    for on_grid in (True, False):
        model.config = replace(model.config, on_grid=on_grid)
        rows.append({**about, "shown on the grid": on_grid, **frame_scores(model, dataset)})
    return rows


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    "What the command line says."
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    drawn = kinds.add_parser("discs", help="train on discs, several seeds")
    drawn.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    drawn.add_argument("--steps", type=int, default=60, help="updates of each network")
    frames = kinds.add_parser("camvid", help="score trained runs with and without padding")
    frames.add_argument("runs", type=Path, nargs="+", help="folders of runs that have ended")
    frames.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    frames.add_argument("--count", type=int, help="validation frames; all of them without it")
    for one in (drawn, frames):
        one.add_argument("--out", type=Path, default=RESULTS, help="folder to write")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    "Measure and write."
    given = arguments(words)
    saved: dict[str, Any] = {**circumstances(), "danet_nb": __version__}
    if given.kind == "discs":
        saved["seeds"] = list(range(given.seeds))
        saved["command"] = "python -m benchmarks.alignment discs"
        saved["steps"] = given.steps
        saved["runs"] = discs(saved["seeds"], given.steps)
    else:
        saved["command"] = "python -m benchmarks.alignment camvid RUN RUN ... --root CAMVID"
        dataset = open_dataset("camvid", given.root, "val", count=given.count, cache=True)
        saved["frames"] = len(dataset)
        saved["runs"] = [row for run in given.runs for row in run_rows(run, dataset)]
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{given.kind}.json"
    path.write_text(json.dumps(saved, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
