"The notebooks and the package say the same, and the notebooks are clean."

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]


def nbdev(command, cwd):
    "Run one of nbdev's commands from the environment of this interpreter."
    program = Path(sys.executable).parent / command
    subprocess.run([program], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of what nbdev reads and writes, so that no test changes the working tree."
    copy = tmp_path_factory.mktemp("project")
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for name in ("nbs", "danet_nb"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_package_is_what_the_notebooks_export(copy):
    "Fails when a notebook changed without `nbdev_export`, or a module was edited by hand."
    shutil.rmtree(copy / "danet_nb")
    (copy / "danet_nb").mkdir()
    shutil.copy(ROOT / "danet_nb/__init__.py", copy / "danet_nb")
    nbdev("nbdev_export", copy)
    names = sorted(p.name for p in (ROOT / "danet_nb").glob("*.py"))
    assert names == sorted(p.name for p in (copy / "danet_nb").glob("*.py"))
    _, different, errors = filecmp.cmpfiles(
        ROOT / "danet_nb", copy / "danet_nb", names, shallow=False
    )
    wrong = different + errors
    assert not wrong, f"run `nbdev_export`: {wrong} differ from their notebooks"


def test_notebooks_are_clean(copy):
    "Fails when a notebook holds execution counts, memory addresses or stray metadata."
    before = {p.name: p.read_bytes() for p in (copy / "nbs").glob("*.ipynb")}
    nbdev("nbdev_clean", copy)
    unclean = [p.name for p in (copy / "nbs").glob("*.ipynb") if p.read_bytes() != before[p.name]]
    assert not unclean, f"run `nbdev_clean`: {unclean} are not clean"


def test_readme_is_the_front_page(tmp_path):
    "README.md says what nbs/index.ipynb says, cell by cell; `make readme` writes it."
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns("__pycache__"))
    venv = Path(sys.executable).parents[1]
    command = ["make", "readme", f"VENV={venv}", "--assume-old", f"{venv}/installed"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    made = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert made == (ROOT / "README.md").read_text(encoding="utf-8"), "run `make readme`"


def links(text):
    return re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "nbs").glob("*.ipynb")]), ids=lambda p: p.name
)
def test_links_to_files_lead_somewhere(page):
    "Every relative link of a page or notebook names a file that is there."
    if page.suffix == ".md":
        text = page.read_text(encoding="utf-8")
    else:
        text = "\n".join(
            c.source for c in nbformat.read(page, 4).cells if c.cell_type == "markdown"
        )
    text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$", "", text, flags=re.S)
    broken = [
        link
        for link in links(text)
        if not re.match(r"[a-z]+:", link) and not (page.parent / link).exists()
    ]
    assert not broken, f"{page.name}: {broken}"
