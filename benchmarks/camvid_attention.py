"""What a network trained on CamVid looks at, beside maps that know less, and what hangs on it.

`python -m benchmarks.camvid_attention RUN --root CAMVID`
"""

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from benchmarks.measure import SEED, circumstances
from danet_nb import __version__
from danet_nb.attention_maps import (
    AttentionMaps,
    attention_of,
    numbered,
    panels,
    response_figure,
    ring,
)
from danet_nb.danet import DANet
from danet_nb.datasets import SegmentationDataset
from danet_nb.evaluation import to_batch
from danet_nb.evidence import (
    Inside,
    Interval,
    answer,
    apart,
    bootstrap,
    closings,
    most_attended,
    random_cells,
    untrained,
)
from danet_nb.explorer import Exploration
from danet_nb.figures import add_legend, colorize, png_bytes, to_array
from danet_nb.metrics import class_iou, confusion
from danet_nb.position import to_rows
from danet_nb.published import load_danet
from danet_nb.published_sets import open_dataset
from danet_nb.runs import read_metrics

RESULTS = Path(__file__).parents[1] / "results" / "camvid_attention"
COMMAND = "python -m benchmarks.camvid_attention RUN --root CAMVID"
POINTS = "car,road,pedestrian,building"
GROUP = 10  # successive frames, two thirds of a second: they are resampled together
OTHER = 7  # every so many training frames, which show other streets, for a baseline
FAR = 10.0  # cells of the map; what is farther away is far
DELETED = (0.01, 0.1)  # parts of the cells
DRAWS = 2  # of random cells
BLOCK = 54  # rows of the map at a time, for all frames

Rows = dict[str, Tensor]  # by the name of the map: `(F, b, N)`


class Looks(NamedTuple):
    "What it takes to know every row of the maps of F frames, and the classes under the cells."

    queries: Tensor  # `(F, N, D)`
    keys: Tensor  # `(F, N, D)`
    untrained_queries: Tensor  # `(F, N, D)`
    untrained_keys: Tensor  # `(F, N, D)`
    other_queries: Tensor  # `(G, N, D)`, of frames of other streets
    other_keys: Tensor  # `(G, N, D)`
    cover: Tensor  # `(F, N, K)` the part of each cell that each class covers; void is no class
    size: tuple[int, int]  # (h, w) of the map

    @property
    def mine(self) -> Tensor:
        "`(F, N)`: the class of at least half a cell, or -1."
        part, number = self.cover.max(-1)
        return number.where(part >= 0.5, -1)


def class_cover(
    label: Tensor,  # `(H, W)` class numbers
    size: Sequence[int],  # (h, w) of the map
    num_classes: int,  # K
) -> Tensor:  # `(N, K)`
    "The part of each cell that each class covers."
    areas = torch.stack([label == k for k in range(num_classes)]).float()
    return F.adaptive_avg_pool2d(areas, tuple(size)).flatten(1).T


@torch.no_grad()
def never_trained(
    model: DANet,  # any
    images: Sequence[Tensor],  # `(3, H, W)` uint8
) -> DANet:
    "Random weights of the same configuration; only batch norms have met the images."
    before = untrained(model, SEED)
    for module in before.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all that it meets
    before.train()
    for image in images:
        before(to_batch(image))
    return before.eval()


def queries_and_keys(model: DANet, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    "`(F, N, D)` each, of `(3, H, W)` images of one size."
    maps = [AttentionMaps(model, image) for image in images]
    return torch.cat([one.queries for one in maps]), torch.cat([one.keys for one in maps])


def look(
    model: DANet,  # trained
    before: DANet,  # never trained
    dataset: SegmentationDataset,  # frames of one size
    others: Sequence[Tensor],  # `(3, H, W)` images of other streets, of the same size
) -> Looks:
    "Queries, keys and classes of all frames."
    images, labels = zip(*(dataset[number] for number in range(len(dataset))), strict=True)
    size = AttentionMaps(model, images[0]).size
    cover = torch.stack([class_cover(label, size, dataset.num_classes) for label in labels])
    return Looks(
        *queries_and_keys(model, images),
        *queries_and_keys(before, images),
        *queries_and_keys(model, others),
        cover,
        size,
    )


def mean_rows(looks: Looks) -> Tensor:
    "`(F, N)`: the mean of all rows of each frame's map: where the frame looks."
    total = torch.zeros(looks.keys.shape[:2])
    for queries in looks.queries.split(BLOCK, dim=1):
        total += (queries @ looks.keys.mT).softmax(-1).sum(1)
    return total / looks.keys.shape[1]


def same_distances(S: Tensor, between: Tensor) -> Tensor:
    "`(F, b, N)`: as much attention at every distance, but even among the cells at that distance."
    rings = between.round().long()
    size = torch.zeros(len(rings), int(rings.max()) + 1).scatter_add_(
        -1, rings, torch.ones_like(between)
    )
    where = rings.expand_as(S)
    inside = S.new_zeros(len(S), *size.shape).scatter_add_(-1, where, S)
    return (inside / size.clamp(min=1)).gather(-1, where)


def peaks(looks: Looks, classes: Sequence[str]) -> dict[str, int]:
    "In how many frames the mean row is largest on a cell of each class."
    common, mine = mean_rows(looks), looks.mine
    there = mine.gather(1, common.argmax(1, keepdim=True))[:, 0]
    return {name: int((there == k).sum()) for k, name in enumerate(classes)}


def blocks(looks: Looks, common: Tensor) -> Iterator[tuple[slice, Rows]]:
    "Block by block, rows of the network's maps and of the maps that know less."
    frames, n, _ = looks.queries.shape
    generator = torch.Generator().manual_seed(SEED)
    order = torch.rand(frames, n, generator=generator).argsort(-1)[..., None]
    shuffled = looks.keys.gather(1, order.expand_as(looks.keys))
    between = apart(looks.size)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        queries = looks.queries[:, rows]
        S = (queries @ looks.keys.mT).softmax(-1)
        before = looks.untrained_queries[:, rows] @ looks.untrained_keys.mT
        other = (looks.other_queries[:, rows] @ looks.other_keys.mT).softmax(-1)
        yield (
            rows,
            {
                "trained": S,
                "untrained": before.softmax(-1),
                "shuffled keys": (queries @ shuffled.mT).softmax(-1),
                "other streets": other.mean(0, keepdim=True).expand_as(S),
                "same cell": (S.sum(0, keepdim=True) - S) / (frames - 1),
                "same distances": same_distances(S, between[rows]),
                "one for all": common[:, None].expand_as(S),
                "even": torch.full_like(S, 1 / n),
            },
        )


def deleted(n: int, part: float) -> int:
    "How many of n cells are a part of them; at least one."
    return max(1, round(part * n))


def measure_rows(
    S: Tensor,  # `(F, b, N)` rows that sum to one
    mine: Tensor,  # `(F, b)` class of the cell that looks, 0..K-1
    cover: Tensor,  # `(F, N, K)`
    between: Tensor,  # `(b, N)` distances, in cells
    common: Tensor,  # `(F, N)` mean row of each frame
) -> dict[str, Tensor]:  # `(F, b)` each, NaN where there is nothing to measure
    "Lift on the own class, everywhere and far away; spread; what all rows share, and the top 1 %."

    def own(shares: Tensor) -> Tensor:
        return shares.gather(-1, mine[..., None])[..., 0]

    far = (between >= FAR).float()
    away = S * far
    area = cover.mean(1)[:, None].expand(*mine.shape, -1)
    far_area = far @ cover / far.sum(-1, keepdim=True)
    far_share = own(away @ cover) / away.sum(-1)
    return {
        "own": own(S @ cover) / own(area),
        "far own": (far_share / own(far_area)).where(own(far_area) > 0, torch.nan),
        "share": own(S @ cover),
        "far": away.sum(-1),
        "entropy": torch.special.entr(S).sum(-1) / torch.tensor(S.shape[-1]).log(),
        "distance": (S * between).sum(-1),
        "common": torch.minimum(S, common[:, None]).sum(-1),
        "top": S.topk(deleted(S.shape[-1], DELETED[0]), -1).values.sum(-1),
    }


class Sums(NamedTuple):
    "Sums over the cells of each class in each frame, and how many cells they are of."

    total: Tensor  # `(F, K)` float64
    count: Tensor  # `(F, K)` float64


def add_rows(sums: Sums, values: Tensor, mine: Tensor) -> None:
    "Add `(F, b)` values of cells of class `(F, b)`; NaN and cells without a class do not count."
    counted = (mine >= 0) & ~values.isnan()
    index = mine.clamp(min=0)
    sums.total.scatter_add_(1, index, values.where(counted, 0).double())
    sums.count.scatter_add_(1, index, counted.double())


def measure_all(looks: Looks) -> dict[str, dict[str, Sums]]:
    "Every measure of every map, by the class of the cell that looks."
    common, between, mine = mean_rows(looks), apart(looks.size), looks.mine
    found: dict[str, dict[str, Sums]] = {}
    for rows, maps in blocks(looks, common):
        here = mine[:, rows]
        for name, S in maps.items():
            values = measure_rows(S, here.clamp(min=0), looks.cover, between[rows], common)
            for measure, value in values.items():
                shape = (len(looks.cover), looks.cover.shape[-1])
                new = Sums(*torch.zeros(2, *shape, dtype=torch.double))
                add_rows(found.setdefault(name, {}).setdefault(measure, new), value, here)
    return found


def grouped(values: Tensor) -> Tensor:
    "Sums over groups of successive frames: what the bootstrap resamples."
    return torch.stack([part.sum(0) for part in values.double().split(GROUP)])


def interval(top: Tensor, below: Tensor) -> list[float] | None:
    "Mean, low and high, from numerators and denominators per frame; None where nothing was."
    found = bootstrap(grouped(top), grouped(below))
    return None if found is None else rounded(found)


def rounded(numbers: Interval) -> list[float]:
    "As they are written."
    return [round(number, 5) for number in numbers]


def evidence(looks: Looks, classes: Sequence[str]) -> dict[str, Any]:
    "The table of maps over all cells, and the lift class by class."
    found = measure_all(looks)
    rows = [
        {"map": name}
        | {measure: interval(s.total.sum(1), s.count.sum(1)) for measure, s in measures.items()}
        for name, measures in found.items()
    ]
    by_class = []
    for k, name in enumerate(classes):
        row: dict[str, Any] = {"class": name}
        row["cells"] = int((looks.mine == k).sum())
        row["area"] = round(looks.cover[..., k].mean().item(), 5)
        for kind in ("trained", "other streets", "one for all"):
            for measure in ("own", "far own"):
                s = found[kind][measure]
                row[f"{kind}: {measure}"] = interval(s.total[:, k], s.count[:, k])
        by_class.append(row)
    return {"maps": rows, "classes": by_class}


# Interventions


def gathered(
    maps: AttentionMaps,  # of a network with position attention
    values: Tensor,  # `(1, N, C)`
    hide: Callable[[Tensor], Tensor] | None = None,  # energies -> what must not be looked at
    block: int = 540,  # rows at a time
) -> Tensor:  # `(1, N, C)`
    "What every position takes from all others that are not hidden from it."
    parts = []
    for queries in maps.queries.split(block, dim=1):
        energy = queries @ maps.keys.mT
        if hide is not None:
            energy = energy.masked_fill(hide(energy), -torch.inf)
        parts.append(energy.softmax(-1) @ values)
    return torch.cat(parts, 1)


def hiders(n: int) -> dict[str, list[Callable[[Tensor], Tensor]]]:
    "What is deleted out of n cells, by name; several draws of what is random."
    generator = torch.Generator().manual_seed(SEED)
    found: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    for part in DELETED:
        k = deleted(n, part)
        found[f"{part:.0%} most attended"] = [lambda energy, k=k: most_attended(energy, k)]
        chance = [lambda energy, k=k: random_cells(energy, k, generator)] * DRAWS
        found[f"{part:.0%} random"] = chance
    return found


@torch.no_grad()
def interventions(maps: AttentionMaps) -> dict[tuple[str, str], list[Inside]]:
    "The parts of the network as they are, then with gates closed and with cells deleted."
    position = maps.entering["position"]
    values = to_rows(attention_of(maps.model, "position").value_conv(position))
    channel = maps.entering["channel"]
    mixing = maps.channel_weights()[None]
    inside = Inside(position, channel, None, values, gathered(maps, values), mixing)
    changed = {("nothing", ""): [inside]}
    changed |= {("close gate", part): closed for part, closed in closings(inside).items()}
    for part, many in hiders(values.shape[1]).items():
        deleted = [replace(inside, gathered=gathered(maps, values, hide)) for hide in many]
        changed["delete cells", part] = deleted
    return changed


class Counts(NamedTuple):
    "What is counted in each frame after an intervention, on average over its draws."

    confusion: Tensor  # `(K, K)` float64
    changed: Tensor  # pixels whose class differs from that without the intervention
    pixels: Tensor  # all of them


def count_frame(model: DANet, image: Tensor, label: Tensor) -> dict[tuple[str, str], Counts]:
    "Confusion and changes of one frame, by intervention."
    changed = interventions(AttentionMaps(model, image))
    size, num_classes = label.shape, model.config.num_classes
    [before] = answer(model, changed["nothing", ""][0], size)
    found = {}
    for key, many in changed.items():
        said = [answer(model, one, size)[0] for one in many]
        matrices = [confusion(one, label, num_classes).double() for one in said]
        moved = torch.stack([(one != before).sum().double() for one in said]).mean()
        pixels = torch.tensor(float(label.numel()))
        found[key] = Counts(torch.stack(matrices).mean(0), moved, pixels)
    return found


def scores(many: Sequence[Counts], before: Sequence[Counts], classes: Sequence[str]) -> dict:
    "Scores of the frames after an intervention, and their difference from before."
    n, old = (torch.stack([c.confusion for c in counts]) for counts in (many, before))
    right = n.diagonal(dim1=1, dim2=2)
    union = n.sum(1) + n.sum(2) - right
    labelled = n.sum((1, 2))
    gained = right.sum(1) - old.diagonal(dim1=1, dim2=2).sum(1)
    iou = [round(value, 5) for value in class_iou(n.sum(0)).tolist()]
    return {
        "mean_iou": interval(right, union),
        "accuracy": interval(right.sum(1), labelled),
        "accuracy gained": interval(gained, labelled),
        "changed": interval(
            torch.stack([c.changed for c in many]), torch.stack([c.pixels for c in many])
        ),
        "iou": dict(zip(classes, iou, strict=True)),
    }


def causal(model: DANet, dataset: SegmentationDataset) -> list[dict]:
    "Rows of the table: every intervention over all frames."
    counts = [count_frame(model, *dataset[number]) for number in range(len(dataset))]
    before = [frame["nothing", ""] for frame in counts]
    return [
        {"test": test, "part": part}
        | scores([frame[test, part] for frame in counts], before, dataset.classes)
        for test, part in counts[0]
    ]


# Pictures: the frame and the points are chosen by the labels alone


def choose_frame(looks: Looks, wanted: Sequence[int]) -> int:
    "The frame in which the rarest wanted class has most cells. Raises ValueError without one."
    cells = torch.stack([(looks.mine == k).sum(1) for k in wanted]).amin(0)
    if not cells.any():
        raise ValueError("no frame has a cell of every class in --points; name fewer classes")
    return int(cells.argmax())


def point_of(looks: Looks, frame: int, k: int) -> tuple[int, int]:
    "The cell nearest to the middle of the inner cells of a class, as (row, column)."
    cover = looks.cover[frame, :, k].unflatten(0, looks.size)
    inner = F.avg_pool2d(cover[None], 3, 1, 1)[0].where(cover >= 0.5, -1)
    places = (inner == inner.max()).nonzero().float()
    row, column = places[(places - places.mean(0)).norm(dim=1).argmin()].int().tolist()
    return row, column


def overlay(
    ax: Axes,
    image: Tensor,  # `(3, H, W)` uint8
    S: Tensor,  # `(h, w)` weights
    point: Sequence[int],  # (row, column), ringed
    scale: LogNorm,  # of times chance
) -> None:
    "A map over the image in grey; what is below the scale is not coloured."
    extent = (0, image.shape[-1], image.shape[-2], 0)
    chance = to_array(S * S.numel()).clip(scale.vmin)
    ax.imshow(to_array(image.float().mean(0)), "gray", vmin=0, vmax=2 * 255, extent=extent)
    opacity = 0.9 * scale(chance).data ** 0.25
    ax.imshow(chance, "inferno", scale, alpha=opacity, extent=extent, interpolation="nearest")
    ring(ax, image, S.shape, point)


def rows_figure(
    images: dict[str, Any],  # for the first column, by title
    image: Tensor,  # `(3, H, W)` uint8
    lines: dict[str, Sequence[Tensor]],  # title -> `(h, w)` maps, one per point
    points: dict[str, tuple[int, int]],  # class -> (row, column)
) -> Figure:
    "One line of maps after another over the frame: from chance to all, on one scale, one bar."
    fig, axes = panels(len(lines), len(points) + 1, image, 1.9)
    cells = next(iter(lines.values()))[0]
    scale = LogNorm(1, cells.numel())
    wide = len(points) + 1
    shown = zip(images.items(), lines.items(), strict=False)
    for line, ((title, picture), (name, maps)) in enumerate(shown):
        first, *rest = axes[line * wide : (line + 1) * wide]
        first.imshow(picture, extent=(0, image.shape[-1], image.shape[-2], 0))
        first.set_title(title, fontsize=8)
        for text, point in numbered(list(points.values())).items():
            ring(first, image, cells.shape, point, text)
        for number, (ax, S, thing) in enumerate(zip(rest, maps, points, strict=True), 1):
            overlay(ax, image, S, points[thing], scale)
            peak = S.max().item() * S.numel()
            ax.set_title(f"{number} {thing}: {name}\npeak {peak:.1f} × chance", fontsize=8)
    bar = ScalarMappable(scale, "inferno")
    fig.colorbar(bar, ax=fig.axes, label="times chance", pad=0.01)
    return fig


def gates_figure(maps: AttentionMaps, label: Tensor, dataset: SegmentationDataset) -> Figure:
    "The label, and the predictions with the gates open and closed."
    gates = {"prediction": (1, 1), "position closed": (0, 1), "channel closed": (1, 0)}
    said = {name: maps.prediction(*factors) for name, factors in gates.items()}
    fig, axes = panels(1, 4, maps.image, 2.3)
    for ax, (name, classes) in zip(axes, {"label": label, **said}.items(), strict=True):
        ax.imshow(colorize(classes, dataset.palette))
        ax.set_title(name, fontsize=9)
    return add_legend(fig, dataset.classes, dataset.palette)


def save_figure(fig: Figure, path: Path, colors: str = "inferno") -> None:
    "Write a figure small: 256 colours, 96 of them for the colour bar."
    picture = Image.open(io.BytesIO(png_bytes(fig, 80))).convert("RGB")
    bar = (255 * colormaps[colors](np.linspace(0, 1, 96))[:, :3]).astype(np.uint8)
    most = picture.quantize(160, kmeans=3).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*most[: 3 * 160], *bar.flatten().tolist()])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def other_row(looks: Looks, j: int) -> Tensor:
    "`(h, w)`: the mean row of a cell over the frames of other streets."
    S = (looks.other_queries[:, j : j + 1] @ looks.other_keys.mT).softmax(-1)
    return S.mean(0).reshape(looks.size)


def draw(
    model: DANet,
    before: DANet,  # never trained
    dataset: SegmentationDataset,
    looks: Looks,  # of all its frames
    wanted: Sequence[str],  # classes
    folder: Path,  # where figures are written
) -> dict[str, Any]:  # what was drawn, and how quick the explorer is
    "Write all figures of one frame."
    folder.mkdir(parents=True, exist_ok=True)
    classes = [dataset.classes.index(name) for name in wanted]
    frame = choose_frame(looks, classes)
    points = {name: point_of(looks, frame, k) for name, k in zip(wanted, classes, strict=True)}
    image, label = dataset[frame]
    maps, new = AttentionMaps(model, image), AttentionMaps(before, image)
    said = maps.prediction()
    cells = [row * looks.size[1] + column for row, column in points.values()]
    lines = {
        "trained": [maps.row(*point) for point in points.values()],
        "other streets": [other_row(looks, j) for j in cells],
        "untrained": [new.row(*point) for point in points.values()],
    }
    pictures = {
        "frame": to_array(image),
        "label": colorize(label, dataset.palette),
        "prediction": colorize(said, dataset.palette),
    }
    save_figure(rows_figure(pictures, image, lines, points), folder / "rows.png")
    columns = {"who looks": [maps.column(*point) for point in points.values()]}
    save_figure(rows_figure(pictures, image, columns, points), folder / "columns.png")
    spread = maps.leaving["channel"][0].flatten(1).std(1)
    channels = spread.topk(min(4, len(spread))).indices.tolist()
    save_figure(response_figure(maps, channels), folder / "channels.png", "viridis")
    save_figure(gates_figure(maps, label, dataset), folder / "gates.png")
    clicked, exploration = time_explorer(model, image, label, points[wanted[0]])
    start = exploration.start
    save_figure(exploration.figure(start), folder / "explorer.png")
    save_figure(exploration.figure(replace(start, log=True)), folder / "explorer_log.png")
    return {
        "frame": dataset.names[frame],
        "points": points,
        "channels": channels,
        "words": exploration.words(start),
        "explorer": clicked,
    }


def time_explorer(
    model: DANet, image: Tensor, label: Tensor, point: tuple[int, int], clicks: int = 20
) -> tuple[dict[str, Any], Exploration]:
    "Seconds to open the explorer at a cell, and milliseconds from a click to picture and words."
    h, w = AttentionMaps(model, image).size
    place = [(p + 0.5) * side / n for p, side, n in zip(point, label.shape, (h, w), strict=True)]
    start = time.perf_counter()
    exploration = Exploration(model, image, label, (place[0], place[1]))
    exploration.picture(exploration.start)
    exploration.words(exploration.start)
    opened = time.perf_counter() - start
    generator = torch.Generator().manual_seed(SEED)
    taken: dict[str, list[float]] = {"row": [], "column": []}
    for direction, times in taken.items():
        for _ in range(clicks):
            row, column = (int(torch.randint(n, (), generator=generator)) for n in (h, w))
            view = replace(exploration.start, row=row, column=column, direction=direction)
            start = time.perf_counter()
            exploration.picture(view)
            exploration.words(view)
            times.append(1000 * (time.perf_counter() - start))
    found: dict[str, Any] = {"size": list(label.shape), "map": [h, w], "open, s": round(opened, 2)}
    found |= {f"click, {name}, ms": round(median(times)) for name, times in taken.items()}
    found["slowest click, ms"] = round(max(max(times) for times in taken.values()))
    return found, exploration


def best_step(run: Path) -> int:
    "The step whose weights the run kept."
    scored = [row for row in read_metrics(run) if "mean_iou" in row]
    return max(scored, key=lambda row: row["mean_iou"])["step"]


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    "What the command line says."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run that has ended")
    parser.add_argument("--root", type=Path, required=True, help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder to write")
    parser.add_argument("--count", type=int, help="validation frames; all of them without it")
    parser.add_argument("--points", default=POINTS, help="classes at which one frame is shown")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    "Measure, draw and write."
    given = arguments(words)
    model = load_danet(given.run)
    dataset = open_dataset("camvid", given.root, "val", count=given.count, cache=True)
    streets = open_dataset("camvid", given.root, "train")
    others = [streets[number][0] for number in range(0, len(streets), OTHER)]
    before = never_trained(model, others)
    settings = model.config.run or {}
    saved: dict[str, Any] = {
        **circumstances(),
        "command": COMMAND,
        "danet_nb": __version__,
        "trained with": settings.get("versions"),
        "training seed": settings.get("seed"),
        "steps": settings.get("steps"),
        "step of the weights": best_step(given.run),
        "frames": len(dataset),
        "frames resampled together": GROUP,
        "frames of other streets": len(others),
        "far, cells": FAR,
        "gates": {
            kind: round(attention_of(model, kind).gate.item(), 4)
            for kind in ("position", "channel")
        },
    }
    start = time.perf_counter()
    looks = look(model, before, dataset, others)
    saved["map"] = list(looks.size)
    wanted = given.points.split(",")
    saved |= draw(model, before, dataset, looks, wanted, given.out / "figures")
    saved["peaks of the mean row"] = peaks(looks, dataset.classes)
    saved |= evidence(looks, dataset.classes)
    saved["causal"] = causal(model, dataset)
    saved["minutes"] = round((time.perf_counter() - start) / 60, 1)
    text = json.dumps(saved, indent=1)
    (given.out / "attention.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
