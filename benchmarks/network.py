"""The whole network in evaluation, with the same weights in all: mmsegmentation's DANet, the authors' form, ours. `python -m benchmarks.network`"""

import tempfile
from pathlib import Path
import torch
from torch import nn
from danet_nb.published import load_danet
from benchmarks.measure import SEED, alternate, fresh, resident, write
from benchmarks.peers import AuthorsDANet, MMSegDANet

SIZES = [(512, 512, 5), (1024, 2048, 2)]
PEERS = ("mmsegmentation", "authors' form")


def published(path):
    "Write weights as mmsegmentation does: its own initialisation, with open gates and batch norms that have seen something."
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


def build(name, path):
    "One of the networks, in evaluation mode, from the file."
    if name == "mmsegmentation":
        model = MMSegDANet()
        model.network.load_state_dict(torch.load(path)["state_dict"])
        return model.eval()
    ours = load_danet(path, align_corners=False).eval()
    if name == "ours":
        return ours.fuse()
    model = AuthorsDANet(19, stem="deep", stem_width=32, auxiliary=True, align_corners=False)
    model.load_state_dict(ours.state_dict())
    return model.eval()


def image(height, width):
    "A normalised image `(1, 3, H, W)`."
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(SEED))


@torch.inference_mode()
def fused(model, x):
    "The fused logits `(1, K, H, W)`."
    logits = model(x)
    return logits["fused"] if isinstance(logits, dict) else logits


def peak(name, path, height, width):
    "Peak resident memory in bytes of everything from the import of torch to the logits; for a fresh process."
    fused(build(name, path), image(height, width))
    return resident()


def measure(path, sizes):
    "Rows of the table."
    models, rows = {name: build(name, path) for name in (*PEERS, "ours")}, []
    for height, width, repeats in sizes:
        x = image(height, width)
        want = fused(models["mmsegmentation"], x)
        error = max(
            ((fused(m, x) - want).abs().max() / want.abs().max()).item() for m in models.values()
        )
        assert error < 1e-4, (
            f"the networks disagree by {error} of the range: they do not compute the same"
        )
        seconds = alternate({name: lambda m=m: fused(m, x) for name, m in models.items()}, repeats)
        gib = {name: fresh(peak, name, path, height, width) / 2**30 for name in models}
        rows += [
            {
                "size": f"{height}x{width}",
                "network": name,
                "seconds": seconds[name],
                "this / ours": seconds[name] / seconds["ours"],
                "peak GiB": gib[name],
                "ours / this": gib["ours"] / gib[name],
                "largest difference": error,
            }
            for name in models
        ]
        print(*rows[-3:], sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "danet_r50-d8.pth"
        published(path)
        write("network", {"ResNet-50, output stride 8, 19 classes, float32": measure(path, SIZES)})
