"Recipes: published settings by name. What is given wins, and only settings are stored."

import copy
import json
import pickle
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from danet_nb.cli import main, parse
from danet_nb.config import NetworkConfig
from danet_nb.danet import DANet
from danet_nb.runs import read_run, settings_of
from danet_nb.settings import RECIPES, TrainConfig, read_settings
from danet_nb.training import make_optimizer

ROOT = Path(__file__).parents[1]
NAMES = sorted(RECIPES)
DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}
TINY = (
    "--backbone small --channels 8 --crop-size 32 --batch-size 2 --steps 1 --count 4 "
    "--val-count 1 --device cpu --no-progress"
)


def network(config):
    "The network of the settings, without memory for its weights."
    options = {field.name: getattr(config, field.name) for field in fields(NetworkConfig)}
    with torch.device("meta"):
        return DANet(num_classes=19, **options)


def complaint(words):
    "The sentence, or the status, with which the command ends."
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_plain_settings(name):
    "Nothing remembers the name: the object, its JSON and its copies are those of the settings."
    config = TrainConfig(recipe=name)
    values = asdict(config)
    assert "recipe" not in values and "recipe" not in vars(config)
    assert values == {**DEFAULTS, **RECIPES[name]}
    assert TrainConfig(**RECIPES[name]) == config
    assert TrainConfig(**json.loads(json.dumps(values))) == config
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert replace(config, steps=3).learning_rate == config.learning_rate


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("setting", sorted(RECIPES["authors"].keys() - {"backbone"}))
def test_what_is_given_wins_even_where_it_is_the_default(name, setting):
    config = TrainConfig(recipe=name, **{setting: DEFAULTS[setting]})
    assert asdict(config) == {**DEFAULTS, **RECIPES[name], setting: DEFAULTS[setting]}


@pytest.mark.parametrize("name", NAMES)
def test_the_small_backbone_leaves_behind_what_it_cannot_have(name):
    config = TrainConfig(recipe=name, backbone="small")
    left = {key: DEFAULTS[key] for key in ("backbone", "pretrained", "multi_grid")}
    assert asdict(config) == {**DEFAULTS, **RECIPES[name], **left}
    assert network(config).backbone.output_stride == 8


def test_no_recipe_changes_nothing():
    assert asdict(TrainConfig()) == asdict(TrainConfig(recipe=None)) == DEFAULTS


@pytest.mark.parametrize("wrong", ["author", "", "AUTHORS", 3, ["authors"]])
def test_unknown_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match="it has to be one of authors, mmsegmentation"):
        TrainConfig(recipe=wrong)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_without_effect_is_refused(name):
    "`replace` gives every setting: another recipe would be passed over without a word."
    with pytest.raises(ValueError, match="has no effect"):
        replace(TrainConfig(), recipe=name)


def test_the_networks_are_those_of_the_published_files():
    "Dilations and number of parameters: 23,954,619 in the authors' head for 19 classes."
    authors = network(TrainConfig(recipe="authors"))
    theirs = network(TrainConfig(recipe="mmsegmentation"))
    dilations = [block.conv2.dilation[0] for block in authors.backbone.layer4]
    assert dilations == [4, 8, 16]
    assert [block.conv2.dilation[0] for block in theirs.backbone.layer4] == [2, 4, 4]
    assert sum(p.numel() for p in authors.head.parameters()) == 23_954_619
    assert list(authors.head.classifiers) == ["fused", "position", "channel"]
    assert list(theirs.head.classifiers) == ["fused", "position", "channel", "auxiliary"]


@pytest.mark.parametrize(
    ("name", "rates", "decay"),
    [("authors", [0.003, 0.03], 1e-4), ("mmsegmentation", [0.01, 0.01], 5e-4)],
)
def test_the_optimizers_are_the_published_ones(name, rates, decay):
    config = TrainConfig(recipe=name, backbone="small", channels=8)
    optimizer = make_optimizer(network(config), config)
    groups = optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx(rates)
    assert all((g["momentum"], g["weight_decay"]) == (0.9, decay) for g in groups)


def test_the_command_line_orders_them(tmp_path):
    "Typed over file, file over recipe, recipe over defaults."
    path = tmp_path / "settings.json"
    path.write_text('{"steps": 60, "learning_rate": 0.2}')
    words = ["train", "--recipe", "authors", "--config", str(path), "--steps", "50"]
    assert parse(words) == TrainConfig(recipe="authors", learning_rate=0.2, steps=50)
    same = ["train", "--steps=50", "--learning-rate=0.2", "--recipe=authors"]
    assert parse(same) == parse(words)
    for name in NAMES:
        assert parse(["train", "--recipe", name]) == TrainConfig(recipe=name)
        small = parse(["train", "--backbone", "small", "--recipe", name])
        assert small == TrainConfig(recipe=name, backbone="small")


def test_files_may_name_a_recipe(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"recipe": "mmsegmentation", "steps": 60}')
    assert TrainConfig(**read_settings(path)) == TrainConfig(recipe="mmsegmentation", steps=60)
    assert parse(["train", "--config", str(path)]).steps == 60
    path.write_text('{"recipe": "ours"}')
    said = complaint(["train", "--config", path])
    assert said.startswith(f"danet train: {path}: recipe is 'ours'; it has to be one of")


def test_the_command_line_refuses_in_words(tmp_path, capsys):
    assert complaint(["train", "--recipe", "ours"]) == 2
    assert "mmsegmentation" in capsys.readouterr().err
    path = tmp_path / "config.json"
    path.write_text(json.dumps(asdict(TrainConfig())))
    assert "has no effect" in complaint(["train", "--config", path, "--recipe", "authors"])


def test_a_run_says_everything(tmp_path):
    "The recipe's settings stand in `config.json`, by name, and repeat the run without it."
    out = tmp_path / "run"
    main(["train", "--recipe", "authors", "--out", str(out), *TINY.split()])
    found = json.loads((out / "config.json").read_text())
    assert "recipe" not in found and "recipe" not in found["run"]
    assert found["run"]["learning_rate"] == 0.003 and found["run"]["scale"] == [0.75, 2.0]
    expected = parse(["train", "--recipe", "authors", "--out", str(out), *TINY.split()])
    assert settings_of(read_run(out)) == expected
    assert parse(["train", "--config", str(out / "config.json")]) == expected


def test_older_runs_are_what_they_were():
    "A run of a time before recipes is read as it was written."
    settings = settings_of(read_run(ROOT / "results/camvid"))
    assert (settings.optimizer, settings.learning_rate, settings.crop_size) == ("adamw", 0.002, 256)
