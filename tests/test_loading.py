"Loading by windows: the samples of the chain, with less work, and the same complaints."

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from benchmarks import loading as benchmark
from danet_nb.datasets import DataError, SegmentationDataset, load_image, load_pair
from danet_nb.loading import Window, fast_sample, read_label, read_reduced, read_window, sample_of
from danet_nb.published_sets import open_dataset
from danet_nb.training import Samples, batches
from danet_nb.transforms import denormalize, resize_image, training_transform

SIDE = ((97, 131), (64, 64), (250, 40))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def smooth(size, seed=0):
    "A picture without hard edges, as `(H, W, 3)` bytes; `size` is (height, width)."
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def files(folder, kind="png", size=(97, 131), count=4, mode="RGB", **options):
    "A data set of files: smooth images, blocks of five classes and void."
    samples = {}
    for k in range(count):
        image, label = folder / f"{k}.{kind}", folder / f"{k}_label.png"
        Image.fromarray(smooth(size, k)).convert(mode).save(image, **options)
        ids = np.random.default_rng(k).integers(0, 6, (5, 7)).astype(np.uint8)
        ids[ids == 5] = 255
        Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST).save(label)
        samples[str(k)] = partial(load_pair, image, label, num_classes=5)
    return SegmentationDataset(samples, "abcde", np.zeros((5, 3)))


def levels(x, y):
    "The largest distance of two normalised images, in levels of 255."
    return (255 * (denormalize(x) - denormalize(y))).abs().max().item()


@pytest.mark.parametrize("size", SIDE)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_windows_are_those_of_the_chain(tmp_path, size, mode, kind):
    dataset = files(tmp_path, kind, size, mode=mode)
    chain = training_transform(72, (0.5, 2.0))
    for seed in range(12):
        x, y = fast_sample(dataset, seed % 4, chain, seeded(seed))
        u, v = chain(*dataset[seed % 4], seeded(seed))
        assert torch.equal(y, v) and levels(x, u) <= 2.1


@pytest.mark.parametrize("scale", [(0.05, 0.2), (0.5, 0.5), (0.3, 1.0)])
def test_jpeg_at_reduced_size_is_nearly_the_same(tmp_path, scale):
    dataset = files(tmp_path, "jpg", (301, 403), quality=95)
    chain = training_transform(40, scale)
    for seed in range(12):
        x, y = fast_sample(dataset, seed % 4, chain, seeded(seed))
        u, v = chain(*dataset[seed % 4], seeded(seed))
        assert torch.equal(y, v)
        assert (255 * (denormalize(x) - denormalize(u))).abs().mean() < 2


@pytest.mark.parametrize("side", [7, 8, 100, 301, 333])
def test_jpeg_is_never_smaller_than_what_is_wanted(tmp_path, side):
    Image.fromarray(smooth((301, 403))).save(tmp_path / "a.jpg")
    picture, size = read_reduced(tmp_path / "a.jpg", (side, side))
    assert min(picture.size) >= min(side, 301)
    assert size[0] / size[1] == pytest.approx(403 / 301)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pictures_are_turned_as_their_camera_was(tmp_path, tag, kind):
    note = Image.Exif()
    note[274] = tag
    Image.fromarray(smooth((60, 90))).save(tmp_path / f"a.{kind}", exif=note, quality=95)
    image = load_image(tmp_path / f"a.{kind}")
    source = tuple(image.shape[1:])
    for size in (source, (source[0] * 2, source[1] * 2)):
        window = Window(size, 5, 9, 30, 40)
        chain = resize_image(image, size)[:, 5:35, 9:49]
        assert (read_window(tmp_path / f"a.{kind}", window, source).int() - chain).abs().max() <= 2


def test_deep_grey_and_decimals(tmp_path):
    deep = smooth((40, 50))[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    whole = read_window(tmp_path / "deep.png", Window((40, 50), 0, 0, 40, 50), (40, 50))
    assert torch.equal(whole, load_image(tmp_path / "deep.png"))
    Image.new("F", (50, 40)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="f.tif: mode F has no known white"):
        read_window(tmp_path / "f.tif", Window((40, 50), 0, 0, 40, 50), (40, 50))


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "RGB"])
def test_labels_of_every_kind(tmp_path, mode):
    ids = np.random.default_rng(0).integers(0, 2 if mode == "1" else 5, (30, 40))
    picture = Image.fromarray(ids.astype(np.uint8))
    colors = {}
    if mode == "P":
        picture.putpalette([9, 9, 9, 0, 200, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    if mode == "1":
        picture = Image.fromarray(ids.astype(bool))
    if mode == "I;16":
        picture = Image.fromarray(ids.astype(np.uint16))
    if mode == "RGB":
        colors = {(k, 0, 255): k for k in range(5)}
        picture = Image.fromarray(np.array(list(colors), dtype=np.uint8)[ids])
    picture.save(tmp_path / "a.png")
    label = read_label(tmp_path / "a.png", num_classes=5, remap={0: 255}, colors=colors)
    wanted = np.where(ids == 0, 255, ids)
    assert np.array_equal(label.window(Window((30, 40), 0, 0, 30, 40)), wanted)
    assert np.array_equal(label.window(Window((60, 80), 20, 10, 9, 30)),
                          wanted.repeat(2, 0).repeat(2, 1)[20:29, 10:40])  # fmt: skip


def test_palettes_whose_places_mean_nothing(tmp_path):
    "A tool has packed a painted label: the colours count, not the places."
    colors = {(255, 0, 0): 0, (0, 255, 0): 1, (0, 0, 255): 2}
    ids = np.random.default_rng(0).integers(0, 3, (16, 16))
    painted = Image.fromarray(np.array(list(colors), dtype=np.uint8)[ids])
    painted.quantize(5).save(tmp_path / "a.png")
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), ids)
    label = read_label(tmp_path / "a.png", num_classes=3, colors=colors)
    assert np.array_equal(label.window(Window((16, 16), 0, 0, 16, 16)), ids)


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    if how == "empty":
        path.write_bytes(b"")
    if how == "gone":
        path.unlink()
    if how == "small":
        Image.open(path).resize((30, 20), Image.Resampling.NEAREST).save(path)
    if how == "turned":
        Image.open(path).rotate(90, expand=True).save(path)


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("how", ["cut", "empty", "gone", "small", "turned"])
def test_bad_files_are_named_as_before(tmp_path, kind, part, how):
    dataset = files(tmp_path, kind, (200, 260))
    damaged(dataset.samples["1"].args[part], how)
    with pytest.raises(DataError) as plain:
        dataset[1]
    with pytest.raises(DataError) as fast:
        sample_of(dataset, 1, training_transform(32, (0.1, 0.4)), seeded(0))
    assert str(fast.value) == str(plain.value)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_samples_are_the_same_however_many_processes_load(tmp_path, kind):
    dataset = files(tmp_path, kind, (90, 120))
    chain = training_transform(48, (0.3, 2.0), jitter=0.3, blur=0.5)
    samples = Samples(dataset, chain, seed=3)
    loads = [list(batches(samples, 3, 1, 5, workers)) for workers in (0, 1, 2)]
    assert len(loads[0]) == 4
    for load in loads[1:]:
        assert_close(load, loads[0], atol=0, rtol=0)
    assert_close(list(batches(samples, 3, 2, 5, 2)), loads[0][1:], atol=0, rtol=0)


def test_nothing_is_changed_where_nothing_is_scaled(tmp_path):
    dataset = files(tmp_path)
    chain = training_transform(60, (1.0, 1.0))
    for seed in range(8):
        fast = fast_sample(dataset, seed % 4, chain, seeded(seed))
        assert_close(fast, chain(*dataset[seed % 4], seeded(seed)), atol=0, rtol=0)


def test_sets_that_are_no_files_stay_with_the_chain():
    scenes = open_dataset("scenes", count=2)
    chain = training_transform(60)
    assert fast_sample(scenes, 0, chain, seeded(0)) is None
    assert_close(sample_of(scenes, 0, chain, seeded(0)), chain(*scenes[0], seeded(0)))
    assert fast_sample(scenes, 0, lambda *pair: pair[:2], seeded(0)) is None


# The benchmark


@pytest.mark.parametrize("name", benchmark.ways())
def test_the_loaders_give_samples_of_one_form(tmp_path, name):
    paths = benchmark.write_street(tmp_path, (48, 96), "png")
    torch.manual_seed(0)
    image, label = benchmark.ways()[name](paths, 32)(0)
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    assert label.shape == (32, 32) and -3 < image.min() < image.max() < 3
    assert set(label.unique().tolist()) <= {*range(19), 255}


def test_the_benchmark_measures(tmp_path):
    rows = benchmark.measure([("tiny", (48, 96), 32)], ("png", "jpg"), repeats=1, count=2)
    assert {row["file"] for row in rows} == {"png", "jpg"}
    assert all(row["images per second and core"] > 0 for row in rows)
    assert any(row["way"] == "ours" for row in rows)
