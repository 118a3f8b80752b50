"The path through the notebooks: `course.py` has the table, the notebooks say what it says."

import re

import course
import pytest

LESSONS = {lesson.name: lesson for lesson in course.COURSE}
READING = re.compile(r"\*\*Reading\*\*:\s(\d+) minutes?\.")


def named(lessons):
    return pytest.mark.parametrize("lesson", lessons, ids=[lesson.name for lesson in lessons])


def about(said, counted):
    "Whether minutes are right within 15 per cent, or within one."
    return abs(said - counted) <= max(1, 0.15 * counted)


# The table


def test_every_notebook_has_one_place():
    names = [lesson.name for lesson in course.COURSE]
    files = {path.stem for path in course.NBS.glob("*.ipynb")} - {"index"}
    assert len(names) == len(set(names))
    assert set(names) == files, "add the notebook to `course.py`"
    assert {lesson.track for lesson in course.COURSE} == set(course.TRACKS)


def test_a_track_is_read_in_the_order_of_numbers():
    for name in course.TRACKS:
        numbers = [lesson.name[:2] for lesson in course.track(name)]
        assert numbers == sorted(numbers)


def test_the_evening_needs_nothing_but_itself():
    names = [lesson.name for lesson in course.track("evening")]
    assert len(names) == 8
    for place, name in enumerate(names):
        needed = [course.find(number).name for number in LESSONS[name].before.split()]
        assert set(needed) <= set(names[:place]), f"{name} needs {needed}"


def test_the_evening_takes_about_three_and_a_half_hours():
    "As the index says."
    spent = sum(course.minutes(course.read(lesson.name)) for lesson in course.track("evening"))
    assert 185 <= spent <= 235, f"{spent} minutes"


def needed_by(lesson):
    "All that comes before a lesson, directly or not; fails on a circle."
    found = set()
    waiting = [lesson]
    while waiting:
        numbers = waiting.pop().before.split()
        fresh = [course.find(number) for number in numbers]
        waiting += [other for other in fresh if other not in found]
        found |= set(fresh)
    return found


@named(course.COURSE)
def test_nothing_needs_itself_and_tracks_are_read_forwards(lesson):
    found = needed_by(lesson)
    assert lesson not in found, "what it needs needs it"
    row = course.track(lesson.track)
    late = [other.name for other in found if other in row[row.index(lesson) :]]
    assert not late, f"needed, but later in its track: {late}"


# The first cells


def paragraphs(text):
    "Paragraphs with their white space evened out and the minutes of reading left out."
    text = READING.sub("**Reading**: # minutes.", text)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


@named(course.COURSE)
def test_first_cells_and_last_words_are_written_from_the_table(lesson):
    there = {c["id"]: "".join(c["source"]) for c in course.read(lesson.name)["cells"]}
    for name, wanted in course.written(lesson).items():
        assert paragraphs(there[name]) == paragraphs(wanted), "run `make course`"


@named(course.COURSE)
def test_minutes_of_reading_are_counted(lesson):
    notebook = course.read(lesson.name)
    said = READING.search(course.sources(notebook, "markdown")[0])
    assert said, "run `make course`"
    assert about(int(said[1]), course.minutes(notebook)), "run `make course`"


def test_writing_twice_changes_nothing():
    for lesson in (course.find("13"), course.find("34"), course.find("80")):
        source = course.sources(course.read(lesson.name), "markdown")[0]
        once = course.first_cell(lesson, source)
        assert course.first_cell(lesson, once) == once
        assert once.splitlines()[0] == source.splitlines()[0]
        assert once.split("\n\n")[1] == source.split("\n\n")[1], "the module's docstring"


def test_the_line_that_leads_on_stands_before_the_exercises():
    lesson = course.find("13")
    source = "text\n\n## What we learned\n\n- a\n- b\n\n## Exercises\n\n### Exercise 1"
    text = course.last_words(lesson, source)
    assert text.split("\n\n")[2:5] == ["- a\n- b", course.onward(lesson), "## Exercises"]
    assert course.last_words(lesson, text) == text
    alone = source.split("\n\n## Ex")[0]
    assert course.last_words(lesson, alone) == f"{alone}\n\n{course.onward(lesson)}"


# The index


def table_rows(text):
    "`[(all but the minutes, minutes)]` of a table."
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| [")]
    return [((cells[1], cells[3]), int(cells[2])) for cells in lines]


@pytest.mark.parametrize("name", ["evening", "tracks"])
def test_the_index_shows_the_table(name):
    cells = {c["id"]: "".join(c["source"]) for c in course.read("index")["cells"]}
    there, wanted = table_rows(cells[name]), table_rows(course.index_cells()[name])
    assert [words for words, _ in there] == [words for words, _ in wanted], "run `make course`"
    pairs = zip(there, wanted, strict=True)
    assert all(about(said, counted) for (_, said), (_, counted) in pairs), "run `make course`"


# The tools themselves


def cell(kind, source, name="a", outputs=()):
    return {"id": name, "cell_type": kind, "source": [source], "outputs": list(outputs)}


def test_minutes_count_what_is_read():
    words = cell("markdown", "word " * 1000)
    code = cell("code", "x = 1\n" * 100)
    assert course.minutes({"cells": [words]}) == 5
    assert course.minutes({"cells": [words, code]}) == 7
    unread = [
        cell("markdown", f"<details>{'word ' * 1000}</details>"),
        cell("code", "import torch\n" * 100, "notebook-imports"),
        cell("code", "#| hide\n" + "x = 1\n" * 100),
    ]
    assert course.minutes({"cells": [words, *unread]}) == 5
    drawn = cell("code", "", outputs=[{"data": {"image/png": ""}}] * 6)
    asked = cell("code", 'a = Prediction("?", "b", "c")')
    assert course.minutes({"cells": [words, drawn, asked, asked]}) == 8
    assert about(20, 23) and not about(20, 24) and about(2, 1) and not about(3, 1)


def test_lines_are_wrapped_as_the_house_counts_columns():
    link = f"[two words](https://{'x' * 90}.org)"
    text = course.wrap(f"{'word ' * 18}{link} {'word ' * 18}{link} `a[b]`.")
    lines = text.splitlines()
    assert text.count(link) == 2
    assert max(len(re.sub(r"\]\([^)]*\)", "]", line)) for line in lines) <= course.COLUMNS
    assert len(lines) == 3
