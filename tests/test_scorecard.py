"Scores of a data set: several processes count what one counts; outlines against erosion by masks."

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from danet_nb.datasets import make_scenes
from danet_nb.protocols import Protocol
from danet_nb.scorecard import (
    Scorecard,
    card_dict,
    card_table,
    confusion_figure,
    frequency_weighted_iou,
    outline,
    own_share,
    reach_of,
    score_by,
    worst_figure,
    write_card,
)

WAY = Protocol(window=24, stride=16, flip=True)
WORKER = """
import sys, torch
import torch.distributed as dist
from danet_nb.datasets import make_scenes
from danet_nb.protocols import Protocol
from danet_nb.scorecard import gather, score_by
rank, world, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=world)
torch.manual_seed(0)
model = torch.nn.Conv2d(3, 6, 3, padding=1)
data = make_scenes("far", "val", 64, 7)
way = Protocol(window=24, stride=16, flip=True)
card = gather(score_by(model, data, way, batch=3, rank=rank, world=world, progress=False))
torch.save((card.pixels.matrix, card.outlines.matrix, card.images), f"{place}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def data():
    return make_scenes("far", "val", 64, 7)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Conv2d(3, 6, 3, padding=1)


@pytest.fixture(scope="module")
def card(model, data):
    return score_by(model, data, WAY, progress=False)


def test_three_processes_count_what_one_counts(card, tmp_path):
    "Seven images on three processes, to the last pixel."
    commands = [[sys.executable, "-c", WORKER, str(rank), "3", str(tmp_path)] for rank in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0, 0]
    for rank in range(3):
        pixels, outlines, images = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(pixels, card.pixels.matrix)
        assert torch.equal(outlines, card.outlines.matrix)
        assert images == card.images and len(images) == 7


def test_shares_cover_every_image_once():
    for count in range(12):
        for world in range(1, 6):
            taken = [i for rank in range(world) for i in own_share(count, rank, world)]
            assert sorted(taken) == list(range(count))
    for rank, world in ((-1, 2), (2, 2), (0, 0)):
        with pytest.raises(ValueError, match="it has to be 0 to"):
            own_share(3, rank, world)


def test_an_image_on_two_cards_is_refused(card):
    with pytest.raises(ValueError, match="0000 is counted twice"):
        card + card


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 8), (40, 31)])
@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_outlines_are_those_of_erosion(size, d):
    g = torch.Generator().manual_seed(d)
    coarse = torch.randint(0, 4, (1, 1, size[0] // 6 + 1, size[1] // 6 + 1), generator=g)
    label = nn.functional.interpolate(coarse.float(), size)[0, 0].long()
    expected = np.zeros(size, dtype=bool)
    for k in range(4):
        mask = (label == k).numpy()
        expected |= mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d)
    assert np.array_equal(outline(label, d), expected)


def test_a_prediction_that_is_right_where_there_is_a_label_is_perfect():
    label = torch.zeros(30, 30, dtype=torch.int64)
    label[:, 12:] = 1
    label[5:20, 8:20] = 255
    for filled in (0, 1):
        pred = label.where(label != 255, filled)
        made = Scorecard(["a", "b"]).update(pred, label, "x")
        assert made.scores()["mean_boundary_iou"] == made.scores()["mean_iou"] == 1


def test_frequency_weights_by_hand():
    n = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert frequency_weighted_iou(n) == pytest.approx((4 * 3 / 4 + 4 * 4 / 5) / 8)
    n[0, 2] = 2  # false alarms of a class that is not there
    assert frequency_weighted_iou(n) == pytest.approx((6 * 3 / 6 + 4 * 4 / 5) / 10)


def test_reach_is_two_hundredths_of_the_diagonal():
    assert reach_of((1024, 2048)) == 46 and reach_of((10, 10)) == 1


def test_the_file_holds_all_that_the_scores_come_from(card, tmp_path):
    write_card(tmp_path / "new" / "scores.json", card, WAY)
    kept = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert kept == json.loads(json.dumps(card_dict(card, WAY)))
    again = Scorecard(card.classes)
    again.pixels.matrix = torch.tensor(kept["confusion"])
    again.outlines.matrix = torch.tensor(kept["outlines"])
    assert again.scores() == kept["scores"] == card.scores()
    protocol = {**kept["protocol"], "scales": tuple(kept["protocol"]["scales"])}
    assert Protocol(**protocol) == WAY


def test_absent_classes_are_null_and_a_dash(tmp_path):
    label = torch.zeros(6, 6, dtype=torch.int64)
    made = Scorecard(["a", "b"]).update(label, label, "x")
    made.update(label, torch.full_like(label, 255), "void")
    found = card_dict(made, Protocol())
    assert found["iou"] == {"a": 1, "b": None} and found["images"] == {"void": None, "x": 1}
    write_card(tmp_path / "scores.json", made, Protocol())
    [row] = [line for line in card_table(made).splitlines() if line.startswith("| b")]
    assert row.count("–") == 3


def test_figures_show_every_class_and_the_worst(card, model, data):
    labels = [t.get_text() for t in confusion_figure(card).axes[0].get_yticklabels()]
    assert labels == list(data.classes)
    fig = worst_figure(card, data, lambda x: model(x).argmax(1), count=2)
    titles = [ax.get_title() for ax in fig.axes if "label" not in ax.get_title()]
    worst = card.worst(2)
    assert [t for t in titles if t.startswith(worst[0])] == [
        f"{worst[0]}: {card.images[worst[0]]:.3f}"
    ]
    assert card.images[worst[0]] == min(card.images.values())
