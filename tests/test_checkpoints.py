"Published weights in, our own in and out: the same outputs and settings, or an error that tells."

import functools
import hashlib
import http.server
import json
import threading
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from published import CLASSES, THIN, foreign_state, thin, write_authors, write_mmseg
from safetensors.torch import load_file
from seeded import seeded_image, seeded_state

from danet_nb import pretrained, published
from danet_nb.backbone import resnet
from danet_nb.danet import DANet
from danet_nb.fine_tuning import fine_tune, start_from
from danet_nb.folding import fold_batch_norm
from danet_nb.pretrained import load_imagenet, push_danet, read_config, save_danet
from danet_nb.published import convert, load_danet
from danet_nb.weight_files import CheckpointError, download

FIXTURES = Path(__file__).parent / "fixtures"
IMAGE = seeded_image(33, 50)


def outputs(model, image=IMAGE):
    "All that the network says about an image."
    with torch.no_grad():
        return model.outputs(image, tuple(model.head.classifiers))


def assert_same(a, b):
    torch.testing.assert_close(outputs(a), outputs(b), rtol=0, atol=0)


def furthest(mine, reference):
    "Largest difference as a share of the reference's range."
    assert mine.shape == reference.shape
    return float((mine - reference).abs().max() / (reference.max() - reference.min()))


def saved(name, path, write, **options):
    "Another implementation's file on seeded weights, loaded; and what that one answered."
    state = seeded_state(json.loads((FIXTURES / f"{name}.json").read_text()))
    model = load_danet(write(path / "weights.pth", state), **options)
    return model, load_file(FIXTURES / f"{name}.safetensors")


@pytest.mark.parametrize(
    "name, write", [("authors_r50", write_authors), ("mmseg_r50", write_mmseg)]
)
def test_images_through_both_implementations_agree(name, write, tmp_path):
    model, reference = saved(name, tmp_path, write)
    got = outputs(model, seeded_image(64, 96))
    assert set(got) <= set(reference)
    for key, value in got.items():
        assert furthest(value[..., ::4, ::4], reference[key]) < 1e-4


@pytest.mark.parametrize(
    "name, size, options",
    [("mmseg_r18", (65, 97), {}), ("mmseg_r50_7x7", (33, 50), {"multi_grid": (1, 2, 4)})],
)
def test_odd_sizes_other_depths_and_stems_agree_at_stride_8(name, size, options, tmp_path):
    model, reference = saved(name, tmp_path, write_mmseg, **options)
    with torch.no_grad():
        got = model.head(model.backbone(seeded_image(*size)), tuple(reference))
    for key, value in got.items():
        assert furthest(value, reference[key]) < 1e-4


@pytest.mark.parametrize(
    "backbone, stem",
    [
        ("resnet18", "7x7"),
        ("resnet34", "deep"),
        ("resnet50", "deep"),
        ("resnet101", "7x7"),
        ("resnet101", "deep"),
        ("resnet152", "7x7"),
    ],
)
def test_authors_depth_stem_and_multi_grid(backbone, stem, tmp_path):
    "Depth and stem are read from the shapes; the authors published DANet-101 with multi-grid."
    grid = (4, 8, 16) if backbone == "resnet101" else None
    model = thin(backbone, stem=stem, multi_grid=grid)
    state = foreign_state(model, "authors")
    path = write_authors(tmp_path / "DANet.pth.tar", state, legacy=stem == "deep")
    loaded = load_danet(path)
    config = loaded.config
    assert (config.backbone, config.stem, config.multi_grid) == (backbone, stem, grid)
    assert config.run == {"epoch": 240, "best_pred": 0.7993} and not loaded.training
    assert_same(loaded, model)


@pytest.mark.parametrize("family", ["authors", "mmsegmentation 7x7"])
def test_no_published_form_holds_the_control(tmp_path, family):
    "A setting of ours alone is refused in a sentence; our own formats keep it."
    write = write_authors if family == "authors" else write_mmseg
    path = write(tmp_path / "theirs.pth", foreign_state(thin(), family))
    for ask in (load_danet, functools.partial(convert, folder=tmp_path / "ours")):
        with pytest.raises(CheckpointError, match=f"{path} has the names of {family}, where"):
            ask(path, attention="convolution")
    assert not (tmp_path / "ours").exists()


def test_the_control_is_saved_and_loaded(tmp_path):
    model = thin(attention="convolution", on_grid=True)  # as a bare file of ours is read
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    x = torch.randn(1, 3, 40, 33)
    for again in (
        load_danet(save_danet(model, tmp_path / "saved")),
        load_danet(tmp_path / "bare.pth", attention="convolution"),
        fold_batch_norm(model),
    ):
        torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)


def test_arguments_win_over_what_was_published(tmp_path):
    model = thin("resnet101", multi_grid=None, align_corners=False)
    path = write_authors(tmp_path / "a.pth.tar", foreign_state(model, "authors"))
    assert_same(load_danet(path, multi_grid=None, align_corners=False), model)
    assert furthest(outputs(load_danet(path))["fused"], outputs(model)["fused"]) > 0.01
    with pytest.raises(TypeError, match="num_classes.*cannot be chosen"):
        load_danet(path, num_classes=3)


@pytest.mark.parametrize(
    "family, stem", [("mmsegmentation", "deep"), ("mmsegmentation 7x7", "7x7")]
)
@pytest.mark.parametrize("auxiliary", [True, False])
def test_mmsegmentation(family, stem, auxiliary, tmp_path):
    model = thin("resnet50", stem=stem, auxiliary=auxiliary, align_corners=False)
    loaded = load_danet(write_mmseg(tmp_path / "danet.pth", foreign_state(model, family)))
    assert loaded.config.classes == tuple(CLASSES) and loaded.config.palette[2] == (2, 4, 6)
    assert_same(loaded, model)


@pytest.mark.parametrize(
    "name, text",
    [("danet.pth", "align_corners=True"), ("danet_r50-d8_769x769_40k_cityscapes.pth", "")],
)
def test_mmsegmentation_settings_come_from_its_text_or_its_name(name, text, tmp_path):
    state = foreign_state(thin("resnet50", stem="deep"), "mmsegmentation")
    path = tmp_path / name
    if text:
        write_mmseg(path, state, text + ", multi_grid=(1, 2, 4)")
    else:
        torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": CLASSES}}}, path)
    config = load_danet(path).config
    assert config.align_corners and config.classes == tuple(CLASSES)
    assert config.multi_grid == ((1, 2, 4) if text else None)


def test_basic_blocks_of_mmsegmentation_are_not_dilated_twice(tmp_path):
    model = thin("resnet18", stem="deep", align_corners=False, dilate_second=False)
    path = write_mmseg(tmp_path / "r18.pth", foreign_state(model, "mmsegmentation"))
    assert_same(load_danet(path), model)
    assert_same(load_danet(convert(path, tmp_path / "ours")), model)


def test_envelopes_and_number_types(tmp_path):
    "Bare, parallel, half precision, without counters, with the classifier for ImageNet."
    model = thin()
    state = foreign_state(model, "authors")
    variants = {
        "bare": state,
        "parallel": {f"module.{k}": v for k, v in state.items()},
        "no-counters": {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
        "fc": {
            **state,
            "pretrained.fc.weight": torch.zeros(1000, 64),
            "pretrained.fc.bias": torch.zeros(1000),
        },
        "parameters": {
            k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()
        },
        "double": {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
    }
    for name, content in variants.items():
        torch.save(content, tmp_path / name)
        assert_same(load_danet(tmp_path / name), model)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(halves, tmp_path / "half")
    half = load_danet(tmp_path / "half")
    assert half.head.classifiers["fused"].weight.dtype == torch.float32
    assert furthest(outputs(half)["fused"], outputs(model)["fused"]) < 0.01


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    path = write_authors(tmp_path / "a.pth.tar", foreign_state(thin(), "authors"))
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load_danet(path)
    torch.testing.assert_close(torch.rand(1), expected)


def test_one_error_lists_missing_unknown_and_misshapen_names(tmp_path):
    state = foreign_state(thin(), "authors")
    state["head.conv5a.0.wieght"] = state.pop("head.conv5a.0.weight")
    del state["head.conv8.1.bias"]
    state["head.conv7.1.weight"] = torch.zeros(9, 16, 1, 1)
    state["something.else"] = torch.zeros(2)
    with pytest.raises(CheckpointError) as error:
        load_danet(write_authors(tmp_path / "a.pth.tar", state))
    text = str(error.value)
    assert "2 missing" in text and "head.conv8.1.bias" in text
    assert "head.conv5a.0.wieght (nearest known name: head.conv5a.0.weight)" in text
    assert "something.else" in text
    assert "head.conv7.1.weight: [9, 16, 1, 1], expected [5, 16, 1, 1]" in text


def test_files_of_other_networks_are_named(tmp_path):
    torch.save(resnet("resnet18", **{k: 8 for k in THIN}).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match="ImageNet backbone"):
        load_danet(tmp_path / "resnet18.pth")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="known family.*encoder.weight"):
        load_danet(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_danet(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        load_danet(tmp_path)


FILES = {"config.json", "model.safetensors", "README.md"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "none"},
        {"channel_form": "paper", "attention": "channel"},
        {"multi_grid": (1, 2)},
        {
            "stem": "deep",
            "auxiliary": True,
            "channels": 24,
            "output_stride": 16,
            "align_corners": False,
        },
    ],
    ids=str,
)
def test_our_format_gives_the_same_bits(options, tmp_path):
    model = thin(**options)
    folder = save_danet(model, tmp_path / "folder")
    assert {path.name for path in folder.iterdir()} == FILES
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((folder / "model.safetensors").read_bytes())
    for copy in (load_danet(folder), load_danet(alone)):
        assert_same(copy, model)
        assert not copy.training and copy.config == model.config == read_config(folder)


@pytest.mark.parametrize(
    "options",
    [
        dict(backbone="small", channels=32),
        dict(backbone="resnet18", multi_grid=(2, 4), attention="position", reduction=4),
        dict(backbone="resnet50", stem="deep", output_stride=16, channel_form="paper"),
        dict(
            backbone="resnet18",
            align_corners=False,
            dropout=0.3,
            auxiliary=True,
            attention="none",
            dilate_second=False,
        ),
    ],
    ids=str,
)
def test_any_network_can_be_saved(options, tmp_path):
    "A network remembers its arguments: nothing has to be said again."
    thin_form = {} if options["backbone"] == "small" else THIN
    model = DANet(4, **thin_form, **options).eval()
    with torch.no_grad():
        for gate in [p for name, p in model.named_parameters() if name.endswith("gate")]:
            gate.fill_(0.5)
    loaded = load_danet(save_danet(model, tmp_path, classes=list("abcd")))
    assert_same(loaded, model)
    assert loaded.head.dropout.p == model.head.dropout.p
    assert loaded.config == replace(model.config, classes=tuple("abcd"))


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path):
    folder = tmp_path / "folder"
    own = thin()
    own.replaced = ("channel",)
    with pytest.raises(ValueError, match="the channel attention .* is your own: save model.state"):
        save_danet(own, folder)
    with pytest.raises(ValueError, match="before batch norms are folded"):
        save_danet(fold_batch_norm(thin()), folder)
    with pytest.raises(ValueError, match="classes has 2 entries for 5 classes"):
        save_danet(thin(), folder, classes=["a", "b"])
    spoilt = thin()
    spoilt.head.classifiers["fused"].bias.data[1] = float("nan")
    with pytest.raises(FloatingPointError, match="head.classifiers.fused.bias is not finite"):
        save_danet(spoilt, folder)
    assert not folder.exists()


def write_old_run(folder, model):
    "A run as version 0.1 left it: settings, classes and colours apart, weights in checkpoints."
    settings = {
        **{name: getattr(model.config, name) for name in ("backbone", "stem_width", "width")},
        "pretrained": None,
        "steps": 300,
    }
    (folder / "checkpoints").mkdir(parents=True)
    about = {"config": settings, "classes": CLASSES, "palette": [[1, 2, 3]] * 5}
    (folder / "config.json").write_text(json.dumps({**about, "versions": {"danet_nb": "0.1.0"}}))
    for name in ("best", "last"):
        content = {"model": model.state_dict(), "step": 300, "best": 0.5, "seconds": 1.0}
        torch.save(content, folder / "checkpoints" / f"{name}.pt")


def test_runs_of_version_0_1_are_still_read(tmp_path):
    model = thin()
    write_old_run(tmp_path / "run", model)
    for source in ("run", "run/checkpoints/best.pt", "run/checkpoints/last.pt"):
        loaded = load_danet(tmp_path / source)
        assert_same(loaded, model)
        assert loaded.config.classes == tuple(CLASSES) and loaded.config.run["steps"] == 300
    converted = load_danet(convert(tmp_path / "run", tmp_path / "ours"))
    assert_same(converted, model)
    assert converted.config.run["versions"] == {"danet_nb": "0.1.0"}


def test_a_run_is_a_saved_network(tmp_path):
    "Its folder gives the best weights, a checkpoint those of its own."
    best = thin(classes=CLASSES)
    last = thin(classes=CLASSES)
    last.head.classifiers["fused"].bias.data += 1
    (tmp_path / "checkpoints").mkdir()
    config = json.dumps(vars(last.config))
    (tmp_path / "config.json").write_text(config)
    torch.save({"model": last.state_dict(), "config": config}, tmp_path / "checkpoints/last.pt")
    with pytest.raises(CheckpointError, match="has not been validated yet: .*last.pt"):
        load_danet(tmp_path)
    save_danet(best, tmp_path, metrics={"mIoU": 0.5, "iou": [0.1, None, 0.3, 0.4, 0.5]})
    assert_same(load_danet(tmp_path), best)
    assert_same(load_danet(tmp_path / "checkpoints" / "last.pt"), last)
    assert load_danet(tmp_path).config.metrics["mIoU"] == 0.5


def test_convert_keeps_what_the_file_says(tmp_path):
    model = thin("resnet50", stem="deep", align_corners=False)
    path = write_mmseg(tmp_path / "danet.pth", foreign_state(model, "mmsegmentation"))
    loaded = load_danet(convert(path, tmp_path / "ours", metrics={"mIoU": 0.7874}))
    assert_same(loaded, model)
    assert loaded.config.classes == tuple(CLASSES)
    assert loaded.config.metrics == {"mIoU": 0.7874}


def test_card_says_classes_metrics_and_run(tmp_path):
    palette = [[i, i, i] for i in range(5)]
    model = thin(
        classes=["sky", "a|b", *CLASSES[2:]],
        palette=palette,
        metrics={"mIoU": 0.5, "iou": [0.1, 0.2, 0.3, 0.4, 0.9]},
        run={"seed": 3},
    )
    save_danet(model, tmp_path)
    card = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "danet_nb" and card.data.license is None
    lines = [line.split() for line in card.content.splitlines()]
    for line in (
        "| 0 | sky | (0, 0, 0) | 0.1 |",
        "| 1 | a\\|b | (1, 1, 1) | 0.2 |",
        "| mIoU | 0.5 |",
        "| seed | 3 |",
        "| width | 8 |",
    ):
        assert line.split() in lines
    save_danet(model, tmp_path, license="cc-by-4.0")
    assert huggingface_hub.ModelCard.load(tmp_path / "README.md").data.license == "cc-by-4.0"


def test_push_and_load_by_name(tmp_path, monkeypatch):
    "The hub itself is replaced by a folder."

    def create(self, repo_id, **ignored):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(self, repo_id, folder_path, **ignored):
        for file in Path(folder_path).iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())

    def fetch(repo, filename, **ignored):
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(published, "hf_hub_download", fetch)
    model = thin()
    address = push_danet(model, "somebody/danet-thin", license="mit", run={"seed": 1})
    assert address == "https://huggingface.co/somebody/danet-thin"
    assert 'license: "mit"' in (tmp_path / "README.md").read_text()
    loaded = load_danet("somebody/danet-thin")
    assert_same(loaded, model)
    assert loaded.config.run == {"seed": 1}


def test_edited_and_broken_configurations(tmp_path):
    save_danet(thin(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in (
        {"num_classes": 6},
        {"backbone": "resnet999"},
        {"surprise": 1},
        {"num_classes": 10**15},
        {"width": "wide"},
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError):
            load_danet(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config.json"):
        load_danet(tmp_path)


def test_fine_tuning_lists_what_was_kept():
    model = thin(auxiliary=True)
    tuned = fine_tune(model, 3, classes=["a", "b", "c"])
    assert set(tuned.new) == {
        f"head.classifiers.{n}.{p}"
        for n in ("fused", "position", "channel", "auxiliary")
        for p in ("weight", "bias")
    }
    assert sorted(tuned.kept + tuned.new) == sorted(model.state_dict())
    for name in tuned.kept:
        torch.testing.assert_close(
            tuned.model.state_dict()[name], model.state_dict()[name], rtol=0, atol=0
        )
    logits = tuned.model(torch.cat([IMAGE, IMAGE]))["fused"]
    assert tuned.model.training and logits.shape == (2, 3, 33, 50)
    assert tuned.model.config.classes == ("a", "b", "c") and tuned.model.config.metrics is None
    wider = fine_tune(model, 3, channels=32).new
    assert "head.position_in.0.weight" in wider
    assert "head.position_attention.value_conv.bias" in wider


@pytest.mark.parametrize(
    "change",
    [
        {"multi_grid": (2, 4)},
        {"output_stride": 16},
        {"align_corners": False},
        {"channel_form": "paper"},
        {"dilate_second": False},
        {"attention": "position"},
    ],
    ids=str,
)
def test_a_start_from_another_network_names_the_setting(change, tmp_path):
    "These change the outputs and show in no shape, or in none that the model has."
    source = save_danet(thin(**change), tmp_path)
    with pytest.raises(CheckpointError, match=f"{next(iter(change))} is .* there and .* here"):
        start_from(thin(), source, CLASSES)
    kept, new = start_from(thin(**change), source, CLASSES)
    assert kept and all(name.startswith("head.classifiers.") for name in new)


@pytest.fixture
def server(tmp_path):
    "A web server on this machine, for the files of a folder."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *ignored):
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty cache for torch.hub."
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_imagenet_weights_of_every_depth(name, server, cache, monkeypatch):
    "Fetched once, checked by hash, loaded strictly; only the classifier is dropped."
    folder, address = server
    source = resnet(name, **THIN)
    classifier = {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    torch.save({**source.state_dict(), **classifier}, folder / "new.pth")
    file = f"{name}-{hashlib.sha256((folder / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "new.pth").rename(folder / file)
    monkeypatch.setitem(pretrained.IMAGENET, name, f"{address}/{file}")
    first = load_imagenet(resnet(name, **THIN), name)
    (folder / file).unlink()
    again = load_imagenet(resnet(name, **THIN), name)
    for copy in (first, again):
        torch.testing.assert_close(
            dict(copy.state_dict()), dict(source.state_dict()), rtol=0, atol=0
        )


def test_imagenet_weights_from_a_file_are_strict(tmp_path):
    torch.save(resnet("resnet18", **THIN).state_dict(), tmp_path / "r18.pth")
    load_imagenet(thin("resnet18").backbone, tmp_path / "r18.pth")
    with pytest.raises(CheckpointError, match="missing"):
        load_imagenet(resnet("resnet34", **THIN), tmp_path / "r18.pth")
    with pytest.raises(CheckpointError, match="conv1.0.weight"):
        load_imagenet(resnet("resnet18", stem="deep", **THIN), tmp_path / "r18.pth")
    with pytest.raises(CheckpointError, match="small"):
        load_imagenet(resnet("small"), "small")
    with pytest.raises(FileNotFoundError, match="absent.pth: give a file, a URL, or one of"):
        load_imagenet(resnet("resnet18", **THIN), tmp_path / "absent.pth")


def test_wrong_hash_and_absent_server(server, cache):
    folder, address = server
    (folder / "weights-00000000.pth").write_bytes(b"damaged on the way")
    with pytest.raises(CheckpointError, match="hash"):
        download(f"{address}/weights-00000000.pth")
    assert not list(cache.iterdir())
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        download(f"{address}/nothing.pth")


def test_load_danet_from_a_url(server, cache):
    model = thin()
    write_authors(server[0] / "DANet.pth.tar", foreign_state(model, "authors"))
    assert_same(load_danet(f"{server[1]}/DANet.pth.tar"), model)
