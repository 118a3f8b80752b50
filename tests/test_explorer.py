"The explorer without a browser: pictures against arrays, and widgets whose traits are set."

import io
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from html import unescape
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from PIL import Image
from published import foreign_state, thin, write_authors

import danet_nb.explorer as explorer_module
from danet_nb.attention_maps import scaled_gates
from danet_nb.danet import DANet
from danet_nb.datasets import DataError
from danet_nb.evaluation import predict
from danet_nb.explorer import (
    BAY_CONTROLS,
    CONTROLS,
    SCENE,
    AttentionExplorer,
    Bay,
    Exploration,
    View,
    explore_bay,
    open_image,
    picture_size,
)
from danet_nb.published import load_danet
from danet_nb.scenes import CLASSES, FAR_CLASSES, PALETTE, WORLDS, scene

DATA = Path(__file__).parents[1] / "data"
SCENES = {"classes": CLASSES, "palette": tuple(map(tuple, PALETTE.tolist()))}
GATES = {"position": 0.7, "channel": -0.4}
SIZES = [(8, 8), (9, 65), (61, 47), (96, 96)]


def network(attention="both", **options):
    "A small network in evaluation mode whose gates are open."
    torch.manual_seed(0)
    options = {"channels": 32, **SCENES, **options}
    model = DANet(6, "small", attention=attention, on_grid=False, **options).eval()
    with torch.no_grad():
        for name, gate in model.named_parameters():
            if name.endswith("gate"):
                gate.fill_(GATES[name.split(".")[1].split("_")[0]])
    return model


def picture(height=72, width=56):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def png_of(image):
    file = io.BytesIO()
    Image.fromarray(image.movedim(0, -1).numpy()).save(file, format="PNG")
    return file.getvalue()


def upload(panel, name, content):
    "What the browser does when a file is chosen."
    file = {"name": name, "type": "image/png", "size": len(content), "content": content}
    panel.upload.value = [{**file, "last_modified": datetime(2026, 1, 1)}]


def click(explorer, row, column):
    "What the browser does: both traits in one message."
    explorer.panel.picture.set_state({"row": row, "column": column})


def said(explorer):
    return unescape(explorer.panel.status.value)


# The core


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["row", "column"])
def test_every_cell_of_any_image_shows_its_row_or_column(size, direction):
    model, image = network(), picture(*size)
    exploration = Exploration(model, image)
    h, w = exploration.maps.size
    x = exploration.maps.entering["position"]
    with torch.no_grad():
        S = model.head.position_attention.weights(x)[0].view(h, w, h, w)
    for row, column in product({0, h // 2, h - 1}, {0, w // 2, w - 1}):
        view = View(row=row, column=column, direction=direction)
        expected = S[row, column] if direction == "row" else S[:, :, row, column]
        torch.testing.assert_close(exploration.weights(view), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [*SIZES, (300, 20), (1100, 900)])
def test_pictures_have_the_shape_of_the_image(size):
    exploration = Exploration(network(channels=8), picture(*size))
    for png in (exploration.picture(exploration.start), exploration.answer(exploration.start)):
        height, width, _ = decoded(png).shape
        assert (height, width) == picture_size(size)
        assert 384 <= width <= 768 or height == 1536
        assert abs(height / width - size[0] / size[1]) < 0.03 * size[0] / size[1]


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_is_brightest_where_the_map_is(size):
    "Over a black image only the map is seen, and the ring."
    exploration = Exploration(network(), torch.zeros(3, *size, dtype=torch.uint8))
    h, w = exploration.maps.size
    view = View(row=h - 1, column=0, temperature=0.1)
    shown = exploration.map_picture(view).astype(int).sum(-1)
    height, width = shown.shape
    found = np.array(
        [
            [shown[int((r + 0.5) * height / h), int((c + 0.5) * width / w)] for c in range(w)]
            for r in range(h)
        ]
    )
    weights = exploration.weights(view).numpy()
    assert found.flat[weights.argmax()] == found.max()
    order = np.argsort(weights.ravel())
    assert (np.diff(found.ravel()[order]) >= -12).all()  # rounding of colours and of covers


def test_opacity_zero_is_the_image_and_a_ring():
    exploration = Exploration(network(), picture(96, 96))
    view = replace(exploration.start, opacity=0.0, row=0, column=0)
    shown = decoded(exploration.picture(view))
    assert (shown[100:, 100:] == exploration.shown[100:, 100:]).all()
    assert (shown[:60, :60] != exploration.shown[:60, :60]).any()


def test_the_logarithm_and_the_temperature_change_brightness_only_where_they_should():
    exploration = Exploration(network(), picture())
    view = exploration.start
    linear, log = (exploration.map_picture(replace(view, log=log)) for log in (False, True))
    assert log.sum() > linear.sum()
    assert exploration.weights(view).equal(exploration.weights(replace(view, log=True)))
    sharp, soft = (exploration.facts(replace(view, temperature=t)) for t in (0.1, 5.0))
    assert sharp.peak > soft.peak and sharp.entropy < soft.entropy


@pytest.mark.parametrize("gates", list(product((True, False), repeat=2)))
@pytest.mark.parametrize("size", [(61, 47), (96, 96)])
def test_gates_give_what_the_network_with_these_gates_says(gates, size):
    model, image = network(), picture(*size)
    exploration = Exploration(model, image)
    view = View(position_gate=gates[0], channel_gate=gates[1])
    with scaled_gates(model, *view.gates):
        probabilities = predict(model, image)[0]
    classes, sure = exploration.says(view)
    np.testing.assert_allclose(sure, probabilities.max(0).values.numpy(), atol=1e-4)
    assert (classes == probabilities.argmax(0).numpy()).mean() > 0.99
    changed = (classes != exploration.says(View())[0]).mean()
    words = exploration.words(view)
    assert ("all open" in words) == all(gates)
    assert all(gates) or f"changes the class of {changed:.1%} of the pixels" in words
    legend = exploration.legend(view)
    assert sum(part for _, _, part in legend) == pytest.approx(1)


def test_the_channel_is_the_response_behind_the_attention_and_its_words_are_of_the_map():
    model = network()
    exploration = Exploration(model, picture())
    view = View(attention="channel", channel=9, row=2, column=3)
    features = exploration.maps.entering["channel"]
    with torch.no_grad():
        expected = model.head.channel_attention(features)[0, 9]
        X = model.head.channel_attention.weights(features)[0]
    torch.testing.assert_close(exploration.weights(view), expected)
    assert f"gathers most from channel {int(X[9].argmax())} " in exploration.words(view)
    other = replace(view, direction="column")
    assert f"Channel {int(X[:, 9].argmax())} gathers most from it" in exploration.words(other)
    assert exploration.picture(view) != exploration.picture(replace(view, channel=10))


def test_words_say_the_numbers():
    exploration = Exploration(network(), picture(), start=(70, 3))
    view = exploration.start
    assert (view.row, view.column) == (8, 0)
    weights = exploration.weights(view)
    peak = divmod(int(weights.argmax()), weights.shape[1])
    words = exploration.words(view)
    assert words.startswith("Row 8, column 0 of 9 × 7: ")
    times = weights.max().item() * weights.numel()
    assert f"most at row {peak[0]}, column {peak[1]} ({times:.1f} × chance)" in words
    facts = exploration.facts(view)
    assert sum(facts.shares.values()) == pytest.approx(1)
    assert "truth" not in words


def test_the_label_is_compared():
    model, image = network(), picture()
    right = predict(model, image).argmax(1)[0]
    words = Exploration(model, image, right).words(View())
    assert "100.0% of the image is right" in words
    void = Exploration(model, image, torch.full_like(right, 255))
    assert "in truth void" in void.words(View())
    with pytest.raises(ValueError, match="give the label of this image"):
        Exploration(model, image, right[1:])


@pytest.mark.parametrize("attention", ["none", "position", "channel"])
def test_a_network_without_a_module_says_so(attention):
    exploration = Exploration(network(attention), picture())
    view = exploration.fit(View(position_gate=False, channel_gate=False, row=99, channel=99))
    assert view.position_gate == (attention != "position")  # a gate that is not there is open
    assert view.channel_gate == (attention != "channel")
    assert view.row == 8 and view.channel == 31
    usable = {c.name for c in exploration.controls() if exploration.usable(c, view)}
    assert {"row", "column"} <= usable and "attention" not in usable
    assert ("position_gate" in usable) == (attention == "position")
    assert ("channel" in usable) == ("channel_gate" in usable) == (attention == "channel")
    exploration.figure(view)
    if attention == "none":
        assert "no attention module" in exploration.words(view)
        assert (exploration.map_picture(view) == exploration.shown).all()
        with pytest.raises(ValueError, match="no position attention"):
            exploration.weights(view)


def test_a_published_file_without_class_names(tmp_path):
    model = thin(attention="both", channels=8)
    path = write_authors(tmp_path / "DANet.pth.tar", foreign_state(model, "authors"))
    opened = load_danet(path)
    exploration = Exploration(opened, picture(65, 43))
    assert "class " in exploration.words(exploration.start)
    colors = [color for _, color, _ in exploration.legend(exploration.start)]
    assert len(set(colors)) == len(colors) and colors[0].startswith("#")
    explorer = AttentionExplorer(opened, picture(65, 43))
    assert SCENE not in explorer.images
    click(explorer, 8, 5)
    assert "Row 8, column 5 of 9 × 6" in explorer.panel.picture.alt


def test_an_image_in_any_form(tmp_path):
    image = picture()
    (tmp_path / "a.png").write_bytes(png_of(image))
    forms = [image, Image.open(tmp_path / "a.png"), tmp_path / "a.png", str(tmp_path / "a.png")]
    pictures = [Exploration(network(), form).picture(View(row=1)) for form in forms]
    assert len(set(pictures)) == 1


def test_the_model_stays_as_it_is():
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exploration = Exploration(model, picture())
    exploration.words(View(position_gate=False, attention="channel"))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    here, there = (Exploration(network().to(device), picture()) for device in ("cpu", "cuda"))
    for changes in ({}, {"direction": "column"}, {"attention": "channel"}):
        view = View(row=3, column=4, **changes)
        expected = here.weights(view)
        torch.testing.assert_close(there.weights(view).cpu(), expected, rtol=0.02, atol=1e-3)
        assert there.picture(view) and there.answer(view) and there.words(view)


@pytest.mark.parametrize("changes", [{"direction": "up"}, {"row": 1.5}, {"log": 1}])
def test_a_view_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="it has to be"):
        View(**changes)


def test_controls_and_fields_agree():
    for kind, table in ((View, CONTROLS), (Bay, BAY_CONTROLS)):
        assert [control.name for control in table] == [*kind.__dataclass_fields__]
    for control in (*CONTROLS, *BAY_CONTROLS):
        for value, _ in control.choices:
            kind = View if control in CONTROLS else Bay
            assert getattr(kind(**{control.name: value}), control.name) == value


@pytest.mark.parametrize("world", WORLDS)
def test_a_bay_starts_on_a_boat_and_its_lamps_are_those_asked_for(world):
    model = network(channels=8)
    for seed in range(1_000_000, 1_000_010):
        own = scene(seed, 96, world)
        exploration = explore_bay(model, Bay(world=world, seed=seed))
        assert (exploration.image == own.image).all()
        y, x = (int(p) for p in exploration.maps.pixel_of(*cell_of(exploration.start)))
        assert (own.label[y - 4 : y + 4, x - 4 : x + 4] >= FAR_CLASSES[0]).mean() >= 0.4
    lamps = {"lamp": "green", "second_lamp": "red"}
    bay = Bay(world=world, seed=seed, **lamps)
    assert bay.lamps == (("green", "red") if world == "pair" else ("green",))
    lit = scene(seed, 96, world, bay.lamps)
    assert (explore_bay(model, bay).image == lit.image).all()


def cell_of(view):
    return view.row, view.column


@pytest.mark.parametrize("content", [b"", b"abc", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(DataError, match="holiday.png: damaged or no image; choose"):
        open_image(content, "holiday.png")


def test_a_large_upload_is_made_smaller_and_stands_upright():
    image = Image.new("RGB", (3000, 1000))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, format="JPEG", exif=exif)
    assert open_image(file.getvalue(), "a.jpg").shape == (3, 768, 256)
    assert open_image(png_of(picture()), "b.png").equal(picture())


# The widgets


@pytest.fixture
def explorer():
    return AttentionExplorer(network())


def consistent(explorer):
    "All widgets show the present view."
    panel, view = explorer.panel, explorer.view
    for name, widget in panel.controls.items():
        assert widget.value == getattr(view, name), name
    assert (panel.picture.row, panel.picture.column) == cell_of(view)
    assert (panel.picture.rows, panel.picture.columns) == explorer.exploration.maps.size
    assert panel.picture.alt == explorer.exploration.words(view)
    assert panel.images.value == explorer.name and not explorer.quiet


def test_a_click_shows_the_row_of_that_cell(explorer):
    for row, column in ((0, 0), (11, 11), (0, 11), (5, 7)):
        before = explorer.panel.picture.src
        click(explorer, row, column)
        assert cell_of(explorer.view) == (row, column)
        assert explorer.panel.picture.src != before
        consistent(explorer)


def test_one_click_draws_once(explorer, monkeypatch):
    drawn = []
    draw = explorer.draw_pictures
    monkeypatch.setattr(explorer, "draw_pictures", lambda: (drawn.append(1), draw()))
    click(explorer, 3, 9)
    assert len(drawn) == 1
    click(explorer, 3, 9)
    assert len(drawn) == 1
    explorer.panel.controls["row"].value = 7
    assert len(drawn) == 2


OTHER = {
    "attention": "channel",
    "direction": "column",
    "row": 11,
    "column": 10,
    "position_gate": False,
    "channel_gate": False,
    "opacity": 0.3,
    "log": True,
    "temperature": 2.5,
}


@pytest.mark.parametrize("name", OTHER)
def test_every_control_changes_what_is_shown(explorer, name):
    panel = explorer.panel
    shown = (panel.picture.src, panel.answer.value, panel.picture.alt)
    panel.controls[name].value = OTHER[name]
    assert getattr(explorer.view, name) == OTHER[name]
    assert (panel.picture.src, panel.answer.value, panel.picture.alt) != shown
    consistent(explorer)


def test_the_channel_can_be_chosen_with_channel_attention_only(explorer):
    controls = explorer.panel.controls
    assert controls["channel"].disabled and controls["channel"].max == 31
    controls["attention"].value = "channel"
    assert not controls["channel"].disabled
    before = explorer.panel.picture.src
    controls["channel"].value = 31
    assert explorer.panel.picture.src != before


def test_lamps_keep_the_cell_and_another_scene_does_not(explorer):
    bay, panel = explorer.panel.bay_controls, explorer.panel
    click(explorer, 1, 2)
    images = []
    for lamp in ("red", "green", "own"):
        bay["lamp"].value = lamp
        assert cell_of(explorer.view) == (1, 2)
        images.append(explorer.exploration.image)
    assert (images[0] != images[1]).any()
    assert bay["second_lamp"].disabled
    bay["world"].value = "pair"
    assert not bay["second_lamp"].disabled and explorer.bay.world == "pair"
    bay["second_lamp"].value = "green"
    assert explorer.bay.lamps[1] == "green"
    lamps = " and ".join(explorer.bay.lamps)
    assert panel.picture.label.endswith(f"scene 1000000 of the pair world, lamp {lamps}")
    panel.another.click()
    assert explorer.bay.seed == 1_000_001 == bay["seed"].value
    assert cell_of(explorer.view) == cell_of(explorer.exploration.start)
    bay["seed"].value = 7
    assert (explorer.exploration.image == scene(7, 96, "pair", explorer.bay.lamps).image).all()
    consistent(explorer)


def test_uploads_of_other_sizes_and_back(explorer):
    panel = explorer.panel
    click(explorer, 11, 11)
    for number, size in enumerate(SIZES):
        upload(panel, f"{number}.png", png_of(picture(*size)))
        assert explorer.name == f"{number}.png" and panel.upload.value == ()
        assert f"{size[0]} × {size[1]} pixels" in said(explorer)
        h, w = explorer.exploration.maps.size
        assert (panel.controls["row"].max, panel.controls["column"].max) == (h - 1, w - 1)
        click(explorer, h - 1, w - 1)
        consistent(explorer)
        assert all(widget.disabled for widget in panel.bay_controls.values())
    panel.another.click()
    assert explorer.name == SCENE and not panel.bay_controls["lamp"].disabled
    panel.images.value = "2.png"
    assert explorer.name == "2.png"


def test_a_bad_upload_is_said_and_changes_nothing(explorer):
    click(explorer, 4, 4)
    before = explorer.panel.picture.src, explorer.name, dict(explorer.images)
    upload(explorer.panel, "<b>.txt", b"no image")
    assert "<b>.txt: damaged or no image" in said(explorer)
    assert "<b>" not in explorer.panel.status.value
    assert (explorer.panel.picture.src, explorer.name, explorer.images) == before
    consistent(explorer)
    click(explorer, 5, 5)
    assert said(explorer) == '<span role="status"></span>'


def test_a_saved_figure_replaces_nothing(explorer, tmp_path):
    panel = explorer.panel
    panel.file.value = str(tmp_path / "seen.png")
    for name in ("seen.png", "seen-2.png", "seen-3.png"):
        panel.save.click()
        assert decoded((tmp_path / name).read_bytes()).std() > 0
        assert str(tmp_path / name) in said(explorer)
    (tmp_path / "file").touch()
    panel.file.value = str(tmp_path / "file" / "seen.png")
    panel.save.click()
    assert "file" in said(explorer) and "The figure is in" not in said(explorer)


def test_images_of_ones_own(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(picture(40, 50)))
    explorer = AttentionExplorer(network(), [tmp_path / "a.png", picture(30, 30)])
    assert list(explorer.images) == ["a.png", "image 2", SCENE]
    explorer.panel.another.click()
    assert explorer.name == "image 2" and explorer.exploration.maps.size == (4, 4)
    image = picture()
    labelled = AttentionExplorer(network(), image, torch.zeros(image.shape[1:]).long())
    assert "in truth sky" in labelled.panel.picture.alt


def test_a_broken_image_of_ones_own_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        AttentionExplorer(network(), tmp_path / "missing.png")


@pytest.mark.parametrize("attention", ["none", "position", "channel"])
def test_controls_of_missing_modules_are_off(attention):
    explorer = AttentionExplorer(network(attention))
    controls = explorer.panel.controls
    assert controls["position_gate"].disabled == (attention in ("none", "channel"))
    assert controls["channel_gate"].disabled == (attention in ("none", "position"))
    assert controls["opacity"].disabled == (attention == "none")
    assert controls["attention"].disabled
    if attention in ("position", "channel"):
        other = "channel" if attention == "position" else "position"
        controls["attention"].value = other  # a module that is not there
        assert explorer.view.attention == attention
    consistent(explorer)


def test_it_starts_in_the_world_that_it_was_trained_in():
    for world, folder in WORLDS.items():
        explorer = AttentionExplorer(network(run={"data": folder}))
        assert explorer.bay.world == world


def test_without_anywidget_the_sliders_stay(monkeypatch):
    monkeypatch.setattr(explorer_module, "picture_widget", lambda: None)
    explorer = AttentionExplorer(network())
    panel = explorer.panel
    assert panel.picture is None
    before = panel.still.value
    panel.controls["row"].value = 0
    panel.controls["column"].value = 3
    assert cell_of(explorer.view) == (0, 3) and panel.still.value != before
    assert "Row 0, column 3 of 12 × 12" in panel.words.value
    assert 'aria-live="polite"' in panel.words.value


def test_what_jupyter_gets(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "http" not in explorer.panel.answer.value + explorer.panel.legend.value
    assert explorer.panel.picture.src.startswith("data:image/png;base64,")


BLOCKED = """
import sys
for name in ("ipywidgets", "anywidget", "IPython", "traitlets"):
    sys.modules[name] = None
import torch
from danet_nb.danet import DANet
from danet_nb.explorer import AttentionExplorer, Exploration, View
model = DANet(3, "small", channels=8).eval()
image = torch.zeros(3, 20, 20, dtype=torch.uint8)
exploration = Exploration(model, image)
assert exploration.picture(View()) and exploration.words(View()) and exploration.figure(View())
try:
    AttentionExplorer(model, image)
except ImportError as error:
    print(error)
"""


def test_the_core_needs_no_widgets():
    command = [sys.executable, "-c", BLOCKED]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install danet_nb[lab]" in ran.stdout and "danet explore" in ran.stdout


@pytest.mark.parametrize("path", sorted((DATA / "networks").glob("*")), ids=lambda p: p.name)
def test_embedded_networks_answer_a_click_within_200_milliseconds(path):
    explorer = AttentionExplorer(load_danet(path))
    times = []
    for column in range(12):
        start = time.perf_counter()
        click(explorer, 11 - column, column)
        times.append(time.perf_counter() - start)
    assert median(times) < 0.2, f"{path.name}: {1000 * median(times):.0f} ms"
    assert cell_of(explorer.view) == (0, 11)
