"`danet data check` and `convert` on data sets that are damaged in every way we could think of."

import base64
import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danet_nb.cli import main
from danet_nb.data_check import check_data, convert_labelme, convert_masks, read_checksums
from danet_nb.datasets import DataError
from danet_nb.published_sets import open_dataset
from danet_nb.scenes import CLASSES, write_worlds


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    "Thirty scenes in files."
    return write_worlds(tmp_path_factory.mktemp("worlds"), train=20, val=10, size=64) / "scenes"


@pytest.fixture
def root(healthy, tmp_path):
    "A copy of them, to be damaged."
    return Path(shutil.copytree(healthy, tmp_path / "data"))


def danet(*words):
    main([str(word) for word in words])


def checked(root, **options):
    return check_data(root, progress=False, **options)


def chunk(kind, data):
    "A block of a PNG with the right checksum."
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def damages():
    "`{name: (part, function that damages a file)}`."

    def resave(**options):
        return lambda path: Image.open(path).convert("L").save(path, **options)

    def cut(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def flipped(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)

    def text(path):
        path.write_text("<html>404</html>")

    def bomb(path):  # says that it is enormous
        size = struct.pack(">IIBBBBB", 2**16, 2**16, 8, 0, 0, 0, 0)
        head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
        path.write_bytes(head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))

    def converted(mode):
        return lambda path: Image.open(path).convert("RGB").convert(mode).save(path)

    return {
        "image cut": ("images", cut),
        "image flipped": ("images", flipped),
        "image empty": ("images", lambda path: path.write_bytes(b"")),
        "image is text": ("images", text),
        "image enormous": ("images", bomb),
        "image gone": ("images", Path.unlink),
        "image turned": ("images", lambda path: Image.new("RGB", (64, 32)).save(path)),
        "label cut": ("labels", cut),
        "label flipped": ("labels", flipped),
        "label empty": ("labels", lambda path: path.write_bytes(b"")),
        "label is text": ("labels", text),
        "label gone": ("labels", Path.unlink),
        "label small": ("labels", lambda path: Image.new("L", (63, 64)).save(path)),
        "label in colours": ("labels", converted("RGB")),
        "label as JPEG": ("labels", resave(format="JPEG")),
        "label of decimals": ("labels", lambda path: Image.new("F", (64, 64)).save(path, "TIFF")),
        "label outside": ("labels", lambda path: Image.new("L", (64, 64), 6).save(path)),
        "label 254": ("labels", lambda path: Image.new("L", (64, 64), 254).save(path)),
    }


@pytest.mark.parametrize("name", damages())
@pytest.mark.parametrize("split", ["train", "val"])
def test_damage_is_named(root, split, name):
    "One fault, which names the file; all other pairs are counted."
    part, damage = damages()[name]
    path = root / split / part / "0003.png"
    damage(path)
    report = checked(root)
    [fault] = report.faults
    assert "0003.png" in fault
    pairs = {name: part.pairs for name, part in report.splits.items()}
    assert pairs == {"train": 20 - (split == "train"), "val": 10 - (split == "val")}
    with pytest.raises(SystemExit) as end:
        danet("data", "check", root, "--no-progress")
    assert end.value.code == f"danet data check: {root}: training would go wrong, " + (
        "see the faults above"
    )


def test_many_damages_are_named_at_once(root):
    "Training would name the first; a check names all of them."
    wanted = []
    for number, (part, damage) in enumerate(damages().values()):
        path = root / "train" / part / f"{number:04d}.png"
        damage(path)
        wanted.append(path.name)
    report = checked(root)
    assert len(report.faults) == len(wanted)
    assert all(any(name in fault for fault in report.faults) for name in wanted)


def test_a_healthy_set_passes(healthy, capsys):
    danet("data", "check", healthy, "--no-progress")
    printed = capsys.readouterr().out
    assert "nothing stands against training" in printed and "64x64" in printed
    counts = checked(healthy).splits["val"].counts
    labels = [np.asarray(Image.open(p)).ravel() for p in (healthy / "val/labels").iterdir()]
    assert np.array_equal(counts[:-1], np.bincount(np.concatenate(labels), minlength=6))
    assert counts[-1] == 0


def test_the_number_of_threads_changes_nothing(root):
    for number, (part, damage) in enumerate(damages().values()):
        damage(root / "train" / part / f"{number:04d}.png")
    assert str(checked(root, threads=1)) == str(checked(root, threads=5))


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif"])
def test_checksums_find_every_flipped_bit(root, kind):
    for path in sorted((root / "train/images").glob("*.png")):
        Image.open(path).save(path.with_suffix(f".{kind}"))
        if kind != "png":
            path.unlink()
    danet("data", "check", root, "--checksums", "--no-progress")
    known = read_checksums(root)
    assert len(known) == 60 and not checked(root).faults
    rng = np.random.default_rng(0)
    files = sorted((root / "train/images").iterdir())
    for path in files:
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    faults = checked(root, checksums=True).general
    assert len(faults) == 20 and all("its bytes are not those of" in fault for fault in faults)
    assert read_checksums(root) == known  # damage does not become the new truth


def test_checksums_know_files_that_are_gone(root):
    checked(root, checksums=True)
    for part in ("images", "labels"):
        (root / "val" / part / "0001.png").unlink()
    faults = checked(root).faults
    assert len(faults) == 2 and all("it is gone" in fault for fault in faults)
    assert len(checked(root, splits=["train"]).faults) == 2


def test_camvid_is_known_by_its_folders(tmp_path):
    for split in ("train", "val", "test"):
        for name in (split, f"{split}annot"):
            (tmp_path / name).mkdir()
        Image.new("RGB", (12, 8), (9, 9, len(split))).save(tmp_path / split / "a.png")
        Image.new("L", (12, 8), 11).save(tmp_path / f"{split}annot" / "a.png")
    report = checked(tmp_path)
    assert report.name == "camvid" and list(report.splits) == ["train", "val", "test"]
    assert [fault[:9] for fault in report.faults] == ["train: ev", "val: ever", "test: eve"]
    assert all("every pixel is void" in fault for fault in report.faults)
    assert [remark for remark in report.remarks if "all its pixels are alike" in remark]


def test_a_set_without_validation_is_a_fault(root):
    shutil.rmtree(root / "val")
    report = checked(root)
    assert len(report.faults) == 1 and "no split 'val'" in report.faults[0]
    assert report.splits["train"].pairs == 20
    assert not checked(root, splits=["train"]).faults


def test_classes_that_make_no_sense(root):
    (root / "classes.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="two classes share a name"):
        checked(root)


# Converting


def labelme(folder, stem, shapes, size=(30, 20)):
    Image.new("RGB", size, (len(stem), 0, 0)).save(folder / f"{stem}.jpg")
    about = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.jpg"}
    about |= {"imageData": None, "imageHeight": size[1], "imageWidth": size[0]}
    (folder / f"{stem}.json").write_text(json.dumps(about))


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelme(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    box = shape("road", [[2, 3], [10, 9]], "rectangle")
    dot = shape("car", [[20.0, 10.0], [20.0, 14.0]], "circle")
    hole = np.ones((4, 5), dtype=bool)
    hole[1, 1] = False
    piece = shape("car", [[4, 4], [8, 7]], "mask", mask=png(hole))
    labelme(source, "one", [box, dot, piece])
    labelme(source, "two", [])
    out = tmp_path / "out"
    danet("data", "convert", source, out, "--val", 0)
    dataset = open_dataset("folder", out, "train")
    assert dataset.classes == ("car", "road") and dataset.names == ["one", "two"]
    label = dataset[0][1].numpy()
    assert set(np.unique(label)) == {0, 1, 255} and (dataset[1][1] == 255).all()
    wanted = np.full((20, 30), 255)
    wanted[3:10, 2:11] = 1
    wanted[4:8, 4:9][hole] = 0
    assert np.array_equal(label[:, :12], wanted[:, :12])
    assert label[10, 20] == 0 and label[10, 24] == 0 and label[10, 26] == 255
    assert (out / "train/images/one.jpg").read_bytes() == (source / "one.jpg").read_bytes()


def test_labelme_with_a_background_and_a_split(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for k in range(40):
        labelme(source, f"image{k}", [shape("x", [[1, 1], [9, 1], [9, 9]])])
    counts = convert_labelme(source, tmp_path / "out", background="ground", val=0.25)
    assert counts.total() == 40 and 4 <= counts["val"] <= 16
    dataset = open_dataset("folder", tmp_path / "out", "val")
    assert dataset.classes == ("ground", "x") and set(dataset[0][1].unique().tolist()) == {0, 1}
    before = {path.name for path in (tmp_path / "out/val/images").iterdir()}
    labelme(source, "late", [])
    convert_labelme(source, tmp_path / "again", background="ground", val=0.25)
    after = {path.name for path in (tmp_path / "again/val/images").iterdir()}
    assert after - {"late.jpg"} == before  # nothing moves when an image is added


@pytest.mark.parametrize(
    "shapes, words",
    [
        ([shape("x", [[0, 0], [5, 5]], "line")], "x: a line of 2 points encloses nothing"),
        ([shape("x", [[0, 0]], "point")], "a point of 1 points encloses nothing"),
        ([shape("x", [[0, 0], [5, 5]])], "a polygon of 2 points encloses nothing"),
        ([{"label": "x"}], "no file of labelme"),
        ("no list", "no file of labelme"),
    ],
)
def test_labelme_that_cannot_be(tmp_path, shapes, words):
    source = tmp_path / "source"
    source.mkdir()
    labelme(source, "one", shapes)
    with pytest.raises(DataError, match=words):
        convert_labelme(source, tmp_path / "out")


def test_labelme_of_another_size(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    labelme(source, "one", [])
    Image.new("RGB", (15, 10)).save(source / "one.jpg")
    with pytest.raises(DataError, match="one.json: drawn on 30x20 pixels"):
        convert_labelme(source, tmp_path / "out")
    (source / "one.jpg").unlink()
    Image.new("RGB", (15, 10)).save(source / "other.jpg")
    with pytest.raises(DataError, match="no image beside one.json"):
        convert_labelme(source, tmp_path / "out")


def painted(folder, rng, colors, count=6):
    "Images and masks of random blocks of the colours; returns the places of the colours."
    places = {}
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for k in range(count):
        places[str(k)] = rng.integers(0, len(colors), (12, 16))
        Image.new("RGB", (16, 12), (k, k, k)).save(folder / f"images/{k}.png")
        mask = np.array(colors, dtype=np.uint8)[places[str(k)]]
        Image.fromarray(mask).save(folder / f"masks/{k}.png")
    return places


@pytest.mark.parametrize("palette", [False, True])
def test_masks(tmp_path, palette):
    "Black and white classes, with void between them in the file, and masks with palettes."
    colors = {"ink": [0, 0, 0], "void": [7, 8, 9], "paper": [255, 255, 255], "red": [255, 0, 0]}
    places = painted(tmp_path, np.random.default_rng(0), list(colors.values()))
    (tmp_path / "classes.json").write_text(json.dumps(colors))
    if palette:
        for path in (tmp_path / "masks").iterdir():
            Image.open(path).quantize(8).save(path)
    danet("data", "convert", tmp_path, tmp_path / "out", "--kind", "masks", "--val", 0.4)
    seen = 0
    for split in ("train", "val"):
        dataset = open_dataset("folder", tmp_path / "out", split)
        assert dataset.classes == ("ink", "paper", "red")
        assert dataset.palette.tolist() == [[0, 0, 0], [255, 255, 255], [255, 0, 0]]
        for i, name in enumerate(dataset.names):
            assert np.array_equal(dataset[i][1], np.array([0, 255, 1, 2])[places[name]])
            seen += 1
    assert seen == 6 and not checked(tmp_path / "out").faults


def test_masks_with_other_colours(tmp_path):
    colors = {"ink": [0, 0, 0], "paper": [255, 255, 255]}
    painted(tmp_path, np.random.default_rng(0), [*colors.values(), [1, 2, 3]])
    (tmp_path / "classes.json").write_text(json.dumps(colors))
    with pytest.raises(DataError, match=r"\(1, 2, 3\) \(\d+ px\) has no class"):
        convert_masks(tmp_path, tmp_path / "out")
    (tmp_path / "masks/0.png").unlink()
    with pytest.raises(DataError, match="no file of the stem '0'"):
        convert_masks(tmp_path, tmp_path / "other")
    (tmp_path / "classes.json").write_text('["ink", "paper"]')
    with pytest.raises(DataError, match="a class has no colour"):
        convert_masks(tmp_path, tmp_path / "out")


def test_nothing_is_overwritten(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    labelme(source, "one", [])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is there already"):
        convert_labelme(source, tmp_path / "out", background="ground")


def test_scenes_have_the_classes_of_the_folder(healthy):
    assert checked(healthy).classes == CLASSES == checked(healthy, name="scenes").classes
