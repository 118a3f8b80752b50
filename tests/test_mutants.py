"The mutants are what they say: one token, the notebook's own cells, and nothing left behind."

import json
import os
import subprocess
import sys
import time
from functools import cache

import pytest

from benchmarks import mutants
from benchmarks.mutants import Mutant, chosen, document, mutants_of, mutated, run_notebook, summary

EXPORTED = "#| export\ndef double(x: int = 3) -> int:\n    return 2 * x  # twice\n"


def notebook(folder, *sources):
    "A notebook of code cells named `cell-0`, `cell-1` and so on, in a project of its own."
    cells = [
        {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "source": source}
        for i, source in enumerate(sources)
    ]
    path = folder / "project" / "nbs" / "10_x.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))
    return path


def changes(source):
    "The changed lines of all mutants of a cell."
    return {mutants.difference(source, changed)[1] for _, _, changed in mutated(source)}


@pytest.mark.parametrize(
    "source, wanted",
    [
        ("y = a < b", {"y = a <= b"}),
        ("y = a + b", {"y = (a) - (b)", "y = a"}),
        ("y = q @ k.mT", {"y = (k.mT) @ (q)", "y = q @ k", "y = k @ k.mT"}),
        ("y = x[1:n]", {"y = x[:n]", "y = x[1:]", "y = x[2:n]", "y = x[0:n]"}),
        ("y = f(a, b=2)", {"y = f(a)", "y = f(a, b=3)"}),
        ("y = f(-1)", {"y = -1", "y = f(1)", "y = f(-2)", "y = f(-0)"}),
        ("y = (h, w)", {"y = (w, h)", "y = (w, w)", "y = (h, h)"}),
        ("y = 1 if c else 2", {"y = 1", "y = 2", "y = 0 if c else 2"}),
        ("s.step()", {"pass", "s"}),
        ("y = not c", {"y = c"}),
        ("s += 2.0", {"pass", "s += 4.0"}),
    ],
)
def test_one_token(source, wanted):
    assert wanted <= changes(source)


@pytest.mark.parametrize(
    "source",
    [
        'raise ValueError("a" if x < 1 else "b")',
        "import a",
        "y: f(1) = a",
        "ax.plot(x + 1, color=c)",
        "y = max(a, b)",
        "isinstance(x, (list, tuple))",
    ],
)
def test_what_cannot_be_seen_is_left_alone(source):
    assert changes(source) <= {"y = min(a, b)", "x", "pass"}


def test_comments_stay():
    for _, _, changed in mutated(EXPORTED):
        assert changed.startswith("#| export\n")
        assert changed.endswith("  # twice\n")


def fates(path):
    "What became of every mutant, by the changed line."
    rows = []
    run_notebook(path, mutants_of(path), rows.append)
    return {row["after"]: row["answer"] for row in rows}


def in_process(path):
    "`fates` in a child, which may change its folder and main module."
    saved = path.parents[2] / "fates.json"
    answer, _ = mutants.fork(lambda: saved.write_text(json.dumps(fates(path))), 60)
    assert answer == ""
    return json.loads(saved.read_text())


def test_an_assertion_kills_and_none_lets_live(tmp_path):
    strict = in_process(
        notebook(tmp_path, EXPORTED, "assert double() == 6", "assert double(1) == 2")
    )
    assert all(strict.values()) and len(strict) == 3
    weak = in_process(notebook(tmp_path, EXPORTED, "double(1)"))
    assert not any(weak.values())


def test_files_of_one_mutant_do_not_reach_the_next(tmp_path):
    once = (
        "import tempfile\nfrom pathlib import Path\n"
        "made = Path(tempfile.gettempdir(), 'made')\nassert not made.exists()\nmade.touch()\n"
    )
    assert not any(in_process(notebook(tmp_path, EXPORTED, once)).values())


def test_nothing_is_left_in_the_project(tmp_path):
    "New, changed and removed files beside the notebook are put back after each mutant."
    mess = (
        "from pathlib import Path\n"
        "assert Path('kept').read_text() == 'as it was'\n"
        "Path('new').mkdir()\nPath('new', 'file').touch()\n"
        "Path('kept').write_text('changed')\nPath('gone').unlink()\n"
    )
    path = notebook(tmp_path, EXPORTED, mess)
    (path.parent / "kept").write_text("as it was")
    (path.parent / "gone").touch()
    assert not any(in_process(path).values())


def test_nothing_that_a_mutant_started_goes_on(tmp_path):
    number = tmp_path / "number"

    def start():
        sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        number.write_text(str(sleeping.pid))

    assert mutants.fork(start, 60)[0] == ""
    state = f"/proc/{number.read_text()}/stat"
    for _ in range(100):
        if not os.path.exists(state) or open(state).read().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


def test_the_project_itself_takes_no_child():
    command = [sys.executable, "-m", "benchmarks.mutants", "--child", "10_attention_weights"]
    ran = subprocess.run(command, cwd=mutants.ROOT, capture_output=True, text=True)
    in_a_copy = not (mutants.ROOT / ".git").exists()
    assert in_a_copy or ran.returncode and "runs in a copy" in ran.stderr


def test_the_digest_sees_the_notebook_its_mutants_and_its_modules(tmp_path):
    path = notebook(tmp_path, EXPORTED, "from danet_nb.tables import markdown_table")
    first = mutants.digest(path, [])
    assert first == mutants.digest(path, [])
    assert first != mutants.digest(path, mutants_of(path))
    cells = json.loads(path.read_text())["cells"]
    said = {"cell_type": "markdown", "id": "said", "metadata": {}, "source": "Words."}
    path.write_text(json.dumps({"cells": [*cells, said]}))
    assert first == mutants.digest(path, [])  # words do not run, answers do
    said["source"] = "### Exercise 1\n<details>\n```python\n1\n```\n</details>"
    path.write_text(json.dumps({"cells": [*cells, said]}))
    assert first != mutants.digest(path, [])
    assert first != mutants.digest(notebook(tmp_path, EXPORTED), [])
    assert mutants.modules_in("from .tables import a\nfrom danet_nb.files import b") == {
        "tables",
        "files",
    }
    assert mutants.modules_in("from danet_nb import config as exported") == {"config"}
    assert "training" in mutants.modules_in("from danet_nb import DANet")


def test_rows_of_unchanged_notebooks_are_kept(monkeypatch):
    path = mutants.NOTEBOOKS / "10_attention_weights.ipynb"
    same = mutants.digest(path, chosen(path, 3))
    row = {"notebook": path.stem, "answer": "x"}
    monkeypatch.setattr(mutants, "results_of", lambda path, *_: [{**row, "answer": "anew"}])
    for kept, keep, wanted in [(same, True, "x"), (same, False, "anew"), ("other", True, "anew")]:
        saved = {"mutants": [row], "digests": {path.stem: kept}}
        monkeypatch.setattr(mutants, "saved_results", lambda saved=saved: saved)
        *_, (rows, digests) = mutants.campaign([path], 3, 0, 1, keep)
        assert rows[path.stem][0]["answer"] == wanted and digests == {path.stem: same}


def test_one_that_does_not_run_costs_no_other_its_rows(monkeypatch, capsys):
    first, second, *_ = every_notebook()

    def results_of(path, *_):
        if path == first:
            raise RuntimeError("did not run")
        return [{"notebook": path.stem, "answer": "x"}]

    monkeypatch.setattr(mutants, "results_of", results_of)
    *_, (rows, digests) = mutants.campaign([first, second], 3, 0, 1, False)
    assert set(rows) == set(digests) == {second.stem}
    assert f"{first.stem}: did not run" in capsys.readouterr().out


def test_an_endless_loop_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "LIMIT", (1, 1))
    zero = EXPORTED.replace("2 * x", "2 * x + 0")
    answers = in_process(notebook(tmp_path, zero, "while double(0):\n    pass"))
    assert answers["return 2 * x + 1  # twice"] == "time"
    assert answers["return 3 * x + 0  # twice"] == ""


def test_a_notebook_that_fails_as_it_is_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="fails as it is"):
        in_process(notebook(tmp_path, EXPORTED, "assert double(1) == 3"))


def test_the_choice_hangs_on_the_seed_alone():
    path = mutants.NOTEBOOKS / "25_metrics.ipynb"
    first = chosen(path, 12, seed=0)
    assert first == chosen(path, 12, seed=0) != chosen(path, 12, seed=1)
    named = [mutant for mutant in first if mutant.kind == "named"]
    assert len(first) == 12 + len(named) and len(named) == len(mutants.NAMED[path.stem])
    assert len({mutant.kind for mutant in first}) > 5


def every_notebook():
    return mutants.notebooks([])


@cache
def keys_of(path):
    "Every mutant that a notebook has today, by its key."
    return {mutant.key() for mutant in [*mutants_of(path), *mutants.named_of(path)]}


def test_named_and_equivalent_mutants_are_there():
    "`named_of` raises where a text is gone."
    paths = {path.stem: path for path in every_notebook()}
    assert set(mutants.NAMED) <= set(paths)
    there = {key for path in paths.values() for key in keys_of(path)}
    gone = set(mutants.EQUIVALENT) - there
    assert not gone, f"listed as equivalent and made no more: {gone}"
    assert all(len(reason) > 10 for reason in mutants.EQUIVALENT.values())


def test_rates_are_counted():
    rows = [{"notebook": "a", "answer": ""}, {"notebook": "a", "answer": "x"}]
    assert [row["rate"] for row in summary(rows)] == [0.5, 0.5]
    assert summary([])[-1]["mutants"] == 0


@pytest.mark.skipif(not (mutants.RESULTS / "mutants.json").exists(), reason="not run yet")
def test_committed_results():
    saved = json.loads((mutants.RESULTS / "mutants.json").read_text(encoding="utf-8"))
    assert (mutants.RESULTS / "mutants.md").read_text(encoding="utf-8") == document(saved)
    assert saved["command"].startswith("python -m benchmarks.mutants")
    *each, whole = saved["notebooks"]
    assert {row["notebook"] for row in each} == {path.stem for path in every_notebook()}
    assert whole["mutants"] >= 200 and whole["rate"] >= mutants.TARGET
    weak = [row for row in each if row["rate"] < mutants.EACH]
    assert not weak, f"too much survives: {weak}"
    named = [row for row in saved["mutants"] if row["kind"] == "named"]
    assert all(row["answer"] for row in named)
    there = {key for path in every_notebook() for key in keys_of(path)}
    keys = {tuple(row[part] for part in mutants.KEY) for row in saved["mutants"]}
    assert keys <= there, "exported code has changed since: run `make mutants`"
    assert set(saved["mutants"][0]) == set(Mutant.__dataclass_fields__) - {"source"} | {"answer"}
