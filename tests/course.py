"""The path through the notebooks: one table, and all that is written from it.

`python tests/course.py` writes the head of every notebook's first cell, the line that leads on to
the next notebook, and the tables of the index.
"""

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

NBS = Path(__file__).parents[1] / "nbs"
COLUMNS = 100
TRACKS = {  # in the order of the index, with a word to whom it speaks
    "evening": "the eight that carry the story",
    "network": "how attention becomes cheap, and what else DANet is made of",
    "data": "images, labels and scores that can be trusted",
    "weights": "other people's networks, and your own, in files",
    "training": "what a run is told, what it leaves behind, and how it fails",
    "seeing": "what a network looks at, and whether that is the reason",
    "use": "the command line, other machines, the package",
    "experiments": "what it costs, real streets, the paper against its code",
    "appendix": "questions, words, mathematics, and how to teach it",
    "tools": "small things that every chapter borrows",
}


@dataclass(frozen=True)
class Lesson:
    "One notebook: its place, what it needs, and what a reader takes from it."

    name: str  # of the file, without its ending
    track: str  # one of TRACKS; within a track the table has the order of reading
    built: str  # for the index: what you will have
    paper: str = "nothing of it"  # which sections, equations, tables and figures
    before: str = ""  # numbers of the notebooks to read first
    known: str = ""  # what else one has to know or to have; Markdown
    machine: str = "under a minute"  # on one core


COURSE = (
    Lesson(
        "00_scenes",
        "evening",
        "worlds in which far-away context decides the label, and a control in which it does not",
        "section 1, why a pixel's label may need far context; no equations yet",
    ),
    Lesson(
        "10_attention_weights",
        "evening",
        "`softmax(QKᵀ/√d)V` by hand, by loops, by einsum, without overflow",
        "the operation inside eq. (1) and (2), first in the form of *Attention is all you need* "
        "(Vaswani et al., 2017, eq. 1)",
        known="matrix products and a little PyTorch",
    ),
    Lesson(
        "13_position",
        "evening",
        "equations (1) and (2) of the paper: every pixel asks every other one",
        "section 3.2, eq. (1) and (2)",
        "00 10",
    ),
    Lesson(
        "14_channel",
        "evening",
        "equations (3) and (4), and why the authors' code computes something else",
        "section 3.3, eq. (3) and (4)",
        "10 13",
    ),
    Lesson(
        "17_danet",
        "evening",
        "two branches, their sum, three classifiers: the whole network",
        "figure 2, section 3.4, and the rows of table 1",
        "13 14",
        "what a residual network is",
    ),
    Lesson(
        "45_plateau",
        "evening",
        "why a run waits and then jumps, and what the gates have to do with it",
        "eq. (2), its gate, and what flows back through it",
        "00 13 17",
        "what a training step is",
    ),
    Lesson(
        "51_explorer",
        "evening",
        "a picture to click on: see where a pixel looks, and what hangs on it",
        "figures 5 and 6, at any pixel",
        "00 13 17",
    ),
    Lesson(
        "70_ablation",
        "evening",
        "an answer with a control of equal size, two losses and three seeds",
        "table 1 and the three losses",
        "00 13 14 17",
        machine="under a minute; the runs that it reads took an hour on two cores",
    ),
    Lesson(
        "11_streaming",
        "network",
        "the same numbers in linear memory, forward and backward",
        "the operation inside eq. (1) and (2), by the *online softmax* of Milakov and Gimelshein "
        "(2018)",
        "10",
    ),
    Lesson(
        "12_self_attention",
        "network",
        "one function that chooses between the exact ways",
        "the operation inside eq. (1) and (2)",
        "10 11",
    ),
    Lesson(
        "15_backbone",
        "network",
        "ResNet-18 to 152 with dilation in place of stride; what it sees",
        'section 3.1, which asks for "the dilated strategy"; the block of '
        "[ResNet](https://arxiv.org/abs/1512.03385), the "
        "[dilated convolution](https://arxiv.org/abs/1511.07122), the multi-grid of "
        "[DeepLab v3](https://arxiv.org/abs/1706.05587)",
        known="what a convolution and a residual block are",
    ),
    Lesson(
        "16_config",
        "network",
        "every argument of the network in one place, with its comment and its limits",
        "the choices that section 3 makes and table 1 varies",
        "14 15",
    ),
    Lesson(
        "18_folding",
        "network",
        "batch norms written into the convolutions before them",
        before="15 17",
    ),
    Lesson(
        "19_alignment",
        "network",
        "where the features sit under the picture, and sizes that fit them",
        "nothing of it; the authors' code enlarges a map of stride 8 without a word about it",
        "15 17",
    ),
    Lesson(
        "20_datasets",
        "data",
        "CamVid, scenes, your own folders; strict reading",
        "section 4.1, the data sets",
        "00",
    ),
    Lesson(
        "21_published_sets",
        "data",
        "Cityscapes, PASCAL Context, COCO-Stuff and more, read as downloaded",
        "section 4.1, the data sets",
        "20 96",
    ),
    Lesson(
        "22_data_check",
        "data",
        "every file read once, checksums that find a flipped bit, other tools' labels converted",
        before="20",
    ),
    Lesson(
        "23_transforms",
        "data",
        "image and label, changed together",
        "section 4.1: random scale, random crop, random left-right flip",
        "00 20",
    ),
    Lesson(
        "24_loading",
        "data",
        "the same training samples without work on pixels that are thrown away",
        "section 4.1: random scale and random crop",
        "20 23",
    ),
    Lesson(
        "25_metrics",
        "data",
        "one confusion matrix, and which mIoU it is",
        "the scores of its tables; the definitions are those of Long et al. (FCN, section 5)",
        "00",
    ),
    Lesson(
        "26_evaluation",
        "data",
        "whole images, windows, scales, mirrors",
        "the tests of section 4.2 (table 2: multi-scale), and the authors' evaluation code",
        "17 25",
    ),
    Lesson(
        "27_protocols",
        "data",
        "the paper's, the authors' and mmsegmentation's ways of asking, by name",
        "section 4.2, its multi-scale test, and what the authors' evaluation code does instead",
        "26",
    ),
    Lesson(
        "28_scorecard",
        "data",
        "two more scores, several processes, tables, JSON and the worst images",
        "the mean IoU of its tables, beside two scores that it does not have",
        "25 27",
    ),
    Lesson(
        "29_submissions",
        "data",
        "predictions in the layout that the test servers of Cityscapes and VOC expect",
        "the test sets of section 4: 81.5 on Cityscapes, 82.6 on VOC 2012",
        "20 27",
    ),
    Lesson(
        "30_weight_files",
        "weights",
        "other people's files read strictly; damaged and hostile ones refused",
        "nothing of it; this stands between a paper and its results",
        "17",
    ),
    Lesson(
        "31_pretrained",
        "weights",
        "our own format: tensors, arguments, class names and a card in one folder",
        before="16 30",
    ),
    Lesson(
        "32_published",
        "weights",
        "the authors' and mmsegmentation's weights under our names",
        "the authors' weights of section 4",
        "30 31",
    ),
    Lesson("33_fine_tuning", "weights", "a trained network for classes of your own", before="32"),
    Lesson(
        "34_published_tour",
        "weights",
        "what to do with the authors' file once you have it",
        before="32 50",
        machine="under a minute; with a file of the real one's size about two",
    ),
    Lesson(
        "40_settings",
        "training",
        "all that a run can be told, checked before it starts",
        "the training settings of section 4.1, as defaults",
        "16",
    ),
    Lesson(
        "41_runs",
        "training",
        "a run is a folder: its settings, its log, its checkpoints",
        before="17 31 40",
    ),
    Lesson(
        "42_losses",
        "training",
        "the loss of a pixel, of a batch and of four classifiers",
        "section 4.1; the auxiliary loss on layer 3 is mmsegmentation's",
        "17 25",
    ),
    Lesson(
        "43_reports",
        "training",
        "curves and pictures of a run",
        "nothing of it; figures 5 and 6 there are pictures of this kind",
        "25 41",
    ),
    Lesson(
        "44_training",
        "training",
        "schedule, optimizer, and a loop that survives a kill",
        "section 4.1, the training settings",
        "41 42 43",
    ),
    Lesson(
        "46_failures",
        "training",
        "five runs that fail without an error, and the measurement that finds each",
        "section 4.1, and what is not written there",
        "42 44 45",
    ),
    Lesson(
        "50_attention_maps",
        "seeing",
        "what a network looks at, drawn and measured",
        "the rows and columns of $S$ in eq. (1), $X$ in eq. (3), figure 6",
        "13 17",
    ),
    Lesson(
        "52_evidence",
        "seeing",
        "what a map is measured against, and tests that intervene",
        "what figures 5 and 6 show, as questions that can be answered with no",
        "00 50",
    ),
    Lesson(
        "53_comparison",
        "seeing",
        "several networks, several seeds, one table",
        "the shape of table 1",
        "44 50",
    ),
    Lesson(
        "54_demo",
        "seeing",
        "the pictures and the tables at the top of the index",
        "the shape of table 1 and of figure 5",
        "52 53",
        machine="under a minute; `make demo` itself takes about five on two cores",
    ),
    Lesson("55_explorer_page", "seeing", "the same explorer without JupyterLab", before="51"),
    Lesson(
        "56_grid",
        "seeing",
        "every network, both losses, both channel forms: `danet ablate`",
        "the plan of table 1",
        "53 54",
        machine="under a minute; `danet ablate` itself takes an hour on two cores",
    ),
    Lesson(
        "60_export",
        "use",
        "ONNX and `torch.export`, for machines without this package",
        "nothing new: all of the network in another form",
        "17 32",
        "`pip install danet_nb[export]` (onnx, onnxscript, onnxruntime)",
    ),
    Lesson(
        "61_commands",
        "use",
        "train, evaluate, predict, convert, export, as functions",
        before="26 40 53",
    ),
    Lesson("62_cli", "use", "`danet`: the same from a shell", before="61"),
    Lesson(
        "63_package",
        "use",
        "the front door: `from danet_nb import …`, loaded on first use",
        before="62",
    ),
    Lesson(
        "71_cost",
        "experiments",
        "FLOPs, bytes and the roofline; measured beside public code",
        "the cost of eq. (1) to (4), which the paper does not discuss",
        "11 12 17 18",
    ),
    Lesson(
        "72_camvid",
        "experiments",
        "a run on real streets, its numbers and its faults",
        "section 4.1 and figures 5 and 6, on another data set",
        "26 44 52",
        machine="under a minute; CamVid itself is not needed to read this",
    ),
    Lesson(
        "73_disagreements",
        "experiments",
        "the paper, its code, other code and ours, row by row",
        "what section 4 reports, and eq. (1) and (3) where the code departs",
        "14 26 40 42",
    ),
    Lesson(
        "80_questions",
        "appendix",
        "what people have asked for years, each answered by a cell",
        "eq. (1) and (3), where people stumble over them",
    ),
    Lesson(
        "81_glossary",
        "appendix",
        "every term in a sentence: symbol, shape, and where it is built",
        "its letters, beside our names",
    ),
    Lesson(
        "82_mathematics",
        "appendix",
        "the gradients, ranks and fields behind the notebooks, derived and asserted",
        "eq. (1) to (4), differentiated",
        "10 13 14",
        "derivatives of functions of several variables",
    ),
    Lesson(
        "83_teaching",
        "appendix",
        "a lecture of 45 minutes and a lab of three hours",
        "all of section 3",
        known="the evening's notebooks",
    ),
    Lesson("90_figures", "tools", "pictures with words for those who cannot see them"),
    Lesson("91_tables", "tools", "a Markdown table that its cells cannot break"),
    Lesson("92_files", "tools", "files that are never half written"),
    Lesson("93_devices", "tools", "the device that a name means"),
    Lesson("94_lessons", "tools", "predictions that are measured, answers that run"),
    Lesson("95_bands", "tools", "images of any number of channels, as they were measured"),
    Lesson(
        "96_label_tables",
        "tools",
        "which id is which class or void, in eight published data sets",
        "section 4.1, the data sets and their numbers of classes",
    ),
)


# What a notebook is


def read(name):
    "The notebook of that name, as JSON."
    return json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))


def sources(notebook, kind):
    "The text of all cells of one kind."
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


def title(name):
    "What stands behind the first `# `."
    return sources(read(name), "markdown")[0].splitlines()[0].removeprefix("# ")


def find(number):
    "The lesson of that number, two digits."
    return next(lesson for lesson in COURSE if lesson.name[:2] == number)


def track(name):
    "The lessons of a track, in the order of reading."
    return [lesson for lesson in COURSE if lesson.track == name]


# Minutes of reading: 83_teaching says why these numbers

WORDS = 200  # a minute, of prose
LINES = 50  # a minute, of code that is shown
FIGURE = 1 / 3  # of a minute for each
QUESTION = 1 / 2  # of a minute for each prediction


def shown_lines(cell):
    "Lines of a code cell that a reader reads: no imports, nothing hidden, nothing empty."
    source = "".join(cell["source"])
    if cell["id"].endswith("imports") or re.search(r"^#\| ?hide", source, flags=re.M):
        return 0
    return sum(bool(line.strip()) for line in source.splitlines())


def minutes(notebook):
    "Whole minutes that it takes to read a notebook, folded answers left folded."
    prose = "\n".join(sources(notebook, "markdown"))
    prose = re.sub(r"<details>.*?</details>|```.*?```", "", prose, flags=re.S)
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    figures = sum("image/png" in o.get("data", {}) for c in code for o in c["outputs"])
    questions = sum(s.count("= Prediction(") for s in sources(notebook, "code"))
    spent = len(prose.split()) / WORDS + sum(map(shown_lines, code)) / LINES
    return max(1, round(spent + figures * FIGURE + questions * QUESTION))


def plural(count, word):
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# The head of a first cell

HEAD = re.compile(r"\*\*(Track|Before this|Minutes|Paper|Covers)\*\*|←")


def link(name):
    "A link to another notebook, with its number and title."
    return f"[{name[:2]} {title(name)}]({name}.ipynb)"


def wrap(text):
    "Lines of at most 100 columns, targets of links not counted, as the house counts them."
    targets = iter(re.findall(r"\]\(([^)]*)\)", text))
    spare = re.sub(r"\]\([^)]*\)", "]¤", text)  # one sign for a target, and one for a space
    spare = re.sub(r"\[[^]]*\]¤", lambda m: m[0].replace(" ", "¬"), spare)
    spare = re.sub(r"(\*\*[\w ]+\*\*:) ", r"\1¬", spare)  # a label stays with its first word
    lines = textwrap.fill(spare, COLUMNS, break_long_words=False, break_on_hyphens=False)
    return re.sub(r"\]¤", lambda _: f"]({next(targets)})", lines).replace("¬", " ")


def needs(lesson):
    "What to read and to know before."
    parts = [link(find(number).name) for number in lesson.before.split()]
    return "; ".join(part for part in (", ".join(parts), lesson.known) if part) or "nothing"


def neighbours(lesson):
    "The line of links to the notebooks before and after it in its track; the index at the ends."
    row = track(lesson.track)
    place = row.index(lesson)
    back = link(row[place - 1].name) if place else "[all notebooks](index.ipynb)"
    last = place + 1 == len(row)
    on = "[all notebooks](index.ipynb)" if last else link(row[place + 1].name)
    return f"← {back} · {on} →"


def head(lesson):
    "The paragraphs between the blockquote and the text of a first cell."
    row = track(lesson.track)
    where = f"{lesson.track}, {row.index(lesson) + 1} of {len(row)}"
    facts = (
        f"**Track**: {where}. **Reading**: {plural(minutes(read(lesson.name)), 'minute')}. "
        f"**Machine**: {lesson.machine}. **Offline**: yes."
    )
    before = wrap(f"**Before this**: {needs(lesson)}.")
    return [wrap(facts), f"{before}\n{wrap(f'**Paper**: {lesson.paper}.')}", neighbours(lesson)]


def first_cell(lesson, source):
    "The first cell as it should be, made from the one that is there."
    name, quote, *rest = source.split("\n\n")
    text = [paragraph for paragraph in rest if not HEAD.match(paragraph)]
    return "\n\n".join([name, quote, *head(lesson), *text])


# The last words: where to go on

LEARNED = "## What we learned"


def onward(lesson):
    "The line that leads on, below what was learned."
    row = track(lesson.track)
    place = row.index(lesson) + 1
    if place < len(row):
        return f"**Next**: {link(row[place].name)}."
    return "**Next**: another track, from [all notebooks](index.ipynb#Tracks)."


def last_words(lesson, source):
    "The cell with what was learned as it should be, made from the one that is there."
    before, learned = source.split(LEARNED)
    paragraphs = [part for part in learned.split("\n\n") if not part.startswith("**Next**")]
    later = [i for i, part in enumerate(paragraphs) if part.startswith("## ")]
    paragraphs.insert(later[0] if later else len(paragraphs), onward(lesson))
    return before + LEARNED + "\n\n".join(paragraphs)


def written(lesson):
    "`{id: text}` of the two cells of a notebook that the table has a say in, as they should be."
    cells = [c for c in read(lesson.name)["cells"] if c["cell_type"] == "markdown"]
    texts = {c["id"]: "".join(c["source"]) for c in cells}
    first = cells[0]["id"]
    [last] = [name for name, text in texts.items() if LEARNED in text]
    return {first: first_cell(lesson, texts[first]), last: last_words(lesson, texts[last])}


# The tables of the index


def row_of(lesson):
    return f"| {link(lesson.name)} | {minutes(read(lesson.name))} | {lesson.built} |"


def evening_table():
    "The eight of the evening, with minutes of reading."
    rows = [row_of(lesson) for lesson in track("evening")]
    return "\n".join(["| notebook | minutes | what you will have built |", "|---|---|---|", *rows])


def tracks_table():
    "All other tracks."
    lines = ["| notebook | minutes | what you will have built |", "|---|---|---|"]
    for name, whom in TRACKS.items():
        if name != "evening":
            lines.append(f"| **{name}**: {whom} | | |")
            lines += [row_of(lesson) for lesson in track(name)]
    return "\n".join(lines)


def with_table(source, table):
    "The text of a cell of the index, its one table replaced."
    before, _, after = re.split(r"((?:^\|.*\n?)+)", source, maxsplit=1, flags=re.M)
    return f"{before}{table}\n{after}".strip("\n")


def index_cells():
    "`{id: text}` of the two cells of the index with a table, as they should be."
    cells = {c["id"]: "".join(c["source"]) for c in read("index")["cells"]}
    made = {"evening": evening_table(), "tracks": tracks_table()}
    return {name: with_table(cells[name], table) for name, table in made.items()}


# Writing


def write(name, texts):
    "Replace the text of some cells of a notebook, `{id: text}`; whether anything changed."
    notebook = read(name)
    changed = False
    for cell in notebook["cells"]:
        source = texts.get(cell["id"])
        if source is not None and source != "".join(cell["source"]):
            cell["source"] = source.splitlines(keepends=True)
            changed = True
    if changed:
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        (NBS / f"{name}.ipynb").write_text(f"{text}\n", encoding="utf-8")
    return changed


def main():
    for lesson in COURSE:
        if write(lesson.name, written(lesson)):
            print(f"{lesson.name}: written")
    if write("index", index_cells()):
        print("index: tables written; now `make readme`")


if __name__ == "__main__":
    main()
