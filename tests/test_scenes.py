"The committed scenes, and properties over many seeds and sizes."

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from danet_nb.scenes import LAMPS, WORLDS, plan, scene, split_seeds

DATA = Path(__file__).parents[1] / "data"
COUNTS = {"train": 200, "val": 60}
SIZE = 96
any_scene = dict(seed=st.integers(0, 2**64 - 1), size=st.integers(64, 200))


@pytest.mark.parametrize("split", COUNTS)
@pytest.mark.parametrize("world", WORLDS)
def test_committed_files_are_what_the_generator_makes(world, split):
    folder, names = DATA / WORLDS[world] / split, [f"{k:04d}.png" for k in range(COUNTS[split])]
    for part in ("images", "labels"):
        assert sorted(f.name for f in (folder / part).iterdir()) == names
    for name, seed in zip(names, split_seeds(split, COUNTS[split])):
        expected = scene(seed, SIZE, world)
        assert np.array_equal(np.asarray(Image.open(folder / "images" / name)), expected.image), (
            name,
            "image",
        )
        assert np.array_equal(np.asarray(Image.open(folder / "labels" / name)), expected.label), (
            name,
            "label",
        )


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
    assert np.array_equal(np.minimum(far.label, 4), np.minimum(red.label, 4)) and np.array_equal(
        far.distance, red.distance
    )
    assert (far.image != red.image).any() and np.array_equal(
        far.image[far.label < 3], red.image[far.label < 3]
    )


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_no_boat_touches_another_or_leaves_the_picture(seed):
    boxes = [(x - s, x + s, y - 2 * s, y + s // 2) for x, y, s in plan(seed).boats]
    assert all(l > 0 and r < 1024 and t > 0 and b < 1024 for l, r, t, b in boxes)
    for i, (l, r, t, b) in enumerate(boxes):
        assert all(r <= l2 or r2 <= l or b <= t2 or b2 <= t for l2, r2, t2, b2 in boxes[:i])
