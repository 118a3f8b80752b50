"""Training steps of the whole network: mmsegmentation's DANet against ours.

`python -m benchmarks.training`
"""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.measure import SEED, alternate, fresh, resident, write
from benchmarks.peers import MMSegDANet
from danet_nb.danet import DANet
from danet_nb.losses import danet_loss

NAMES = ("mmsegmentation", "ours")
SIZE = 384
BATCH = 2
REPEATS = 5
PROCESSES = 5
GIBIBYTE = 2**30


def stepper(
    model: nn.Module,  # in training mode
    call: Callable[[Tensor], dict[str, Tensor]],  # runs `model`: itself, compiled, under autocast
    x: Tensor,  # images `(B, 3, H, W)`
    label: Tensor,  # classes `(B, H, W)`
) -> Callable[[], None]:
    "A function that makes one step: forward, its losses in float32, backward, SGD."
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad()
        outputs = {name: logits.float() for name, logits in call(x).items()}
        loss, _ = danet_loss(outputs, label)
        loss.backward()
        optimizer.step()

    return step


def network(name: str) -> nn.Module:
    "One of the two networks in training mode, ours channels last."
    if name == "mmsegmentation":
        return MMSegDANet().train()
    ours = DANet(19, stem="deep", stem_width=32, auxiliary=True, align_corners=False)
    return ours.to(memory_format=torch.channels_last).train()


def build(name: str, size: int, batch: int) -> Callable[[], None]:
    "The step of one of the networks on random images and labels."
    torch.manual_seed(SEED)
    model = network(name)
    x = torch.randn(batch, 3, size, size)
    label = torch.randint(19, (batch, size, size))
    return stepper(model, model, x, label)


def peak(name: str, size: int, batch: int) -> int:
    "Peak resident memory in bytes of three steps; for a fresh process."
    step = build(name, size, batch)
    for _ in range(3):
        step()
    return resident()


def median_peak(name: str) -> float:
    "Median GiB over several processes: allocators are capricious."
    return median(fresh(peak, name, SIZE, BATCH) for _ in range(PROCESSES)) / GIBIBYTE


def measure() -> list[dict]:
    "Rows of the table."
    seconds = alternate({name: build(name, SIZE, BATCH) for name in NAMES}, REPEATS)
    return [
        {
            "network": name,
            "steps per second": 1 / seconds[name],
            "this / ours": seconds[name] / seconds["ours"],
            "peak GiB": median_peak(name),
        }
        for name in NAMES
    ]


def main() -> None:
    "Measure and write."
    write("training", {f"ResNet-50, {SIZE}x{SIZE}, batch {BATCH}, float32": measure()})


if __name__ == "__main__":
    main()
