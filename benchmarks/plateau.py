"""When does a network of the far world find the lamp, and what decides when?

`python -m benchmarks.plateau` trains the demo's networks with instruments on board; an interrupted
call goes on with the run that was not finished.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.measure import add_line, circumstances, saved_lines
from danet_nb import __version__
from danet_nb.danet import DANet
from danet_nb.demo import demo_configs
from danet_nb.evaluation import eval_mode, to_batch
from danet_nb.evidence import draw_bays
from danet_nb.grid import gates_of
from danet_nb.position import PositionAttention, to_grid, to_rows
from danet_nb.scenes import FAR_CLASSES, split_seeds
from danet_nb.training import Samples, batches, make_transform, open_split, start_run, update

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "plateau"
EVERY = 5  # steps between two readings
BAYS = 8  # of the validation split, each under both lamps


@dataclass(frozen=True)
class Plan:
    "One run: everything in which it differs from the demo's."

    question: str  # what it was made for
    weights: int  # seed of the first weights
    order: int  # seed of the order and the crops of the images
    attention: str = "position"  # which module the network has
    form: str = "authors"  # of channel attention
    axis: str = "rows"  # of position attention's map that sum to one: "rows" or "columns"
    gate: float = 0.0  # at which the gates start
    steps: int = 600  # of the schedule
    stop: int = 300  # steps that are done


LATE = ((0, 2), (2, 0), (3, 1))  # had not found the lamp after 300 steps; they get all 600


def plans() -> list[Plan]:
    "Every run."
    seeds = range(4)
    made = [Plan("weights or order", w, d) for w in seeds for d in seeds]
    made += [Plan("more seeds", seed, seed) for seed in range(4, 12)]
    made += [Plan("open gate", seed, seed, gate=g) for g in (0.2, 1.0) for seed in seeds]
    paper = {"attention": "channel", "form": "paper"}
    made += [Plan("longer", 2, 2, **paper, steps=steps, stop=steps) for steps in (600, 1200)]
    made += [Plan("to the end", w, d, stop=600) for w, d in LATE]
    return made + [Plan("other axis", w, w, axis="columns", stop=600) for w in seeds]


def both_lamps() -> tuple[Tensor, Tensor]:
    "Validation bays `(B, 2, 3, H, W)` under red and under green, and where boats are `(B, H, W)`."
    bays = draw_bays("far", split_seeds("val", BAYS))
    own, turned = to_batch(bays.images), to_batch(bays.turned_images[:, 0])
    red = (bays.lamps[:, 0] == 0)[:, None, None, None]  # index into `LAMPS`
    views = torch.stack([own.where(red, turned), turned.where(red, own)], 1)
    return views, bays.labels >= FAR_CLASSES[0]


@torch.no_grad()
def read(
    model: DANet,  # in any mode
    views: Tensor,  # of `both_lamps`
    boats: Tensor,  # likewise
) -> dict[str, float]:
    "How much the lamp moves the boats' logits, and the share of the boats that is named right."
    homeward, outbound = FAR_CLASSES
    with eval_mode(model):
        logits = model(views.flatten(0, 1)).unflatten(0, views.shape[:2])
    ahead = logits[:, :, outbound] - logits[:, :, homeward]
    red, green = ahead[:, 0][boats], ahead[:, 1][boats]  # outbound is right under the red lamp
    right = torch.cat([red > 0, green < 0]).float().mean().item()
    return {"right": right, "effect": (red - green).mean().item()}


def through_columns(self: PositionAttention, x: Tensor) -> Tensor:
    "Position attention with the softmax over the wrong axis."
    q, k, v = (to_rows(conv(x)) for conv in (self.query_conv, self.key_conv, self.value_conv))
    weights = torch.softmax(q @ k.transpose(1, 2), 1)
    return x + self.gate * to_grid(weights @ v, *x.shape[2:])


def readings(plan: Plan, folder: str) -> Iterator[dict[str, float]]:
    "Train, and read after the first step and every `EVERY` steps."
    options = {"seeds": [plan.weights], "device": "cpu", "progress": False}
    first = demo_configs(folder, ROOT / "data", steps=plan.steps, **options)[0]
    changes = {"attention": plan.attention, "channel_form": plan.form}
    config = replace(first, out=f"{folder}/run", **changes)
    dataset = open_split(config, "train")
    run = start_run(config, dataset)
    with torch.no_grad():
        for name, parameter in run.model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(plan.gate)
    samples = Samples(dataset, make_transform(config), plan.order)
    views, boats = both_lamps()
    for image, label in batches(samples, config.batch_size, 0, plan.stop):
        losses = update(run, image, label)
        if run.step == 1 or run.step % EVERY == 0:
            row = {"step": run.step, "loss": losses["fused"].item()}
            yield {**row, **read(run.model, views, boats), **gates_of(run.model)}


def result_of(plan: Plan) -> dict[str, Any]:
    "The plan and what was read, a list per reading."
    forward = through_columns if plan.axis == "columns" else PositionAttention.forward
    with TemporaryDirectory() as folder, patch.object(PositionAttention, "forward", forward):
        rows = list(readings(plan, folder))
    read = {name: [float(f"{row[name]:.4g}") for row in rows] for name in rows[0]}
    return {**asdict(plan), "read": {**read, "step": [row["step"] for row in rows]}}


def main(words: Sequence[str] | None = None) -> None:
    "Make the runs that are missing, and write them one by one."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder to write")
    parser.add_argument("--stop", type=int, help="steps of every run, to try the command")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "runs.jsonl"
    facts = {**circumstances(), "command": "python -m benchmarks.plateau", "danet_nb": __version__}
    del facts["seed"]  # every line has two of its own
    (given.out / "circumstances.json").write_text(json.dumps(facts, indent=1) + "\n")
    for plan in plans():
        plan = replace(plan, stop=given.stop or plan.stop)
        there = [{name: row[name] for name in asdict(plan)} for row in saved_lines(path)]
        if asdict(plan) in there:
            continue
        row = result_of(plan)
        add_line(path, row)
        at = next(
            (s for s, r in zip(row["read"]["step"], row["read"]["right"], strict=True) if r > 0.75),
            None,
        )
        print(plan, "finds the lamp by step", at, flush=True)


if __name__ == "__main__":
    main()
