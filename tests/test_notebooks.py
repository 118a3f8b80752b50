"""Every notebook: its form, and all its cells run in a real kernel, compared with the saved text.

The kernel is offline: `offline/sitecustomize.py` refuses and remembers every call to a host.
"""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "nbs").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


def ids(path):
    return path.stem


def offline(calls):
    "The environment of a kernel that can call nobody; who was asked for goes to the file `calls`."
    calls.touch()
    guard = str(Path(__file__).with_name("offline"))
    paths = [guard, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "DANET_NB_CALLS": str(calls)}


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def images(notebook):
    "Every picture that a cell shows, with the id of the cell."
    return [
        (c.id, o)
        for c in code_cells(notebook)
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]


def text_of(cell):
    "What a cell prints or returns, pictures aside."
    texts = [
        o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "")
        for o in cell.outputs
    ]
    return "\n".join(t for t in texts if "IPython.core.display.Image" not in t)


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]


def differences(saved, fresh, tolerance=0.02):
    "Why two texts differ: other words, or a number further off than `tolerance` (relative)."
    if NUMBER.sub("#", saved).split() != NUMBER.sub("#", fresh).split():
        return f"saved:\n{saved}\nfresh:\n{fresh}"
    pairs = zip(numbers(saved), numbers(fresh), strict=True)
    return [(a, b) for a, b in pairs if abs(a - b) > tolerance * max(abs(a), abs(b)) + 1e-5]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_runs_in_a_real_kernel_and_prints_what_was_saved(path, tmp_path):
    saved = nbformat.read(path, 4)
    place = {"metadata": {"path": path.parent}}
    client = NotebookClient(nbformat.read(path, 4), timeout=300, resources=place)
    fresh = client.execute(env=offline(tmp_path / "calls"))
    asked = (tmp_path / "calls").read_text(encoding="utf-8")
    assert not asked, f"{path.name} is not offline:\n{asked}"
    for old, new in zip(code_cells(saved), code_cells(fresh), strict=True):
        if not {"varies", "widget"} & set(tags(old)):
            assert not differences(text_of(old), text_of(new)), (
                f"{path.name}, cell {old.id}: run it again and save it"
            )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_form(path):
    notebook = nbformat.read(path, 4)
    assert path.stat().st_size <= 1_000_000, "over 1 MB: draw smaller figures"
    assert re.match(r"# .+\n+> .+", notebook.cells[0].source), (
        "begin with a title and one sentence in a blockquote"
    )
    assert "widgets" not in notebook.metadata, "saved widget state does not render"
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", c.id) for c in notebook.cells), (
        "name the cells: lower-case-with-dashes"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_figures_have_words(path):
    notebook = nbformat.read(path, 4)
    for cell, output in images(notebook):
        assert len(output.metadata.get("image/png", {}).get("alt", "").split()) >= 4, (
            f"cell {cell}: no alternative text"
        )
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert not re.search(r"!\[\s*(image(\.png)?)?\s*\]\(", prose), (
        "a picture in the prose without alternative text"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_widgets_are_not_saved(path):
    "Without a kernel a widget is blank; the cell before it draws the same as a figure."
    before = None
    for cell in code_cells(nbformat.read(path, 4)):
        place = f"{path.name}, cell {cell.id}"
        views = [o for o in cell.outputs if WIDGET in o.get("data", {})]
        assert not views, f"{place}: tag it `widget` and run `make notebooks`"
        if "widget" in tags(cell):
            assert not cell.outputs, f"{place}: run `make notebooks`, which empties it"
            twin = before is not None and any("image/png" in o.get("data", {}) for o in before)
            assert twin, f"{place}: no cell above it draws what the widget shows"
        before = cell.outputs or before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_headings_skip_no_level(path):
    notebook = nbformat.read(path, 4)
    prose = "\n".join(
        re.sub(r"```.*?```", "", c.source, flags=re.S)
        for c in notebook.cells
        if c.cell_type == "markdown"
    )
    levels = [len(m) for m in re.findall(r"^(#+) ", prose, flags=re.M)]
    assert levels.count(1) == 1, "one title per notebook"
    steps = [b - a for a, b in pairwise(levels)]
    assert max(steps, default=0) <= 1, f"a heading level is skipped: {levels}"


def test_no_error_or_warning_is_saved():
    for path in NOTEBOOKS:
        for cell in code_cells(nbformat.read(path, 4)):
            noise = [
                o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"
            ]
            assert not noise or "raises-exception" in tags(cell), (
                f"{path.name}, cell {cell.id}: {noise}"
            )


def test_a_changed_number_or_word_is_noticed():
    "The comparison above can fail."
    assert not differences("mIoU 0.9412", "mIoU 0.9413")
    assert differences("mIoU 0.94", "mIoU 0.84")
    assert differences("shape (2, 3)", "shape (2, 3, 4)")


# Nobody is called


def guarded(code, folder):
    "Run some Python behind the guard; what it printed, and who was called."
    calls = folder / "calls"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env=offline(calls), capture_output=True, text=True)
    return ran.stdout + ran.stderr, calls.read_text()


@pytest.mark.parametrize(
    "code, host",
    [
        ("import socket; socket.create_connection(('192.0.2.1', 80))", "192.0.2.1"),
        ("import urllib.request as u; u.urlopen('http://example.org')", "example.org"),
        ("import socket; socket.socket().connect(('192.0.2.1', 80))", "192.0.2.1"),
        (
            "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 1))",
            "192.0.2.1",
        ),
        ("import socket; socket.socket().bind(('192.0.2.1', 0))", "192.0.2.1"),
    ],
)
def test_the_guard_refuses_and_remembers(code, host, tmp_path):
    printed, calls = guarded(code, tmp_path)
    assert "notebooks are offline" in printed and host in calls


def test_the_guard_sees_what_is_caught_and_what_a_process_of_the_notebook_asks(tmp_path):
    inner = "import socket\ntry: socket.create_connection(('192.0.2.1', 1))\nexcept OSError: pass"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    assert "192.0.2.1" in guarded(outer, tmp_path)[1]


def test_the_guard_lets_a_notebook_talk_to_itself(tmp_path):
    code = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(('localhost', server.getsockname()[1]))\nprint('talked')"
    )
    assert guarded(code, tmp_path) == ("talked\n", "")


def test_a_kernel_that_calls_out_is_noticed(tmp_path):
    "Also where the notebook catches the error."
    source = (
        "import urllib.request\n"
        "try:\n    urllib.request.urlopen('http://example.org')\n"
        "except OSError as error:\n    print(error)"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    ran = NotebookClient(book).execute(env=offline(tmp_path / "calls"))
    assert "notebooks are offline" in text_of(ran.cells[0])
    assert "example.org" in (tmp_path / "calls").read_text()
