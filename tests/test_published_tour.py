"The tour of published weights runs on whatever file it is given, not only on its stand-in."

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from published import CLASSES, foreign_state, thin, write_authors, write_mmseg

TOUR = Path(__file__).parents[1] / "nbs/34_published_tour.ipynb"


def toured():
    "What the cells of the tour print, by id."
    place = {"metadata": {"path": TOUR.parent}}
    ran = NotebookClient(nbformat.read(TOUR, 4), timeout=300, resources=place).execute()
    return {
        c.id: "".join(o.get("text", "") or o["data"].get("text/markdown", "") for o in c.outputs)
        for c in ran.cells
        if c.cell_type == "code"
    }


def write_folder(root):
    "Two small pictures with labels, as `folder` wants them."
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / "val" / part).mkdir(parents=True)
    for i in range(2):
        image = random.integers(0, 256, (41, 57, 3), dtype=np.uint8)
        label = random.integers(0, len(CLASSES), (41, 57), dtype=np.uint8)
        Image.fromarray(image).save(root / f"val/images/{i}.png")
        Image.fromarray(label).save(root / f"val/labels/{i}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    return root


def test_with_a_file_of_the_authors_an_image_and_data(tmp_path, monkeypatch):
    file = write_authors(tmp_path / "danet.pth.tar", foreign_state(thin("resnet18"), "authors"))
    data = write_folder(tmp_path / "data")
    monkeypatch.setenv("DANET_WEIGHTS", str(file))
    monkeypatch.setenv("DANET_IMAGE", str(data / "val/images/1.png"))
    monkeypatch.setenv("DANET_DATA", str(data))
    said = toured()
    assert "the file that DANET_WEIGHTS names" in said["settings"]
    assert "those of: authors" in said["read"] and "best_pred" in said["read"]
    assert "backbone=resnet18" in said["load"] and "'epoch': 240" in said["load"]
    assert f"Measured now, on {data}" in said["scores-table"]
    assert "class 4" in said["scores-classes"]


def test_with_a_file_of_mmsegmentation_alone(tmp_path, monkeypatch):
    state = foreign_state(thin("resnet18"), "mmsegmentation 7x7")
    monkeypatch.setenv("DANET_WEIGHTS", str(write_mmseg(tmp_path / "danet.pth", state)))
    said = toured()
    assert "those of: mmsegmentation 7x7" in said["read"]
    assert "align_corners=False" in said["load"]
    assert said["scores-table"].startswith("No scores")
    assert not said["scores-classes"]


def test_a_file_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DANET_WEIGHTS", str(tmp_path / "absent.pth.tar"))
    with pytest.raises(CellExecutionError, match="where no file is: give its full path"):
        toured()
