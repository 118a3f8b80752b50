"Evidence: intervals, nulls and interventions, on networks built by hand whose reasons are known."

import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from danet_nb.danet import DANet
from danet_nb.evaluation import predict
from danet_nb.evidence import (
    Bays,
    Interval,
    accuracy_by_distance,
    answer,
    boats_of,
    bootstrap,
    causal_table,
    cells,
    delete_cells,
    draw_bays,
    evidence_table,
    fleets,
    interval_table,
    look_inside,
    most_attended,
    random_cells,
    shuffled,
    towers,
    untrained,
    verdict,
)
from danet_nb.position import PositionAttention
from danet_nb.scenes import FAR_CLASSES, split_seeds
from danet_nb.transforms import denormalize

COUNT = 24
SIZE = (12, 12)
CHANNELS = 8


# Networks built by hand


class Known(nn.Module):
    "A backbone that recognises a scene and gives the truth about each cell as its features."

    output_stride = 8

    def __init__(self, bays, knows_the_answer):
        super().__init__()
        self.truth = {}
        for turned in (None, *range(bays.lamps.shape[1])):
            images, lamps = bays.images, bays.lamps.clone()
            if turned is not None:
                images = bays.turned_images[:, turned]
                lamps[:, turned] = 1 - lamps[:, turned]
            features = truth_of(bays, lamps, knows_the_answer)
            for image, feature in zip(images, features, strict=True):
                self.truth[image.contiguous().numpy().tobytes()] = feature

    def forward(self, x):
        images = (denormalize(x) * 255).round().byte().contiguous().numpy()
        features = torch.stack([self.truth[image.tobytes()] for image in images])
        return features[:, :1], features


def truth_of(bays, lamps, knows_the_answer):
    "`(B, 8, h, w)`: towers (0, 1), fleets (2, 3), green or red at towers (4), verdict (5)."
    tower = cells(towers(bays), SIZE)
    tower = (tower >= 0.9 * tower.amax(-1, keepdim=True)).float()
    assert tower.sum(-1).max() <= 8
    fleet = cells(fleets(bays), SIZE)
    fleet = ((fleet > 0) & (fleet == fleet.amax(1, keepdim=True))).float()
    sign = 2.0 * lamps[..., None] - 1
    features = torch.zeros(len(lamps), CHANNELS, SIZE[0] * SIZE[1])
    features[:, : tower.shape[1]] = tower
    features[:, 2 : 2 + fleet.shape[1]] = fleet
    features[:, 4] = (tower * sign).sum(1)
    if knows_the_answer:
        features[:, 5] = (fleet * sign).sum(1)
    return features.unflatten(-1, SIZE)


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def planted(bays, gate=1.0, knows_the_answer=False):
    "Boats look at the lighthouse of their fleet, and say what its lamp says."
    options = dict(channels=CHANNELS, reduction=4, attention="position", on_grid=False)
    model = DANet(6, backbone="small", dropout=0.0, **options).eval().requires_grad_(False)
    model.backbone = Known(bays, knows_the_answer)
    head = model.head
    head.position_in = head.position_out = head.channel_in = nn.Identity()
    head.channel_out = Nothing()
    attention = head.position_attention
    for convolution in (attention.query_conv, attention.key_conv, attention.value_conv):
        convolution.weight.zero_()
        convolution.bias.zero_()
    for number in range(2):
        attention.query_conv.weight[number, 2 + number] = 40
        attention.key_conv.weight[number, number] = 1
    attention.value_conv.weight[5, 4] = 1
    attention.gate.fill_(gate)
    classifier = head.classifiers["fused"]
    classifier.weight.zero_()
    classifier.bias.copy_(torch.tensor([-9.0, 0.1, -9, -9, 0, 0]))
    classifier.weight[FAR_CLASSES[0], 5] = 1  # green: homeward; sea where nothing is known
    classifier.weight[FAR_CLASSES[1], 5] = -1
    return model


@pytest.fixture(scope="module", params=["far", "pair"])
def world(request):
    return request.param


@pytest.fixture(scope="module")
def bays(world):
    return draw_bays(world, split_seeds("test", COUNT))


def found(rows, **keys):
    [row] = [row for row in rows if all(row[name] == value for name, value in keys.items())]
    return row


def share(rows, test, part="", score="right"):
    return found(rows, test=test, part=part)[score].mean


def test_a_planted_reason_is_found_by_every_test(world, bays):
    rows = causal_table({"planted": planted(bays)}, world, COUNT)
    assert share(rows, "nothing") > 0.9
    assert share(rows, "close gate", "position") < 0.6
    assert share(rows, "delete cells", "8 random") > 0.9
    assert share(rows, "delete cells", "8 most attended") < 0.6
    for part in ("everything", "position", "position: values", "position: values there"):
        assert share(rows, "turn own lamp", part, "opposite") > 0.9
        assert share(rows, "turn own lamp", part, "turned") > 0.9
    assert share(rows, "turn own lamp", "position: 8 values", "opposite") > 0.9
    assert share(rows, "turn own lamp", "position: map", "turned") == 0  # it is the same map
    assert "position attention is a reason" in verdict(rows, "planted")
    if world == "pair":
        assert share(rows, "turn other lamp", "everything", "turned") < 0.1
        assert share(rows, "turn other lamp", "position", "right") > 0.9


def test_a_planted_look_is_found_by_every_measure(world, bays):
    rows = evidence_table({"planted": planted(bays)}, world, COUNT)
    for lamp in ("red", "green"):
        real, *nulls = (
            found(rows, map=kind, lamp=lamp)
            for kind in ("trained", "untrained", "shuffled", "same cell")
        )
        assert real["own"].low > 8 and real["entropy"].high < 0.5
        assert all(null["own"].high < real["own"].low for null in nulls)
        assert abs(nulls[0]["own"].mean - 1) < 0.2 and nulls[0]["entropy"].mean > 0.95
        assert (real["other"] is None) == (world == "far")
        if world == "pair":
            assert real["other"].high < 0.1


def test_a_decoration_has_lift_and_no_effect(world, bays):
    "The map looks at the lamp, its gate is closed, and the answer comes from elsewhere."
    model = planted(bays, gate=0.0, knows_the_answer=True)
    looks = found(evidence_table({"it": model}, world, COUNT), map="trained", lamp="green")
    assert looks["own"].low > 8
    rows = causal_table({"it": model}, world, COUNT)
    assert share(rows, "turn own lamp", "everything", "opposite") > 0.9
    for row in rows:
        if row["part"] not in ("", "everything"):
            assert row["right"].mean > 0.9 and row["turned"].mean == 0, row
    assert "position attention is decoration" in verdict(rows, "it")


def test_an_untrained_network_is_found_by_none(world, bays):
    model = untrained(planted(bays))
    for row in evidence_table({"it": model}, world, COUNT):
        assert abs(row["own"].mean - 1) < 0.2 and row["entropy"].mean > 0.95
    rows = causal_table({"it": model}, world, COUNT)
    whole = share(rows, "nothing")
    for row in rows:
        assert abs(row["right"].mean - whole) < 0.02 and row["turned"].mean < 0.02, row
    assert "nothing to explain" in verdict(rows, "it")


# Scenes


def test_twins_differ_in_one_lamp(world, bays):
    assert bays.lamps.shape[1] == {"far": 1, "pair": 2}[world]
    for lamp in range(bays.lamps.shape[1]):
        changed = (bays.images != bays.turned_images[:, lamp]).any(1)
        assert changed.any((1, 2)).all() and not (changed & ~towers(bays)[:, lamp]).any()
        boats = fleets(bays)[:, lamp]
        sides = bays.labels + bays.turned_labels[:, lamp]
        assert (sides[boats] == sum(FAR_CLASSES)).all()
        green = bays.lamps[:, lamp, None, None] == 1
        assert (((bays.labels == FAR_CLASSES[0]) == green) | ~boats).all()


def test_the_control_world_has_one_fleet_of_all_boats():
    bays = draw_bays("control", range(3))
    assert fleets(bays)[:, 0].equal(boats_of(bays)) and bays.lamps.shape == (3, 1)
    rows = causal_table({"it": untrained(DANet(6, backbone="small", channels=8))}, "control", 3)
    assert {row["test"] for row in rows} >= {"close gate", "delete cells", "turn own lamp"}


# Intervals


def test_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(0)
    n, d = rng.random(40), 1 + rng.random(40)
    ours = bootstrap(torch.tensor(n), torch.tensor(d), draws=20_000)
    theirs = stats.bootstrap(
        (n, d),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=1,
    ).confidence_interval
    assert ours.mean == pytest.approx(n.sum() / d.sum())
    assert ours.low == pytest.approx(theirs.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.high, abs=0.003)


def test_bootstrap_of_classes_is_the_mean_of_their_quotients():
    n, d = torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([[2.0, 0], [4, 0]])
    assert bootstrap(n, d).mean == pytest.approx(4 / 6)  # the second class is nowhere
    assert bootstrap(torch.ones(5)) == Interval(1, 1, 1)
    assert bootstrap(torch.zeros(5), torch.zeros(5)) is None


def test_bootstrap_resamples_scenes_and_not_pixels():
    "Twice the pixels of the same scenes are no second evidence."
    right, area = torch.rand(30), torch.ones(30)
    assert bootstrap(right, area) == pytest.approx(bootstrap(right * 1000, area * 1000))


# Interventions


@pytest.fixture(scope="module")
def trained_like():
    "A small network with both modules open, and sharp maps."
    torch.manual_seed(3)
    model = DANet(6, backbone="small", channels=16).eval().requires_grad_(False)
    model.head.position_attention.gate.fill_(0.7)
    model.head.channel_attention.gate.fill_(0.3)
    model.head.position_attention.query_conv.weight.mul_(8)
    return model


def images_of(height, width, count=2):
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(256, (count, 3, height, width), generator=generator).byte()


@pytest.mark.parametrize("attention", ["none", "position", "channel", "both"])
@pytest.mark.parametrize("size", [(96, 96), (70, 101)])
def test_unchanged_parts_give_the_answer_of_the_network(attention, size):
    torch.manual_seed(0)
    model = DANet(6, backbone="small", channels=16, attention=attention)
    for module in (model.head.position_attention, model.head.channel_attention):
        if hasattr(module, "gate"):
            module.gate.data.fill_(0.5)
    images = images_of(*size)
    said = answer(model, look_inside(model, images), size)
    assert model.training  # as it was
    assert (said == predict(model, images).argmax(1)).float().mean() > 0.999


def test_deletion_is_minus_infinity_by_loops(trained_like):
    inside = look_inside(trained_like, images_of(40, 56))
    n = inside.energy.shape[-1]
    assert n == 6 * 8  # of 41 x 57 pixels, the next sides of the form 8k+1
    cut = delete_cells(inside, most_attended(inside.energy, 5)).gathered
    for j in range(n):
        energy = inside.energy[1, j].double()
        for _ in range(5):
            energy[energy.argmax()] = -torch.inf
        expected = energy.softmax(0) @ inside.values[1].double()
        torch.testing.assert_close(cut[1, j].double(), expected, rtol=1e-4, atol=1e-5)


def test_deleting_nothing_is_the_identity_and_all_is_refused(trained_like):
    inside = look_inside(trained_like, images_of(40, 56))
    assert delete_cells(inside, most_attended(inside.energy, 0)).gathered.equal(inside.gathered)
    for k in (-1, 6 * 8):
        with pytest.raises(ValueError, match="so that one is left"):
            most_attended(inside.energy, k)


def test_chosen_cells_are_k_in_every_row():
    energy = torch.randn(3, 20, 20)
    chance = random_cells(energy, 4, torch.Generator().manual_seed(0))
    for mask in (most_attended(energy, 4), chance):
        assert (mask.sum(-1) == 4).all()
    assert not chance.equal(most_attended(energy, 4))
    assert (
        random_cells(torch.zeros(1, 4000, 10), 1, torch.Generator().manual_seed(0))
        .float()
        .mean(1)
        .sub(0.1)
        .abs()
        .max()
        < 0.03
    )


def test_a_shuffle_keeps_what_a_map_is_and_loses_where_it_looks():
    S = torch.randn(4, 30, 30).mul(4).softmax(-1)
    other = shuffled(S, torch.Generator().manual_seed(0))
    assert other.sort(-1).values.equal(S.sort(-1).values)
    assert other.sum(1).sort(-1).values.allclose(S.sum(1).sort(-1).values)  # one order for all rows


def test_a_sharp_map_does_not_underflow(trained_like):
    "Energies so far apart that all other weights are zero: deletion still finds the next."
    inside = look_inside(trained_like, images_of(40, 56))
    sharp = inside.energy * 1e4
    gathered = delete_cells(
        type(inside)(**{**vars(inside), "energy": sharp}), most_attended(sharp, 3)
    ).gathered
    assert gathered.isfinite().all()
    best = sharp[0, 7].argsort(descending=True)[3]
    torch.testing.assert_close(gathered[0, 7], inside.values[0, best])


def test_nothing_outside_is_touched(trained_like):
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in trained_like.state_dict().items()}
    assert untrained(trained_like).config == trained_like.config
    causal_table({"it": trained_like}, "pair", 2)
    evidence_table({"it": trained_like}, "pair", 2)
    assert torch.get_rng_state().equal(state)
    for name, value in trained_like.state_dict().items():
        assert value.equal(before[name])
    assert not trained_like.head.position_attention._forward_pre_hooks


# Tables


def test_networks_without_position_attention_have_no_map_to_measure():
    model = DANet(6, backbone="small", channels=8, attention="channel").eval()
    with pytest.raises(ValueError, match='take one with attention="position" or "both"'):
        evidence_table({"it": model}, "far", 2)
    rows = causal_table({"it": model}, "far", 2)
    assert [(row["test"], row["part"]) for row in rows] == [
        ("nothing", ""),
        ("close gate", "channel"),
        ("turn own lamp", "everything"),
        ("turn own lamp", "channel"),
    ]
    plain = DANet(6, backbone="small", channels=8, attention="none").eval()
    rows = causal_table({"it": plain}, "pair", 2)
    assert [row["test"] for row in rows] == ["nothing", "turn own lamp", "turn other lamp"]
    with pytest.raises(KeyError):
        verdict(rows, "another")


def test_distance_bins_hold_every_pixel_once(trained_like):
    seeds = split_seeds("val", 4)
    bays = draw_bays("pair", seeds)
    rows = accuracy_by_distance(trained_like, "pair", seeds, (0, 20, 50, 200))
    assert sum(row["pixels"] for row in rows) == boats_of(bays).sum()
    said = predict(trained_like, bays.images).argmax(1)
    near = boats_of(bays) & (bays.distances < 20)
    if near.any():
        expected = (said == bays.labels)[near].float().mean()
        assert rows[0]["accuracy"].mean == pytest.approx(expected.item(), abs=2e-3)
    assert accuracy_by_distance(trained_like, "pair", seeds, (500, 600))[0]["accuracy"] is None


def test_rows_are_json_and_a_table():
    rows = [{"network": "it", "own": Interval(1.234, 1, 2), "other": None}]
    assert json.loads(json.dumps(rows))[0]["own"] == [1.234, 1, 2]
    assert "1.23 (1.00–2.00)" in interval_table(rows) and "–" in interval_table(rows, ["other"])


def test_bays_can_be_cut():
    bays = draw_bays("far", range(3))
    first = Bays(*(field[:1] for field in bays))
    assert first.images.shape == (1, 3, 96, 96) and fleets(first).any()
    assert isinstance(DANet(6, backbone="small").head.position_attention, PositionAttention)
