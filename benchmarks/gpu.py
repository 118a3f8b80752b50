"""All of it on a GPU: attention by every exact kernel, the whole network, training. `python -m benchmarks.gpu`; without a GPU it says so and ends."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from danet_nb.danet import DANet
from danet_nb.self_attention import attend
from benchmarks.attention import PASSES, maps
from benchmarks.measure import SEED, alternate, write
from benchmarks.peers import AuthorsDANet, authors_attention
from benchmarks.training import stepper

MiB = 2**20
OPTIONS = dict(stem="deep", stem_width=32, auxiliary=True)


def with_backend(backend):
    "`attend` through one backend of PyTorch's fused attention and no other."

    def way(q, k, v):
        with sdpa_kernel(backend):
            return attend(q, k, v, method="sdpa")

    return way


def flex():
    "FlexAttention, compiled, with DANet's scale of one."
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(*(t[:, None].contiguous() for t in (q, k, v)), scale=1.0)[:, 0]


def ways():
    "Every exact way by name; `auto` is what `attend` chooses."
    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
    }
    return {
        "authors": authors_attention,
        "auto": attend,
        "stream": lambda *t: attend(*t, method="stream"),
        "flex": flex(),
        **{name: with_backend(backend) for name, backend in backends.items()},
    }


def peak(function, device):
    "MiB on top of what is there already; None on a CPU."
    if device == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / MiB


def measure(functions, repeats, device):
    "`{name: (ms, MiB)}`; a way that refuses has the first line of its refusal in place of both."
    refused = {}
    for name, function in functions.items():
        try:
            function()
        except Exception as error:
            refused[name] = (str(error).splitlines() or [type(error).__name__])[0][
                :60
            ]  # kernels refuse in many ways
    able = {name: function for name, function in functions.items() if name not in refused}
    seconds = alternate(able, repeats)
    return {
        name: refused.get(name) or (1e3 * seconds[name], peak(functions[name], device))
        for name in functions
    }


def rows(facts, results):
    "A row of the table for each result."
    for name, result in results.items():
        ms, mib = (result, None) if isinstance(result, str) else result
        yield {**facts, "way": name, "ms": ms, "MiB": mib}


def attention(device, sizes, dtypes, repeats):
    "Rows: positions, type and pass, by way."
    for positions in sizes:
        for dtype in dtypes:
            inputs = [t.detach().to(device, dtype).requires_grad_() for t in maps(1, positions)]
            for step, run in PASSES.items():
                functions = {name: lambda way=way: run(way, inputs) for name, way in ways().items()}
                facts = {"N": positions, "type": str(dtype).removeprefix("torch."), "pass": step}
                yield from rows(facts, measure(functions, repeats, device))


def autocast(function, device):
    "`function` under bfloat16."

    def run(*args):
        with torch.autocast(device, dtype=torch.bfloat16):
            return function(*args)

    return run


def network(device, sizes, repeats):
    "Rows: a forward pass in evaluation mode."
    torch.manual_seed(SEED)
    ours, authors = (
        DANet(19, **OPTIONS).to(device).eval(),
        AuthorsDANet(19, **OPTIONS).to(device).eval(),
    )
    authors.load_state_dict(ours.state_dict())
    fused = ours.fuse()
    models = {
        "authors' form": authors,
        "ours": ours,
        "fused": fused,
        "fused, compiled": torch.compile(fused, fullgraph=True),
    }
    models |= {f"{name}, bfloat16": autocast(model, device) for name, model in models.items()}
    with torch.inference_mode():
        for height, width in sizes:
            x = torch.randn(1, 3, height, width, device=device)
            yield from rows(
                {"size": f"{height}x{width}"},
                measure({name: lambda m=m: m(x) for name, m in models.items()}, repeats, device),
            )


def training(device, size, batch, repeats):
    "Rows: a step of training."
    torch.manual_seed(SEED)
    x, y = (
        torch.randn(batch, 3, size, size, device=device),
        torch.randint(19, (batch, size, size), device=device),
    )
    ours, authors = (
        DANet(19, **OPTIONS).to(device, memory_format=torch.channels_last).train(),
        AuthorsDANet(19, **OPTIONS).to(device).train(),
    )
    calls = {
        "authors' form": (authors, authors),
        "ours": (ours, ours),
        "ours, compiled": (ours, torch.compile(ours, fullgraph=True)),
    }
    calls |= {
        f"{name}, bfloat16": (model, autocast(call, device))
        for name, (model, call) in calls.items()
    }
    steps = {name: stepper(model, call, x, y) for name, (model, call) in calls.items()}
    yield from rows({"size": f"{size}x{size}", "batch": batch}, measure(steps, repeats, device))


def main():
    "Measure and write, where there is a GPU."
    if not torch.cuda.is_available():
        return print("no GPU here: benchmarks.gpu measured nothing")
    write(
        "gpu",
        {
            "Attention, C = 512": list(
                attention(
                    "cuda", (1024, 4096, 9216, 16384, 32768), (torch.float32, torch.bfloat16), 5
                )
            ),
            "Evaluation, ResNet-50": list(network("cuda", ((512, 512), (1024, 2048)), 5)),
            "Training, ResNet-50": list(training("cuda", 768, 2, 5)),
        },
    )


if __name__ == "__main__":
    main()
