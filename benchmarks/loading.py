"""Training samples per second and core: ours, the plain loop, and other people's loaders.

`python -m benchmarks.loading [--camvid ROOT]`. Peers are measured where they are installed:
torchvision's transforms v2, albumentations with OpenCV. All make the same augmentation: a random
scale from 0.5 to 2, a random crop with padding, a mirror, ImageNet's normalisation.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import SEED, alternate, write
from danet_nb.datasets import SegmentationDataset, load_pair
from danet_nb.loading import sample_of
from danet_nb.transforms import MEAN, STD, training_transform

SIZES = [("CamVid", (360, 480), 321), ("Cityscapes", (1024, 2048), 769)]  # name, size, crop
SCALE = (0.5, 2.0)
CLASSES = 19
Paths = list[tuple[Path, Path]]  # images and labels
Sampler = Callable[[int], tuple[Tensor, Tensor]]  # from a number to a sample


def street(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    "An image with the statistics that matter to a decoder: large shapes, soft shades, some noise."
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = Image.fromarray(rng.integers(0, 256, (9, 17, 3), dtype=np.uint8))
    shades = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    image = (shades + rng.normal(0, 6, (*size, 1)).astype(np.int16)).clip(0, 255)
    blocks = Image.fromarray(rng.integers(0, CLASSES, (12, 24), dtype=np.uint8))
    label = blocks.resize((width, height), Image.Resampling.NEAREST)
    return image.astype(np.uint8), np.asarray(label)


def write_street(folder: Path, size: tuple[int, int], kind: str, count: int = 4) -> Paths:
    "Pairs of files; images of the kind, labels as PNG."
    paths = []
    for k in range(count):
        image, label = street(size, SEED + k)
        pair = folder / f"{k}.{kind}", folder / f"{k}_label.png"
        Image.fromarray(image).save(pair[0])
        Image.fromarray(label).save(pair[1])
        paths.append(pair)
    return paths


def dataset_of(paths: Paths) -> SegmentationDataset:
    "The files as our data set."
    samples = {}
    for image, label in paths:
        samples[image.stem] = partial(load_pair, image, label, num_classes=CLASSES)
    return SegmentationDataset(samples, list(map(str, range(CLASSES))), np.zeros((CLASSES, 3)))


def ours(paths: Paths, crop: int) -> Sampler:
    "The way of `danet_nb.loading`."
    dataset, transform = dataset_of(paths), training_transform(crop, SCALE)

    def sample(k: int) -> tuple[Tensor, Tensor]:
        return sample_of(dataset, k % len(paths), transform, torch.Generator().manual_seed(k))

    return sample


def chain(paths: Paths, crop: int) -> Sampler:
    "The chain of `danet_nb.transforms`, everything scaled and then cut."
    dataset, transform = dataset_of(paths), training_transform(crop, SCALE)

    def sample(k: int) -> tuple[Tensor, Tensor]:
        return transform(*dataset[k % len(paths)], torch.Generator().manual_seed(k))

    return sample


def plain(paths: Paths, crop: int) -> Sampler:
    "What everyone writes first: Pillow, NumPy, and no care."

    def sample(k: int) -> tuple[Tensor, Tensor]:
        rng = random.Random(k)
        image_path, label_path = paths[k % len(paths)]
        image, label = Image.open(image_path).convert("RGB"), Image.open(label_path)
        factor = rng.uniform(*SCALE)
        size = round(image.width * factor), round(image.height * factor)
        x = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        y = np.asarray(label.resize(size, Image.Resampling.NEAREST)).astype(np.int64)
        below, beside = max(0, crop - size[1]), max(0, crop - size[0])
        x = np.pad(x, ((0, below), (0, beside), (0, 0)))
        y = np.pad(y, ((0, below), (0, beside)), constant_values=255)
        top, left = rng.randint(0, y.shape[0] - crop), rng.randint(0, y.shape[1] - crop)
        x, y = x[top : top + crop, left : left + crop], y[top : top + crop, left : left + crop]
        if rng.random() < 0.5:
            x, y = x[:, ::-1], y[:, ::-1]
        x = ((x / 255 - MEAN) / STD).astype(np.float32)
        return torch.from_numpy(x.transpose(2, 0, 1).copy()), torch.from_numpy(y.copy())

    return sample


def torchvision(paths: Paths, crop: int) -> Sampler:
    "torchvision's transforms v2, on its own decoder's tensors."
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    fill: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: 255}
    steps = v2.Compose(
        [
            v2.ScaleJitter((1, 1), SCALE),
            v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def sample(k: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(k)
        image_path, label_path = paths[k % len(paths)]
        image = tv_tensors.Image(Image.open(image_path).convert("RGB"))
        label = tv_tensors.Mask(Image.open(label_path))
        steps.transforms[0].target_size = image.shape[-2:]
        x, y = steps(image, label)
        return x.as_subclass(Tensor), y.as_subclass(Tensor)[0].long()

    return sample


def albumentations(paths: Paths, crop: int) -> Sampler:
    "albumentations on OpenCV's arrays."
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)
    steps = A.Compose(
        [
            A.RandomScale((SCALE[0] - 1, SCALE[1] - 1), p=1),
            A.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=255),
            A.RandomCrop(crop, crop),
            A.HorizontalFlip(p=0.5),
            A.Normalize(MEAN, STD),
        ],
        seed=SEED,
    )

    def sample(k: int) -> tuple[Tensor, Tensor]:
        image_path, label_path = paths[k % len(paths)]
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        label = cv2.imread(str(label_path), cv2.IMREAD_UNCHANGED)
        done = steps(image=image, mask=label)
        x = torch.from_numpy(done["image"].transpose(2, 0, 1).copy())
        return x, torch.from_numpy(done["mask"].astype(np.int64))

    return sample


@cache
def usable(name: str) -> bool:
    "Whether a package is there and fits: a torchvision of another torch is there and does not."
    try:
        import_module(name)
    except Exception:
        return False
    return True


def ways() -> dict[str, Callable[[Paths, int], Sampler]]:
    "`{name: from files and crop to a sampler}`, those whose packages are installed."
    found = {"ours": ours, "chain": chain, "plain Pillow and NumPy": plain}
    if usable("torchvision.transforms.v2"):
        found["torchvision v2"] = torchvision
    if usable("albumentations") and usable("cv2"):
        found["albumentations"] = albumentations
    return found


def take(sampler: Sampler, count: int) -> None:
    "So many samples, one after another."
    for k in range(count):
        sampler(k)


def rows_of(name: str, paths: Paths, crop: int, repeats: int, count: int) -> Iterator[dict]:
    "A row for each way."
    samplers = {way: make(paths, crop) for way, make in ways().items()}
    runs = {way: partial(take, sampler, count) for way, sampler in samplers.items()}
    seconds = alternate(runs, repeats)
    for way, spent in seconds.items():
        yield {
            "images": name,
            "file": paths[0][0].suffix[1:],
            "crop": crop,
            "way": way,
            "images per second and core": count / spent,
            "ours / this": spent / seconds["ours"],
        }


def measure(
    sizes: list[tuple[str, tuple[int, int], int]],  # name, height and width, crop
    kinds: tuple[str, ...],  # of image files
    repeats: int,  # rounds, each with every way
    count: int,  # samples in each round
) -> list[dict]:
    "Rows of the table, on images made here."
    rows = []
    for name, size, crop in sizes:
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder:
                paths = write_street(Path(folder), size, kind)
                rows += rows_of(name, paths, crop, repeats, count)
            print(*rows[-len(ways()) :], sep="\n", flush=True)
    return rows


def camvid_paths(root: Path) -> Paths:
    "The first training pairs of the real CamVid."
    images = sorted((root / "train").glob("*.png"))[:32]
    return [(path, root / "trainannot" / path.name) for path in images]


def main() -> None:
    "Measure on one thread and write."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", type=Path, help="folder of the real CamVid")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {"Images made here, one thread": measure(SIZES, ("png", "jpg"), 5, 16)}
    if options.camvid:
        real = rows_of("CamVid", camvid_paths(options.camvid), 321, 5, 32)
        tables["The real CamVid, one thread"] = list(real)
    write("loading", tables)


if __name__ == "__main__":
    main()
