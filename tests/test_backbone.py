"Sizes, layouts and types that a backbone has to take."

from typing import get_args

import pytest
import torch

from danet_nb.backbone import RESNETS, resnet
from danet_nb.config import Backbone

FORMS = [
    dict(name="small"),
    dict(name="resnet18", width=4, stem_width=4),
    dict(name="resnet50", width=4, stem_width=4, stem="deep", multi_grid=(4, 8, 16)),
    dict(name="resnet34", width=4, stem_width=4, output_stride=16),
    dict(name="resnet101", width=2, output_stride=32),
    dict(name="resnet18", width=4, stem_width=4, stem="deep", dilate_second=False),
]


@pytest.fixture(params=FORMS, ids=lambda form: "-".join(map(str, form.values())))
def model(request):
    torch.manual_seed(0)
    return resnet(**request.param).eval().requires_grad_(False)


@pytest.mark.parametrize("h, w", [(1, 1), (7, 9), (33, 8), (64, 96)])
def test_any_size(model, h, w):
    layer3, layer4 = model(torch.randn(1, 3, h, w))
    s = model.output_stride
    assert layer4.shape == (1, model.channels[1], -(-h // s), -(-w // s))
    assert layer3.shape[1] == model.channels[0]


def test_memory_layout_changes_nothing(model):
    x = torch.randn(2, 3, 40, 24)
    expected = model(x)[1]
    for other in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        torch.testing.assert_close(
            model(other)[1], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )


def test_half_precision(model):
    assert model.bfloat16()(torch.randn(1, 3, 40, 24).bfloat16())[1].dtype == torch.bfloat16


def test_a_batch_is_its_images(model):
    x = torch.randn(3, 3, 40, 24)
    each = torch.cat([model(one[None])[1] for one in x])
    torch.testing.assert_close(model(x)[1], each, rtol=1e-4, atol=1e-4 * each.abs().max().item())


def test_the_configuration_knows_every_backbone():
    assert set(get_args(Backbone)) == {"small", *RESNETS}


def test_no_backbone_reaches_for_weights():
    with pytest.raises(TypeError, match="pretrained"):
        resnet("resnet18", pretrained=True)


def test_mmsegmentations_basic_blocks_keep_their_second_convolution_dense():
    ours, theirs = (resnet("resnet18", width=4, dilate_second=dilate) for dilate in (True, False))
    for block, dense in zip(ours.layer4, theirs.layer4, strict=True):
        assert block.conv1.dilation == dense.conv1.dilation
        assert block.conv2.dilation == (4, 4) and dense.conv2.dilation == (1, 1)
        assert dense.conv2.padding == (1, 1)
