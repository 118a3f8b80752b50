"A built wheel works without the development tools, in a folder that is not the repository."

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel that `pip wheel .` builds."
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("danet_nb-*.whl"))


def copy_of_project(folder):
    "What belongs to the package, in a folder that may be written to."
    copy = folder / "copy"
    shutil.copytree(ROOT / "danet_nb", copy / "danet_nb")
    names = ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
    for name in (*names, "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    return copy


def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"danet_nb/{p.name}" for p in (ROOT / "danet_nb").glob("*.py")}
    others = {"danet_nb/py.typed", "danet_nb/picture.js"}
    assert {n for n in names if not n.startswith("danet_nb-")} == modules | others


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    "A fresh process in another folder, without nbdev, fastcore, IPython and ipywidgets."
    code = f"""
import sys; sys.path.insert(0, {str(wheel)!r})
for name in ("nbdev", "fastcore", "execnb", "IPython", "ipywidgets", "jupyterlab"):
    sys.modules[name] = None
import importlib, pkgutil, danet_nb
assert {str(wheel)!r} in danet_nb.__file__, danet_nb.__file__
for name in danet_nb.__all__: getattr(danet_nb, name)
for module in pkgutil.iter_modules(danet_nb.__path__):
    importlib.import_module("danet_nb." + module.name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_metadata_names_the_command_and_no_development_tool(wheel):
    archive = zipfile.ZipFile(wheel)

    def read(end):
        return next(archive.read(n).decode() for n in archive.namelist() if n.endswith(end))

    assert "danet=danet_nb.cli:main" in read("entry_points.txt").replace(" ", "")
    required = [
        line
        for line in read("METADATA").splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert required and not [
        line for line in required if any(t in line for t in ("nbdev", "fastcore", "execnb"))
    ]


def test_links_of_the_description_are_absolute(wheel):
    "A package index has none of the repository's files."
    archive = zipfile.ZipFile(wheel)
    text = next(archive.read(n).decode() for n in archive.namelist() if n.endswith("METADATA"))
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", text)
    assert len(links) > 20
    for picture, link in links:
        assert link.startswith(("https://", "#")), link
        if picture:
            assert link.startswith("https://raw.githubusercontent.com/"), link


def test_a_wheel_is_built_from_the_source_archive(tmp_path):
    "The source archive holds all that its own `setup.py` reads."
    build = [sys.executable, "-c", "from setuptools.build_meta import *; import sys; "]
    build[-1] += "print(build_sdist(sys.argv[1]))"
    subprocess.run([*build, str(tmp_path)], cwd=copy_of_project(tmp_path), check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    for name in (
        "settings.ini",
        "README.md",
        "LICENSE",
        "danet_nb/py.typed",
        "danet_nb/picture.js",
    ):
        assert (source / name).exists(), name
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    assert list(tmp_path.glob("danet_nb-*.whl"))
