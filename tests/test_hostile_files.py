"Damaged files, files mistaken for weights, files made to do harm: refused, and nothing is run."

import gzip
import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from collections import OrderedDict
from dataclasses import asdict

import numpy as np
import pytest
import torch
from published import foreign_state, thin, write_authors, write_mmseg
from safetensors.torch import save_file

from danet_nb import published
from danet_nb.pretrained import save_danet
from danet_nb.published import load_danet
from danet_nb.weight_files import CheckpointError, read_weights

STATE = foreign_state(thin(), "authors")


def refused(path, words):
    "The message of the refusal, which names the file."
    with pytest.raises(CheckpointError, match=words) as error:
        load_danet(path)
    assert path.name in str(error.value)
    assert len(str(error.value)) < 5000


class Call:
    "Pickles as a call, as a file does that wants to run code."

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "posix.system": (os.system, "touch {}"),
    "builtins.eval": (eval, "open({!r}, 'w')"),
    "builtins.exec": (exec, "open({!r}, 'w')"),
    "builtins.open": (open, "{}", "w"),
    "builtins.getattr": (getattr, "{}", "split"),
    "io.open_code": (io.open_code, "{}"),
    "numpy.load": (np.load, "{}"),
    "torch.load": (torch.load, "{}"),
    "torch.hub.load": (torch.hub.load, "{}", "x"),
}


def write_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_protocol_4(content, path):
    path.write_bytes(pickle.dumps(content, protocol=4))


WRITERS = {
    "zip": torch.save,
    "legacy": write_legacy,
    "pickle": write_pickle,
    "protocol 4": write_protocol_4,
}
PLACES = ("state", "beside", "key", "whole")
CASES = [(n, "zip", "state") for n in CALLS] + [
    ("posix.system", w, p) for w in WRITERS for p in PLACES
]


@pytest.mark.parametrize("name, writer, place", CASES)
def test_code_is_never_run(name, writer, place, tmp_path):
    touched = tmp_path / "touched"
    path = tmp_path / "weights.pth"
    function, *arguments = CALLS[name]
    call = Call(function, *(a.format(str(touched)) for a in arguments))
    content = {
        "state": {"state_dict": {**STATE, "evil": call}},
        "beside": {"state_dict": STATE, "meta": {"x": [call]}},
        "key": {"state_dict": STATE, ("a", call): 1},
        "whole": call,
    }[place]
    WRITERS[writer](content, path)
    refused(path, "could run code" if writer != "protocol 4" else "weights")
    assert not touched.exists()


def test_refusal_names_what_was_asked_for(tmp_path):
    torch.save({"state_dict": STATE, "best_pred": Call(os.system, "true")}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "asks for posix.system")


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.array(["a"], dtype=object)[0:1],
        np.datetime64("2020-01-01"),
        np.str_("text"),
        np.complex64(1),
    ],
    ids=repr,
)
def test_numpy_beyond_plain_numbers_is_refused(value, tmp_path):
    torch.save({"state_dict": STATE, "best_pred": value}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "could run code|NumPy scalar")


@pytest.mark.parametrize(
    "kind",
    [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_],
    ids=lambda k: k.__name__,
)
@pytest.mark.parametrize("legacy", [True, False])
def test_numpy_scalars_are_plain_numbers(kind, legacy, tmp_path):
    value = kind(0.7993) if np.issubdtype(kind, np.floating) else kind(1)
    torch.save(
        {"state_dict": STATE, "best_pred": value},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=not legacy,
    )
    found = read_weights(tmp_path / "a.pth")[1]["best_pred"]
    assert found == value.item() and type(found) is type(value.item())


def test_reading_leaves_torch_as_strict_as_it_was(tmp_path):
    before = set(map(str, torch.serialization.get_safe_globals()))
    read_weights(write_authors(tmp_path / "a.pth.tar", STATE))
    after = set(map(str, torch.serialization.get_safe_globals()))
    # torch adds its own when it imports more of itself
    assert not [item for item in after - before if "torch." not in item]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_short(legacy, share, tmp_path):
    path = write_authors(tmp_path / "a.pth.tar", STATE, legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "download")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
def test_safetensors_cut_short(share, tmp_path):
    save_danet(thin(), tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: max(10, int(share * len(data)))])
    refused(path, "cannot be read")


def test_one_changed_byte_is_noticed(tmp_path):
    "PyTorch itself does not look at the checksums of the archive."
    path = write_mmseg(tmp_path / "a.pth", STATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(path, "checksum|damaged")


OTHER = {
    "page.pth": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page"),
    "spaces.pth": (b"\n\n  <html>", "a web page"),
    "empty.pth": (b"", "is empty"),
    "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
    "page.safetensors": (b"<html><head><title>Just a moment</title>", "a web page"),
    "json.pth": (b'{"error": "no such file"}', "JSON"),
    "gzip.pth": (gzip.compress(b"weights"), "gzip"),
    "noise.pth": (bytes(random.Random(0).randbytes(5000)), "cannot be read"),
    "text.pth": (b"these are no weights", "cannot be read"),
    "zeros.pth": (bytes(4000), "cannot be read"),
    "short.pth": (b"PK", "damaged"),
}


@pytest.mark.parametrize("name", OTHER)
def test_files_taken_for_weights(name, tmp_path):
    content, words = OTHER[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_archives_of_other_kinds(tmp_path):
    write_authors(tmp_path / "inside", STATE)
    with tarfile.open(tmp_path / "a.pth.tar", "w") as tar:
        tar.add(tmp_path / "inside")
    refused(tmp_path / "a.pth.tar", "tar archive")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "inside", "DANet101.pth.tar")
    refused(tmp_path / "a.zip", "cannot be read")
    script = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(script, tmp_path / "script.pt")
    # which of these, depends on how well its code packs
    refused(tmp_path / "script.pt", "TorchScript|cannot be read|would unpack")


def test_archive_that_unpacks_to_more_than_its_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    refused(tmp_path / "bomb.pth", "would unpack to")


BAD = {
    "list": ([1, 2], "holds a list"),
    "number": (3, "holds a int"),
    "tensor": (torch.zeros(2), "holds a Tensor"),
    "empty": ({}, "it is empty"),
    "no tensors": ({"state_dict": {"a": "text"}}, "of type str"),
    "numbers as keys": ({"state_dict": {**STATE, 3: torch.zeros(1)}}, "not a tensor"),
    "not finite": (
        {**STATE, "head.conv8.1.bias": torch.full((5,), float("nan"))},
        "head.conv8.1.bias holds values that are not finite",
    ),
    "integers": (
        {**STATE, "head.conv8.1.bias": torch.zeros(5, dtype=torch.int64)},
        "not real numbers",
    ),
    "sparse": ({**STATE, "head.conv8.1.bias": torch.zeros(5).to_sparse()}, "no plain tensor"),
    "meta": ({**STATE, "head.conv8.1.bias": torch.zeros(5, device="meta")}, "no plain tensor"),
    "scalar": ({**STATE, "head.conv8.1.weight": torch.zeros(())}, "another shape"),
    "stretched": (
        {**STATE, "head.conv8.1.weight": torch.zeros(1).expand(10**12, 16, 1, 1)},
        "more numbers than the file holds",
    ),
    "too many classes": (
        {
            name: v.new_zeros(300, *v.shape[1:]) if "conv8.1" in name else v
            for name, v in STATE.items()
        },
        "num_classes is 300",
    ),
    "many": ({f"name{i}": torch.zeros(1) for i in range(5000)}, "known family"),
}


@pytest.mark.parametrize("name", BAD)
def test_contents_that_are_no_weights(name, tmp_path):
    content, words = BAD[name]
    torch.save(content, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", words)


def test_a_dictionary_that_hides_its_methods(tmp_path):
    "A pickle may set attributes of an OrderedDict; ours must not be led astray by them."
    state = OrderedDict(STATE)
    content = OrderedDict(state_dict=state, epoch=3)
    for d in (state, content):
        d.get = d.values = d.pop = 3
    torch.save(content, tmp_path / "a.pth")
    assert load_danet(tmp_path / "a.pth").config.run == {"epoch": 3}


def test_random_damage_is_refused_or_harmless(tmp_path):
    "Bytes changed or cut anywhere: a refusal with the file's name, never another error."
    rng = random.Random(0)
    originals = [
        write_authors(tmp_path / "a", STATE).read_bytes(),
        write_mmseg(tmp_path / "b", STATE).read_bytes(),
    ]
    save_danet(thin(), tmp_path)
    originals.append((tmp_path / "model.safetensors").read_bytes())
    for i in range(60):
        data = bytearray(originals[i % 3])
        for _ in range(rng.choice([1, 5, 50])):
            data[int(len(data) * rng.random() ** rng.choice([1, 8]))] = rng.randrange(256)
        (tmp_path / "damaged").write_bytes(
            data[: rng.choice([len(data), rng.randrange(len(data))])]
        )
        try:
            load_danet(tmp_path / "damaged")
        except CheckpointError as error:
            assert "damaged" in str(error)


HOSTILE = {
    "pretrained": "https://127.0.0.1:9/weights.pth",
    "position": "os.system",
    "start_from": "/etc/passwd",
    "__class__": "x",
    "num_classes": 10**15,
    "width": "wide",
    "multi_grid": [[[8]]],
    "channels": -1,
    "dropout": float("nan"),
    "classes": [["sky"], 2, 3, 4, 5],
    "backbone": "../resnet18",
    "metrics": {"mIoU": [1]},
    "run": "text",
}


def write_folder(text, path):
    "A saved network whose config.json says something else."
    folder = save_danet(thin(), path / "network")
    (folder / "config.json").write_text(text)
    return folder


def write_tensors(text, path):
    "A safetensors file with that text inside."
    save_file(thin().state_dict(), path / "alone.safetensors", {"config": text})
    return path / "alone.safetensors"


def write_checkpoint(text, path):
    "The checkpoint of a run with that text inside."
    torch.save({"model": thin().state_dict(), "config": text, "step": 3}, path / "last.pt")
    return path / "last.pt"


def write_old_run(text, path):
    "A run of version 0.1 with these settings."
    checkpoint = path / "old" / "checkpoints" / "best.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"model": thin().state_dict(), "step": 3}, checkpoint)
    values = json.loads(text)
    old = {"config": values, "classes": values["classes"], "palette": values["palette"]}
    (path / "old" / "config.json").write_text(json.dumps(old))
    return path / "old"


@pytest.fixture
def no_net(monkeypatch):
    "Fetching anything is an error of another kind."

    def fetch(*arguments, **options):
        raise AssertionError(f"{arguments} was fetched")

    monkeypatch.setattr(published, "download", fetch)
    monkeypatch.setattr(published, "hf_hub_download", fetch)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)


@pytest.mark.parametrize("write", [write_folder, write_tensors, write_checkpoint])
@pytest.mark.parametrize("key", HOSTILE)
def test_what_a_file_says_about_itself_is_checked(key, write, tmp_path, no_net):
    "Unknown keys and wrong values end before anything is built, read or fetched."
    config = {**asdict(thin().config), key: HOSTILE[key]}
    source = write(json.dumps(config), tmp_path)
    with pytest.raises(CheckpointError, match=key) as error:
        load_danet(source)
    assert len(str(error.value)) < 5000 and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("write", [write_folder, write_tensors, write_checkpoint])
@pytest.mark.parametrize("text", ["{", "[]", "3", "null", '{"a": ' * 5000, "\x00"])
def test_what_is_no_configuration_is_refused(text, write, tmp_path, no_net):
    source = write(text, tmp_path)
    with pytest.raises(CheckpointError, match="configuration"):
        load_danet(source)


def test_an_old_run_is_not_trusted_either(tmp_path, no_net):
    "`pretrained` was a setting of old runs: it is kept as a word, and nothing is fetched."
    settings = {**asdict(thin().config), "pretrained": HOSTILE["pretrained"]}
    loaded = load_danet(write_old_run(json.dumps({**settings, "classes": list("abcde")}), tmp_path))
    assert loaded.config.run["pretrained"] == HOSTILE["pretrained"]
    wrong = json.dumps({**settings, "classes": list("abcde"), "width": "wide"})
    (tmp_path / "again").mkdir()
    with pytest.raises(CheckpointError, match="width"):
        load_danet(write_old_run(wrong, tmp_path / "again"))
