"""The network in evaluation, the same weights in mmsegmentation's, the authors' form and ours.

`python -m benchmarks.network`
"""

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import SEED, alternate, fresh, resident, write
from benchmarks.peers import AuthorsDANet, MMSegDANet
from danet_nb.folding import fold_batch_norm
from danet_nb.published import load_danet

SIZES = [(512, 512, 5), (1024, 2048, 2)]  # height, width, repeats
NAMES = ("mmsegmentation", "authors' form", "ours")
GIBIBYTE = 2**30


def published(path: Path) -> None:
    "Write weights as mmsegmentation does, with open gates and batch norms that are not new."
    torch.manual_seed(SEED)
    network = MMSegDANet().network
    for name, tensor in network.state_dict().items():
        if name.endswith("gamma.scale"):
            tensor.fill_(0.5)
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        if name.endswith("running_var"):
            tensor.uniform_(0.8, 1.2)
    torch.save({"meta": {}, "state_dict": network.state_dict()}, path)


def build(
    name: str,  # one of NAMES
    path: Path,  # the weights, as mmsegmentation writes them
) -> nn.Module:
    "One of the networks, in evaluation mode, from the file."
    if name == "mmsegmentation":
        model = MMSegDANet()
        model.network.load_state_dict(torch.load(path)["state_dict"])
        return model.eval()
    ours = load_danet(path, align_corners=False)
    if name == "ours":
        return fold_batch_norm(ours)
    model = AuthorsDANet(19, stem="deep", stem_width=32, auxiliary=True, align_corners=False)
    model.load_state_dict(ours.state_dict())
    return model.eval()


def image(height: int, width: int) -> Tensor:
    "A normalised image `(1, 3, H, W)`."
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(SEED))


@torch.inference_mode()
def fused(model: nn.Module, x: Tensor) -> Tensor:
    "The fused logits `(1, K, H, W)`."
    logits = model(x)
    return logits["fused"] if isinstance(logits, dict) else logits


def peak(name: str, path: Path, height: int, width: int) -> int:
    "Peak bytes of memory from the import of torch to the logits; for a fresh process."
    fused(build(name, path), image(height, width))
    return resident()


def largest_difference(models: dict[str, nn.Module], x: Tensor) -> float:
    "Of the networks from mmsegmentation's, relative to its largest logit; over 1e-4 is an error."
    expected = fused(models["mmsegmentation"], x)
    differences = [(fused(model, x) - expected).abs().max() for model in models.values()]
    largest = (max(differences) / expected.abs().max()).item()
    assert largest < 1e-4, f"the networks do not compute the same: {largest} of the range apart"
    return largest


def measure(path: Path, sizes: list[tuple[int, int, int]]) -> list[dict]:
    "Rows of the table."
    models = {name: build(name, path) for name in NAMES}
    rows = []
    for height, width, repeats in sizes:
        x = image(height, width)
        difference = largest_difference(models, x)
        functions = {name: partial(fused, model, x) for name, model in models.items()}
        seconds = alternate(functions, repeats)
        gib = {name: fresh(peak, name, path, height, width) / GIBIBYTE for name in NAMES}
        for name in NAMES:
            row = {
                "size": f"{height}x{width}",
                "network": name,
                "seconds": seconds[name],
                "this / ours": seconds[name] / seconds["ours"],
                "peak GiB": gib[name],
                "ours / this": gib["ours"] / gib[name],
                "largest difference": difference,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    "Measure and write."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "danet_r50-d8.pth"
        published(path)
        write("network", {"ResNet-50, output stride 8, 19 classes, float32": measure(path, SIZES)})


if __name__ == "__main__":
    main()
