"Attention maps of any network and any image, against whole tables and `predict`."

import math
import subprocess
import sys
from itertools import product

import pytest
import torch
from PIL import Image
from published import foreign_state, thin, write_authors, write_mmseg
from torch import nn

from danet_nb.attention_maps import (
    FAINT,
    AttentionMaps,
    attention_figure,
    entropy,
    mean_distance,
    numbered,
    response_figure,
    scaled_gates,
)
from danet_nb.attention_weights import attention_weights
from danet_nb.channel import channel_energy
from danet_nb.danet import DANet
from danet_nb.evaluation import predict
from danet_nb.folding import fold_batch_norm
from danet_nb.position import to_rows
from danet_nb.published import load_danet

GATES = {"position": 0.7, "channel": -0.4}


def network(attention="both", **options):
    "A small network in evaluation mode whose gates are open."
    torch.manual_seed(0)
    model = DANet(6, "small", attention=attention, channels=32, **options).eval()
    with torch.no_grad():
        for kind, value in GATES.items():
            module = getattr(model.head, f"{kind}_attention")
            if not isinstance(module, nn.Identity):
                module.gate.fill_(value)
    return model


def picture(height=72, width=56):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def whole_map(maps):
    "S, eq. (1), with all its N x N numbers."
    attention = maps.model.head.position_attention
    with torch.no_grad():
        return attention.weights(maps.entering["position"])[0]


# Rows, columns and channels against the whole tables


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (129, 33), (17, 9), (1, 1), (8, 200)])
def test_any_size(size):
    model = network()
    image = picture(*size)
    maps = AttentionMaps(model, image)
    h, w = maps.size
    assert (h, w) == tuple(math.ceil((side - 1) / 8) + 1 for side in size)  # padded to 8k+1
    s = whole_map(maps)
    for row, column in {(0, 0), (h - 1, w - 1), (h // 2, 0), (0, w // 2)}:
        n = row * w + column
        torch.testing.assert_close(maps.row(row, column), s[n].reshape(h, w))
        torch.testing.assert_close(maps.column(row, column), s[:, n].reshape(h, w))
        assert maps.cell_of(*maps.pixel_of(row, column)) == (row, column)
    torch.testing.assert_close(maps.probabilities(), predict(model, image)[0])
    assert maps.probabilities().shape == (6, *size) == (6, *maps.prediction().shape)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0])
def test_a_temperature_divides_the_energies(temperature):
    maps = AttentionMaps(network(), picture())
    attention = maps.model.head.position_attention
    x = maps.entering["position"]
    with torch.no_grad():
        q, k = to_rows(attention.query_conv(x)), to_rows(attention.key_conv(x))
    s = attention_weights(q, k, 1 / temperature)[0]
    h, w = maps.size
    for row, column in product((0, h - 1), (0, w - 1)):
        n = row * w + column
        torch.testing.assert_close(maps.row(row, column, temperature).flatten(), s[n])
        torch.testing.assert_close(maps.column(row, column, temperature).flatten(), s[:, n])
    e = channel_energy(maps.entering["channel"])[0]
    expected = (-e / temperature).softmax(-1)  # the authors' form
    torch.testing.assert_close(maps.channel_weights(temperature), expected, atol=1e-5, rtol=1e-3)


def test_columns_follow_the_temperature_back_and_forth():
    maps = AttentionMaps(network(), picture())
    first = maps.column(2, 3)
    assert not torch.equal(maps.column(2, 3, 3.0), first)
    assert torch.equal(maps.column(2, 3), first)


def test_responses_are_the_channels_behind_the_attention():
    maps = AttentionMaps(network(), picture())
    before = maps.entering["channel"][0].flatten(1)
    behind = before + GATES["channel"] * maps.channel_weights() @ before
    for channel in (0, 17, 31):
        torch.testing.assert_close(maps.response(channel).flatten(), behind[channel])
        torch.testing.assert_close(maps.response(channel, gate=0).flatten(), before[channel])
    with pytest.raises(IndexError, match="there are 0 to 31"):
        maps.response(32)
    with pytest.raises(IndexError, match="there are 0 to 31"):
        maps.response(-1)


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_impossible_temperatures(temperature):
    maps = AttentionMaps(network(), picture())
    for ask in (maps.row, maps.column):
        with pytest.raises(ValueError, match="give a number above 0"):
            ask(0, 0, temperature)
    with pytest.raises(ValueError, match="give a number above 0"):
        maps.channel_weights(temperature)


# Networks of others


@pytest.mark.parametrize("family", ["authors", "mmseg"])
@pytest.mark.parametrize("size", [(65, 97), (63, 40)])
def test_published_files(tmp_path, family, size):
    if family == "authors":
        model = thin("resnet18", align_corners=True)
        path = write_authors(tmp_path / "danet.pth.tar", foreign_state(model, "authors"))
    else:
        model = thin("resnet18", stem="deep", auxiliary=True, align_corners=False)
        path = write_mmseg(tmp_path / "danet.pth", foreign_state(model, "mmsegmentation"))
    model = load_danet(path)
    maps = AttentionMaps(model, picture(*size))
    assert maps.kinds == ("position", "channel") and set(maps.gates()) == set(maps.kinds)
    corner = tuple(side - 1 for side in maps.size)
    n = math.prod(maps.size)
    torch.testing.assert_close(maps.row(*corner).flatten(), whole_map(maps)[n - 1])
    torch.testing.assert_close(maps.column(*corner).flatten(), whole_map(maps)[:, n - 1])
    torch.testing.assert_close(maps.probabilities(), predict(model, maps.image)[0])
    with scaled_gates(model, position=0, channel=0):
        expected = predict(model, maps.image)[0]
    torch.testing.assert_close(maps.probabilities(0, 0), expected)


@pytest.mark.parametrize("attention", ["none", "position", "channel", "both"])
def test_networks_without_some_attention(attention):
    model = network(attention)
    maps = AttentionMaps(model, picture())
    kinds = {"none": (), "both": ("position", "channel")}.get(attention, (attention,))
    assert maps.kinds == kinds
    assert maps.gates() == pytest.approx({kind: GATES[kind] for kind in kinds})
    torch.testing.assert_close(maps.probabilities(), predict(model, maps.image)[0])
    asked = {"position": lambda: maps.row(0, 0), "channel": maps.channel_weights}
    for kind in {"position", "channel"} - set(kinds):
        cure = f'no {kind} attention .* take one with attention="{kind}" or "both"'
        for ask in (asked[kind], lambda kind=kind: maps.probabilities(**{kind: 0})):
            with pytest.raises(ValueError, match=cure):
                ask()
        with pytest.raises(ValueError, match=cure), scaled_gates(model, **{kind: 0}):
            pass


def test_another_module_in_the_place_of_attention():
    torch.manual_seed(0)
    model = DANet(6, "small", position=lambda c: nn.Conv2d(c, c, 1), channels=32).eval()
    maps = AttentionMaps(model, picture())
    assert maps.kinds == ("channel",)
    torch.testing.assert_close(maps.probabilities(), predict(model, maps.image)[0])
    with pytest.raises(ValueError, match="its branch holds Conv2d"):
        maps.column(0, 0)


def test_a_folded_network():
    model = network()
    maps, folded = (AttentionMaps(m, picture()) for m in (model, fold_batch_norm(model)))
    torch.testing.assert_close(folded.row(3, 2), maps.row(3, 2), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(folded.prediction(0, 1), maps.prediction(0, 1))


# Gates


@pytest.mark.parametrize("factors", [(0, 1), (1, 0), (0, 0), (2.5, -1)])
def test_turned_gates_predict_what_the_network_predicts(factors):
    model = network()
    maps = AttentionMaps(model, picture(97, 41))
    with scaled_gates(model, *factors):
        expected = predict(model, maps.image)[0]
    torch.testing.assert_close(maps.probabilities(*factors), expected)
    assert not torch.allclose(maps.probabilities(*factors), maps.probabilities(), atol=1e-3)


def test_backbone_and_attention_run_once():
    model = network()
    calls = []
    for name in ("backbone", "head.position_attention", "head.channel_attention"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda *args, name=name: calls.append(name))
    maps = AttentionMaps(model, picture())
    once = ["backbone", "head.position_attention", "head.channel_attention"]
    assert calls == once
    maps.row(0, 0)
    maps.column(0, 0, 2.0)
    maps.channel_weights()
    for factors in product((0, 1), repeat=2):
        maps.prediction(*factors)
    assert calls == once


def test_gates_come_back_to_the_last_bit():
    model = network()
    gates = [getattr(model.head, f"{kind}_attention").gate for kind in GATES]
    before = [gate.detach().clone() for gate in gates]
    with pytest.raises(KeyError), scaled_gates(model, 0, 1 / 3):
        with scaled_gates(model, channel=1e30):
            assert gates[1].item() < -1e28
        assert gates[0].item() == 0
        raise KeyError("something else went wrong")
    assert all(map(torch.equal, gates, before)) and all(gate.requires_grad for gate in gates)


# What must stay as it is


@pytest.mark.parametrize("training", [False, True])
def test_the_network_stays_as_it_is(training):
    model = network().train(training)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    maps = AttentionMaps(model, picture())
    maps.prediction(0, 1)
    assert model.training is training and all(m.training is training for m in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    for kind in GATES:
        module = getattr(model.head, f"{kind}_attention")
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert not maps.row(0, 0).requires_grad and not maps.probabilities().requires_grad


def test_hooks_go_away_when_the_pass_fails():
    model = network()
    model.head.channel_out.register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        AttentionMaps(model, picture())
    for kind in GATES:
        module = getattr(model.head, f"{kind}_attention")
        assert not module._forward_hooks and not module._forward_pre_hooks


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu():
    image = picture(65, 97)
    slow = AttentionMaps(network(), image)
    maps = AttentionMaps(network().cuda(), image)
    assert maps.image.device.type == "cpu" and next(maps.model.parameters()).is_cuda
    for name in ("row", "column"):
        got = getattr(maps, name)(3, 4)
        assert got.is_cuda
        torch.testing.assert_close(got.cpu(), getattr(slow, name)(3, 4), atol=1e-4, rtol=1e-2)
    agree = (maps.prediction(0, 1).cpu() == slow.prediction(0, 1)).float().mean()
    assert agree > 0.99
    assert attention_figure(image, [maps.row(3, 4)], [(3, 4)], ["row"]).axes


# Memory


LARGE = """
import resource, torch
from danet_nb.attention_maps import AttentionMaps
from danet_nb.danet import DANet
torch.set_num_threads(1)
torch.manual_seed(0)
model = DANet(6, "small", channels=32, on_grid=False).eval()
AttentionMaps(model, torch.zeros(3, 16, 16, dtype=torch.uint8)).prediction()  # loads what it needs
model.head.position_attention.forward = lambda x: x  # `attend` is not what is tested here
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 3 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
maps = AttentionMaps(model, torch.randint(0, 256, (3, 1024, 2048), dtype=torch.uint8))
assert maps.size == (128, 256)
row, column = maps.row(127, 255), maps.column(0, 0)
assert abs(row.sum().item() - 1) < 1e-3 and column.shape == (128, 256)
size = max(t.numel() for t in vars(maps).values() if torch.is_tensor(t))
print("largest", size)
try:
    model.head.position_attention.weights(maps.entering["position"])
except RuntimeError as error:
    print("whole", "memory" in str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_large_map_needs_no_table():
    "32768 positions within 3 GiB; the whole table, 4 GiB, does not fit there."
    ran = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"largest {3 * 1024 * 2048}", "whole True"]


# Places and images


def test_places_outside_belong_to_the_border():
    maps = AttentionMaps(network(), picture(65, 97))
    h, w = maps.size
    assert maps.cell_of(-5, -5) == (0, 0) == maps.cell_of(0, 0)
    assert maps.cell_of(65, 97) == (h - 1, w - 1) == maps.cell_of(1e6, 1e6)
    assert maps.cell_of(64.9, 0) == (h - 1, 0)
    for row, column in ((-1, 0), (0, -1), (h, 0), (0, w)):
        for ask in (maps.row, maps.column, maps.pixel_of):
            with pytest.raises(IndexError, match=f"outside the {h}x{w} map"):
                ask(row, column)


def test_every_kind_of_image_that_predict_takes(tmp_path):
    model, image = network(), picture()
    drawn = Image.fromarray(image.permute(1, 2, 0).numpy())
    path = tmp_path / "image.png"
    drawn.save(path)
    expected = AttentionMaps(model, image).row(1, 1)
    for same in (drawn, path, str(path)):
        maps = AttentionMaps(model, same)
        assert torch.equal(maps.image, image) and torch.equal(maps.row(1, 1), expected)
    assert AttentionMaps(model, drawn.convert("L")).image.shape == image.shape
    for other in (image.float(), image[None], image[0], image[:2], image.numpy(), None):
        with pytest.raises(ValueError, match=r"give a path, a PIL image or a \(3, H, W\) uint8"):
            AttentionMaps(model, other)


# Numbers


def test_entropy_and_distance_by_loops():
    weights = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    weights /= weights.sum()
    cells = [(r, c, weights[r, c].item()) for r in range(5) for c in range(7)]
    bits = -sum(p * math.log(p) for _, _, p in cells)
    assert entropy(weights) == pytest.approx(bits / math.log(35), rel=1e-5)
    far = sum(p * math.dist((r, c), (4, 1)) for r, c, p in cells)
    assert mean_distance(weights, (4, 1)) == pytest.approx(far, rel=1e-5)
    assert entropy(torch.ones(1, 1)) == 0 == mean_distance(torch.ones(1, 1), (0, 0))


# Figures


def shown(ax):
    return ax.get_images()[-1]


def test_compared_maps_share_one_scale_and_one_bar():
    image = picture(64, 128)
    sharp, flat = torch.zeros(8, 16), torch.full((8, 16), 1 / 128)
    sharp[2, 3] = 1
    points = [(2, 3), None]
    fig = attention_figure(image, [sharp, flat], points, ["sharp", "flat"])
    first, *panels, bar = fig.axes
    assert [shown(ax).get_clim() for ax in panels] == [(0, 128), (0, 128)]
    assert bar.get_ylim() == (0, 128) and bar.get_ylabel() == "attention, times chance"
    assert [shown(ax).get_extent() for ax in panels] == [[0, 128, 64, 0]] * 2
    assert panels[0].lines[0].get_xydata().tolist() == [[3.5 * 8, 2.5 * 8]]
    assert len(first.lines) == 2 and not panels[1].lines  # a ring has a dark edge
    faint = attention_figure(image, [flat], [None], ["flat"])
    assert shown(faint.axes[1]).get_clim() == (0, FAINT)


def test_the_picture_below_a_map_is_grey():
    fig = attention_figure(picture(), [torch.full((9, 7), 1 / 63)], [None], ["flat"])
    below = fig.axes[1].get_images()[0]
    assert below.get_array().ndim == 2 and below.get_cmap().name == "gray"


def test_points_that_maps_share_have_their_numbers_together():
    assert numbered([(1, 2), None, [1, 2], (0, 0)]) == {"1, 3": (1, 2), "4": (0, 0)}
    assert numbered([None]) == {}


def test_responses_share_one_scale():
    maps = AttentionMaps(network(), picture())
    fig = response_figure(maps, [3, 30])
    panels = [ax for ax in fig.axes if ax.get_title().startswith("channel")]
    assert len(panels) == 4 and len({shown(ax).get_clim() for ax in panels}) == 1
    low, high = shown(panels[0]).get_clim()
    every = torch.stack([maps.response(k, g) for k, g in product((3, 30), (0, 1))])
    assert (low, high) == (min(0, every.min().item()), every.max().item())
    with pytest.raises(ValueError, match="no channel attention"):
        response_figure(AttentionMaps(network("position"), picture()), [0])
