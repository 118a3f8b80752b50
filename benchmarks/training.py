"""Training steps of the whole network: mmsegmentation's DANet against ours. `python -m benchmarks.training`"""

from statistics import median
import torch
from danet_nb.danet import DANet
from danet_nb.training import danet_loss
from benchmarks.measure import SEED, alternate, fresh, resident, write
from benchmarks.peers import MMSegDANet

SIZE, BATCH, REPEATS, PROCESSES = 384, 2, 5, 5


def stepper(model, call, x, y):
    "A function that makes one step of `model`, run by `call`: forward, its losses in float32, backward, SGD."
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad()
        danet_loss({name: logits.float() for name, logits in call(x).items()}, y).backward()
        optimizer.step()

    return step


def build(name, size, batch):
    "The step of one of the networks on random images and labels."
    torch.manual_seed(SEED)
    model = (
        MMSegDANet()
        if name == "mmsegmentation"
        else DANet(19, stem="deep", stem_width=32, auxiliary=True, align_corners=False)
    )
    model = (
        model.train()
        if name == "mmsegmentation"
        else model.to(memory_format=torch.channels_last).train()
    )
    return stepper(
        model, model, torch.randn(batch, 3, size, size), torch.randint(19, (batch, size, size))
    )


def peak(name, size, batch):
    "Peak resident memory in bytes of three steps; for a fresh process."
    step = build(name, size, batch)
    for _ in range(3):
        step()
    return resident()


if __name__ == "__main__":
    names = ("mmsegmentation", "ours")
    seconds = alternate({name: build(name, SIZE, BATCH) for name in names}, REPEATS)
    gib = {
        name: median(fresh(peak, name, SIZE, BATCH) for _ in range(PROCESSES)) / 2**30
        for name in names
    }  # allocators are capricious
    rows = [
        {
            "network": name,
            "steps per second": 1 / seconds[name],
            "this / ours": seconds[name] / seconds["ours"],
            "peak GiB": gib[name],
        }
        for name in names
    ]
    write("training", {f"ResNet-50, {SIZE}x{SIZE}, batch {BATCH}, float32": rows})
