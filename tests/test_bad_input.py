"""Bad files and odd ones: right pixels, or one DataError that names the file and the cure."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from danet_nb.danet import DANet
from danet_nb.datasets import (
    DataError,
    class_counts,
    load_image,
    load_label,
    load_pair,
)
from danet_nb.losses import cross_entropy
from danet_nb.published_sets import open_dataset
from danet_nb.scenes import CLASSES, WORLDS, write_worlds
from danet_nb.transforms import training_transform

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
GREY = RGB[..., 0]
IDS = rng.integers(0, 5, (9, 13), dtype=np.uint8)
FUZZ = settings(max_examples=400, deadline=None, derandomize=True, database=None)


def encoded(picture, format, **options):
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, kind, rows):
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def written(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def png(array):
    return encoded(Image.fromarray(np.asarray(array, dtype=np.uint8)), "PNG")


def with_palette(ids):
    picture = Image.fromarray(ids)
    picture.putpalette(list(range(40, 55)))
    return picture


def turned(array, orientation):
    picture = Image.fromarray(array)
    exif = picture.getexif()
    exif[274] = orientation
    return encoded(picture, "PNG", exif=exif)


def three(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def words(call, *args, **options):
    with pytest.raises(DataError) as caught:
        call(*args, **options)
    return str(caught.value)


# ---- images of every kind ----

TRANSPARENT = np.dstack([RGB, np.zeros_like(GREY)])
DEEP = rng.integers(0, 65536, (9, 13), dtype=np.uint16)
DEEP8 = np.round(DEEP / 257).astype(np.uint8)
IMAGES = {
    "rgb.png": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "rgb.bmp": (encoded(Image.fromarray(RGB), "BMP"), RGB),
    "rgb.tif": (encoded(Image.fromarray(RGB), "TIFF"), RGB),
    "rgb.webp": (encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "grey.png": (encoded(Image.fromarray(GREY), "PNG"), three(GREY)),
    "bilevel.png": (
        encoded(Image.fromarray(GREY > 99), "PNG"),
        three(255 * (GREY > 99).astype(np.uint8)),
    ),
    "grey_alpha.png": (
        encoded(Image.fromarray(TRANSPARENT[..., 2:], "LA"), "PNG"),
        three(RGB[..., 2]),
    ),
    "transparent.png": (encoded(Image.fromarray(TRANSPARENT), "PNG"), RGB),
    "palette.png": (
        encoded(with_palette(IDS), "PNG"),
        40 + 3 * IDS[..., None] + np.arange(3, dtype=np.uint8),
    ),
    "palette_alpha.png": (
        encoded(with_palette(IDS), "PNG", transparency=2),
        40 + 3 * IDS[..., None] + np.arange(3, dtype=np.uint8),
    ),
    "deep.png": (encoded(Image.fromarray(DEEP), "PNG"), three(DEEP8)),
    "deep.tif": (encoded(Image.fromarray(DEEP), "TIFF"), three(DEEP8)),
    "deep_rgb.png": (
        raw_png(
            2, 1, 16, 2, b"\0" + struct.pack(">6H", *(257 * v for v in (0, 1, 128, 200, 254, 255)))
        ),
        [[[0, 1, 128], [200, 254, 255]]],
    ),
    "cmyk.tif": (
        encoded(Image.new("CMYK", (4, 3), (0, 255, 51, 0)), "TIFF"),
        np.full((3, 4, 3), (255, 0, 204)),
    ),
    "one_pixel.png": (encoded(Image.fromarray(RGB[:1, :1]), "PNG"), RGB[:1, :1]),
    "seven_by_three.png": (encoded(Image.fromarray(RGB[:3, :7]), "PNG"), RGB[:3, :7]),
    "CAPITALS.PNG": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "misnamed.jpg": (encoded(Image.fromarray(RGB), "PNG"), RGB),
}
ORIENTATIONS = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB, 1),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image(tmp_path, name):
    data, expected = IMAGES[name]
    image = load_image(written(tmp_path / name, data))
    assert image.dtype == torch.uint8 and image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(tmp_path, orientation):
    image = load_image(written(tmp_path / "phone.png", turned(RGB, orientation)))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), ORIENTATIONS[orientation])


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (16, 8), 90),
        Image.new("RGB", (16, 8), (90, 90, 90)),
        Image.new("CMYK", (16, 8), (0, 0, 0, 165)),
    ],
    ids=lambda p: p.mode,
)
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_modes(tmp_path, picture, progressive):
    image = load_image(
        written(tmp_path / "a.jpg", encoded(picture, "JPEG", quality=95, progressive=progressive))
    )
    assert image.shape == (3, 8, 16) and (image.int() - 90).abs().max() <= 2


def test_twelve_bits(tmp_path):
    values = np.array([[0, 16, 2048, 4095]], dtype=np.uint16)
    packed = b"".join(
        int(a << 12 | b).to_bytes(3, "big") for a, b in values.reshape(-1, 2).tolist()
    )
    tags = [
        (256, 3, 4),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, len(packed)),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = (
        b"II*\0"
        + struct.pack("<I", 8 + len(packed))
        + packed
        + struct.pack("<H", len(tags))
        + body
        + bytes(4)
    )
    assert load_image(written(tmp_path / "a.tif", data))[0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_no_known_white(tmp_path, mode):
    assert "no known white" in words(
        load_image, written(tmp_path / "a.tif", encoded(Image.new(mode, (4, 4)), "TIFF"))
    )


# ---- damaged files ----

PHOTO = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
PNG = encoded(PHOTO, "PNG")
JPEG = encoded(PHOTO, "JPEG")
PROGRESSIVE = encoded(PHOTO, "JPEG", progressive=True)
LABEL = encoded(Image.fromarray(rng.integers(0, 5, (24, 40), dtype=np.uint8)), "PNG")


@pytest.mark.parametrize(
    "data, cure",
    [
        (b"", "0 bytes"),
        (b"hello, I am text", "no image"),
        (PNG[:-40], "copy it again"),
        (JPEG[:-40], "copy it again"),
        (PNG[:60], "copy it again"),
        (raw_png(0, 1, 8, 0, b"\0"), "no image"),
    ],
    ids=["empty", "text", "png cut", "jpeg cut", "png head", "no pixels"],
)
@pytest.mark.parametrize(
    "load", [load_image, lambda path: load_label(path, 5)], ids=["image", "label"]
)
def test_damaged(tmp_path, data, cure, load):
    message = words(load, written(tmp_path / "broken.png", data))
    assert "broken.png" in message and cure in message and "0x" not in message


def test_missing_and_folder(tmp_path):
    assert "no such file" in words(load_image, tmp_path / "nowhere.png")
    assert str(tmp_path) in words(load_image, tmp_path)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "add", "cut"]), st.integers(0, 10**6), st.integers(1, 255)
    ),
    min_size=1,
    max_size=4,
)


def edited(data, edits):
    data = bytearray(data)
    for kind, place, value in edits:
        place %= len(data) + 1
        if kind == "flip" and place < len(data):
            data[place] ^= value
        if kind == "drop":
            del data[place : place + value]
        if kind == "add":
            data[place:place] = bytes([value]) * (value % 7 + 1)
        if kind == "cut":
            del data[place:]
    return bytes(data)


def loaded(call, path, data, *args):
    path.write_bytes(data)
    try:
        return call(path, *args)
    except DataError as error:
        assert path.name in str(error)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file.png"


@FUZZ
@given(edits=EDITS)
def test_fuzzed_png_image(file, edits):
    image = loaded(load_image, file, edited(PNG, edits))
    assert image is None or np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(PHOTO))


@FUZZ
@given(edits=EDITS)
def test_fuzzed_png_label(file, edits):
    label = loaded(load_label, file, edited(LABEL, edits), 5)
    whole = loaded(load_label, file, LABEL, 5)
    assert label is None or torch.equal(label, whole)


@FUZZ
@given(length=st.integers(0, 10**6), progressive=st.booleans())
def test_truncated_jpeg(file, length, progressive):
    data = PROGRESSIVE if progressive else JPEG
    image = loaded(load_image, file, data[: length % len(data)])
    whole = loaded(load_image, file, data)
    assert image is None or torch.equal(image, whole)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow about broken tags
@FUZZ
@given(edits=EDITS, format=st.sampled_from(["JPEG", "BMP", "TIFF", "WEBP"]))
def test_fuzzed_without_checksums(file, edits, format):
    image = loaded(load_image, file, edited(encoded(PHOTO, format), edits))
    assert image is None or (
        image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3 and image.numel()
    )


@FUZZ
@given(data=st.binary(max_size=200))
def test_random_bytes(file, data):
    assert loaded(load_image, file, data) is None


# ---- labels ----


@pytest.mark.parametrize(
    "picture",
    [Image.fromarray(IDS), with_palette(IDS), Image.fromarray(IDS.astype(np.uint16))],
    ids=lambda p: p.mode,
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_label_modes(tmp_path, picture, format):
    label = load_label(written(tmp_path / "a", encoded(picture, format)), 5)
    assert label.dtype == torch.int64 and np.array_equal(label, IDS)


def test_label_bilevel(tmp_path):
    path = written(tmp_path / "a.png", encoded(Image.fromarray(IDS > 2), "PNG"))
    assert np.array_equal(load_label(path, 2), IDS > 2)


@pytest.mark.parametrize(
    "data, cure",
    [
        (encoded(Image.fromarray(IDS), "JPEG"), "as PNG"),
        (encoded(Image.fromarray(IDS), "WEBP", lossless=True), "as PNG"),
        (encoded(Image.fromarray(IDS), "TIFF", compression="jpeg"), "as PNG"),
        (encoded(Image.fromarray(RGB), "PNG"), "colors="),
        (encoded(Image.fromarray(three(IDS)), "PNG"), "if its channels are equal keep one"),
        (encoded(Image.fromarray(TRANSPARENT), "PNG"), "mode RGBA"),
        (encoded(Image.fromarray(TRANSPARENT[..., 2:], "LA"), "PNG"), "mode LA"),
        (encoded(Image.new("F", (13, 9)), "TIFF"), "mode F"),
        (raw_png(4, 1, 2, 0, b"\0\x1b"), "8-bit grey"),
        (raw_png(4, 1, 4, 0, b"\0\x01\x23"), "8-bit grey"),
    ],
    ids=[
        "jpeg",
        "webp",
        "jpeg in tiff",
        "rgb",
        "grey as rgb",
        "rgba",
        "la",
        "float",
        "2-bit",
        "4-bit",
    ],
)
def test_label_refused(tmp_path, data, cure):
    message = words(load_label, written(tmp_path / "label.png", data), 5)
    assert "label.png" in message and cure in message


def test_label_packed_palette(tmp_path):
    picture = Image.fromarray(IDS % 4)
    picture.putpalette(list(range(12)))
    path = written(tmp_path / "a.png", encoded(picture, "PNG", bits=2))
    assert np.array_equal(load_label(path, 4), IDS % 4)


@pytest.mark.parametrize(
    "ids, numbers", [([0, 5, 5, 7], "5 (2 px), 7 (1 px)"), ([0, 254], "254 (1 px)")]
)
def test_ids_outside(tmp_path, ids, numbers):
    path = written(tmp_path / "label.png", png([ids]))
    message = words(load_label, path, 5)
    for part in ("label.png", numbers, "0 to 4", "ignore_index"):
        assert part in message
    remap = {i: 255 for i in ids if i > 4}
    expected = [[i if i < 5 else 255 for i in ids]]
    assert load_label(path, 5, remap=remap).tolist() == expected


def test_negative_ids(tmp_path):
    picture = Image.fromarray(np.array([[0, -1]], dtype=np.int32))
    path = written(tmp_path / "label.tif", encoded(picture, "TIFF"))
    assert "-1 (1 px)" in words(load_label, path, 5)
    assert load_label(path, 5, remap={-1: 255}).tolist() == [[0, 255]]


def test_remap_is_simultaneous(tmp_path):
    path = written(tmp_path / "label.png", png([[0, 1, 2]]))
    assert load_label(path, 2, remap={2: 1, 1: 0, 0: 255}).tolist() == [[255, 0, 1]]


def test_colors(tmp_path):
    path = written(tmp_path / "label.png", png([[(0, 0, 0), (9, 9, 9), (1, 2, 3)]]))
    colors = {(0, 0, 0): 255, (9, 9, 9): 1, (1, 2, 3): 0}
    assert load_label(path, 2, colors=colors).tolist() == [[255, 1, 0]]
    del colors[1, 2, 3]
    assert "(1, 2, 3) (1 px)" in words(load_label, path, 2, colors=colors)


def test_sizes_differ(tmp_path):
    image = written(tmp_path / "i.png", IMAGES["rgb.png"][0])
    label = written(tmp_path / "l.png", png(IDS[:-1]))
    message = words(load_pair, image, label, num_classes=5)
    assert all(part in message for part in ("l.png", "13x8", "i.png", "13x9"))


def test_turned_image_needs_turned_label(tmp_path):
    image = written(tmp_path / "i.png", turned(RGB, 6))
    label = written(tmp_path / "l.png", png(IDS))
    assert "EXIF" in words(load_pair, image, label, num_classes=5)
    label.write_bytes(png(np.rot90(IDS, -1)))
    assert np.array_equal(load_pair(image, label, num_classes=5)[1], np.rot90(IDS, -1))


# ---- folders ----


def camvid(root, stems="abc", split="train"):
    for stem in stems:
        written(root / split / f"{stem}.jpg", JPEG)
        written(root / f"{split}annot" / f"{stem}.png", LABEL)
    return root


def test_whole_folder(tmp_path):
    camvid(tmp_path)
    for junk in (".hidden.png", "._a.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / junk).touch()
    (tmp_path / "trainannot/.DS_Store").touch()
    dataset = open_dataset("camvid", tmp_path)
    assert dataset.names == ["a", "b", "c"] and class_counts(dataset).sum() == 3 * 24 * 40


def test_missing_partners_are_listed(tmp_path):
    camvid(tmp_path)
    (tmp_path / "trainannot/b.png").unlink()
    (tmp_path / "train/c.jpg").unlink()
    message = words(open_dataset, "camvid", tmp_path)
    assert "train/b.jpg" in message and "trainannot/c.png" in message and "a.jpg" not in message


def test_many_missing_partners_are_counted(tmp_path):
    camvid(tmp_path, "abcdefghijkl")
    for file in sorted((tmp_path / "trainannot").iterdir())[1:]:
        file.unlink()
    assert "and 5 more" in words(open_dataset, "camvid", tmp_path)


def test_double_stem(tmp_path):
    written(camvid(tmp_path) / "train/a.png", PNG)
    message = words(open_dataset, "camvid", tmp_path)
    assert re.search(r"a\.(png|jpg).*same stem.*a\.(png|jpg)", message)


def test_empty_folder(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    assert "no images in this folder" in words(open_dataset, "camvid", tmp_path)


def test_roots_splits_and_names(tmp_path):
    camvid(tmp_path)
    camvid(tmp_path, split="val")
    assert "train, val" in words(open_dataset, "camvid", tmp_path, split="test")
    assert "no such folder" in words(open_dataset, "camvid", tmp_path / "nowhere")
    assert "root (--root on the command line)" in words(open_dataset, "camvid")
    assert "none" in words(open_dataset, "camvid", tmp_path / "train")
    assert "'camvid'" in words(open_dataset, "CamVid")
    assert "train, val, test" in words(open_dataset, "scenes", split="validation")


@pytest.mark.parametrize(
    "name, text",
    [
        ("classes.json", "{broken"),
        ("classes.json", "3"),
        ("classes.json", '{"a": 3}'),
        ("classes.json", '{"a": [1, 2]}'),
        ("classes.json", '{"a": [1, 2, 256]}'),
        ("classes.json", '{"a": [1, 2, 3], "b": [1, 2, 3]}'),
        ("classes.txt", "a\nb\na\n"),
        ("classes.txt", ""),
        ("classes.txt", "void\n"),
    ],
)
def test_bad_classes_file(tmp_path, name, text):
    written(tmp_path / name, text.encode())
    written(tmp_path / "train/images/a.png", PNG)
    written(tmp_path / "train/labels/a.png", LABEL)
    assert "class" in words(open_dataset, "folder", tmp_path)


def test_own_folder(tmp_path):
    written(tmp_path / "train/images/a.jpeg", JPEG)
    written(tmp_path / "train/labels/a.png", LABEL)
    assert "classes.json" in words(open_dataset, "folder", tmp_path)
    (tmp_path / "classes.txt").write_text("p\nq\nvoid\nr\ns\n")
    label = open_dataset("folder", tmp_path)[0][1]
    whole = load_label(tmp_path / "train/labels/a.png", 5)
    assert torch.equal(label, torch.tensor([0, 1, 255, 2, 3])[whole])
    assert torch.equal(open_dataset("folder", tmp_path, classes="pqrst")[0][1], whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_keeps_its_words_in_a_loader(tmp_path, workers):
    dataset = open_dataset("camvid", camvid(tmp_path))
    (tmp_path / "train/b.jpg").write_bytes(JPEG[:-40])
    message = words(list, DataLoader(dataset, num_workers=workers))
    assert "b.jpg" in message and "copy it again" in message


# ---- odd but right ----


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (7, 500), (24, 40)])
def test_smaller_than_the_crop(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    label = torch.ones(size, dtype=torch.int64)
    x, y = training_transform(64, jitter=0.2)(image, label, torch.Generator().manual_seed(1))
    assert x.shape == (3, 64, 64) and torch.isfinite(x).all()
    assert set(y.unique().tolist()) <= {1, 255}


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (7, 9)])
def test_network_on_tiny_images(size):
    with torch.no_grad():
        logits = DANet(3, "small").eval()(torch.zeros(1, 3, *size))
    assert logits.shape == (1, 3, *size) and torch.isfinite(logits).all()


def test_image_of_void(tmp_path):
    written(tmp_path / "train/a.png", png(RGB))
    written(tmp_path / "trainannot/a.png", png(np.full((9, 13), 11)))
    dataset = open_dataset("camvid", tmp_path)
    assert class_counts(dataset).tolist() == [0] * 11 + [117]
    assert [len(pair) for pair in dataset] == [2]


def test_batch_of_void():
    logits = torch.zeros(2, 5, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_byte_order_mark_in_the_list_of_classes(tmp_path):
    "Windows editors put a mark in front; `void` has to stay void."
    written(tmp_path / "train/images/a.png", png(np.zeros((8, 8, 3))))
    written(tmp_path / "train/labels/a.png", png(np.zeros((8, 8))))
    (tmp_path / "classes.txt").write_text("void\nsea\nsky", encoding="utf-8-sig")
    dataset = open_dataset("folder", tmp_path)
    assert dataset.classes == ("sea", "sky") and (dataset[0][1] == 255).all()


@pytest.mark.parametrize("count", [0, -1])
def test_count(count):
    with pytest.raises(DataError, match=f"count is {count}"):
        open_dataset("scenes", count=count)


def test_painted_label_that_a_tool_packed_into_a_palette(tmp_path):
    "The colours say which class it is; the places in the palette are the tool's own."
    picture = Image.fromarray(np.array([[1, 2]], np.uint8))
    picture.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    colors = {(255, 0, 0): 0, (0, 255, 0): 1}
    assert load_label(tmp_path / "a.png", 3, colors=colors).tolist() == [[0, 1]]
    assert load_label(tmp_path / "a.png", 3, colors={(7, 7, 7): 0}).tolist() == [[1, 2]]


# ---- a folder that does not hold scenes ----


@pytest.mark.parametrize("name", ["scenes", "scenes-control"])
def test_pets_are_no_scenes(tmp_path, name):
    "Whoever forgets `--data folder` is told, and does not train on pets as if they were boats."
    written(tmp_path / "train/images/a.png", PNG)
    written(tmp_path / "train/labels/a.png", LABEL)
    message = words(open_dataset, name, tmp_path)
    for part in (str(tmp_path), "classes.txt", "sky, sea", "--data folder (data='folder')"):
        assert part in message
    written(tmp_path / "classes.txt", b"cat\ndog\n")
    message = words(open_dataset, name, tmp_path)
    assert "classes.txt" in message and "--data folder (data='folder')" in message


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_the_root_by_both_its_names(tmp_path, root):
    folder = None if root is None else tmp_path / root
    for name in ("camvid", "folder"):
        assert "root (--root on the command line)" in words(open_dataset, name, folder)


def test_written_scenes_open(tmp_path):
    root = write_worlds(tmp_path / "data", train=2, val=1, size=64)
    for world in WORLDS.values():
        dataset = open_dataset(world, root / world)
        assert dataset.classes == CLASSES and len(dataset) == 2
        made = open_dataset(world, size=64, count=2)
        torch.testing.assert_close(list(dataset), list(made), rtol=0, atol=0)
