"Attention where a notebook is the wrong place for it: compiled, exported, and over many shapes."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from danet_nb.channel import ChannelAttention
from danet_nb.position import PositionAttention
from danet_nb.self_attention import attend
from danet_nb.streaming import backward_op, forward_op


class Both(torch.nn.Module):
    "The two modules side by side, with open gates."

    def __init__(self, method="auto"):
        super().__init__()
        self.position = PositionAttention(16, method=method)
        self.channel = ChannelAttention()
        torch.nn.init.ones_(self.position.gate)
        torch.nn.init.ones_(self.channel.gate)

    def forward(self, x):
        return self.position(x) + self.channel(x)


@pytest.fixture
def both():
    torch.manual_seed(0)
    return Both("stream")


@pytest.fixture
def x():
    return torch.randn(2, 16, 9, 7, generator=torch.Generator().manual_seed(1))


def gradients(model, x):
    "Output and gradients of the parameters for a fixed loss."
    model.zero_grad()
    out = model(x)
    out.square().mean().backward()
    return [out.detach()] + [p.grad.clone() for p in model.parameters()]


def attention_loops(q, k, v, scale):
    "The oracle: one output row at a time, from plain indexing."
    out = torch.zeros(*q.shape[:2], v.shape[2], dtype=v.dtype)
    for b in range(q.shape[0]):
        for i in range(q.shape[1]):
            e = torch.stack([scale * (q[b, i] * k[b, j]).sum() for j in range(k.shape[1])])
            w = e.exp() / e.exp().sum()
            for j in range(k.shape[1]):
                out[b, i] += w[j] * v[b, j]
    return out


@pytest.mark.parametrize("scale", [0.5, 1.0])
@pytest.mark.parametrize("method", ["auto", "stream", "full", "sdpa"])
def test_every_method_agrees_with_the_loops(method, scale):
    g = torch.Generator().manual_seed(0)
    shapes = ((7, 4), (5, 4), (5, 6))
    inputs = [torch.randn(2, n, d, generator=g, dtype=torch.float64) for n, d in shapes]
    expected = attention_loops(*inputs, scale)
    assert_close(attend(*inputs, scale, method, budget=72), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_compiles_without_graph_breaks(both, x, dtype):
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        expected = gradients(both, x)
        found = gradients(compiled, x)
    assert_close(found, expected, rtol=1e-3, atol=1e-4 if dtype is None else 1e-2)


def test_operations_keep_their_promises():
    q, k, v = (torch.randn(1, d, 50).transpose(1, 2) for d in (4, 4, 8))
    torch.library.opcheck(forward_op, (q, k, v, 2000))
    out, lse = forward_op(q, k, v, 2000)
    torch.library.opcheck(backward_op, (q, k, v, out, lse, torch.randn_like(out), 2000))


def test_exports_for_any_size(both, x):
    both.position.method = "auto"
    size = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    program = torch.export.export(both.eval(), (x,), dynamic_shapes=(size,))
    other = torch.randn(2, 16, 5, 12)
    assert_close(program.module()(other), both(other))
    assert not any("danet_nb" in str(node.target) for node in program.graph.nodes)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traces(both, x):
    both.position.method = "auto"
    assert_close(torch.jit.trace(both, x)(x), both(x))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 2000),
)
def test_stream_equals_full(b, n, m, dk, dv, budget):
    shapes = ((b, n, dk), (b, m, dk), (b, m, dv))
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    outs = [attend(*inputs, 0.7, method, budget) for method in ("stream", "full")]
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in outs]
    assert_close(*outs, rtol=0, atol=1e-10)
    assert_close(*grads, rtol=0, atol=1e-9)


@pytest.mark.parametrize("deviation", [1, 24, 80, 800])
@pytest.mark.parametrize("method", ["stream", "full"])
def test_no_weight_is_subnormal(method, deviation):
    g = torch.Generator().manual_seed(0)
    shape = (2, 1, 200, 16)
    q, k = torch.randn(shape, generator=g, dtype=torch.float64) * (deviation / 4) ** 0.5
    q, k, v = q.float(), k.float(), torch.eye(200)[None]  # with these values the output is the map
    weights = attend(q, k, v, method=method)
    exact = attend(q.double(), k.double(), v.double(), method="full")
    # energies of a thousand carry rounding of 1e-4 into the exponent, whoever computes
    tolerance = 3e-6 * max(1, deviation / 8)
    assert weights.min() >= torch.finfo(torch.float32).tiny
    assert_close(weights.double(), exact, rtol=0, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_agrees_with_cpu(dtype):
    q, k, v = (torch.randn(2, 300, d, dtype=dtype) for d in (16, 16, 64))
    expected = attend(q.double(), k.double(), v.double())
    atol = 2e-3 if dtype == torch.float32 else 0.05
    for method in ("auto", "stream", "full"):
        found = attend(q.cuda(), k.cuda(), v.cuda(), method=method)
        assert found.dtype == dtype
        assert_close(found.cpu().double(), expected, rtol=0.02, atol=atol)
