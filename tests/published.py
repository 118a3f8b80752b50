"Writes files as others publish them, from thin networks with seeded weights."

import numpy as np
import torch
from seeded import seeded_tensor

from danet_nb.danet import DANet
from danet_nb.published import FAMILIES
from danet_nb.weight_files import rename

THIN = {"width": 8, "stem_width": 8}
CLASSES = ["road", "building", "sky", "person", "car"]


def thin(backbone="resnet18", **options):
    "As others publish them, off the grid; in evaluation mode, with weights that follow from names."
    model = DANet(5, backbone, **{**THIN, "on_grid": False, **options})
    state = {
        name: seeded_tensor(name.replace("gate", "gamma"), value.shape)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.eval()


def foreign_state(model, family):
    "Its state dict in the vocabulary of `family`."
    state = {rename(name, FAMILIES[family]): value for name, value in model.state_dict().items()}
    return {
        name: value.reshape(()) if name.endswith("gamma.scale") else value
        for name, value in state.items()
    }


def write_authors(path, state, legacy=True):
    "The envelope of `DANet101.pth.tar`: the optimizer beside the weights, and a NumPy scalar."
    optimizer = {"state": {}, "param_groups": [{"lr": 0.003, "params": [0, 1]}]}
    content = {
        "epoch": 240,
        "state_dict": state,
        "optimizer": optimizer,
        "best_pred": np.float64(0.7993),
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def write_mmseg(path, state, text="align_corners=False"):
    "The envelope of mmsegmentation's files: strings, class names and a palette beside the weights."
    meta = {
        "mmseg_version": "0.5.0",
        "seed": None,
        "config": f"model = dict(decode_head=dict(type='DAHead', {text}))",
        "CLASSES": tuple(CLASSES),
        "PALETTE": [[i, 2 * i, 3 * i] for i in range(5)],
    }
    torch.save({"meta": meta, "state_dict": state}, path)
    return path
