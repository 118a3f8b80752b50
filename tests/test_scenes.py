"The committed scenes, and properties over many seeds and sizes."

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from danet_nb.scenes import CLASSES, LAMPS, WORLDS, plan, scene, split_seeds, write_worlds

DATA = Path(__file__).parents[1] / "data"
COUNTS = {"train": 200, "val": 60}
SIZE = 96
any_scene = dict(seed=st.integers(0, 2**64 - 1), size=st.integers(64, 200))


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize("world", WORLDS)
def test_committed_files_are_what_the_generator_makes(world, split):
    folder = DATA / WORLDS[world] / split
    names = [f"{k:04d}.png" for k in range(COUNTS[split])]
    for part in ("images", "labels"):
        assert sorted(path.name for path in (folder / part).iterdir()) == names
    for name, seed in zip(names, split_seeds(split, COUNTS[split]), strict=True):
        expected = scene(seed, SIZE, world)
        assert np.array_equal(pixels(folder / "images" / name), expected.image), name
        assert np.array_equal(pixels(folder / "labels" / name), expected.label), name


@pytest.mark.parametrize("world", WORLDS)
def test_committed_folders_say_what_they_hold(world):
    assert (DATA / WORLDS[world] / "classes.txt").read_text().splitlines() == list(CLASSES)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(size=0), "size=0"),
        (dict(size=63), "size=63"),
        (dict(train=0), "train is 0"),
        (dict(val=-1), "val is -1"),
        (dict(train=2_000_000), "count=2000000"),
    ],
)
def test_a_refused_command_leaves_nothing(tmp_path, options, words):
    "So the corrected command finds its place free."
    with pytest.raises(ValueError, match=words):
        write_worlds(tmp_path / "data", **{"train": 1, "val": 1, **options})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("used", ["scenes/val", "scenes-control/train", "scenes/classes.txt"])
def test_folders_in_use_are_left_alone(tmp_path, used):
    (tmp_path / used).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="is there already: choose another folder"):
        write_worlds(tmp_path, train=1, val=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_committed_data_stay_small():
    assert sum(f.stat().st_size for f in DATA.rglob("*") if f.is_file()) < 5_000_000


@settings(max_examples=60, deadline=None)
@given(**any_scene)
def test_the_lamp_is_the_only_evidence(seed, size):
    red, green = (scene(seed, size, lamp=lamp) for lamp in LAMPS)
    changed, boats = (red.image != green.image).any(-1), red.label == 5
    assert changed.any() and boats.any()
    assert (red.label[changed] == 3).all() and (green.label[boats] == 4).all()
    assert np.array_equal(red.label[~boats], green.label[~boats])
    assert red.distance[changed].max() < 0.08 * size


@settings(max_examples=60, deadline=None)
@given(**any_scene)
def test_the_control_has_the_same_bay_and_ignores_the_lamp(seed, size):
    far = scene(seed, size)
    red, green = (scene(seed, size, "control", lamp) for lamp in LAMPS)
    assert np.array_equal(red.label, green.label)
    assert np.array_equal(np.minimum(far.label, 4), np.minimum(red.label, 4))
    assert np.array_equal(far.distance, red.distance)
    bay = far.label < 3
    assert (far.image != red.image).any()
    assert np.array_equal(far.image[bay], red.image[bay])


@settings(max_examples=60, deadline=None)
@given(**any_scene, hue=st.sampled_from((0, 1)), other=st.sampled_from(LAMPS))
def test_a_boat_of_the_pair_follows_its_own_lamp_alone(seed, size, hue, other):
    "Turning one of two lamps changes the labels of its boats, and no other pixel of a label."
    red, green = ([other, other], [other, other])
    red[hue], green[hue] = LAMPS
    before, after = (scene(seed, size, "pair", tuple(lamps)) for lamps in (red, green))
    boats = before.label != after.label
    assert (before.label[boats] == 5).all() and (after.label[boats] == 4).all()
    assert np.array_equal(before.distance, after.distance)
    changed = (before.image != after.image).any(-1)
    assert changed.any() and (before.label[changed] == 3).all()
    assert not boats[changed].any()
    assert ((before.label > 3) & ~boats).sum() == ((after.label > 3) & ~boats).sum()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_distances_of_the_pair_are_those_to_the_own_lamp(seed):
    "Slowly: the middle of each lamp from the pixels that it lights, the distance of every boat."
    lit = []
    for hue in (0, 1):
        pair = [("red", "red"), ("green", "red") if hue == 0 else ("red", "green")]
        images = [scene(seed, 128, "pair", lamps).image for lamps in pair]
        lit.append(np.argwhere((images[0] != images[1]).any(-1)).mean(0))
    for hue, middle in enumerate(lit):
        pair = [("red", "red"), ("green", "red") if hue == 0 else ("red", "green")]
        bays = [scene(seed, 128, "pair", lamps) for lamps in pair]
        for r, c in np.argwhere(bays[0].label != bays[1].label)[::50]:
            assert abs(np.hypot(r - middle[0], c - middle[1]) - bays[0].distance[r, c]) < 1.5


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), world=st.sampled_from(list(WORLDS)))
def test_no_boat_touches_another_or_leaves_the_picture(seed, world):
    boxes = [(x - s, x + s, y - 2 * s, y + s // 2) for x, y, s in plan(seed, world).boats]
    for left, right, top, bottom in boxes:
        assert left > 0 and right < 1024 and top > 0 and bottom < 1024
    for a, b in combinations(boxes, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
