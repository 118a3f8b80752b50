"""Whole networks against the published implementations, on weights rebuilt from their names.

The expected numbers were computed with the authors' code and with mmsegmentation 1.2.2 (torch
2.13, CPU, float32, eval mode) on a ResNet-50 with 19 classes; only they are stored here. Every
weight is drawn by `seeded_tensor` from its name in the file of that family, so a wrong name,
shape, dilation, order or epsilon changes the outputs.
"""

import copy
import inspect
import json
import math
import zlib
from dataclasses import asdict

import pytest
import torch
from torch import nn

from danet_nb.config import DANetConfig, config_from, field_comments
from danet_nb.danet import DANet
from danet_nb.folding import fold_batch_norm

AUTHORS = dict(
    options=dict(on_grid=False),
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
        layer4 = model.backbone(x)[1]
        fused = model(x)
        folded = fold_batch_norm(model)(x)
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
    fast = fold_batch_norm(model)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    x = torch.randn(1, 3, 64, 48)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="folded"):
        fast.train()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_maps_lie_channels_last():
    model = DANet(5, "resnet18", width=8, stem_width=8)
    layouts = []
    for part in (
        model.backbone.layer4,
        model.head.position_attention,
        model.head.channel_attention,
        model.head.position_out,
    ):
        part.register_forward_hook(
            lambda m, x, y: layouts.append(y.is_contiguous(memory_format=torch.channels_last))
        )
    for mode in (True, False):
        model.train(mode)(torch.randn(2, 3, 64, 48))
    assert layouts == [True] * 8


THIN = dict(width=8, stem_width=8)
FORMS = [
    dict(backbone="small", channels=16, auxiliary=True, classes=("sea", "sky", "boat")),
    dict(backbone="resnet18", attention="none", stem="deep", dilate_second=False, **THIN),
    dict(backbone="resnet34", attention="position", reduction=2, output_stride=32, **THIN),
    dict(backbone="resnet50", attention="channel", channel_form="paper", dropout=0.5, **THIN),
    dict(backbone="resnet50", multi_grid=(4, 8, 16), align_corners=False, **THIN),
    dict(backbone="resnet18", attention="convolution", reduction=4, **THIN),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_a_network_is_made_again_from_its_configuration(form):
    torch.manual_seed(0)
    model = DANet(3, **form)
    values = json.loads(json.dumps(asdict(model.config)))
    torch.manual_seed(0)
    again = DANet(**vars(config_from(DANetConfig, values, "config.json")))
    assert again.config == model.config and again.replaced == ()
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    x = torch.randn(1, 3, 40, 33)
    torch.testing.assert_close(again.eval()(x), model.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"channels": 7}, {"reduction": 3}, {"auxiliary": True}])
def test_the_control_has_the_parameters_of_both_modules_and_no_view(options):
    torch.manual_seed(0)
    control, both = (DANet(3, "small", attention=a, **options) for a in ("convolution", "both"))
    assert sum(map(torch.numel, control.parameters())) == sum(map(torch.numel, both.parameters()))
    control.double().eval()
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    closed = control(x)
    names = [name for name, _ in control.named_parameters() if name.endswith("attention.gate")]
    assert names == ["head.position_attention.gate", "head.channel_attention.gate"]
    with torch.no_grad():
        for name in names:
            assert control.get_parameter(name).item() == 0  # like the gates of the attention
            control.get_parameter(name).fill_(0.7)
    assert not torch.equal(control(x), closed)
    x.requires_grad_()
    features = control.backbone(x)
    fused = control.head(features, ("fused",))["fused"]
    [moved] = torch.autograd.grad(fused[..., 6, 6].sum(), x)
    rows = moved.abs().sum((0, 1, 3)).nonzero()
    assert 0 < rows.max() - rows.min() < 63  # the field of the convolutions around it


def test_every_parameter_of_the_control_learns():
    torch.manual_seed(0)
    control = DANet(3, "small", channels=16, attention="convolution")
    nn.init.ones_(control.head.position_attention.gate)
    sum(y.square().mean() for y in control(torch.randn(2, 3, 32, 32)).values()).backward()
    for name, p in control.head.named_parameters():
        assert p.grad.any() or "conv" in name and name.endswith("bias"), name


def test_signature_and_docstring_show_every_argument():
    parameters = inspect.signature(DANet).parameters
    comments = field_comments(DANetConfig)
    assert set(parameters) == {*comments, "position", "channel"}
    assert list(parameters)[:2] == ["num_classes", "backbone"]
    for name, comment in comments.items():
        assert comment and f"    {name}: {comment}\n" in f"{DANet.__doc__}\n"
    assert parameters["output_stride"].default == 8


def test_an_attention_of_ones_own_is_remembered():
    model = DANet(
        3, "small", channels=8, position=lambda c: nn.Conv2d(c, c, 1), channel=nn.Identity
    )
    assert model.replaced == ("position", "channel")
    assert copy.deepcopy(model).replaced == fold_batch_norm(model).replaced == model.replaced


@pytest.mark.parametrize(
    "values, words",
    [
        ({"pretrained": "http://example.org/x.pth"}, "w.pt: unknown 'pretrained'"),
        ({"a": 1, "b": 2}, "w.pt: unknown 'a', 'b'"),
        ({"num_classes": None}, "w.pt: num_classes is None; it has to be int"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": 10**30}, "num_classes is 1000000000.*; it has to be 1 or more"),
        ({"width": float("nan")}, "width is nan; it has to be int"),
        ({"dropout": float("nan")}, "dropout is nan; it has to be 0 or more, and at most 1"),
        ({"multi_grid": [[4]]}, "multi_grid is"),
        ({"multi_grid": {"4": 8}}, "multi_grid is"),
        ({"backbone": ["small"]}, "backbone is"),
        ({"output_stride": 8.0}, "output_stride is 8.0; it has to be one of 8, 16, 32"),
        ({"classes": "abc"}, "classes is 'abc'"),
        ({"classes": ["a", "b"]}, "classes has 2 entries for 3 classes"),
        ({"palette": [[0, 0, 0]] * 2}, "palette has 2 entries for 3 classes"),
        ({"palette": [[0, 0]] * 3}, "palette is"),
        ({"palette": [[0, 0, -1]] * 3}, "palette is .* and at most 255"),
        ({"metrics": {"mIoU": "best"}}, "metrics: 'mIoU' is 'best'; give a number"),
        ({"metrics": {"x" * 10**6: "best"}}, "metrics: 'xxx"),
        ({"x" * 10**6: 1}, "unknown 'xxx"),
        ({"metrics": {"iou": [0.5]}}, "iou of metrics has 1 entries"),
        ({"metrics": {"iou": 0.5}}, "metrics: 'iou' is 0.5; give a list of numbers"),
        ({"metrics": [1]}, "metrics is"),
        ({"run": "yesterday"}, "run is 'yesterday'"),
        ({"attention": "x" * 10**6}, "attention is 'xxx"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_name(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        config_from(DANetConfig, {"num_classes": 3, **values}, "w.pt")
    assert str(caught.value).startswith("w.pt: ") and len(str(caught.value)) < 500


@pytest.mark.parametrize("values", [None, [], "{}", 3, [["num_classes", 3]]])
def test_a_configuration_is_a_dictionary(values):
    with pytest.raises(ValueError, match=r"w.pt: .* is no dictionary of settings"):
        config_from(DANetConfig, values, "w.pt")


def test_a_value_nested_beyond_all_measure_is_refused():
    classes = ["sea"]
    for _ in range(10**5):
        classes = [classes]
    with pytest.raises(ValueError, match=r"w.pt: "):
        config_from(DANetConfig, {"num_classes": 3, "classes": classes}, "w.pt")
