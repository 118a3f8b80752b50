"The command line from one end to the other: what it writes, what it says, and with which status it ends."

import json
import subprocess
import sys
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from danet_nb import comparison
from danet_nb.cli import COMMANDS, main
from danet_nb.runs import read_metrics, read_run

TINY = "--count 8 --val-count 2 --batch-size 2 --crop-size 48 --channels 16 --log-every 1 --evaluate-every 2 --device cpu --no-progress".split()


def danet(*words):
    main([str(word) for word in words])


def complaint(*words):
    "The sentence with which the command ends; its status is 1."
    with pytest.raises(SystemExit) as end:
        danet(*words)
    assert isinstance(end.value.code, str) and end.value.code.startswith(f"danet {words[0]}: ")
    return end.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run of three steps on generated scenes."
    out = tmp_path_factory.mktemp("cli") / "run"
    danet("train", "--out", out, "--steps", 3, *TINY)
    return out


def picture(path, size=(40, 24), mode="RGB", seed=0):
    "An image file of random pixels; `size` is (width, height)."
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_train_evaluate(run, capsys):
    "Training and evaluation leave the files and print the lines that they promise."
    assert {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "figures"} <= {
        p.name for p in run.iterdir()
    }
    danet(
        "evaluate",
        run,
        "--count",
        3,
        "--flip",
        "--scales",
        "0.5,1.0",
        "--window",
        64,
        "--device",
        "cpu",
        "--no-progress",
    )
    scores = json.loads((run / "evaluation_val.json").read_text())
    assert (scores["images"], scores["window"], scores["scales"], scores["flip"]) == (
        3,
        64,
        [0.5, 1.0],
        True,
    )
    assert "lighthouse" in capsys.readouterr().out


def test_config_repeats_a_run(run, tmp_path):
    "The config.json of a run repeats it, number by number; an option wins over the file."
    danet("train", "--config", run / "config.json", "--out", tmp_path / "same")
    assert read_metrics(tmp_path / "same") == read_metrics(run)
    danet(
        "train",
        "--config",
        run / "config.json",
        "--out",
        tmp_path / "other",
        "--seed",
        1,
        "--class-weights",
        "1.0,1.0,1.0,1.0,4.0,4.0",
    )
    config = read_run(tmp_path / "other")["config"]
    assert (config["seed"], config["class_weights"]) == (1, [1, 1, 1, 1, 4, 4])
    assert read_metrics(tmp_path / "other") != read_metrics(run)


def test_the_same_command_twice(run):
    "A finished run is not trained again, and other settings in its folder are refused by name."
    before = (run / "checkpoints/last.pt").stat().st_mtime_ns
    danet("train", "--out", run, "--steps", 3, *TINY)
    assert (run / "checkpoints/last.pt").stat().st_mtime_ns == before
    assert "steps (3 there, 4 here)" in complaint("train", "--out", run, "--steps", 4, *TINY)


@pytest.mark.parametrize(
    "size, mode",
    [((40, 24), "RGB"), ((1, 1), "RGB"), ((131, 7), "L"), ((30, 50), "RGBA"), ((20, 20), "P")],
)
def test_predict_any_image(run, tmp_path, size, mode):
    "Label and overlay have the size of the image, whatever its size and mode."
    path = picture(tmp_path / "image.png", size, mode)
    danet("predict", path, "--run", run, "--out", tmp_path / "out", "--device", "cpu")
    with (
        Image.open(tmp_path / "out/image_label.png") as label,
        Image.open(tmp_path / "out/image_overlay.png") as overlay,
    ):
        assert label.size == overlay.size == size and (label.mode, overlay.mode) == ("P", "RGB")
        assert np.asarray(label).max() < 6


def test_bad_images_among_good_ones(run, tmp_path, capsys):
    "The good images get their results, the bad ones are named, and the command fails."
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        picture(folder / f"good{k}.png", seed=k)
    (folder / "empty.png").touch()
    (folder / "half.png").write_bytes((folder / "good0.png").read_bytes()[:700])
    text = complaint(
        "predict",
        folder,
        tmp_path / "missing.png",
        "--run",
        run,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--no-progress",
    )
    assert "3 of 6 images" in text and all(
        name in text for name in ("empty.png", "half.png", "missing.png")
    )
    assert len(list((tmp_path / "out").iterdir())) == 6 and "good2.png: " in capsys.readouterr().out


def test_images_of_one_name_are_refused(run, tmp_path):
    "Two images whose results would overwrite each other are refused before anything is written."
    for name in "ab":
        (tmp_path / name).mkdir()
    pair = [picture(tmp_path / name / "x.png") for name in "ab"]
    assert "several images are called x" in complaint(
        "predict", *pair, "--run", run, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_wrong_input_ends_in_one_sentence(run, tmp_path):
    "Wrong paths and settings are named, with the cure."
    (tmp_path / "empty").mkdir()
    (tmp_path / "typo.json").write_text('{"step": 3}')
    (tmp_path / "list.json").write_text("[3]")
    (tmp_path / "kind.json").write_text('{"steps": "many"}')
    (tmp_path / "no.json").write_text("{")
    image = picture(tmp_path / "x.png")
    out = ["--out", tmp_path / "none", "--device", "cpu"]
    for words, part in {
        ("evaluate", tmp_path): "holds no run",
        ("evaluate", run, "--split", "tset"): "no split",
        ("evaluate", run, "--checkpoint", "first"): 'choose "best" or "last"',
        ("evaluate", run, "--scales", "0"): "above 0",
        ("predict", image, "--run", tmp_path): "holds no run",
        ("predict", tmp_path / "empty", "--run", run): "no images",
        ("train", "--data", "camvid", *out): "root",
        ("train", "--data", "camvid", "--root", tmp_path / "x", *out): "no such folder",
        ("train", "--data", "scene", *out): "did you mean",
        ("train", "--attention", "dual", *out): "choose one of",
        ("train", "--steps", "0", *out): "1 or more",
        ("train", "--config", tmp_path / "nowhere.json"): "nowhere.json",
        ("train", "--config", tmp_path / "typo.json"): "no such settings: step;",
        ("train", "--config", tmp_path / "list.json"): "no JSON object",
        ("train", "--config", tmp_path / "kind.json"): "has to be",
        ("train", "--config", tmp_path / "no.json"): "no JSON",
    }.items():
        assert part in complaint(*words)
    assert not (tmp_path / "none").exists()


def test_the_parser_refuses_with_status_2(capsys):
    "What cannot be typed is refused by the parser, which names the option."
    for words, part in {
        ("train", "--scale", "big"): "--scale",
        ("train", "--steps", "1.5"): "--steps",
        ("evaluate",): "RUN",
        ("paint",): "paint",
    }.items():
        with pytest.raises(SystemExit) as end:
            danet(*words)
        assert end.value.code == 2 and part in capsys.readouterr().err


def test_installed_command(run, tmp_path):
    "The installed command prints one sentence on the error stream, no traceback, and ends with status 1."
    program = Path(sys.executable).parent / "danet"
    done = subprocess.run(
        [program, "predict", tmp_path / "no.png", "--run", run, "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 1
        and "Traceback" not in done.stderr
        and "no.png: there is no such file" in done.stderr
    )


def test_demo_without_the_repository(tmp_path, monkeypatch):
    "Where there is no `data` folder the demo writes the scenes itself, once, and ends with a table and three figures."
    monkeypatch.chdir(tmp_path)
    write = comparison.write_worlds
    monkeypatch.setattr(
        comparison, "write_worlds", lambda path: write(path, train=4, val=2, size=64)
    )
    monkeypatch.setattr(
        comparison, "train_all", lambda configs, *_: [comparison.train(c) for c in configs]
    )  # in this process
    monkeypatch.setitem(comparison.RECIPE, "crop_size", 64)
    monkeypatch.setitem(comparison.RECIPE, "progress", False)
    for _ in range(2):
        danet("demo", "--seeds", 1, "--steps", 1, "--no-progress")
    demo = tmp_path / "runs/demo"
    assert sorted(p.name for p in demo.iterdir() if p.is_file()) == ["metrics.jsonl", "table.md"]
    assert (
        len(list((demo / "figures").glob("*.png"))) == 3
        and (demo / "data/scenes-control/val/labels/0001.png").exists()
    )


def test_help_names_every_option(capsys):
    "Every command explains itself."
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            danet(name, "--help")
        assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: danet {name} ")


def own_data(root, classes):
    "Two images with labels of class 0 and 1, in the layout of one's own data."
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for name in "ab":
            picture(root / split / "images" / f"{name}.png", (24, 24))
            Image.fromarray(np.eye(24, dtype=np.uint8)).save(
                root / split / "labels" / f"{name}.png"
            )
    (root / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    return root


def test_a_run_is_not_scored_on_other_classes(tmp_path):
    "The same classes in another order would give each IoU to the wrong name."
    data, other = (
        own_data(tmp_path / "data", ["earth", "water"]),
        own_data(tmp_path / "other", ["water", "earth"]),
    )
    words = [
        "train",
        "--data",
        "folder",
        "--root",
        data,
        "--out",
        tmp_path / "run",
        "--steps",
        2,
        *TINY,
    ]
    danet(*words)
    assert "was trained on the classes earth, water" in complaint(
        "evaluate", tmp_path / "run", "--root", other
    )
    assert "was trained on the classes earth, water" in complaint(*words, "--root", other)


def test_a_bad_file_found_by_a_loading_process_is_named_in_one_sentence(tmp_path):
    data = own_data(tmp_path / "data", ["earth", "water"])
    (data / "train/images/a.png").write_bytes(b"no image")
    words = complaint(
        "train",
        "--data",
        "folder",
        "--root",
        data,
        "--out",
        tmp_path / "run",
        "--steps",
        2,
        *TINY,
        "--workers",
        2,
    )
    assert "a.png" in words and "Traceback" not in words
