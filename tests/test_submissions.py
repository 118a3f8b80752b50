"""Submissions: layouts, numbers and archives, read by the standard library and, where it is
installed, by cityscapesscripts' own evaluation."""

import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from danet_nb.datasets import DataError
from danet_nb.protocols import Protocol
from danet_nb.scenes import scene
from danet_nb.submissions import (
    CITYSCAPES_IDS,
    SERVERS,
    check_submission,
    pack,
    unlabelled_images,
    voc_palette,
    write_prediction,
    write_submission,
)

FRAMES = (("bonn", 3), ("bonn", 19), ("mainz", 0), ("berlin", 7))


@pytest.fixture
def cityscapes(tmp_path):
    "A test split in the layout of the download."
    root = tmp_path / "cityscapes"
    for i, (city, frame) in enumerate(FRAMES):
        name = f"{city}_{i:06d}_{frame:06d}_leftImg8bit.png"
        path = root / "leftImg8bit" / "test" / city / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(i, 64).image[:32]).save(path)
    return root


@pytest.fixture
def voc(tmp_path):
    "VOC's test list and pictures of several sizes."
    root = tmp_path / "VOC2012"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    names = [f"2008_{i:06d}" for i in range(3)]
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(names) + "\n")
    for i, name in enumerate(names):
        Image.fromarray(scene(i, 64).image[: 64 - 9 * i]).save(root / f"JPEGImages/{name}.jpg")
    return root


def network(classes):
    torch.manual_seed(0)
    return nn.Conv2d(3, classes, 3, padding=1)


def test_cityscapes_from_images_to_the_archive(cityscapes, tmp_path):
    images = unlabelled_images("cityscapes", cityscapes)
    assert list(images)[0] == "berlin_000003_000007" and len(images) == 4
    out = tmp_path / "out"
    way = Protocol(window=24, flip=True)
    assert write_submission(network(19), "cityscapes", images, out, way, progress=False) == 4
    with pytest.raises(DataError, match="4 images, the test set of cityscapes has 1525"):
        pack("cityscapes", images, out)
    with zipfile.ZipFile(pack("cityscapes", images, out, partial=True)) as packed:
        names = packed.namelist()
    assert names[0] == "results/berlin_000003_000007_pred_labelIds.png" and len(names) == 4
    for path in out.rglob("*.png"):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (64, 32))
        assert set(np.unique(picture).tolist()) <= set(CITYSCAPES_IDS)


def test_voc_from_images_to_the_archive(voc, tmp_path):
    images = unlabelled_images("voc2012", voc)
    out = tmp_path / "out"
    write_submission(network(21), "voc2012", images, out, progress=False)
    with tarfile.open(pack("voc2012", images, out, partial=True)) as packed:
        names = packed.getnames()
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert names == [f"{folder}/2008_00000{i}.png" for i in range(3)]
    for i, name in enumerate(names):
        picture = Image.open(out / name)
        assert (picture.mode, picture.size) == ("P", (64, 64 - 9 * i))
        assert picture.getpalette()[:63] == [v for color in voc_palette(21) for v in color]


def test_what_is_written_is_what_the_network_says(cityscapes, tmp_path):
    images = unlabelled_images("cityscapes", cityscapes)
    model = network(19)
    write_submission(model, "cityscapes", images, tmp_path, progress=False)
    from danet_nb.evaluation import predict

    for name, path in images.items():
        written = np.asarray(Image.open(SERVERS["cityscapes"].path(tmp_path, name)))
        said = predict(model, path).argmax(1)[0].numpy()
        assert np.array_equal(written, np.array(CITYSCAPES_IDS)[said])


def test_an_interrupted_run_goes_on(cityscapes, tmp_path):
    out = tmp_path / "out"
    images = unlabelled_images("cityscapes", cityscapes)
    some = dict(list(images.items())[:2])
    assert write_submission(network(19), "cityscapes", some, out, progress=False) == 2
    with pytest.raises(DataError, match="is missing .2 of 4 are.*makes those alone"):
        check_submission("cityscapes", images, out)
    assert write_submission(network(19), "cityscapes", images, out, progress=False) == 2
    assert check_submission("cityscapes", images, out) == 4


def test_every_class_has_a_number_and_every_other_is_refused(tmp_path):
    for name, server in SERVERS.items():
        every = torch.arange(len(server.ids))[None]
        write_prediction(tmp_path / f"{name}.png", every, server)
        assert np.asarray(Image.open(tmp_path / f"{name}.png"))[0].tolist() == list(server.ids)
        for wrong in (every + 1, every - 1, every[0]):
            with pytest.raises(ValueError, match="give a `.H, W.` map of the classes"):
                write_prediction(tmp_path / "bad.png", wrong, server)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda a: a * 0 + 9, "the numbers .9. are no classes"),
        (lambda a: a[:16], "64x16 pixels, its image has 64x32"),
        (lambda a: np.repeat(a[..., None], 3, -1), "mode RGB; the server reads PNG with 8 bits"),
        (lambda a: a.astype(np.uint16), "the server reads PNG with 8 bits"),
    ],
)
def test_what_the_server_would_not_take_is_found(spoil, words, cityscapes, tmp_path):
    images = unlabelled_images("cityscapes", cityscapes)
    out = tmp_path / "out"
    write_submission(network(19), "cityscapes", images, out, progress=False)
    path = SERVERS["cityscapes"].path(out, list(images)[2])
    Image.fromarray(spoil(np.array(Image.open(path)))).save(path)
    with pytest.raises(DataError, match=words):
        check_submission("cityscapes", images, out)


def test_numbers_are_those_of_cityscapesscripts():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    ids = {label.trainId: label.id for label in labels.labels if not label.ignoreInEval}
    assert tuple(ids[k] for k in range(19)) == CITYSCAPES_IDS


def test_cityscapesscripts_gives_a_perfect_prediction_a_perfect_score(cityscapes, tmp_path):
    "Its own evaluation, on its own search for files."
    module = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    images = unlabelled_images("cityscapes", cityscapes)
    generator = np.random.default_rng(0)
    truths = []
    for name, path in images.items():
        classes = generator.integers(0, 19, (32, 64))
        server = SERVERS["cityscapes"]
        write_prediction(server.path(tmp_path / "out", name), classes, server)
        city = tmp_path / "gtFine" / "test" / path.parent.name
        city.mkdir(parents=True, exist_ok=True)
        ids = np.array(CITYSCAPES_IDS, dtype=np.uint8)[classes]
        Image.fromarray(ids).save(city / f"{name}_gtFine_labelIds.png")
        truths.append(str(city / f"{name}_gtFine_labelIds.png"))
    args = module.args
    args.predictionPath, args.predictionWalk = str(tmp_path / "out"), None
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    found = [module.getPrediction(args, truth) for truth in truths]
    scores = module.evaluateImgLists(found, truths, args)
    assert scores["averageScoreClasses"] == 1
