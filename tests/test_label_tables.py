"The tables of ids against the lists that others published, row by row."

import ast
import importlib.util
from pathlib import Path

import pytest

from danet_nb.label_tables import (
    CAMVID_COLORS_32,
    CAMVID_NAMES,
    CONTEXT_459,
    CONTEXT_CLASSES,
    CONTEXT_LISTED,
    LABEL_TABLES,
    NEVER_PAINTED,
    VOID,
    camvid_classes,
    context_ids,
    same_class,
)

LISTS = Path(__file__).parent / "fixtures" / "lists"
SIZES = {
    "cityscapes": {"train": 2975, "val": 500, "test": 1525},
    "pascal_context": {"train": 4996, "val": 5104},
    "pascal_context_60": {"train": 4996, "val": 5104},
    "coco_stuff_10k": {"train": 9000, "test": 1000},
    "coco_stuff_164k": {"train": 118287, "val": 5000},
    "voc2012": {"train": 1464, "val": 1449, "trainaug": 10582},
    "ade20k": {"train": 20210, "val": 2000},
    "camvid": {"train": 367, "val": 101, "test": 233},
}


def numbered(name):
    "`{number: name}` of a file with lines like `7: ashtray`."
    lines = (LISTS / name).read_text().splitlines()
    return {int(number): text.strip() for number, text in (line.split(":") for line in lines)}


def rows(name):
    "The fields of a file with tabs."
    return [line.split("\t") for line in (LISTS / name).read_text().splitlines()]


def color(text):
    return tuple(map(int, text.split()))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_the_splits(name):
    assert SIZES[name].items() <= LABEL_TABLES[name].sizes.items()


def test_every_table_has_its_sizes_here():
    assert set(SIZES) == set(LABEL_TABLES)


# Cityscapes


def test_cityscapes_is_the_published_table():
    table = LABEL_TABLES["cityscapes"]
    published = rows("cityscapes.tsv")
    assert len(published) == 35
    for number, train_id, rgb, name in published:
        wanted = int(train_id) if 0 <= int(train_id) < 19 else VOID
        assert table.ids[int(number)] == wanted, name
        if wanted != VOID:
            assert (table.classes[wanted], table.palette[wanted]) == (name, color(rgb))
    assert set(table.ids) == {int(row[0]) for row in published} | {255}


def test_cityscapes_is_what_cityscapesscripts_says():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    table = LABEL_TABLES["cityscapes"]
    said = {label.id: label.trainId if label.trainId >= 0 else VOID for label in labels}
    assert said | {255: VOID} == table.ids
    kept = sorted((x for x in labels if x.trainId in range(19)), key=lambda x: x.trainId)
    assert table.classes == tuple(x.name for x in kept)
    assert table.palette == tuple(x.color for x in kept)


# PASCAL Context


def test_context_numbers_are_those_of_the_459_names():
    number = {same_class(name): k for k, name in numbered("pascal_context_labels.txt").items()}
    assert len(number) == 459
    assert tuple(number[name] for name in CONTEXT_CLASSES) == CONTEXT_459
    table = context_ids("459")
    for name, k in number.items():
        wanted = CONTEXT_CLASSES.index(name) if name in CONTEXT_CLASSES else VOID
        assert table[k] == wanted, name


def test_context_list_is_the_published_list_of_59():
    listed = numbered("pascal_context_59_labels.txt")
    assert tuple(same_class(name) for name in listed.values()) == CONTEXT_LISTED
    table = context_ids("listed")
    for k, name in listed.items():
        assert CONTEXT_CLASSES[table[k]] == same_class(name)


def test_54_of_59_numbers_differ_between_the_orders():
    listed, alphabetical = context_ids("listed"), context_ids("alphabetical")
    assert sum(listed[k] != alphabetical[k] for k in range(1, 60)) == 54


# COCO-Stuff


def test_coco_stuff_is_the_published_list_without_what_was_never_painted():
    published = numbered("coco_stuff_labels.txt")
    assert published.pop(0) == "unlabeled" and len(published) == 182
    ten, many = LABEL_TABLES["coco_stuff_10k"], LABEL_TABLES["coco_stuff_164k"]
    assert len(ten.classes) == 171 and ten.classes == many.classes
    assert ten.ids[0] == many.ids[255] == VOID
    for number, name in published.items():
        assert ten.ids[number] == many.ids[number - 1], name
        if number in NEVER_PAINTED:
            assert ten.ids[number] == VOID, name
        else:
            assert ten.classes[ten.ids[number]] == name
    assert len(ten.ids) == len(many.ids) == 183


# CamVid


def test_camvid_has_the_published_colours():
    published = {color(rgb): name for rgb, name in rows("camvid_label_colors.txt")}
    assert published == dict(zip(CAMVID_COLORS_32, CAMVID_NAMES, strict=True))
    assert set(camvid_classes()) == set(published)


# mmsegmentation's own lists and converters, where it is installed


def mmseg_file(*parts):
    "A source file of mmsegmentation; read, not imported, since that needs compiled operators."
    spec = importlib.util.find_spec("mmseg")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mmsegmentation is not installed")
    return ast.parse(Path(spec.submodule_search_locations[0]).joinpath(*parts).read_text())


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("cityscapes", "cityscapes.py", "CityscapesDataset"),
        ("ade20k", "ade.py", "ADE20KDataset"),
        ("voc2012", "voc.py", "PascalVOCDataset"),
        ("pascal_context", "pascal_context.py", "PascalContextDataset59"),
        ("pascal_context_60", "pascal_context.py", "PascalContextDataset"),
        ("coco_stuff_164k", "coco_stuff.py", "COCOStuffDataset"),
    ],
)
def test_names_and_colours_are_those_of_mmsegmentation(name, file, kind):
    tree = mmseg_file("datasets", file)
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind)
    meta = next(n for n in ast.walk(found) if isinstance(n, ast.Call) and n.keywords)
    said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in meta.keywords}
    table = LABEL_TABLES[name]
    assert table.classes == tuple(x.strip() for x in said["classes"])
    if not name.startswith("coco"):  # its colours are nobody's, and 17 classes share them
        assert table.palette == tuple(map(tuple, said["palette"]))


@pytest.mark.parametrize(
    ("name", "file", "first"),
    [("coco_stuff_10k", "coco_stuff10k.py", 1), ("coco_stuff_164k", "coco_stuff164k.py", 0)],
)
def test_ids_are_those_of_mmsegmentations_converters(name, file, first):
    tree = mmseg_file(".mim", "tools", "dataset_converters", file)
    said = ast.literal_eval(next(n for n in ast.walk(tree) if isinstance(n, ast.Dict)))
    ids = LABEL_TABLES[name].ids
    for number, new in said.items():
        assert ids[number] == (new - first if first <= new < 255 else VOID)
    assert {ids[k] for k in set(ids) - set(said)} == {VOID}  # the ids that were never painted


def test_context_ids_are_those_of_mmsegmentations_converter():
    tree = mmseg_file(".mim", "tools", "dataset_converters", "pascal_context.py")
    lists = [n for n in ast.walk(tree) if isinstance(n, ast.List)]
    numbers = sorted(ast.literal_eval(lists[0]))
    assert tuple(numbers) == (0, *CONTEXT_459)
