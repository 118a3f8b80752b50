"""The peers: position attention as published, and mmsegmentation's own DANet."""

import importlib.machinery
import sys
import types
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danet_nb.danet import DANet
from danet_nb.position import PositionAttention

INSTALL = """mmsegmentation is missing.
Into an environment that has danet_nb, and that you can throw away afterwards:
    pip install --no-deps mmsegmentation==1.2.2 mmengine==0.10.7 mmcv-lite==2.1.0
    pip install addict pyyaml yapf termcolor rich opencv-python-headless prettytable
    pip install scipy matplotlib ftfy regex packaging torchvision"""


def authors_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    "The form of the authors' code: the map is written, and meets the values turned round."
    weights = torch.softmax(torch.bmm(q, k.mT), -1)
    return torch.bmm(v.mT, weights.mT).mT


def mmseg_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    "The form of mmsegmentation: the map is written, and the result turned round."
    weights = torch.matmul(q, k.mT).softmax(-1)
    return torch.matmul(weights, v).mT.contiguous().mT


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    "The two matrix products and no softmax: the floor for whoever writes the map."
    return torch.bmm(torch.bmm(q, k.mT), v)


class AuthorsPosition(PositionAttention):
    "Position attention that writes its map, as the authors' code does."

    def forward(self, x: Tensor) -> Tensor:
        "`(B, C, H, W)`, the same shape out."
        convolutions = (self.query_conv, self.key_conv, self.value_conv)
        q, k, v = (conv(x).flatten(2).mT for conv in convolutions)
        return self.gate * authors_attention(q, k, v).mT.view_as(x) + x


class AuthorsDANet(DANet):
    """Our modules, put together as the authors' are.

    Maps channels first, the map of attention written, all classifiers at work in evaluation."""

    def __init__(self, num_classes: int, **options: Any):
        super().__init__(num_classes, position=AuthorsPosition, **options)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        "`{name: (B, K, H, W)}` in either mode."
        logits = self.head(self.backbone(x.contiguous()), tuple(self.head.classifiers))
        return {name: enlarge(y, x, self.config.align_corners) for name, y in logits.items()}


def enlarge(logits: Tensor, x: Tensor, align_corners: bool) -> Tensor:
    "Logits `(B, K, h, w)` at the resolution of the images `(B, 3, H, W)`."
    return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=align_corners)


class Absent:
    "Stands for a compiled operator that nobody calls."

    def __init__(self, *args: Any, **options: Any):
        pass


def absent(name: str) -> type[Absent]:
    "What `mmcv.ops.NAME` gives: a class for every operator, nothing for Python's own names."
    if name.startswith("__"):
        raise AttributeError(name)
    return Absent


def without_compiled_operators() -> None:
    "Put an empty `mmcv.ops` in place: mmcv-lite has no operators, and DANet calls none of them."
    ops = types.ModuleType("mmcv.ops")
    ops.__path__ = []
    ops.__spec__ = importlib.machinery.ModuleSpec("mmcv.ops", None)
    ops.__getattr__ = absent
    sys.modules.setdefault("mmcv.ops", ops)


BACKBONE = {
    "type": "ResNetV1c",
    "depth": 50,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "dilations": (1, 1, 2, 4),
    "strides": (1, 2, 1, 1),
    "norm_cfg": {"type": "BN"},
    "norm_eval": False,
    "style": "pytorch",
    "contract_dilation": True,
}


def mmseg_config(num_classes: int) -> dict[str, Any]:
    "mmsegmentation's `danet_r50-d8`: deep stem, auxiliary head on layer 3."
    head = {
        "dropout_ratio": 0.1,
        "num_classes": num_classes,
        "norm_cfg": {"type": "BN"},
        "align_corners": False,
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False},
    }
    main = {"type": "DAHead", "in_channels": 2048, "in_index": 3, "channels": 512}
    auxiliary = {"type": "FCNHead", "in_channels": 1024, "in_index": 2, "channels": 256}
    return {
        "type": "EncoderDecoder",
        "data_preprocessor": None,
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
        "backbone": BACKBONE,
        "decode_head": {**main, "pam_channels": 64, **head},
        "auxiliary_head": {**auxiliary, "num_convs": 1, "concat_input": False, **head},
    }


def mmseg_danet(num_classes: int = 19) -> nn.Module:
    "mmsegmentation's DANet. Raises SystemExit with the commands where it is not installed."
    warnings.filterwarnings("ignore")
    without_compiled_operators()
    try:
        import mmseg.models  # noqa: F401 registers them
    except ImportError as error:
        raise SystemExit(f"{INSTALL}\n({error})") from error
    from mmseg.registry import MODELS

    return MODELS.build(mmseg_config(num_classes))


class MMSegDANet(nn.Module):
    "mmsegmentation's network, called like ours; its head computes its classifiers in either mode."

    def __init__(self, num_classes: int = 19):
        super().__init__()
        self.network = mmseg_danet(num_classes)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        "Evaluation: fused logits `(B, K, H, W)`; training: all logits by name."
        stages = self.network.backbone(x)
        fused, position, channel = self.network.decode_head(stages)
        if not self.training:
            return enlarge(fused, x, align_corners=False)
        logits = {"fused": fused, "position": position, "channel": channel}
        logits["auxiliary"] = self.network.auxiliary_head(stages)
        return {name: enlarge(y, x, align_corners=False) for name, y in logits.items()}
