"""The peers: position attention as published, and mmsegmentation's own DANet."""

import importlib.machinery
import sys
import types
import warnings
import torch
from torch import nn
from danet_nb.danet import DANet
from danet_nb.position import PositionAttention

INSTALL = """mmsegmentation is missing. Into an environment that has danet_nb, and that you can throw away afterwards:
    pip install --no-deps mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0
    pip install addict pyyaml yapf termcolor rich opencv-python-headless prettytable scipy matplotlib ftfy regex packaging torchvision"""


def authors_attention(q, k, v):
    "The form of the authors' code: the map is written, and meets the values turned round. `(B, N, D)` in and out, positions last in memory."
    w = torch.softmax(torch.bmm(q, k.mT), -1)
    return torch.bmm(v.mT, w.mT).mT


def mmseg_attention(q, k, v):
    "The form of mmsegmentation's self-attention block: the map is written, and the result turned round."
    return torch.matmul(torch.matmul(q, k.mT).softmax(-1), v).mT.contiguous().mT


def products(q, k, v):
    "The two matrix products and no softmax: the floor for whoever writes the map."
    return torch.bmm(torch.bmm(q, k.mT), v)


class AuthorsPosition(PositionAttention):
    "Position attention that writes its map, as the authors' code does."

    def forward(self, x):
        "`(B, C, H, W)`, the same shape out."
        q, k, v = (
            conv(x).flatten(2).mT for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        return self.gate * authors_attention(q, k, v).mT.view_as(x) + x


class AuthorsDANet(DANet):
    "Our modules, put together as the authors' are: maps channels first, the map of attention written, all three classifiers at work in evaluation."

    def __init__(self, num_classes, **options):
        super().__init__(num_classes, position=AuthorsPosition, **options)

    def forward(self, x):
        "`{name: (B, K, H, W)}` in either mode."
        logits = self.head(self.backbone(x.contiguous()), tuple(self.head.classifiers))
        return {
            name: nn.functional.interpolate(
                y, x.shape[2:], mode="bilinear", align_corners=self.align_corners
            )
            for name, y in logits.items()
        }


def without_compiled_operators():
    "Put an empty `mmcv.ops` in place: the compiled operators are not in mmcv-lite, and DANet calls none of them."

    class Absent:
        def __init__(self, *args, **options):
            pass

    def absent(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent

    ops = types.ModuleType("mmcv.ops")
    ops.__path__, ops.__spec__, ops.__getattr__ = (
        [],
        importlib.machinery.ModuleSpec("mmcv.ops", None),
        absent,
    )
    sys.modules.setdefault("mmcv.ops", ops)


def mmseg_danet(num_classes=19):
    "mmsegmentation's `danet_r50-d8`: deep stem, auxiliary head on layer 3. Raises SystemExit with the commands where it is not installed."
    warnings.filterwarnings("ignore")
    without_compiled_operators()
    try:
        import mmseg.models  # noqa: F401 registers them
    except ImportError as error:
        raise SystemExit(f"{INSTALL}\n({error})")
    from mmseg.registry import MODELS

    loss = dict(type="CrossEntropyLoss", use_sigmoid=False)
    common = dict(
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=loss,
    )
    return MODELS.build(
        dict(
            type="EncoderDecoder",
            data_preprocessor=None,
            train_cfg=dict(),
            test_cfg=dict(mode="whole"),
            backbone=dict(
                type="ResNetV1c",
                depth=50,
                num_stages=4,
                out_indices=(0, 1, 2, 3),
                dilations=(1, 1, 2, 4),
                strides=(1, 2, 1, 1),
                norm_cfg=dict(type="BN"),
                norm_eval=False,
                style="pytorch",
                contract_dilation=True,
            ),
            decode_head=dict(
                type="DAHead", in_channels=2048, in_index=3, channels=512, pam_channels=64, **common
            ),
            auxiliary_head=dict(
                type="FCNHead",
                in_channels=1024,
                in_index=2,
                channels=256,
                num_convs=1,
                concat_input=False,
                **common,
            ),
        )
    )


class MMSegDANet(nn.Module):
    "mmsegmentation's network, called like ours."

    def __init__(self, num_classes=19):
        super().__init__()
        self.network = mmseg_danet(num_classes)

    def forward(self, x):
        "Evaluation: fused logits `(B, K, H, W)`; training: all logits by name. Its head computes its three classifiers in either."
        stages = self.network.backbone(x)
        logits = dict(zip(("fused", "position", "channel"), self.network.decode_head(stages)))
        if self.training:
            logits["auxiliary"] = self.network.auxiliary_head(stages)
        resize = lambda y: nn.functional.interpolate(
            y, x.shape[2:], mode="bilinear", align_corners=False
        )
        return (
            {name: resize(y) for name, y in logits.items()}
            if self.training
            else resize(logits["fused"])
        )
