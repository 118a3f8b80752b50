"""Trees of the published data sets in the exact upstream layout, with real names and real ids.

Every tree is small but complete in kind: its labels hold every id of the published table. The lists
in `fixtures/lists` say what each id is, so the expected classes come from them and not from us.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from danet_nb.datasets import DataError
from danet_nb.label_tables import LABEL_TABLES, camvid_classes, voc_color
from danet_nb.published_sets import (
    PUBLISHED_SETS,
    camvid_split,
    open_published,
    run_lengths,
    run_mask,
)

LISTS = Path(__file__).parent / "fixtures" / "lists"
PALETTE = [level for k in range(256) for level in voc_color(k)]
RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
NEVER = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)


# Writing trees


def image(path, h=16, w=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((h, w, 3), 90, dtype=np.uint8)).save(path)


def png(path, label, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(label.astype(np.uint8))
    if palette:
        picture.putpalette(PALETTE)
    picture.save(path)


def mat(path, **fields):
    savemat = pytest.importorskip("scipy.io").savemat
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, fields)


def lines(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def every(ids, h=16, w=32):
    "A label in which each id occurs."
    return np.resize(np.array(sorted(ids)), h * w).reshape(h, w)


def numbered(name):
    rows = (line.split(":") for line in (LISTS / name).read_text().splitlines())
    return {int(number): text.strip() for number, text in rows}


def opened(*arguments, **options):
    "Open without the sentence about the size."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_published(*arguments, **options)


def names_of(dataset, index=0):
    "The label as names; void is the empty name."
    names = np.array([*dataset.classes, *[""] * (256 - dataset.num_classes)])
    return names[dataset[index][1].numpy()]


def translated(stored, names):
    "Stored ids as names; ids that `names` does not hold are void."
    return np.vectorize(lambda number: names.get(int(number), ""), otypes=[object])(stored)


# Cityscapes


def cityscapes_names():
    rows = [line.split("\t") for line in (LISTS / "cityscapes.tsv").read_text().splitlines()]
    return {int(number): name for number, train_id, _, name in rows if 0 <= int(train_id) < 19}


def cityscapes(root, kind="gtFine", splits=("train", "val", "test"), ending="labelIds"):
    cities = {"train": "aachen", "val": "frankfurt", "test": "berlin", "train_extra": "augsburg"}
    for split in splits:
        for frame in ("000000_000019", "000001_000019"):
            stem = f"{cities[split]}_{frame}"
            image(root / "leftImg8bit" / split / cities[split] / f"{stem}_leftImg8bit.png")
            label = every([*range(34), 255]) if split != "test" else every([0, 1, 3])
            if ending == "labelTrainIds":
                label = every([*range(19), 255])
            place = root / kind / split / cities[split]
            png(place / f"{stem}_{kind}_{ending}.png", label)
            png(place / f"{stem}_{kind}_instanceIds.png", label)
            lines(place / f"{stem}_{kind}_polygons.json", "{}")


def test_cityscapes_as_downloaded(tmp_path):
    cityscapes(tmp_path)
    lines(tmp_path / "README", "hello")
    dataset = opened("cityscapes", tmp_path)
    assert dataset.names == ["aachen_000000_000019", "aachen_000001_000019"]
    expected = translated(every([*range(34), 255]), cityscapes_names())
    assert np.array_equal(names_of(dataset), expected)
    assert opened("cityscapes", tmp_path, "val").names[0] == "frankfurt_000000_000019"
    assert opened("cityscapes", tmp_path, "test")[0][1].unique().tolist() == [255]


def test_cityscapes_archives_in_folders_of_their_names(tmp_path):
    cityscapes(tmp_path)
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / f"{name}_trainvaltest").mkdir()
        (tmp_path / name).rename(tmp_path / f"{name}_trainvaltest" / name)
    dataset = opened("cityscapes", tmp_path)
    expected = translated(every([*range(34), 255]), cityscapes_names())
    assert len(dataset) == 2 and np.array_equal(names_of(dataset), expected)


def test_cityscapes_test_split_without_labels(tmp_path):
    cityscapes(tmp_path, splits=("test",))
    for path in tmp_path.glob("gtFine/test/*/*"):
        path.unlink()
    dataset = opened("cityscapes", tmp_path, "test")
    assert len(dataset) == 2 and dataset[1][1].unique().tolist() == [255]
    assert dataset[1][1].dtype == torch.int64


def test_cityscapes_with_labels_made_by_the_script(tmp_path):
    "Original ids win; where they are gone the trainIds are read as they are."
    cityscapes(tmp_path, ending="labelTrainIds")
    dataset = opened("cityscapes", tmp_path)
    assert np.array_equal(dataset[0][1], every([*range(19), 255]))
    cityscapes(tmp_path)
    dataset = opened("cityscapes", tmp_path)
    expected = translated(every([*range(34), 255]), cityscapes_names())
    assert np.array_equal(names_of(dataset), expected)


def test_cityscapes_coarse(tmp_path):
    cityscapes(tmp_path, "gtCoarse", ("train", "val", "train_extra"))
    for split in ("train", "val", "train_extra"):
        dataset = opened("cityscapes_coarse", tmp_path, split)
        assert len(dataset) == 2 and "road" in names_of(dataset)
    with pytest.raises(DataError, match="missing the label of"):
        opened("cityscapes", tmp_path, "train")


def test_cityscapes_with_a_foreign_id(tmp_path):
    cityscapes(tmp_path)
    path = next(tmp_path.glob("gtFine/train/aachen/*000000_000019_gtFine_labelIds.png"))
    png(path, every([7, 40, 99]))
    with pytest.raises(
        DataError, match=r"labelIds.png: 40 \(171 px\), 99 \(170 px\) means nothing"
    ):
        opened("cityscapes", tmp_path)[0]


# PASCAL Context


def context_names():
    "The 59 names in alphabetical order, from the list of 59 in its own order."
    listed = numbered("pascal_context_59_labels.txt").values()
    return sorted(RENAMED.get(name, name) for name in listed)


VOC_LABEL = every([0, 2, 7, 13, 15, 255])
VOC_LABEL[:8] = 0  # the upper half of a converted label keeps all of its ids


def devkit(root, year="VOC2010", stems=("2008_000002", "2008_000003")):
    base = root / "VOCdevkit" / year
    for stem in stems:
        image(base / "JPEGImages" / f"{stem}.jpg")
        lines(base / "Annotations" / f"{stem}.xml", "<annotation/>")
    for name, stem in zip(("train", "val"), stems, strict=True):
        lines(base / "ImageSets" / "Main" / f"{name}.txt", stem)
        lines(base / "ImageSets" / "Segmentation" / f"{name}.txt", stem)
    lines(base / "ImageSets" / "Segmentation" / "trainval.txt", *stems)
    png(base / "SegmentationClass" / f"{stems[0]}.png", VOC_LABEL, palette=True)
    return base


def converted(base, order, stem):
    "A PNG as the converters write it; the horse of VOC's label is a horse in it."
    listed = [RENAMED.get(x, x) for x in numbered("pascal_context_59_labels.txt").values()]
    names = context_names() if order == "alphabetical" else listed
    label = every(range(60))
    for number, name in {2: "bicycle", 7: "car", 13: "horse", 15: "person"}.items():
        label[VOC_LABEL == number] = 1 + names.index(name)
    png(base / "SegmentationClassContext" / f"{stem}.png", label)
    return translated(label, {k + 1: name for k, name in enumerate(names)})


@pytest.mark.parametrize("order", ["alphabetical", "listed"])
@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2010"])
def test_context_converted_finds_its_order(tmp_path, order, place):
    base = devkit(tmp_path)
    expected = {stem: converted(base, order, stem) for stem in ("2008_000002", "2008_000003")}
    for split, stem in (("train", "2008_000002"), ("val", "2008_000003")):
        lines(base / "ImageSets" / "SegmentationContext" / f"{split}.txt", stem)
        dataset = opened("pascal_context", tmp_path / place, split)
        assert dataset.classes == tuple(context_names())
        assert np.array_equal(names_of(dataset), expected[stem])
        sixty = opened("pascal_context_60", tmp_path / place, split)
        background = np.where(expected[stem] == "", "background", expected[stem])
        assert sixty.num_classes == 60 and np.array_equal(names_of(sixty), background)


def test_context_order_is_never_guessed(tmp_path):
    base = devkit(tmp_path)
    expected = converted(base, "listed", "2008_000002")
    (base / "SegmentationClass" / "2008_000002.png").unlink()
    with pytest.raises(DataError, match="come in two orders.*order='listed'"):
        opened("pascal_context", tmp_path)
    dataset = opened("pascal_context", tmp_path, order="listed")
    assert np.array_equal(names_of(dataset), expected)
    wrong = opened("pascal_context", tmp_path, order="alphabetical")
    assert not np.array_equal(names_of(wrong), expected)


def test_context_witness_that_contradicts_both_orders(tmp_path):
    base = devkit(tmp_path)
    png(base / "SegmentationClassContext" / "2008_000002.png", every([50]))
    with pytest.raises(DataError, match="come in two orders"):
        opened("pascal_context", tmp_path)


def test_context_reduced_already_is_noticed(tmp_path):
    base = devkit(tmp_path)
    png(base / "SegmentationClassContext" / "2008_000002.png", every([*range(59), 255]))
    dataset = opened("pascal_context", tmp_path, order="alphabetical")
    with pytest.raises(DataError, match=r"255 \(\d+ px\) means nothing"):
        dataset[0]


def test_context_mat_with_its_lists(tmp_path):
    base = devkit(tmp_path)
    names = {k: x.replace(" ", "") for k, x in numbered("pascal_context_labels.txt").items()}
    label = every(range(460), 20, 32)
    for stem in ("2008_000002", "2008_000003"):
        image(base / "JPEGImages" / f"{stem}.jpg", 20, 32)
        mat(tmp_path / "trainval" / f"{stem}.mat", LabelMap=label.astype(np.uint16))
    kept = {k: name for k, name in names.items() if name in context_names()}
    assert len(kept) == 59
    for there in (False, True):
        if there:
            for own, ours in (("labels", "labels"), ("59_labels", "59_labels")):
                text = (LISTS / f"pascal_context_{ours}.txt").read_text()
                (tmp_path / f"{own}.txt").write_text(text)
        dataset = opened("pascal_context", tmp_path)
        assert np.array_equal(names_of(dataset), translated(label, kept))
    with pytest.warns(
        UserWarning, match="pascal_context, train: 1 images, but 4998 were published"
    ):
        open_published("pascal_context", tmp_path)


def test_context_mat_with_a_renumbered_list_goes_by_name(tmp_path):
    base = devkit(tmp_path)
    names = numbered("pascal_context_labels.txt")
    text = "".join(f"{460 - k}: {name}\n" for k, name in names.items())
    image(base / "JPEGImages" / "2008_000002.jpg")
    mat(tmp_path / "trainval" / "2008_000002.mat", LabelMap=every([460 - 360]).astype(np.uint16))
    (tmp_path / "labels.txt").write_text(text)
    assert set(names_of(opened("pascal_context", tmp_path)).flat) == {"sky"}
    (tmp_path / "labels.txt").write_text(text.replace("sky", "heaven"))
    with pytest.raises(DataError, match=r"labels.txt: does not name sky; take the labels.txt"):
        opened("pascal_context", tmp_path)


def compressed(mask):
    "COCO's compressed run lengths, written here anew from their description."
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))
    runs = np.diff(ends, prepend=0).tolist()
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def random_masks():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        h, w = rng.integers(1, 60, 2)
        yield (rng.random((h, w)) < rng.random()).astype(np.uint8)
    yield np.ones((3, 4), dtype=np.uint8)
    yield np.zeros((3, 4), dtype=np.uint8)
    yield np.repeat([[0, 1]], 70_000, axis=0).astype(np.uint8)


def test_run_lengths_there_and_back():
    for mask in random_masks():
        found = run_mask({"size": list(mask.shape), "counts": compressed(mask)})
        assert np.array_equal(found, mask)


def test_run_lengths_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    for mask in random_masks():
        theirs = coco.encode(np.asfortranarray(mask))
        text = theirs["counts"].decode()
        assert np.array_equal(run_mask({"size": theirs["size"], "counts": text}), mask)
        assert sum(run_lengths(text)) == mask.size
        ours = {"size": list(mask.shape), "counts": compressed(mask).encode()}
        assert np.array_equal(coco.decode(ours), mask)


def test_context_json_of_the_detail_interface(tmp_path):
    base = devkit(tmp_path)
    label = every([0, 2, 284, 360, 397, 458])
    masks = [
        {
            "id": k,
            "image_id": 2008000002,
            "category_id": k,
            "segmentation": {"size": [16, 32], "counts": compressed(label == k)},
        }
        for k in (2, 284, 360, 397, 458)
    ]
    images = [
        {"image_id": 2008000002, "file_name": "2008_000002.jpg", "phase": "train"},
        {"image_id": 2008000003, "file_name": "2008_000003.jpg", "phase": "val"},
    ]
    path = base / "trainval_merged.json"
    path.write_text(json.dumps({"images": images, "annos_segmentation": masks}))
    dataset = opened("pascal_context", tmp_path)
    expected = {2: "aeroplane", 284: "person", 360: "sky", 397: "table", 458: "wood"}
    assert np.array_equal(names_of(dataset), translated(label, expected))
    assert dataset.names == ["2008_000002"]
    masks[0]["segmentation"]["counts"] = "0"
    path.write_text(json.dumps({"images": images, "annos_segmentation": masks}))
    with pytest.raises(DataError, match="the label of .*2008_000002.jpg: run lengths of 0 pixels"):
        opened("pascal_context", tmp_path)[0]
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(DataError, match="not the file of the detail interface"):
        opened("pascal_context", tmp_path)


def test_context_forms_can_be_chosen(tmp_path):
    base = devkit(tmp_path)
    converted(base, "alphabetical", "2008_000002")
    mat(tmp_path / "trainval" / "2008_000002.mat", LabelMap=every([360]).astype(np.uint16))
    assert set(names_of(opened("pascal_context", tmp_path, form="mat")).flat) == {"sky"}
    assert len(set(names_of(opened("pascal_context", tmp_path)).flat)) > 50
    with pytest.raises(DataError, match="no labels of PASCAL Context; it needs"):
        opened("pascal_context", tmp_path, form="json")


# COCO-Stuff


def coco_names(minus=0):
    names = numbered("coco_stuff_labels.txt")
    return {k - minus: x for k, x in names.items() if k > 0 and k not in NEVER}


@pytest.mark.parametrize("lists", ["imageLists", "imagesLists"])
@pytest.mark.parametrize("named", [True, False])
def test_coco_stuff_10k_as_downloaded(tmp_path, lists, named):
    label = every(range(183))
    extra = {
        "names": np.array([x for k, x in numbered("coco_stuff_labels.txt").items() if k], object)
    }
    for split, stem in (
        ("train", "COCO_train2014_000000000077"),
        ("test", "COCO_train2014_000000000139"),
    ):
        image(tmp_path / "images" / f"{stem}.jpg")
        fields = extra if named else {}
        mat(tmp_path / "annotations" / f"{stem}.mat", S=label.astype(np.uint8), **fields)
        lines(tmp_path / lists / f"{split}.txt", stem)
    lines(tmp_path / lists / "all.txt", "x")
    dataset = opened("coco_stuff_10k", tmp_path)
    assert dataset.num_classes == 171
    assert np.array_equal(names_of(dataset), translated(label, coco_names()))
    assert opened("coco_stuff_10k", tmp_path, "val").names == ["COCO_train2014_000000000139"]


def test_coco_stuff_10k_version_1_0(tmp_path):
    "172 numbers without gaps; 1 is unlabeled."
    names = ["unlabeled", *coco_names().values()]
    label = every(range(1, 173))
    stem = "COCO_train2014_000000000077"
    image(tmp_path / "images" / f"{stem}.jpg")
    path = tmp_path / "annotations" / f"{stem}.mat"
    mat(path, S=label.astype(float), names=np.array(names, dtype=object))
    lines(tmp_path / "imageLists" / "train.txt", stem)
    expected = {k + 1: name for k, name in enumerate(names) if k}
    assert np.array_equal(names_of(opened("coco_stuff_10k", tmp_path)), translated(label, expected))


def test_coco_stuff_10k_converted(tmp_path):
    label = every(range(172))
    for place, stem in (("train2014", "COCO_train2014_000000000077"), ("test2014", "COCO_x")):
        image(tmp_path / "images" / place / f"{stem}.jpg")
        png(tmp_path / "annotations" / place / f"{stem}_labelTrainIds.png", label)
    expected = dict(enumerate(coco_names().values(), 1))
    for split in ("train", "test", "val"):
        dataset = opened("coco_stuff_10k", tmp_path, split)
        assert np.array_equal(names_of(dataset), translated(label, expected))


@pytest.mark.parametrize("images", ["images", ""])
@pytest.mark.parametrize("place", ["annotations", "stuffthingmaps_trainval2017", "stuffthingmaps"])
def test_coco_stuff_164k_as_downloaded(tmp_path, place, images):
    label = every([*range(182), 255])
    for split, stem in (("train2017", "000000000009"), ("val2017", "000000000139")):
        image(tmp_path / images / split / f"{stem}.jpg")
        png(tmp_path / place / split / f"{stem}.png", label)
    for split in ("train", "val"):
        dataset = opened("coco_stuff_164k", tmp_path, split)
        assert np.array_equal(names_of(dataset), translated(label, coco_names(1)))


def test_coco_stuff_164k_converted(tmp_path):
    label = every([*range(171), 255])
    image(tmp_path / "images" / "train2017" / "000000000009.jpg")
    png(tmp_path / "annotations" / "train2017" / "000000000009_labelTrainIds.png", label)
    expected = dict(enumerate(coco_names().values()))
    dataset = opened("coco_stuff_164k", tmp_path)
    assert np.array_equal(names_of(dataset), translated(label, expected))
    original = every([*range(182), 255])
    png(tmp_path / "annotations" / "train2017" / "000000000009.png", original)
    dataset = opened("coco_stuff_164k", tmp_path)
    assert np.array_equal(names_of(dataset), translated(original, coco_names(1)))


# VOC 2012


def voc(root):
    base = devkit(root, "VOC2012", ("2007_000032", "2007_000033"))
    png(base / "SegmentationClass" / "2007_000033.png", VOC_LABEL, palette=True)
    image(base / "JPEGImages" / "2008_000008.jpg")
    image(base / "JPEGImages" / "2008_000001.jpg")
    lines(base / "ImageSets" / "Segmentation" / "test.txt", "2008_000001")
    return base


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_as_downloaded(tmp_path, place):
    voc(tmp_path)
    for split, length in (("train", 1), ("val", 1), ("trainval", 2)):
        dataset = opened("voc2012", tmp_path / place, split)
        assert len(dataset) == length and np.array_equal(dataset[0][1], VOC_LABEL)
    test = opened("voc2012", tmp_path / place, "test")
    assert test.names == ["2008_000001"] and test[0][1].unique().tolist() == [255]


def test_voc_with_a_strange_palette_is_still_indices(tmp_path):
    base = voc(tmp_path)
    path = base / "SegmentationClass" / "2007_000032.png"
    picture = Image.fromarray(VOC_LABEL.astype(np.uint8))
    picture.putpalette(PALETTE[::-1])
    picture.save(path)
    assert np.array_equal(opened("voc2012", tmp_path)[0][1], VOC_LABEL)


@pytest.mark.parametrize("sbd", ["VOCdevkit/VOCaug/dataset", "benchmark_RELEASE/dataset"])
def test_voc_augmented_from_sbd(tmp_path, sbd):
    "VOC's own label has the border, SBD's has none; VOC's validation images are left out."
    voc(tmp_path)
    own = every([0, 15, 20])
    for stem in ("2007_000032", "2007_000033", "2008_000008"):
        mat(tmp_path / sbd / "cls" / f"{stem}.mat", GTcls={"Segmentation": own.astype(np.uint8)})
    lines(tmp_path / sbd / "train.txt", "2008_000008", "2007_000033")
    lines(tmp_path / sbd / "val.txt", "2007_000032")
    dataset = opened("voc2012", tmp_path, "trainaug")
    assert dataset.names == ["2007_000032", "2008_000008"]
    assert np.array_equal(dataset[0][1], VOC_LABEL) and np.array_equal(dataset[1][1], own)


def test_voc_augmented_as_converted(tmp_path):
    base = voc(tmp_path)
    own = every(range(21))
    png(base / "SegmentationClassAug" / "2008_000008.png", own)
    png(base / "SegmentationClassAug" / "2007_000032.png", own)
    lines(base / "ImageSets" / "Segmentation" / "trainaug.txt", "2008_000008", "2007_000032")
    dataset = opened("voc2012", tmp_path, "trainaug")
    assert np.array_equal(dataset[0][1], own) and np.array_equal(dataset[1][1], VOC_LABEL)


# ADE20K


def ade(root):
    for folder, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        image(root / "images" / folder / f"{stem}.jpg")
        png(root / "annotations" / folder / f"{stem}.png", every(range(151)))
    lines(root / "objectInfo150.txt", "Idx")


@pytest.mark.parametrize("place", ["ADEChallengeData2016", ""])
def test_ade_as_downloaded(tmp_path, place):
    ade(tmp_path / place)
    for split in ("train", "val"):
        dataset = opened("ade20k", tmp_path, split)
        stored = every(range(151))
        assert np.array_equal(dataset[0][1], np.where(stored == 0, 255, stored - 1))
    image(tmp_path / "release_test" / "testing" / "ADE_test_00000001.jpg")
    assert opened("ade20k", tmp_path, "test")[0][1].unique().tolist() == [255]


def test_ade_reduced_already_is_noticed(tmp_path):
    ade(tmp_path)
    path = tmp_path / "annotations" / "training" / "ADE_train_00000001.png"
    png(path, every(range(151)) - 1)  # 0 has become 255 in bytes
    with pytest.raises(DataError, match=r"255 \(\d+ px\) means nothing in this data set"):
        opened("ade20k", tmp_path)[0]


# CamVid


def painted(path, h=16, w=32):
    colors = np.array(list(camvid_classes()), dtype=np.uint8)
    number = every(range(32), h, w)
    png_path = path
    png_path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colors[number]).save(png_path)
    return np.array(list(camvid_classes().values()))[number]


def test_camvid_in_eleven_classes(tmp_path):
    for split in ("train", "val", "test"):
        image(tmp_path / split / "0001TP_006690.png")
        png(tmp_path / f"{split}annot" / "0001TP_006690.png", every(range(12)))
        dataset = opened("camvid", tmp_path, split)
        stored = every(range(12))
        assert np.array_equal(dataset[0][1], np.where(stored == 11, 255, stored))


def test_camvid_as_painted(tmp_path):
    for stem in ("0001TP_006690", "0016E5_07959", "Seq05VD_f00000"):
        image(tmp_path / "701_StillsRaw_full" / f"{stem}.png")
        expected = painted(tmp_path / "LabeledApproved_full" / f"{stem}_L.png")
    for split, stem in (("train", "0001TP_006690"), ("val", "0016E5_07959")):
        dataset = opened("camvid", tmp_path, split)
        assert dataset.names == [stem] and np.array_equal(dataset[0][1], expected)
    assert opened("camvid", tmp_path, "test").names == ["Seq05VD_f00000"]


def test_camvid_as_painted_in_folders_of_splits(tmp_path):
    image(tmp_path / "val" / "0016E5_07959.png")
    expected = painted(tmp_path / "val_labels" / "0016E5_07959_L.png")
    assert np.array_equal(opened("camvid", tmp_path, "val")[0][1], expected)


def test_camvid_has_701_frames_in_three_splits():
    "Frames of the archive: 1 in 30 of three sequences, 1 in 2 of a stretch of the fourth."
    frames = [f"0001TP_{6690 + 30 * k:06}" for k in range(124)]
    frames += [f"0006R0_f{930 + 30 * k:05}" for k in range(101)]
    frames += [f"Seq05VD_f{30 * k:05}" for k in range(171)]
    frames += [f"0016E5_{7959 + 2 * k:05}" for k in range(101)]
    found = [camvid_split(frame) for frame in frames]
    assert [found.count(split) for split in ("val", "test")] == [101, 233]
    assert found.count("train") + 204 == 367


# What is the same for all


def test_sizes_are_compared_in_a_sentence(tmp_path):
    ade(tmp_path)
    with pytest.warns(UserWarning, match="ade20k, val: 1 images, but 2000 were published"):
        open_published("ade20k", tmp_path, "val")


def test_half_an_archive_is_refused(tmp_path):
    ade(tmp_path)
    (tmp_path / "annotations" / "validation" / "ADE_val_00000001.png").unlink()
    with pytest.raises(DataError, match="missing the label of .*ADE_val_00000001.jpg"):
        opened("ade20k", tmp_path, "val")
    (tmp_path / "images" / "validation" / "ADE_val_00000001.jpg").unlink()
    with pytest.raises(DataError, match="no images of the split 'val'"):
        opened("ade20k", tmp_path, "val")


@pytest.mark.parametrize("name", PUBLISHED_SETS)
def test_an_empty_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="there is no folder .* in it; give the folder in which"):
        opened(name, tmp_path)


def test_labels_of_another_size_are_refused(tmp_path):
    ade(tmp_path)
    image(tmp_path / "images" / "validation" / "ADE_val_00000001.jpg", 16, 30)
    with pytest.raises(DataError, match=r"32x16 pixels, but .*30x16; image and label belong to"):
        opened("ade20k", tmp_path, "val")[0]


def test_a_damaged_matlab_file_is_refused(tmp_path):
    stem = "COCO_train2014_000000000077"
    image(tmp_path / "images" / f"{stem}.jpg")
    path = tmp_path / "annotations" / f"{stem}.mat"
    mat(path, S=every(range(183)).astype(np.uint8))
    lines(tmp_path / "imageLists" / "train.txt", stem)
    whole = path.read_bytes()
    for broken in (b"", whole[:200], b"no matlab file", whole[:130] + b"\xff" * 40 + whole[170:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=f"{stem}.mat: .*copy it again"):
            opened("coco_stuff_10k", tmp_path)[0]


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    stem = "COCO_train2014_000000000077"
    image(tmp_path / "images" / f"{stem}.jpg")
    mat(tmp_path / "annotations" / f"{stem}.mat", S=every(range(183)).astype(np.uint8))
    lines(tmp_path / "imageLists" / "train.txt", stem)
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"needs SciPy; pip install 'danet_nb\[mat\]'"):
        opened("coco_stuff_10k", tmp_path)[0]


def test_workers_can_receive_it(tmp_path):
    ade(tmp_path)
    dataset = opened("ade20k", tmp_path, cache=True)
    images, labels = next(iter(DataLoader(dataset, num_workers=1)))
    assert images.shape == (1, 3, 16, 32) and torch.equal(labels[0], dataset[0][1])
    assert len(opened("ade20k", tmp_path, count=1)) == 1
    assert dataset.palette.tolist() == [list(color) for color in LABEL_TABLES["ade20k"].palette]
