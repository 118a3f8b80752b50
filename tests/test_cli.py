"The command line from one end to the other: what it writes, what it says, and its status."

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_nb import __version__, comparison, demo
from danet_nb.cli import COMMANDS, main
from danet_nb.published import load_danet
from danet_nb.runs import read_metrics, read_run, settings_of

TINY = (
    "--count 8 --val-count 2 --batch-size 2 --crop-size 48 --channels 16 "
    "--log-every 1 --evaluate-every 2 --device cpu --no-progress"
).split()
OPTIONS = {
    "train": (
        "config recipe "
        "backbone attention channel-form channels output-stride multi-grid stem stem-width "
        "width pretrained start-from auxiliary no-auxiliary align-corners no-align-corners dropout "
        "data root count val-count cache no-cache crop-size scale flip jitter rotation "
        "blur workers out "
        "optimizer learning-rate head-factor momentum weight-decay power steps batch-size "
        "loss-weights class-weights log-every evaluate-every checkpoint-every seed device amp "
        "no-amp progress no-progress reduction dilate-second no-dilate-second on-grid no-on-grid "
        "in-channels"
    ),
    "evaluate": (
        "split root count window scales flip no-flip device checkpoint progress no-progress "
        "merge amp no-amp protocol batch"
    ),
    "predict": (
        "run out window scales flip no-flip device checkpoint progress no-progress "
        "merge amp no-amp overwrite no-overwrite"
    ),
    "explore": "port browser no-browser device multi-grid align-corners no-align-corners",
    "convert": "multi-grid align-corners no-align-corners",
    "export": ("normalise no-normalise argmax no-argmax multi-grid align-corners no-align-corners"),
    "demo": "out root seeds steps processes progress no-progress networks",
    "ablate": "out data root demo seeds steps processes progress no-progress",
    "scenes": "train val size",
    "submit": "protocol batch partial no-partial device checkpoint progress no-progress",
    "data check": "data split checksums no-checksums in-channels threads progress no-progress",
    "data convert": "kind background colors val",
}


def danet(*words):
    main([str(word) for word in words])


def danet_process(*words, **options):
    "The installed command, in a process of its own."
    program = Path(sys.executable).parent / "danet"
    return subprocess.run([program, *words], capture_output=True, text=True, **options)


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
    name = "evaluation_val-count=3-window=64-scales=0.5,1.0-flip.json"
    scores = json.loads((run / name).read_text())
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
    settings = settings_of(read_run(tmp_path / "other"))
    assert (settings.seed, settings.class_weights) == (1, (1, 1, 1, 1, 4, 4))
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
    (tmp_path / "old.json").write_text('{"config": 3}')
    (tmp_path / "no.json").write_text("{")
    image = picture(tmp_path / "x.png")
    out = ["--out", tmp_path / "none", "--device", "cpu"]
    for words, part in {
        ("evaluate", tmp_path): "holds no run",
        ("evaluate", run, "--split", "tset"): "no split",
        ("evaluate", run, "--scales", "0"): "above 0",
        ("predict", image, "--run", tmp_path): "holds no run",
        ("predict", tmp_path / "empty", "--run", run): "no images",
        ("train", "--data", "camvid", *out): "root",
        ("train", "--data", "camvid", "--root", tmp_path / "x", *out): "no such folder",
        ("train", "--data", "scene", *out): "did you mean",
        ("train", "--class-weights", "0,0,0", *out): "one of them has to be above 0",
        ("train", "--crop-size", "1", *out): "16 or more",
        ("train", "--out", ""): "name a folder for the run",
        ("predict",): "no image is named",
        ("demo", "--seeds", "0"): "1 or more",
        ("ablate", "--steps", "0"): "1 or more",
        ("ablate", "--data", "cam-vid"): "did you mean 'camvid'",
        ("train", "--steps", "0", *out): "1 or more",
        ("train", "--config", tmp_path / "nowhere.json"): "nowhere.json",
        ("train", "--config", tmp_path / "typo.json"): "no such settings: step;",
        ("train", "--config", tmp_path / "list.json"): "no JSON object",
        ("train", "--config", tmp_path / "kind.json"): "kind.json: steps is",
        ("train", "--config", tmp_path / "old.json"): "old.json",
        ("train", "--config", tmp_path / "no.json"): "no JSON",
    }.items():
        assert part in complaint(*words)
    assert not (tmp_path / "none").exists()


def test_the_parser_refuses_with_status_2(capsys):
    "What cannot be typed is refused by the parser, which names the option and the choices."
    for words, part in {
        ("train", "--scale", "big"): "'big' is not a number",
        ("train", "--steps", "1.5"): "--steps: '1.5' is not a whole number",
        ("train", "--channels", "1.5"): "--channels: '1.5' is not a whole number",
        ("train", "--attention", "dual"): "'channel'",
        ("train", "--stepz", "3"): "--steps",
        ("train", "--config"): "--config",
        ("evaluate",): "RUN",
        ("evaluate", "r", "--checkpoint", "first"): "'last'",
        ("evaluate", "r", "--window", "1,2,3"): "give 2",
        ("trian",): "train",
    }.items():
        with pytest.raises(SystemExit) as end:
            danet(*words)
        assert end.value.code == 2 and part in capsys.readouterr().err


def test_installed_command(run, tmp_path):
    "One sentence on the error stream, no traceback, and status 1."
    done = danet_process("predict", tmp_path / "no.png", "--run", run, "--out", tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no.png: there is no such file" in done.stderr


def test_help_loads_nothing_heavy():
    "Help and typos are answered before torch, numpy and matplotlib could be loaded."
    for words in (["--help"], ["train", "--help"], ["trian"], ["--version"], ["train", "--x"]):
        code = (
            "import sys; from danet_nb.cli import main\n"
            f"try: main({words})\n"
            "except SystemExit: pass\n"
            "sys.exit(len({'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)


def test_help_survives_a_plain_terminal_and_a_closed_pipe():
    "Boxes need no UTF-8, and a reader that stops early is no error."
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert danet_process("train", "--help", env=plain).returncode == 0
    line = f"{Path(sys.executable).parent / 'danet'} train --help | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("usage: danet train")


def test_completion():
    "The script for the shell knows the commands and their options."
    done = danet_process("--tyro-print-completion", "bash")
    assert done.returncode == 0 and "--loss-weights" in done.stdout


def test_version(capsys):
    danet("--version")
    assert capsys.readouterr().out == f"{__version__}\n"


def test_no_result_is_overwritten(run, tmp_path):
    "`predict` into the folder of one's own labels leaves them as they are."
    image = picture(tmp_path / "a.png")
    truth = picture(tmp_path / "a_label.png", mode="L")
    before = truth.read_bytes()
    words = ("predict", image, "--run", run, "--out", tmp_path, "--device", "cpu")
    assert "a_label.png is there already" in complaint(*words)
    assert truth.read_bytes() == before and not (tmp_path / "a_overlay.png").exists()
    danet(*words, "--overwrite")
    assert truth.read_bytes() != before


def test_scores_of_a_part_leave_those_of_the_whole(run):
    "Only the same question writes the same file again."
    how = ("--device", "cpu", "--no-progress")
    danet("evaluate", run, *how)
    whole = (run / "evaluation_val.json").read_bytes()
    danet("evaluate", run, "--count", 1, *how)
    danet("evaluate", run, "--checkpoint", "last", *how)
    assert (run / "evaluation_val.json").read_bytes() == whole
    assert (run / "evaluation_val-count=1.json").exists()
    assert (run / "evaluation_val-checkpoint=last.json").exists()


def test_an_interrupted_run_can_be_converted_and_exported(run, tmp_path):
    "Neither command needs the summary that a run writes at its end."
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    danet("convert", tmp_path / "run", tmp_path / "network")
    assert load_danet(tmp_path / "network").config.classes == read_run(run).classes
    danet("export", tmp_path / "run", tmp_path / "run.pt2")
    assert (tmp_path / "run.pt2").exists()


def test_export_refuses_a_missing_folder_at_once(run, tmp_path):
    assert "none" in complaint("export", run, tmp_path / "none" / "run.onnx")


def test_operating_system_errors_are_sentences(run, tmp_path):
    "Path and cure, and nothing like `[Errno 20]`."
    file = tmp_path / "file"
    file.touch()
    image = picture(tmp_path / "x.png")
    for words in (
        ("train", "--config", tmp_path),
        ("train", "--config", tmp_path / "no.json"),
        ("train", "--steps", 1, "--out", file, *TINY),
        ("train", "--steps", 1, "--out", file / "run", *TINY),
        ("scenes", file, "--train", 1, "--val", 1),
        ("scenes", file / "scenes", "--train", 1, "--val", 1),
        ("predict", image, "--run", run, "--out", file, "--device", "cpu"),
        ("predict", image, "--run", run, "--out", file / "out", "--device", "cpu"),
        ("convert", run, file),
        ("evaluate", file),
        ("evaluate", run, "--root", file, "--device", "cpu"),
    ):
        text = complaint(*words)
        assert "Errno" not in text and "Traceback" not in text and str(tmp_path) in text, text


def test_scenes_from_a_folder_of_something_else(run, tmp_path):
    "`--root` with `--data scenes` is not passed over: the folder has to hold the scenes."
    root = own_data(tmp_path / "pets", ["cat", "dog"])
    text = complaint("train", "--root", root, "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert "--data folder" in text and not (tmp_path / "run").exists()
    assert "--data folder" in complaint("evaluate", run, "--root", root, "--device", "cpu")


def test_failed_scenes_leave_nothing(tmp_path):
    "The corrected command works."
    complaint("scenes", tmp_path / "s", "--size", 0)
    assert not (tmp_path / "s").exists()
    danet("scenes", tmp_path / "s", "--train", 1, "--val", 1, "--size", 64)


def test_a_run_of_a_relative_root_is_evaluated_from_elsewhere(tmp_path, monkeypatch):
    own_data(tmp_path / "pets", ["cat", "dog"])
    monkeypatch.chdir(tmp_path)
    danet("train", "--data", "folder", "--root", "pets", "--out", "run", "--steps", 2, *TINY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    danet("evaluate", tmp_path / "run", "--device", "cpu", "--no-progress")
    shutil.rmtree(tmp_path / "pets")
    assert "--root" in complaint("evaluate", tmp_path / "run", "--device", "cpu")


def test_demo_without_the_repository(tmp_path, monkeypatch):
    "Without a `data` folder the demo writes the scenes itself, once, and ends with its report."
    monkeypatch.chdir(tmp_path)
    write = demo.write_worlds
    monkeypatch.setattr(demo, "write_worlds", lambda path: write(path, train=4, val=2, size=64))
    monkeypatch.setattr(  # in this process
        demo, "train_all", lambda configs, *_: [comparison.train(config) for config in configs]
    )
    monkeypatch.setitem(demo.RECIPE, "crop_size", 64)
    monkeypatch.setitem(demo.RECIPE, "progress", False)
    for _ in range(2):
        danet("demo", "--seeds", 1, "--steps", 1, "--no-progress", "--networks", "kept")
    assert load_danet("kept/pair-both").config.attention == "both"
    out = tmp_path / "runs/demo"
    files = sorted(p.name for p in out.iterdir() if p.is_file())
    assert files == ["evidence.jsonl", "evidence.md", "metrics.jsonl", "table.md"]
    assert len(list((out / "figures").glob("*.png"))) == 5
    assert (out / "data/scenes-control/val/labels/0001.png").exists()


def test_help_names_every_option(capsys):
    "Every command explains itself, and every option has the name that it always had."
    assert set(OPTIONS) == set(COMMANDS)
    for name, options in OPTIONS.items():
        with pytest.raises(SystemExit) as end:
            danet(name, "--help")
        text = capsys.readouterr().out
        assert end.value.code == 0 and text.startswith(f"usage: danet {name} ")
        printed = set(re.findall(r"--([a-z][a-z-]*)", text))
        assert printed == {*options.split(), "help"}, name


def test_help_shows_choices_and_groups(capsys):
    with pytest.raises(SystemExit):
        danet("train", "--help")
    text = capsys.readouterr().out
    assert "{none,position,channel,both,convolution}" in text and "{8,16,32}" in text
    for group in ("network", "start", "data", "learning", "output"):
        assert f"{group} options" in text


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


def train_on(data, out):
    "The words that train two steps on a folder of one's own."
    return ["train", "--data", "folder", "--root", data, "--out", out, "--steps", 2, *TINY]


def test_a_run_is_not_scored_on_other_classes(tmp_path):
    "The same classes in another order would give each IoU to the wrong name."
    data, other = (
        own_data(tmp_path / "data", ["earth", "water"]),
        own_data(tmp_path / "other", ["water", "earth"]),
    )
    words = train_on(data, tmp_path / "run")
    danet(*words)
    assert "was trained on the classes earth, water" in complaint(
        "evaluate", tmp_path / "run", "--root", other
    )
    assert "was trained on the classes earth, water" in complaint(*words, "--root", other)


def test_a_bad_file_found_by_a_loading_process_is_named_in_one_sentence(tmp_path):
    data = own_data(tmp_path / "data", ["earth", "water"])
    (data / "train/images/a.png").write_bytes(b"no image")
    words = complaint(*train_on(data, tmp_path / "run"), "--workers", 2)
    assert "a.png" in words and "Traceback" not in words
