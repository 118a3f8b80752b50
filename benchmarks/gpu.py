"""All of it on a GPU: attention by every exact kernel, the whole network, training.

`python -m benchmarks.gpu`; without a GPU it says so and ends.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from benchmarks.attention import PASSES, projections
from benchmarks.measure import SEED, alternate, write
from benchmarks.peers import AuthorsDANet, authors_attention
from benchmarks.training import stepper
from danet_nb.danet import DANet
from danet_nb.folding import fold_batch_norm
from danet_nb.self_attention import attend

MEBIBYTE = 2**20
OPTIONS = {"stem": "deep", "stem_width": 32, "auxiliary": True, "on_grid": False}  # as theirs
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def with_backend(backend: SDPBackend) -> Callable:
    "`attend` through one backend of PyTorch's fused attention and no other."

    def way(q, k, v):
        with sdpa_kernel(backend):
            return attend(q, k, v, method="sdpa")

    return way


def flex() -> Callable:
    "FlexAttention, compiled, with DANet's scale of one."
    compiled = torch.compile(flex_attention)

    def way(*qkv):
        one_head = [t[:, None].contiguous() for t in qkv]
        return compiled(*one_head, scale=1.0)[:, 0]

    return way


def ways() -> dict[str, Callable]:
    "Every exact way by name; `auto` is what `attend` chooses."
    return {
        "authors": authors_attention,
        "auto": attend,
        "stream": partial(attend, method="stream"),
        "flex": flex(),
        **{name: with_backend(backend) for name, backend in BACKENDS.items()},
    }


def peak(function: Callable[[], Any], device: str) -> float | None:
    "MiB on top of what is there already; None on a CPU."
    if device == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / MEBIBYTE


def refusal(function: Callable[[], Any]) -> str | None:
    "The first line of what `function` raises; None when it runs."
    try:
        function()
    except Exception as error:  # kernels refuse in many ways
        first, *_ = str(error).splitlines() or [type(error).__name__]
        return first[:60]


def measure(
    functions: dict[str, Callable[[], Any]],  # by name
    repeats: int,  # rounds
    device: str,  # "cuda" or "cpu"
) -> dict[str, str | tuple[float, float | None]]:
    "`{name: (ms, MiB)}`, or the words of the refusal of a way that does not run here."
    results = {name: refusal(function) for name, function in functions.items()}
    able = {name: functions[name] for name, words in results.items() if words is None}
    for name, seconds in alternate(able, repeats).items():
        results[name] = (1e3 * seconds, peak(functions[name], device))
    return results


def rows(facts: dict, results: dict[str, str | tuple[float, float | None]]) -> Iterator[dict]:
    "A row of the table for each result of `measure`."
    for name, result in results.items():
        ms, mib = (result, None) if isinstance(result, str) else result
        yield {**facts, "way": name, "ms": ms, "MiB": mib}


def attention(
    device: str,  # "cuda" or "cpu"
    sizes: tuple[int, ...],  # positions
    dtypes: tuple[torch.dtype, ...],  # of the inputs
    repeats: int,  # rounds
) -> Iterator[dict]:
    "Rows: positions, type and pass, by way."
    for positions in sizes:
        for dtype in dtypes:
            tensors = projections(1, positions)
            inputs = [t.detach().to(device, dtype).requires_grad_() for t in tensors]
            for step, run in PASSES.items():
                functions = {name: partial(run, way, inputs) for name, way in ways().items()}
                facts = {"N": positions, "type": str(dtype).removeprefix("torch."), "pass": step}
                yield from rows(facts, measure(functions, repeats, device))


def autocast(function: Callable, device: str) -> Callable:
    "`function` under bfloat16."

    def run(*args):
        with torch.autocast(device, dtype=torch.bfloat16):
            return function(*args)

    return run


def networks(device: str) -> dict[str, Callable[[Tensor], Any]]:
    "Networks with the same weights, in evaluation mode."
    torch.manual_seed(SEED)
    ours = DANet(19, **OPTIONS).to(device).eval()
    authors = AuthorsDANet(19, **OPTIONS).to(device).eval()
    authors.load_state_dict(ours.state_dict())
    folded = fold_batch_norm(ours)
    return {
        "authors' form": authors,
        "ours": ours,
        "folded": folded,
        "folded, compiled": torch.compile(folded, fullgraph=True),
    }


def network(device: str, sizes: tuple[tuple[int, int], ...], repeats: int) -> Iterator[dict]:
    "Rows: a forward pass in evaluation mode."
    models = networks(device)
    models |= {f"{name}, bfloat16": autocast(model, device) for name, model in models.items()}
    for height, width in sizes:
        x = torch.randn(1, 3, height, width, device=device)
        functions = {name: partial(model, x) for name, model in models.items()}
        with torch.inference_mode():
            results = measure(functions, repeats, device)
        yield from rows({"size": f"{height}x{width}"}, results)


def learners(device: str) -> dict[str, tuple[nn.Module, Callable[[Tensor], Any]]]:
    "Networks in training mode, each with what runs it."
    ours = DANet(19, **OPTIONS).to(device, memory_format=torch.channels_last).train()
    authors = AuthorsDANet(19, **OPTIONS).to(device).train()
    return {
        "authors' form": (authors, authors),
        "ours": (ours, ours),
        "ours, compiled": (ours, torch.compile(ours, fullgraph=True)),
    }


def training(device: str, size: int, batch: int, repeats: int) -> Iterator[dict]:
    "Rows: a step of training."
    torch.manual_seed(SEED)
    x = torch.randn(batch, 3, size, size, device=device)
    label = torch.randint(19, (batch, size, size), device=device)
    steps = {}
    for name, (model, call) in learners(device).items():
        steps[name] = stepper(model, call, x, label)
        steps[f"{name}, bfloat16"] = stepper(model, autocast(call, device), x, label)
    facts = {"size": f"{size}x{size}", "batch": batch}
    yield from rows(facts, measure(steps, repeats, device))


def main() -> None:
    "Measure and write, where there is a GPU."
    if not torch.cuda.is_available():
        print("no GPU here: benchmarks.gpu measured nothing")
        return
    sizes = (1024, 4096, 9216, 16384, 32768)
    dtypes = (torch.float32, torch.bfloat16)
    tables = {
        "Attention, C = 512": list(attention("cuda", sizes, dtypes, 5)),
        "Evaluation, ResNet-50": list(network("cuda", ((512, 512), (1024, 2048)), 5)),
        "Training, ResNet-50": list(training("cuda", 768, 2, 5)),
    }
    write("gpu", tables)


if __name__ == "__main__":
    main()
