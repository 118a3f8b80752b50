"""What every notebook promises its reader, as far as a machine can hold it.

Form of cells, figures and headings, and that no host is called: `test_notebooks.py`; rules of
code: `test_house.py`; reading minutes and the order of the notebooks: `test_course.py`.
`python -m tests.test_contract` prints which cells of which notebook assert the equations.
"""

import ast
import json
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest

from benchmarks import minutes

ROOT = Path(__file__).parents[1]
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(NBS.glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if path.name[0].isdigit()]
PAGES = ("81_glossary", "83_teaching")  # to look things up in; they set no exercises
LESSONS = [path for path in NUMBERED if path.stem not in PAGES]
MINUTES = ROOT / "results" / "minutes.json"
CLAIMS = {"under a minute": 60}  # what a first cell may say, in seconds
EQUATIONS = ("1", "2", "3", "4")
CHECKS = ("assert", "expect_fail", ".check(")  # in code that can fail; assert_close is one too


def ids(path):
    return path.stem


@cache
def notebook(path):
    return nbformat.read(path, 4)


def code_cells(path):
    return [cell for cell in notebook(path).cells if cell.cell_type == "code"]


def prose(path):
    return [cell for cell in notebook(path).cells if cell.cell_type == "markdown"]


def without_code(text):
    "Markdown without blocks and words of code, and without formulas."
    return re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.S)


# The first cell


FIRST = re.compile(
    r"# [^\n]+\n\n> [^\n]{1,98}\n\n"
    r"\*\*Track\*\*: [a-z]+, \d+ of \d+\.\s\*\*Reading\*\*: \d+ minutes?\.\s"
    r"\*\*Machine\*\*: (?P<machine>[^.]+)\.\s\*\*Offline\*\*:\syes[^\n]*(\n[^\n]+)*\n\n"
    r"\*\*Before this\*\*: .+\n\*\*Paper\*\*: ",
    re.S,
)


@pytest.mark.parametrize("path", NUMBERED, ids=ids)
def test_the_first_cell_says_what_is_asked_of_the_reader(path):
    assert FIRST.match(notebook(path).cells[0].source), "run `python tests/course.py`"


def claimed(source):
    "Seconds that a first cell claims for the machine."
    said = re.search(r"\*\*Machine\*\*:\s([^.;]+)", source)
    words = " ".join(said[1].split()) if said else ""
    assert words in CLAIMS, f"**Machine**: {words!r}; it may be one of {list(CLAIMS)}"
    return CLAIMS[words]


@pytest.mark.skipif(not MINUTES.exists(), reason="`make minutes` has not been run")
@pytest.mark.parametrize("path", NUMBERED, ids=ids)
def test_minutes_that_are_claimed_have_been_measured(path):
    "`make minutes` measures on an idle machine; nothing is timed here."
    measured = json.loads(MINUTES.read_text(encoding="utf-8"))["seconds"]
    assert path.stem in measured, "run `make minutes`"
    assert measured[path.stem] < claimed(notebook(path).cells[0].source)


def test_minutes_are_measured_for_the_notebooks_that_are_there():
    if MINUTES.exists():
        measured = json.loads(MINUTES.read_text(encoding="utf-8"))
        assert set(measured["seconds"]) == {path.stem for path in NUMBERED}, "run `make minutes`"
        assert measured["command"] == "python -m benchmarks.minutes" and measured["device"]


def test_minutes_replace_those_that_are_named(tmp_path, monkeypatch, capsys):
    for name in ("10_a", "11_b"):
        nbformat.write(nbformat.v4.new_notebook(), tmp_path / f"{name}.ipynb")
    out = tmp_path / "minutes.json"
    monkeypatch.setattr(minutes, "NOTEBOOKS", tmp_path)
    for names, measured in [([], 1.26), (["11"], 2.0)]:
        monkeypatch.setattr(minutes, "seconds_of", lambda path, measured=measured: measured)
        monkeypatch.setattr(sys, "argv", ["minutes.py", *names, "--out", str(out)])
        minutes.main()
    assert json.loads(out.read_text())["seconds"] == {"10_a": 1.3, "11_b": 2.0}
    assert "11_b" in capsys.readouterr().out


def test_a_claim_is_read():
    assert claimed("**Machine**: under a minute. **Offline**: yes.") == 60
    assert claimed("**Machine**: under a\nminute; the runs took an hour.") == 60
    with pytest.raises(AssertionError, match="it may be one of"):
        claimed("**Machine**: soon.")


# What is printed and linked


MACHINE = re.compile(
    r"(?<![\w./])/(?:tmp|home|root|work|Users|var|private|mnt)/\S*|\btmp[a-z0-9_]{8}\b"
)


def shown(cell):
    "What a cell prints, returns and says of its pictures."
    texts = []
    for output in cell.outputs:
        data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        texts += [output.get("text", ""), *map(str, data.values())]
        texts.append(output.get("metadata", {}).get("image/png", {}).get("alt", ""))
    return "\n".join(texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_outputs_name_no_place_of_a_machine(path):
    found = {cell.id: MACHINE.findall(shown(cell)) for cell in code_cells(path)}
    found = {name: places for name, places in found.items() if places}
    assert not found, f"print names relative to a folder: {found}"


def slug(heading):
    "The anchor of a heading, as JupyterLab and GitHub make it."
    return re.sub(r"\s+", "-", re.sub(r"[`*]", "", heading.strip()))


@cache
def anchors(path):
    "What a link into a notebook may name: headings in both spellings, and cells."
    text = re.sub(r"```.*?```", "", "\n".join(cell.source for cell in prose(path)), flags=re.S)
    headings = [slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)]
    lower = [re.sub(r"[^\w-]", "", heading.lower()) for heading in headings]
    return {*headings, *lower, *(f"cell-id={cell.id}" for cell in notebook(path).cells)}


def broken(path, text):
    "Relative links that lead to no file, no heading or no cell."
    wrong = []
    for link in re.findall(r"\]\(\s*([^)\s]+)[^)]*\)", without_code(text)):
        file, _, anchor = link.partition("#")
        target = path if not file else path.parent / file
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists():
            wrong.append(link)
        elif anchor and target.suffix == ".ipynb" and anchor not in anchors(target.resolve()):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_links_lead_to_files_headings_and_cells(path):
    found = {cell.id: broken(path, cell.source) for cell in prose(path)}
    assert not any(found.values()), {name: links for name, links in found.items() if links}


def test_a_broken_link_is_noticed():
    path = NBS / "94_lessons.ipynb"
    good = "[a](94_lessons.ipynb#A-prediction) [b](#cell-id=answers) [c](../README.md) `[d](e)`"
    assert not broken(path, good)
    for link in ("gone.ipynb", "94_lessons.ipynb#Gone", "#cell-id=gone", "../gone.md"):
        assert broken(path, f"{good} [x]({link})") == [link]


# The paper's equations


def equations_in(source):
    "Equations of the paper that a cell says it asserts: `# eq. (1)`, `# eq. (1) and (2)`."
    marks = re.findall(r"# eq\. (\(\d\)(?:(?:,| and) \(\d\))*)", source)
    numbers = {number for mark in marks for number in re.findall(r"\d", mark)}
    return numbers if any(word in source for word in CHECKS) else set()


def coverage():
    "`{equation: [(notebook, cell)]}`: where each of the paper's four is asserted."
    found = {number: [] for number in EQUATIONS}
    for path in NUMBERED:
        for cell in code_cells(path):
            for number in equations_in(cell.source):
                found[number].append((path.stem, cell.id))
    return found


def coverage_table():
    "The coverage as text."
    lines = ["equation  asserted in"]
    for number, places in coverage().items():
        for i, (name, cell) in enumerate(places):
            lines.append(f"{f'({number})' if not i else '':10}{name}, cell {cell}")
    return "\n".join(lines)


@pytest.mark.parametrize("number", EQUATIONS)
def test_equations_are_asserted_more_than_once(number):
    print(coverage_table())
    places = coverage()[number]
    assert len(places) >= 2, f"mark cells that assert it with `# eq. ({number})`: {places}"


def test_a_mark_without_an_assertion_does_not_count():
    assert equations_in("assert x  # eq. (1) and (2)") == {"1", "2"}
    assert equations_in("x = 1  # eq. (1)") == set()
    assert equations_in("assert x  # equation 1") == set()


# Predictions and exercises


def predictions(sources):
    "Names of predictions with the cells (by place) that ask, and those that check."
    asked, checked = {}, {}
    for place, source in enumerate(sources):
        source = re.sub(r"^\s*[%!].*", "", source, flags=re.M)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                if ast.unparse(node.value.func) == "Prediction":
                    asked[ast.unparse(node.targets[0])] = place
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "check" and isinstance(node.func.value, ast.Name):
                    checked.setdefault(node.func.value.id, []).append(place)
    return asked, checked


def unanswered(sources):
    "Predictions that no later cell checks."
    asked, checked = predictions(sources)
    return [name for name, place in asked.items() if max(checked.get(name, [-1])) <= place]


@pytest.mark.parametrize("path", LESSONS, ids=ids)
def test_predictions_come_before_their_answers(path):
    sources = [cell.source for cell in code_cells(path)]
    asked, _ = predictions(sources)
    assert asked, "ask the reader something before it is computed"
    assert not unanswered(sources), f"asked and never checked: {unanswered(sources)}"
    for name, place in asked.items():
        assert sources[place].rstrip().endswith(f"\n{name}"), f"show the question: {name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_nothing_is_asked_in_prose_alone(path):
    found = [cell.id for cell in prose(path) if re.search(r"\*\*Predict", cell.source)]
    assert not found, f"make it a `Prediction` with a `check`: {found}"


def test_an_unanswered_prediction_is_noticed():
    ask, check = "p = Prediction('x?', 'a', 'b')\np", "p.check(True, False)"
    assert not unanswered([ask, check])
    assert unanswered([ask]) == unanswered([check, ask]) == unanswered([f"{ask}\n{check}"]) == ["p"]


def exercises(path):
    "`{number: text}` of the exercises of a notebook."
    text = "\n\n".join(cell.source for cell in prose(path))
    text = re.split(r"^## Exercises$", text, maxsplit=1, flags=re.M)
    found = re.findall(r"^### Exercise (\d)\b[^\n]*$(.*?)(?=^##|\Z)", text[-1], flags=re.S | re.M)
    return dict(found) if len(text) == 2 else {}


def faults(text):
    "What an exercise lacks."
    task, *folded = re.split(r"^<details>", text, flags=re.M)
    wanted = {
        "a task": len(task.split()) >= 5,
        "one folded answer": len(folded) == 1 and folded[0].count("</details>") == 1,
        "a summary": "<summary>Answer</summary>\n\n" in text,
        "code that can fail": any(
            any(word in block for word in CHECKS)
            for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.S | re.M)
        ),
    }
    return [name for name, there in wanted.items() if not there]


@pytest.mark.parametrize("path", LESSONS, ids=ids)
def test_three_exercises_with_folded_answers_that_can_fail(path):
    found = exercises(path)
    assert list(found) == ["1", "2", "3"], "`## Exercises`, then `### Exercise 1` to `3`"
    lacking = {number: faults(text) for number, text in found.items()}
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("path", LESSONS, ids=ids)
def test_the_last_cell_runs_the_answers(path):
    last = notebook(path).cells[-1]
    assert (last.id, last.source) == ("answers", f'run_answers("{path.name}", globals())')
    assert "3 answers ran" in shown(last), "run the notebook and save it"


def test_an_exercise_without_an_answer_is_noticed():
    good = (
        "\n\nDo this with five words.\n\n<details><summary>Answer</summary>\n\nSo.\n\n"
        "```python\nassert True\n```\n\n</details>\n"
    )
    assert not faults(good)
    assert faults(good.replace("assert True", "True")) == ["code that can fail"]
    assert faults(good.replace("```python", "```")) == ["code that can fail"]
    assert "one folded answer" in faults("\n\nDo this with five words.\n")


if __name__ == "__main__":
    print(coverage_table())
