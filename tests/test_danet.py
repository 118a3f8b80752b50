"""The whole network against the two published implementations, on weights that are rebuilt from their names.

The expected numbers were computed with the authors' code and with mmsegmentation 1.2.2 (torch 2.13, CPU, float32, eval
mode) on a ResNet-50 with 19 classes; only they are stored here. Every weight is drawn by `seeded_tensor` from its name in
the file of that family, so a wrong name, shape, dilation, order or epsilon changes the outputs.
"""

import math
import zlib

import pytest
import torch

from danet_nb.danet import DANet

AUTHORS = dict(
    options={},
    names=[
        ("backbone.", "pretrained."),
        ("position_in", "conv5a"),
        ("channel_in", "conv5c"),
        ("position_out", "conv51"),
        ("channel_out", "conv52"),
        ("position_attention.gate", "sa.gamma"),
        ("position_attention", "sa"),
        ("channel_attention.gate", "sc.gamma"),
        ("classifiers.position", "conv6.1"),
        ("classifiers.channel", "conv7.1"),
        ("classifiers.fused", "conv8.1"),
    ],
    layer4=[
        2.78147,
        0.36215,
        2.03259,
        1.28056,
        1.08887,
        0.20802,
        0.31252,
        0.0295,
        0.40754,
        0.46008,
        0.06949,
        0.19758,
        0.01138,
        1.39109,
        3e-05,
        0.1534,
    ],
    fused=[
        0.17738,
        -0.09784,
        3.61836,
        1.12925,
        -1.09929,
        1.43147,
        -0.1585,
        1.62809,
        -0.21981,
        0.20437,
        -0.68236,
        -1.27285,
        0.40014,
        -0.10202,
        0.32721,
        0.42346,
        -1.20633,
        0.36975,
        2.02527,
    ],
)

MMSEGMENTATION = dict(
    options=dict(stem="deep", stem_width=32, auxiliary=True, align_corners=False),
    names=[
        ("backbone.bn1", "backbone.stem.7"),
        ("backbone.conv1", "backbone.stem"),
        ("head.auxiliary_in.0", "auxiliary_head.convs.0.conv"),
        ("head.auxiliary_in.1", "auxiliary_head.convs.0.bn"),
        ("head.classifiers.auxiliary", "auxiliary_head.conv_seg"),
        ("head.classifiers.position", "decode_head.pam_conv_seg"),
        ("head.classifiers.channel", "decode_head.cam_conv_seg"),
        ("head.classifiers.fused", "decode_head.conv_seg"),
        ("head.position_attention.gate", "decode_head.pam.gamma.scale"),
        ("head.channel_attention.gate", "decode_head.cam.gamma.scale"),
        ("head.position_attention.", "decode_head.pam."),
        ("query_conv", "query_project"),
        ("key_conv", "key_project"),
        ("value_conv", "value_project"),
        *(
            (f"head.{ours}_{end}.{i}", f"decode_head.{theirs}_{end}_conv.{part}")
            for ours, theirs in [("position", "pam"), ("channel", "cam")]
            for end in ("in", "out")
            for i, part in [(0, "conv"), (1, "bn")]
        ),
    ],
    layer4=[
        1.38963,
        0.30506,
        0.64752,
        0.79069,
        2.60278,
        0.07109,
        0.72186,
        0.00216,
        1.05889,
        0.33695,
        0.06486,
        0.65243,
        0.36722,
        0.99416,
        0.3695,
        1.39704,
    ],
    fused=[
        -0.08484,
        -0.40726,
        -0.59893,
        -0.87105,
        -0.58637,
        0.22911,
        0.02497,
        0.01396,
        0.3528,
        -0.86131,
        -0.41457,
        1.39015,
        2.27462,
        -0.75912,
        -0.82421,
        0.09789,
        -0.19494,
        -0.19879,
        0.88622,
    ],
)


def seeded_tensor(key, shape):
    "A tensor that depends on its name and shape alone, at a scale that suits its kind."
    g = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_mean") or key.endswith("bias"):
        return 0.1 * torch.randn(shape, generator=g)
    if "gamma" in key:
        return torch.full(shape, 0.5)
    if len(shape) == 4:
        return torch.randn(shape, generator=g) * math.sqrt(1 / math.prod(shape[1:]))
    return 0.75 + 0.5 * torch.rand(shape, generator=g)


def their_name(key, names):
    for ours, theirs in names:
        key = key.replace(ours, theirs, 1)
    return key


@pytest.mark.parametrize("family", [AUTHORS, MMSEGMENTATION], ids=["authors", "mmsegmentation"])
def test_outputs_of_the_published_implementations(family):
    model = DANet(19, **family["options"]).eval()
    model.load_state_dict(
        {
            k: seeded_tensor(their_name(k, family["names"]), v.shape)
            for k, v in model.state_dict().items()
        }
    )
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(64 * 10007 + 96))
    with torch.no_grad():
        layer4, fused, folded = model.backbone(x)[1], model(x), model.fuse()(x)
    torch.testing.assert_close(
        layer4.mean((0, 2, 3))[::128], torch.tensor(family["layer4"]), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        fused[0, :, 10, 20], torch.tensor(family["fused"]), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(folded, fused, rtol=0, atol=1e-4 * fused.abs().max().item())


@pytest.mark.parametrize("training", [True, False])
def test_compiles_without_a_graph_break(training):
    model = DANet(5, "small", channels=8, auxiliary=True).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for size in (64, 72):
        compiled(torch.randn(2, 3, size, 48))


def test_the_copy_for_prediction_compiles_and_refuses_training():
    model = DANet(5, "resnet18", width=8, stem_width=8).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast, x = model.fuse(), torch.randn(1, 3, 64, 48)
    torch.testing.assert_close(
        torch.compile(fast, fullgraph=True, backend="aot_eager")(x), model(x), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(RuntimeError, match="folded"):
        fast.train()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_maps_lie_channels_last():
    model, seen = DANet(5, "resnet18", width=8, stem_width=8), []
    for part in (
        model.backbone.layer4,
        model.head.position_attention,
        model.head.channel_attention,
        model.head.position_out,
    ):
        part.register_forward_hook(
            lambda m, x, y: seen.append(y.is_contiguous(memory_format=torch.channels_last))
        )
    for mode in (True, False):
        model.train(mode)(torch.randn(2, 3, 64, 48))
    assert seen == [True] * 8
