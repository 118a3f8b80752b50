"What a reader sees and touches, in a real browser: the picture, the notebook, the page."

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

from danet_nb.attention_maps import AttentionMaps
from danet_nb.danet import DANet
from danet_nb.explorer import Bay, Exploration, data_url, explore_bay
from danet_nb.explorer_page import Gallery, open_server
from danet_nb.published import load_danet

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "danet_nb/picture.js"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
).split()
HERE = ("127.0.0.1", "localhost")


def missing(sentence):
    "Skip the test and say why; where a browser is required, as in `.ci/run`, fail."
    if os.environ.get("DANET_NB_REQUIRE_BROWSER"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def chromium():
    "A headless Chromium of the system, driven by Playwright."
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("no Chromium here; `apt-get install chromium` brings one")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright here; `pip install playwright` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def watched_page(chromium, **options):
    "A page; afterwards its console has to be free of errors, and no other host may be asked."
    context = chromium.new_context(**options)
    page = context.new_page()
    errors, hosts = [], set()
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    try:
        yield page
        assert not errors, errors
        assert hosts - {None} <= set(HERE), f"asked other hosts: {hosts}"
    finally:
        context.close()


@pytest.fixture
def shoot(tmp_path):
    "Keep a screenshot, in DANET_NB_SCREENSHOTS where that is set."
    folder = Path(os.environ.get("DANET_NB_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def take(page, name, **options):
        path = folder / f"{name}.png"
        page.screenshot(path=path, **options)
        assert path.stat().st_size > 5000, f"{path} is blank"

    return take


def noise_png(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# The picture alone, on a model of six lines

MODEL = """async ([source, src]) => {
  const { default: widget } = await import("data:text/javascript;base64," + btoa(source));
  const values = { src, rows: 6, columns: 9, row: 2, column: 4, label: "A bay", alt: "Words." };
  const heard = {};
  window.saves = 0;
  window.model = {
    get: (key) => values[key],
    set: (key, value) => { values[key] = value; heard[`change:${key}`]?.(); },
    on: (event, call) => { heard[event] = call; },
    off: (event) => { delete heard[event]; },
    save_changes: () => { window.saves += 1; },
  };
  window.values = values;
  window.heard = heard;
  window.leave = widget.render({ model, el: document.body });
}"""
SRC = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='450' height='300'>"
    "<rect width='450' height='300' fill='teal'/></svg>"
)


@pytest.fixture
def bare(chromium):
    "A page with nothing but the picture: 6 rows, 9 columns, 450 x 300 pixels."
    with watched_page(chromium, viewport={"width": 450, "height": 900}) as page:
        page.set_content("<style>body { margin: 0 }</style>")
        page.evaluate(MODEL, [PICTURE.read_text(encoding="utf-8"), SRC])
        page.get_by_role("application").wait_for()
        page.wait_for_function("document.querySelector('img').complete")
        yield page


def cell(page):
    return tuple(page.evaluate("[values.row, values.column]"))


def test_a_click_chooses_the_cell_under_the_pointer(bare):
    "Every cell by its middle, then points on the borders: the outermost pixels belong to the map."
    for row in range(6):
        for column in range(9):
            bare.mouse.click(50 * column + 25, 50 * row + 25)
            assert cell(bare) == (row, column)
    for x, y, expected in ((0, 0, (0, 0)), (449, 299, (5, 8)), (49, 50, (1, 0)), (50, 49, (0, 1))):
        bare.mouse.click(x, y)
        assert cell(bare) == expected


def test_a_drag_follows_and_stays_on_the_map(bare):
    "Each new cell is saved once; outside the picture the nearest cell is meant."
    bare.mouse.move(25, 25)
    assert cell(bare) == (2, 4), "moving without pressing chooses nothing"
    bare.mouse.down()
    before = bare.evaluate("saves")
    bare.mouse.move(125, 25, steps=20)
    assert cell(bare) == (0, 2) and bare.evaluate("saves") == before + 2
    bare.mouse.move(200, 800)
    assert cell(bare) == (5, 4)
    bare.mouse.up()
    bare.mouse.move(25, 25)
    assert cell(bare) == (5, 4)
    bare.mouse.click(25, 25, button="right")
    assert cell(bare) == (5, 4)


KEYS = {
    "ArrowRight": (2, 5),
    "ArrowDown": (3, 5),
    "ArrowLeft": (3, 4),
    "ArrowUp": (2, 4),
    "Shift+ArrowRight": (2, 8),
    "Shift+ArrowDown": (5, 8),  # 2 + 4 is outside
    "Home": (5, 0),
    "PageUp": (0, 0),
    "ArrowLeft ": (0, 0),  # stays on the map
    "End": (0, 8),
    "PageDown": (5, 8),
}


def test_keys_choose_cells(bare):
    bare.keyboard.press("Tab")
    for key, expected in KEYS.items():
        bare.keyboard.press(key.strip())
        assert cell(bare) == expected, key
    saves = bare.evaluate("saves")
    for key in ("a", "Control+ArrowLeft", "Escape"):
        bare.keyboard.press(key)
    assert cell(bare) == (5, 8) and bare.evaluate("saves") == saves
    bare.keyboard.press("Tab")
    assert bare.evaluate("document.activeElement === document.body"), "the keyboard can leave"


def test_the_picture_has_names_and_a_visible_focus(bare):
    "Name, description and the read-out are what a screen reader is given."
    area = bare.get_by_role("application", name="A bay")
    described = area.get_attribute("aria-describedby").split()
    text = " ".join(bare.locator(f"#{name}").inner_text() for name in described)
    assert "Words." in text and "arrow keys" in text
    bare.evaluate("model.set('alt', 'Others.')")
    assert bare.locator("[aria-live=polite]").inner_text() == "Others."
    bare.keyboard.press("Tab")
    style = "e => [getComputedStyle(e).outlineStyle, getComputedStyle(e).boxShadow]"
    outline, shadow = area.evaluate(style)
    assert outline == "solid" and "6px" in shadow


def test_the_picture_follows_its_model_and_leaves_nothing(bare):
    "Rows and columns set elsewhere move the cell; bytes are as good as an address."
    bare.evaluate("model.set('row', 5); model.set('column', 0)")
    box = bare.locator(".danet-picture-cell").bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 250, 50, 50)
    bytes_of = "Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))"
    text = b64encode(noise_png(2, 1)).decode()
    bare.evaluate(f"text => model.set('src', new DataView({bytes_of}.buffer))", text)
    bare.wait_for_function("document.querySelector('img').naturalWidth === 2")
    bare.evaluate("leave()")
    assert bare.evaluate("Object.keys(heard).length") == 0


def test_the_picture_imports_nothing_and_names_no_host():
    source = PICTURE.read_text(encoding="utf-8")
    assert not re.search(r"https?:|^import|import\(|require\(", source, flags=re.M)
    assert "SPDX-License-Identifier: MIT" in source
    assert max(map(len, source.splitlines())) <= 100


# The page of `danet explore`

NETWORK = ROOT / "data/networks/far-both"


def heed_interrupts():
    "What a shell starts in the background ignores Ctrl-C, and so would what the tests start."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def explore_command(*words):
    "The address of `danet explore WORDS`; at the end Ctrl-C, and its last sentence."
    program = Path(sys.executable).parent / "danet"
    command = [program, "explore", *map(str, words), "--no-browser", "--device", "cpu"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    try:
        yield re.search(r"http://[0-9.:]+/", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
        assert "the explorer is closed" in rest and process.returncode == 0
    finally:
        process.kill()


@contextmanager
def explore_here(image=None, model=None):
    "The address of the same server in this process."
    server = open_server(Gallery(model or load_danet(NETWORK), image))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def explored():
    "What the library says of the scene that every explorer shows first."
    return explore_bay(load_danet(NETWORK), Bay())


def click_cell(page, size, row, column):
    "Click in the middle of a cell of the picture."
    area = page.get_by_role("application")
    box = area.bounding_box()
    y, x = (row + 0.5) * box["height"] / size[0], (column + 0.5) * box["width"] / size[1]
    area.click(position={"x": x, "y": y})


def settle(page):
    "Wait until every wish is answered."
    page.locator("body[aria-busy=false]").wait_for()
    assert page.locator("#error").inner_text() == ""


def png_of(page, selector):
    "The bytes of a picture on the screen."
    return b64decode(page.locator(selector).get_attribute("src").partition(",")[2])


def assert_shown(page, explored, view):
    "Words and pictures on the page are those that the library computes for the view."
    settle(page)
    assert page.locator("[aria-live=polite]").inner_text() == explored.words(view)
    assert png_of(page, ".danet-picture-map img") == explored.picture(view)
    assert png_of(page, "#answer") == explored.answer(view)


def test_page_by_click_and_key(chromium, explored, shoot):
    "A click at a known pixel shows the row that the library computes; so do the keys."
    maps, view = explored.maps, explored.start
    with explore_command(NETWORK) as address, watched_page(chromium) as page:
        page.goto(address)
        assert_shown(page, explored, view)
        shoot(page, "page-light", full_page=True)
        for row, column in ((7, 3), (0, 0), (11, 11), (11, 0)):
            click_cell(page, maps.size, row, column)
            view = replace(view, row=row, column=column)
            assert_shown(page, explored, view)
            expected = AttentionMaps(maps.model, maps.image).row(row, column)
            torch.testing.assert_close(explored.weights(view), expected)
        for key, changes in (
            ("ArrowUp", {"row": 10}),
            ("Shift+ArrowRight", {"column": 4}),
            ("End", {"column": 11}),
            ("PageUp", {"row": 0}),
        ):
            page.keyboard.press(key)
            view = replace(view, **changes)
            assert_shown(page, explored, view)


def form_steps(page):
    "What a reader does in the form, and what it means for the view."
    radio, box = page.get_by_role("radio"), page.get_by_role("checkbox")
    slider = page.get_by_role("slider")

    def named(elements, name):
        return elements.and_(page.locator(f"[name={name}]"))

    yield radio.and_(page.locator("[value=column]")).check, {"direction": "column"}
    yield named(box, "log").check, {"log": True}
    yield partial(named(slider, "temperature").press, "ArrowRight"), {"temperature": 1.1}
    yield partial(named(slider, "opacity").press, "Home"), {"opacity": 0}
    yield partial(named(slider, "opacity").press, "End"), {"opacity": 1}
    yield named(box, "position_gate").uncheck, {"position_gate": False}
    yield named(box, "channel_gate").uncheck, {"channel_gate": False}
    yield radio.and_(page.locator("[value=channel]")).check, {"attention": "channel"}
    yield partial(named(slider, "channel").press, "PageUp"), {}  # a step of the browser's choice
    yield partial(named(slider, "row").press, "Home"), {"row": 0}
    yield partial(named(slider, "column").press, "End"), {"column": 11}


def test_page_by_form(chromium, explored):
    "Every control of the table changes what is shown as the library would."
    view = explored.start
    with explore_here() as address, watched_page(chromium) as page:
        page.goto(address)
        assert_shown(page, explored, view)
        assert page.locator("[name=channel]").is_disabled()
        for act, changes in form_steps(page):
            act()
            channel = int(page.locator("[name=channel]").input_value())
            view = replace(view, channel=channel, **changes)
            assert_shown(page, explored, view)
        assert channel > 0
        click_cell(page, explored.maps.size, 5, 6)
        assert_shown(page, explored, replace(view, row=5, column=6))
        assert [page.locator(f"[name={n}]").input_value() for n in ("row", "column")] == ["5", "6"]


def test_page_chooses_images(chromium, explored, shoot, tmp_path):
    "Lamps, worlds and scenes; an upload of odd size, clicked on at its borders; a saved figure."
    model, view = explored.maps.model, explored.start
    with explore_here() as address, watched_page(chromium) as page:
        page.goto(address)
        settle(page)
        click_cell(page, explored.maps.size, 2, 9)
        view = replace(view, row=2, column=9)
        for lamp in ("red", "green"):
            page.locator(f"[name=lamp][value={lamp}]").check()
            assert_shown(page, explore_bay(model, Bay(lamp=lamp)), view)
        page.get_by_role("button", name="Next scene").click()
        following = explore_bay(model, Bay(seed=Bay().seed + 1, lamp="green"))
        assert_shown(page, following, following.start)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the figure").click()
        with Image.open(download.value.path()) as figure:
            assert figure.format == "PNG" and figure.width > 800
        assert page.locator("[name=second_lamp][value=red]").is_disabled()
        page.locator("[name=world][value=pair]").check()
        page.locator("[name=second_lamp][value=red]").check()
        bay = Bay(world="pair", seed=Bay().seed + 1, lamp="green", second_lamp="red")
        assert bay.lamps == ("green", "red")
        opened = explore_bay(model, bay)
        assert_shown(page, opened, opened.start)
        noise = tmp_path / "noise.png"
        noise.write_bytes(noise_png(131, 97))
        page.set_input_files("#file", noise)
        page.locator("[name=row][max='12']").wait_for()
        opened = Exploration(model, noise)
        assert opened.maps.size == (13, 17)
        view = opened.start
        assert_shown(page, opened, view)
        for row, column in ((0, 16), (12, 0), (12, 16)):
            click_cell(page, opened.maps.size, row, column)
            assert_shown(page, opened, replace(view, row=row, column=column))
        shoot(page, "page-upload", full_page=True)
        page.locator("[name=world][value=pair]").check()  # back to where it was
        opened = explore_bay(model, bay)
        assert_shown(page, opened, opened.start)


def test_page_says_what_is_wrong(chromium, tmp_path):
    "A file that is no image is named; a server that has gone is missed; neither ends the page."
    (tmp_path / "notes.txt").write_text("no image")
    context = chromium.new_context()
    page = context.new_page()
    with explore_command(NETWORK) as address:
        page.goto(address)
        settle(page)
        page.set_input_files("#file", tmp_path / "notes.txt")
        page.get_by_text("notes.txt: damaged or no image").wait_for()
        page.get_by_role("application").press("End")
        settle(page)  # the next answer takes the sentence away
    page.get_by_role("application").press("Home")
    page.get_by_text("The server does not answer").wait_for()
    context.close()


def test_page_without_attention(chromium, tmp_path):
    "An image of one's own; what the network does not have cannot be chosen."
    image = tmp_path / "noise.png"
    image.write_bytes(noise_png(64, 48))
    plain = DANet(3, "small", attention="none", channels=8)
    with explore_here(image, plain) as address, watched_page(chromium) as page:
        page.goto(address)
        opened = Exploration(plain, image)
        assert_shown(page, opened, opened.start)
        for name in ("attention", "position_gate", "channel_gate", "temperature"):
            for element in page.locator(f"[name={name}]").all():
                assert element.is_disabled(), name
        page.get_by_role("button", name="Next scene").click()
        settle(page)
        page.get_by_role("button", name="The image of the command").click()
        assert_shown(page, opened, opened.start)


def test_page_by_keyboard_alone(chromium, explored):
    "Tab goes through every control and back to where it was; the picture comes first."
    with explore_here() as address, watched_page(chromium) as page:
        page.goto(address)
        settle(page)
        names = "(e => e.name || e.id || e.role)(document.activeElement)"
        seen = []
        for _ in range(30):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(names))
        assert seen[0] == "application"
        free = {"attention", "direction", "row", "column", "position_gate", "channel_gate"}
        free |= {"opacity", "log", "temperature", "save", "file", "world", "seed", "lamp", "next"}
        assert free <= set(seen), free - set(seen)
        page.locator("[name=position_gate]").focus()
        page.keyboard.press("Space")
        assert_shown(page, explored, replace(explored.start, position_gate=False))


LIGHT, DARK = "rgb(255, 255, 255)", "rgb(18, 18, 18)"


@pytest.mark.parametrize("scheme, ground", [("light", LIGHT), ("dark", DARK)])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_light_dark_and_telephone(chromium, shoot, scheme, ground, width):
    "The colours follow the system, nothing is cut off at the side, and the focus is seen."
    size = {"width": width, "height": 844}
    with explore_here() as address:
        with watched_page(chromium, color_scheme=scheme, viewport=size) as page:
            page.goto(address)
            settle(page)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keyboard.press("Tab")
            shoot(page, f"page-{scheme}-{width}", full_page=True)


MEASURE = """async () => {
  Element.prototype.setPointerCapture = () => {}; // of no real pointer
  const area = document.querySelector('.danet-picture-map');
  const image = area.querySelector('img');
  const box = area.getBoundingClientRect();
  const times = [];
  for (let k = 0; k < 8; k++) {
    const start = performance.now();
    const drawn = new Promise((done) => image.addEventListener('load', done, { once: true }));
    const at = { clientX: box.left + box.width * (k + 0.5) / 12, clientY: box.top + 5 };
    area.dispatchEvent(new PointerEvent('pointerdown', { isPrimary: true, button: 0, ...at }));
    await drawn;
    times.push(performance.now() - start);
  }
  return times;
}"""


def test_page_is_quick(chromium, explored):
    "From the click to the new picture on the screen within 200 ms on a CPU, at best of eight."
    with explore_here() as address, watched_page(chromium) as page:
        page.goto(address)
        settle(page)
        times = page.evaluate(MEASURE)
        print("click to picture, ms:", *map(round, times))
        assert min(times) < 200, times


# The notebook in JupyterLab

SETTINGS = {  # no news from the net; the theme follows the system
    "notification": {"fetchNews": "false", "checkForUpdates": False},
    "themes": {"adaptive-theme": True},
}
# It asks the kernel for its state at every start, and complains of a kernel that restarts meanwhile
WITHOUT_DEBUGGER = {"disabledExtensions": {"@jupyterlab/debugger-extension": True}}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answers(address):
    try:
        with urlopen(address):
            return True
    except OSError:
        return False


@contextmanager
def jupyter_lab(folder):
    "The address of a JupyterLab with the explorer's notebook and what it reads, settings aside."
    (folder / "nbs").mkdir()
    shutil.copy(ROOT / "nbs/51_explorer.ipynb", folder / "nbs")
    shutil.copytree(ROOT / "data", folder / "data")
    settings = folder / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    for name, values in SETTINGS.items():
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
    (folder / "config/labconfig").mkdir(parents=True)
    (folder / "config/labconfig/page_config.json").write_text(json.dumps(WITHOUT_DEBUGGER))
    places = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    places |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    environment = {**os.environ, **{key: str(folder / name) for key, name in places.items()}}
    port, token = free_port(), "explorer"
    command = f"jupyter-lab --no-browser --allow-root --ip=127.0.0.1 --port={port}".split()
    command += [f"--IdentityProvider.token={token}", "--LabApp.extension_manager=readonly"]
    command[0] = str(Path(sys.executable).parent / command[0])
    log = open(folder / "lab.log", "w")
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        while not answers(f"http://127.0.0.1:{port}/api?token={token}"):
            assert server.poll() is None, (folder / "lab.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/lab/tree/nbs/51_explorer.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def eventually(page, *checks):
    "Wait until all hold."
    for _ in range(250):
        if all(check() for check in checks):
            return
        page.wait_for_timeout(20)
    assert all(check() for check in checks)


def assert_in_lab(page, explored, view):
    "Words and pictures become those that the library computes for the view."
    words, picture, answer = explored.words(view), explored.picture(view), explored.answer(view)
    eventually(
        page,
        lambda: page.locator(".danet-picture [aria-live=polite]").inner_text() == words,
        lambda: png_of(page, ".danet-picture-map img") == picture,
        lambda: page.locator(f'img[src="{data_url(answer)}"]').count() == 1,
    )


def run_all(page):
    "Restart and run all; the notebook has no error then."
    page.get_by_text("| Idle").wait_for()  # in the status bar: there is a kernel
    page.locator("[data-command='notebook:restart-run-all']").click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=120_000)
    page.keyboard.press("Control+s")


def assert_saved_without_errors(path):
    "Every code cell ran, and none of them failed."
    for found in json.loads(path.read_text())["cells"]:
        if found["cell_type"] == "code":
            assert found["execution_count"], found["id"]
            assert "error" not in [output["output_type"] for output in found["outputs"]]


def test_notebook_in_jupyterlab(chromium, explored, shoot, tmp_path):
    "Restart, run all; then clicks, keys and a gate, in light and in dark."
    size = {"width": 1280, "height": 1000}
    with jupyter_lab(tmp_path) as address, watched_page(chromium, viewport=size) as page:
        page.goto(address)
        run_all(page)
        area = page.get_by_role("application").and_(page.locator(".danet-picture-map"))
        area.scroll_into_view_if_needed()
        maps, view = explored.maps, explored.start
        assert_in_lab(page, explored, view)
        for row, column in ((7, 3), (0, 0), (11, 11)):
            click_cell(page, maps.size, row, column)
            view = replace(view, row=row, column=column)
            assert_in_lab(page, explored, view)
            expected = AttentionMaps(maps.model, maps.image).row(row, column)
            torch.testing.assert_close(explored.weights(view), expected)
        for key, changes in (
            ("ArrowUp", {"row": 10}),
            ("Shift+ArrowLeft", {"column": 7}),
            ("Home", {"column": 0}),
            ("PageUp", {"row": 0}),
        ):
            page.keyboard.press(key)
            view = replace(view, **changes)
            assert_in_lab(page, explored, view)
        click_cell(page, maps.size, 7, 3)
        page.get_by_label("position gate open").uncheck()
        view = replace(view, row=7, column=3, position_gate=False)
        assert_in_lab(page, explored, view)
        print("click to picture, ms:", *map(round, page.evaluate(MEASURE)))
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            light = str(scheme == "light").lower()
            page.locator(f"body[data-jp-theme-light={light}]").wait_for(state="attached")
            area.evaluate("e => { e.blur(); e.focus({ focusVisible: true }); }")
            shoot(page, f"lab-{scheme}")
        assert_saved_without_errors(tmp_path / "nbs/51_explorer.ipynb")
