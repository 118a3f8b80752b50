"A built wheel works without the development tools, in a folder that is not the repository."

import subprocess
import sys
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


def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"danet_nb/{p.name}" for p in (ROOT / "danet_nb").glob("*.py")}
    assert {n for n in names if not n.startswith("danet_nb-")} == modules


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    "A fresh process, another folder, and neither nbdev, fastcore, IPython nor ipywidgets to be had."
    code = f"""
import sys; sys.path.insert(0, {str(wheel)!r})
for name in ("nbdev", "fastcore", "execnb", "IPython", "ipywidgets", "jupyterlab"): sys.modules[name] = None
import importlib, pkgutil, danet_nb
assert {str(wheel)!r} in danet_nb.__file__, danet_nb.__file__
for module in pkgutil.iter_modules(danet_nb.__path__): importlib.import_module("danet_nb." + module.name)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_metadata_names_the_command_and_no_development_tool(wheel):
    archive = zipfile.ZipFile(wheel)
    read = lambda end: next(archive.read(n).decode() for n in archive.namelist() if n.endswith(end))
    assert "danet=danet_nb.cli:main" in read("entry_points.txt").replace(" ", "")
    required = [
        line
        for line in read("METADATA").splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert required and not [
        line for line in required if any(t in line for t in ("nbdev", "fastcore", "execnb"))
    ]
