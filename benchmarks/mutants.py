"""Teeth: one-token mutants of exported code, and whether the notebook that exports it notices.

`python -m benchmarks.mutants` (`make mutants`) changes one token of an exporting cell of chapters
1, 2 and 4, runs the notebook's cells from there on, and counts the mutant as killed where a cell
raises or the time limit is passed. Saved outputs and tests do not help: only the notebook's own
assertions do, those in the answers of its exercises included. mutmut and cosmic-ray mutate modules
and run a test command; here the notebook is the test, and a fork before the changed cell saves
running what comes before it.

Mutants run in a copy of the project, which is put back after each of them: none can touch the
project itself. Rows of a notebook are kept while nothing changes that could change them (`digest`),
so a second run repeats only what is new.
"""

import argparse
import ast
import builtins
import hashlib
import json
import linecache
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from codeop import Compile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell

from danet_nb.lessons import answers_in
from danet_nb.tables import markdown_table

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "nbs"
RESULTS = ROOT / "results" / "mutants"
CHAPTERS = "124"
SEED = 0
COUNT = 15  # mutants per notebook
TARGET = 0.95  # of all mutants
EACH = 0.9  # of each notebook's
KEY = ("notebook", "cell", "before", "after")  # what tells mutants apart
COMPILE = Compile()  # remembers `from __future__` from cell to cell, as IPython does
MARK = b"mutant: "  # begins the lines of a child that are results
LIMIT = (3, 20)  # times the processor seconds that the notebook needs, plus some
PATIENCE = 8  # the clock may show so many times the limit of processor seconds
LEFT_OUT = (".*", "runs", "build", "dist", "*.egg-info", "__pycache__")  # of the copy


@dataclass(frozen=True)
class Mutant:
    "One change to one exporting cell."

    notebook: str  # its name without folder and ending
    cell: str  # its id
    kind: str  # what is changed: an operator of OPERATORS, or "named"
    line: int  # of the cell, from 1
    before: str  # the line as it is
    after: str  # and as it becomes
    source: str  # the whole cell as it becomes

    def key(self) -> tuple[str, str, str, str]:
        "What the list of equivalent mutants calls it."
        return self.notebook, self.cell, self.before, self.after  # KEY


# Operators: functions that take a node and give the texts that may stand in its place

COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
PAIRS = [
    ("h", "w"),
    ("height", "width"),
    ("q", "k"),
    ("rows", "columns"),
    ("min", "max"),
    ("minimum", "maximum"),
    ("amin", "amax"),
    ("argmin", "argmax"),
    ("sum", "mean"),
    ("any", "all"),
    ("floor", "ceil"),
    ("sin", "cos"),
    ("zeros", "ones"),
    ("position", "channel"),
    ("image", "label"),
]
NAMES = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
SYMMETRIC = {"max", "min", "isinstance", "torch.maximum", "torch.minimum", "math.gcd"}
LOOKS = {  # keywords that say how a figure looks; their calls are left alone
    "alpha",
    "alt",
    "color",
    "figsize",
    "fontsize",
    "label",
    "layout",
    "linestyle",
    "linewidth",
    "loc",
    "title",
    "xlabel",
    "ylabel",
}


def compare(node: ast.AST) -> Iterator[str]:
    "Another comparison: `<` for `<=`, `is` for `is not`."
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield f"{left} {COMPARISONS[type(node.ops[0])]} {right}"


def arithmetic(node: ast.AST) -> Iterator[str]:
    "Another sign between two numbers, or the factors of a product of matrices exchanged."
    if not isinstance(node, ast.BinOp):
        return
    left, right = ast.unparse(node.left), ast.unparse(node.right)
    if isinstance(node.op, ast.MatMult):
        yield f"({right}) @ ({left})"
    elif type(node.op) in ARITHMETIC:
        yield f"({left}) {ARITHMETIC[type(node.op)]} ({right})"


def addend(node: ast.AST) -> Iterator[str]:
    "A sum without one of its parts: no residual."
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield ast.unparse(node.left)


def sign(node: ast.AST) -> Iterator[str]:
    "A minus or a `not` less."
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield ast.unparse(node.operand)


def logic(node: ast.AST) -> Iterator[str]:
    "`and` for `or`, and the other way round."
    if isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield word.join(f"({ast.unparse(value)})" for value in node.values)


def constant(node: ast.AST) -> Iterator[str]:
    "Another number, True for False."
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node.value, int):
        yield str(node.value + 1)
        if node.value == 1:
            yield "0"
    elif isinstance(node.value, float):
        yield str(2 * node.value or 1.0)


def condition(node: ast.AST) -> Iterator[str]:
    "Only one of the two answers of `a if c else b`."
    if isinstance(node, ast.IfExp):
        yield ast.unparse(node.body)
        yield ast.unparse(node.orelse)


def order(node: ast.AST) -> Iterator[str]:
    "The first two parts of a tuple exchanged, or the first two arguments of a call."
    if isinstance(node, ast.Tuple) and len(node.elts) > 1 and isinstance(node.ctx, ast.Load):
        first, second, *rest = node.elts
        yield ast.unparse(ast.Tuple([second, first, *rest], ast.Load()))
    if isinstance(node, ast.Call) and len(node.args) > 1:
        first, second, *rest = node.args
        same = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
        called = ast.unparse(node.func)
        if not same and called not in SYMMETRIC and not called.endswith(".transpose"):
            yield ast.unparse(ast.Call(node.func, [second, first, *rest], node.keywords))


def keyword(node: ast.AST) -> Iterator[str]:
    "A call without one of its keyword arguments."
    if isinstance(node, ast.Call):
        for dropped in (word for word in node.keywords if word.arg != "strict"):
            kept = [word for word in node.keywords if word is not dropped]
            yield ast.unparse(ast.Call(node.func, node.args, kept))


def unwrap(node: ast.AST) -> Iterator[str]:
    "The argument, or the object, in place of a call: `x` for `relu(x)` and for `x.long()`."
    if not isinstance(node, ast.Call) or node.keywords:
        return
    if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
        yield ast.unparse(node.func.value)
    elif isinstance(node.func, ast.Attribute) and not node.args:
        yield ast.unparse(node.func.value)
    elif len(node.args) == 1 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
        yield ast.unparse(node.args[0])


def name(node: ast.AST) -> Iterator[str]:
    "The name's twin: w for h, min for max; and a matrix that is not transposed."
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in NAMES:
        yield NAMES[node.id]  # one that the cell has, or a builtin: see `mutated`
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        if node.attr in NAMES:
            yield f"{ast.unparse(node.value)}.{NAMES[node.attr]}"
        if node.attr in ("T", "mT"):
            yield ast.unparse(node.value)


def bound(node: ast.AST) -> Iterator[str]:
    "A slice without its beginning or its end."
    if isinstance(node, ast.Slice):
        lower, upper, step = (
            ast.unparse(p) if p else "" for p in (node.lower, node.upper, node.step)
        )
        if lower:
            yield f":{upper}:{step}" if step else f":{upper}"
        if upper:
            yield f"{lower}::{step}" if step else f"{lower}:"


def statement(node: ast.AST) -> Iterator[str]:
    "A statement less: a call for its effect, or an assignment that changes what is there."
    if isinstance(node, ast.AugAssign):
        yield "pass"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"


OPERATORS = [
    compare,
    arithmetic,
    addend,
    sign,
    logic,
    constant,
    condition,
    order,
    keyword,
    unwrap,
    name,
    bound,
    statement,
]
BARE = (bound, statement)  # what they give stands without parentheses
UNSEEN = ("annotation", "returns", "decorator_list", "ctx")
SKIPPED = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


def fields_to_visit(node: ast.AST) -> Iterator[ast.AST]:
    "The children that are worth a mutant: no annotations, no decorators."
    for field, value in ast.iter_fields(node):
        if field in UNSEEN or (field == "type" and isinstance(node, ast.ExceptHandler)):
            continue
        if field == "keywords":  # `strict` is a guard: most cannot fire, and none changes a number
            value = [word.value for word in value if word.arg != "strict"]
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def visit(node: ast.AST) -> Iterator[ast.AST]:
    "Every node whose change could be seen: messages of errors and the looks of figures are not."
    call = node.value if isinstance(node, ast.Expr) else node
    looks = isinstance(call, ast.Call) and any(word.arg in LOOKS for word in call.keywords)
    types = isinstance(call, ast.Call) and ast.unparse(call.func) == "TypeVar"
    literal = isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"
    if isinstance(node, SKIPPED) or looks or types or literal:
        return
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        yield node  # the order of what is searched does not matter
        yield from visit(node.left)
        return
    yield node
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
        yield from visit(node.args[0])  # nor does the order of types
        return
    for child in fields_to_visit(node):
        yield from visit(child)


def replaced(
    source: str,  # of a cell
    node: ast.AST,  # of its tree
    text: str,  # what stands in its place
) -> str:
    "The cell with one node replaced; all else, comments too, stays."
    lines = source.encode().split(b"\n")
    first, last = node.lineno - 1, node.end_lineno - 1  # pyright: ignore
    before = b"\n".join([*lines[:first], lines[first][: node.col_offset]])  # pyright: ignore
    after = b"\n".join([lines[last][node.end_col_offset :], *lines[last + 1 :]])  # pyright: ignore
    return (before + text.encode() + after).decode()


def tree(source: str) -> str:
    "What Python reads in a cell; nothing where it cannot."
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return ""


def mutated(source: str) -> Iterator[tuple[str, int, str]]:
    "All one-token changes of a cell: `(kind, line from 1, the whole cell)`."
    whole = ast.parse(source)
    known = {node.id for node in ast.walk(whole) if isinstance(node, ast.Name)}
    known |= {node.arg for node in ast.walk(whole) if isinstance(node, ast.arg)} | set(
        dir(builtins)
    )
    for node in visit(whole):
        for operator in OPERATORS:
            for text in operator(node):
                if operator is name and isinstance(node, ast.Name) and text not in known:
                    continue
                changed = replaced(source, node, text)
                wrapped = replaced(source, node, f"({text})")
                if operator not in BARE and tree(wrapped) not in ("", tree(changed)):
                    changed = wrapped
                if tree(changed) not in ("", tree(source)):
                    yield operator.__name__, node.lineno, changed  # pyright: ignore


def exporting(source: str) -> bool:
    "Whether a cell is part of the package."
    return source.startswith(("#| export", "#|export"))


def code_cells(notebook: Path) -> list[tuple[str, str]]:
    "`(id, source)` of the code cells that run without a browser."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        (cell["id"], "".join(cell["source"]))
        for cell in cells
        if cell["cell_type"] == "code" and "widget" not in cell["metadata"].get("tags", [])
    ]


def around(lines: list[str], first: int, last: int) -> str:
    "Some lines as one, without the spaces between them."
    return " ".join(line.strip() for line in lines[first:last])


def difference(old: str, new: str) -> tuple[str, str]:
    "The lines that differ, before and after."
    a, b = old.split("\n"), new.split("\n")
    head = next(i for i in range(len(a)) if i >= len(b) or a[i] != b[i])
    tail = 0
    while tail < min(len(a), len(b)) - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    return around(a, head, len(a) - tail), around(b, head, len(b) - tail)


def mutants_of(notebook: Path) -> list[Mutant]:
    "Every mutant of every exporting cell, in order, none twice."
    found: dict[str, Mutant] = {}
    for cell, source in code_cells(notebook):
        if exporting(source):
            for kind, line, changed in mutated(source):
                before, after = difference(source, changed)
                mutant = Mutant(notebook.stem, cell, kind, line, before, after, changed)
                found.setdefault(changed, mutant)
    return list(found.values())


def named_of(notebook: Path) -> list[Mutant]:
    "The mutants that the list NAMED writes out."
    cells = dict(code_cells(notebook))
    made = []
    for cell, old, new in NAMED.get(notebook.stem, []):
        source = cells[cell]
        if source.count(old) != 1:
            raise ValueError(f"{notebook.stem}, {cell}: {old!r} is there {source.count(old)} times")
        changed = source.replace(old, new)
        line = source[: source.index(old)].count("\n") + 1
        made.append(
            Mutant(notebook.stem, cell, "named", line, *difference(source, changed), changed)
        )
    return made


def in_turns(mutants: list[Mutant], seed: str) -> list[Mutant]:
    "Shuffled, and so that the kinds take turns."
    dice = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {}
    for mutant in dice.sample(mutants, len(mutants)):
        kinds.setdefault(mutant.kind, []).append(mutant)
    rounds = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [mutant for turn in rounds for mutant in turn if mutant is not None]


def chosen(
    notebook: Path,  # a notebook of the package
    count: int,  # mutants besides the named ones; all there are where that is less
    seed: int = SEED,  # another one chooses others
) -> list[Mutant]:
    "The named mutants and a deterministic choice of the others, equivalent ones left out."
    named = named_of(notebook)
    told = {mutant.source for mutant in named}
    others = [m for m in mutants_of(notebook) if m.source not in told and m.key() not in EQUIVALENT]
    count = count if notebook.stem[0] in CHAPTERS else 0
    picked = in_turns(others, f"{seed} {notebook.stem}")[:count]
    order_of_cells = [cell for cell, _ in code_cells(notebook)]
    return sorted([*named, *picked], key=lambda m: (order_of_cells.index(m.cell), m.line, m.after))


# Running: the cells in order in one process, and a fork for every mutant


def fresh_names() -> dict[str, Any]:
    "The names of a new IPython, which becomes this process's main module."
    HistoryManager.enabled = False
    shell = InteractiveShell.instance()
    sys.modules["__main__"] = shell.user_module
    return shell.user_ns


def execute(cell: str, source: str, names: dict[str, Any]) -> None:
    "One cell, with its text where `inspect` finds it."
    file = f"<{cell} {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(COMPILE(source, file, "exec"), names)


def fork(
    action: Callable[[], None],  # what the child does, silently
    limit: float,  # processor seconds
) -> tuple[str, float]:  # "" where it ends well, "time" where it is too slow, else how it ended
    "Run something in a copy of this process; its answer, and the processor seconds it took."
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (round(limit) + 1, most))
        answer = guarded(action)
        os.write(writing, answer.encode()[:400])
        os._exit(0)
    os.close(writing)
    status, seconds = wait_for(child, PATIENCE * (limit + 1))
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode(errors="replace") if status == 0 else ended(status)
    return answer, seconds


def ended(status: int | None) -> str:
    "How a process ended that did not say so itself."
    slow = status is None or os.waitstatus_to_exitcode(status) in (-signal.SIGXCPU, -signal.SIGKILL)
    return "time" if slow else f"process ended: {status}"


def guarded(action: Callable[[], None]) -> str:
    "What the action raises, in words; silence where it raises nothing."
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        action()
    except BaseException as error:
        return str(error).split("\n")[0] or type(error).__name__
    return ""


def wait_for(
    child: int,  # leader of a group of processes
    limit: float,  # seconds by the clock
) -> tuple[int | None, float]:  # no status where it had to be stopped
    "Exit status of a child and its processor seconds; nothing that it started is left."
    end = time.monotonic() + limit
    status = None
    while status is None and time.monotonic() < end:
        done, ending, used = os.wait4(child, os.WNOHANG)
        status = ending if done else None
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        _, _, used = os.wait4(child, 0)
    return status, used.ru_utime + used.ru_stime


def remove(path: Path) -> None:
    "A file, link or folder less."
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stamp(path: Path) -> tuple[int, ...]:
    "What differs after a path was written; for folders, only that they are one."
    found = path.lstat() if os.path.lexists(path) else None
    if found is None or path.is_dir() and not path.is_symlink():
        return () if found is None else (found.st_mode,)
    return found.st_mode, found.st_size, found.st_mtime_ns


def mirror(
    source: Path,  # a folder
    target: Path,  # another, which becomes the same
) -> None:
    "Copy what differs, remove what is too much."
    there = sorted(path.relative_to(source) for path in source.rglob("*"))
    for path in sorted(target.rglob("*")):
        if not os.path.lexists(source / path.relative_to(target)):
            remove(path)
    for name in there:
        if stamp(source / name) != stamp(target / name):
            remove(target / name)
            if (source / name).is_dir() and not (source / name).is_symlink():
                (target / name).mkdir()
                shutil.copystat(source / name, target / name)
            else:
                shutil.copy2(source / name, target / name, follow_symlinks=False)


class Restored:
    "A folder, with one for temporary files in it, put back after each child as it was before."

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copy = Path(tempfile.mkdtemp())
        (folder / "tmp").mkdir(exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")

    def __enter__(self) -> None:
        mirror(self.folder, self.copy)

    def __exit__(self, *_: object) -> None:
        mirror(self.copy, self.folder)

    def remove(self) -> None:
        "The end of what was kept."
        shutil.rmtree(self.copy)


def run_notebook(
    notebook: Path,  # in the folder `nbs` of a copy of the project
    mutants: list[Mutant],  # its own
    say: Callable[[dict[str, Any]], None],  # gets every result as it comes
) -> None:
    "Run the cells; before every exporting one a fork per mutant goes on with the changed cell."
    cells = code_cells(notebook)
    names = fresh_names()
    os.chdir(notebook.parent)
    files = Restored(notebook.parents[1])

    def rest(index: int, source: str) -> None:
        for cell, text in [(cells[index][0], source), *cells[index + 1 :]]:
            try:
                execute(cell, text, names)
            except BaseException as error:
                raise RuntimeError(f"{cell}: {type(error).__name__}: {error}") from error

    with files:
        failed, needed = fork(lambda: rest(0, cells[0][1]), 600)
    if failed:
        raise RuntimeError(f"{notebook.stem} fails as it is: {failed}")
    limit = LIMIT[0] * needed + LIMIT[1]
    for i, (cell, source) in enumerate(cells):
        for mutant in (m for m in mutants if m.cell == cell):
            with files:
                answer, seconds = fork(lambda m=mutant, i=i: rest(i, m.source), limit)
            say({**asdict(mutant), "answer": answer, "seconds": round(seconds, 1)})
        execute(cell, source, names)  # ends well: what the children did is undone
    files.remove()


# Choosing and writing


def notebooks(names: list[str]) -> list[Path]:
    "The notebooks of the chapters that export code, or those of them whose names begin so."
    paths = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    paths = [p for p in paths if p.stem[0] in CHAPTERS or p.stem in NAMED]
    paths = [p for p in paths if any(exporting(source) for _, source in code_cells(p))]
    return [p for p in paths if p.stem.startswith(tuple(names or [""]))]


def modules_in(source: str) -> set[str]:
    "The modules of the package that a text imports; all of them where it asks the front door."
    source = re.sub(r" as \w+", "", source)
    names = re.findall(r"(?:from|import) (?:danet_nb)?\.(\w+)", source)
    listed = re.findall(r"from (?:danet_nb|\.) import (\([\w\s,]+|[\w, ]+)", source)
    names += [word for line in listed for word in re.findall(r"\w+", line)]
    there = {path.stem for path in (ROOT / "danet_nb").glob("*.py")} - {"_modidx"}
    return there if listed and not set(names) <= there else set(names) & there


def digest(path: Path, mutants: list[Mutant]) -> str:
    "Changes with what runs in a notebook, with its mutants, and with every module behind it."
    text = "\n".join([source for _, source in code_cells(path)] + [*answers_in(path).values()])
    done, asked = {}, modules_in(text)
    while asked:
        name = asked.pop()
        done[name] = (ROOT / "danet_nb" / f"{name}.py").read_text(encoding="utf-8")
        asked |= modules_in(done[name]) - set(done)
    parts = [text, [m.source for m in mutants], sorted(done.items()), version("torch")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def results_of(path: Path, count: int, seed: int) -> list[dict[str, Any]]:
    "All mutants of a notebook, run by a fresh process in a copy; a line for each as it comes."
    command = [sys.executable, "-m", "benchmarks.mutants", "--child", path.stem]
    command += ["--count", str(count), "--seed", str(seed)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        environment |= {"PYTHONPATH": str(copy), "TMPDIR": folder}
        with subprocess.Popen(
            command, cwd=copy, env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith(MARK):
                    rows.append(json.loads(line[len(MARK) :]))
                    print(told(rows[-1]), flush=True)
    if process.returncode:
        raise RuntimeError(f"{path.stem} did not run to its end")
    return rows


def saved_results() -> dict[str, Any]:
    "What the last run wrote; nothing before the first."
    path = RESULTS / "mutants.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"mutants": []}


def campaign(
    paths: list[Path],  # notebooks
    count: int,
    seed: int,
    jobs: int,  # notebooks at the same time
    keep: bool,  # take the rows of notebooks that have not changed from the last run
) -> Iterator[tuple[dict[str, list[dict[str, Any]]], dict[str, str]]]:
    "Rows and digest by notebook, again after each; notebooks that do not run have none."
    saved = saved_results()
    digests = {path.stem: digest(path, chosen(path, count, seed)) for path in paths}
    old = saved.get("digests", {}) if keep else {}
    same = {name for name, value in digests.items() if old.get(name) == value}
    rows = {n: [row for row in saved["mutants"] if row["notebook"] == n] for n in sorted(same)}
    yield rows, {name: digests[name] for name in rows}
    with ThreadPoolExecutor(jobs) as pool:
        asked = {
            pool.submit(results_of, path, count, seed): path.stem
            for path in paths
            if path.stem not in same
        }
        for done in as_completed(asked):
            if error := done.exception():
                print(f"{asked[done]}: {error}", flush=True)
                continue
            rows[asked[done]] = done.result()
            yield rows, {name: digests[name] for name in sorted(rows)}


def told(row: dict[str, Any]) -> str:
    "One result in one line."
    fate = "killed" if row["answer"] else "SURVIVES"
    return (
        f"{fate} {row['seconds']:5.1f}s {row['notebook']} {row['cell']} [{row['kind']}] "
        f"{row['before']}  ->  {row['after']}  | {row['answer'][:80]}"
    )


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    "Mutants, killed ones and the rate, by notebook and overall."
    counts = Counter(row["notebook"] for row in rows)
    killed = Counter(row["notebook"] for row in rows if row["answer"])
    found = [
        {"notebook": n, "mutants": counts[n], "killed": killed[n], "rate": killed[n] / counts[n]}
        for n in sorted(counts)
    ]
    total = {"notebook": "all", "mutants": len(rows), "killed": killed.total()}
    return [*found, {**total, "rate": killed.total() / max(1, len(rows))}]


def code(text: str) -> str:
    "As code in a Markdown table."
    return "`` " + text.replace("|", "\\|") + " ``"


def document(saved: dict[str, Any]) -> str:
    "The text of `mutants.md`."
    facts = [
        f"- {k}: {saved[k]}" for k in ("command", "seed", "version", "torch", "python", "date")
    ]
    rates = [
        [r["notebook"], str(r["mutants"]), str(r["killed"]), f"{100 * r['rate']:.1f} %"]
        for r in saved["notebooks"]
    ]
    alive = [
        [r["notebook"], r["cell"], r["kind"], code(r["before"]), code(r["after"])]
        for r in saved["mutants"]
        if not r["answer"]
    ]
    same = [[*key[:2], code(key[2]), code(key[3]), reason] for *key, reason in saved["equivalent"]]
    head = ["notebook", "cell"]
    parts = [
        "# Mutants of the exported code, and the notebooks that notice them",
        "\n".join(facts),
        "Killed: a cell of the notebook that exports the code raises, or takes too long. Named "
        "mutants are written out in `benchmarks/mutants.py`, the others are chosen by the seed.",
        markdown_table(["notebook", "mutants", "killed", "rate"], rates),
        "## What survives",
        markdown_table([*head, "kind", "before", "after"], alive) if alive else "Nothing.",
        "## Equivalent mutants, left out",
        markdown_table([*head, "before", "after", "why nothing can differ"], same)
        if same
        else "None.",
    ]
    return "\n\n".join(parts) + "\n"


def circumstances(seed: int) -> dict[str, Any]:
    "What it takes to repeat the run."
    return {
        "command": " ".join(["python -m benchmarks.mutants", *sys.argv[1:]]),
        "seed": seed,
        "version": version("danet_nb"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write(
    rows: list[dict[str, Any]], digests: dict[str, str], seed: int, folder: Path = RESULTS
) -> None:
    "Save `mutants.json` and `mutants.md`."
    saved = {
        **circumstances(seed),
        "digests": digests,
        "notebooks": summary(rows),
        "mutants": [
            {k: v for k, v in row.items() if k not in ("source", "seconds")} for row in rows
        ],
        "equivalent": [[*key, reason] for key, reason in EQUIVALENT.items()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutants.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    (folder / "mutants.md").write_text(document(saved))


def arguments() -> argparse.Namespace:
    "The command line."
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="beginnings of names; all if left out")
    parser.add_argument("--count", type=int, default=COUNT, help="mutants per notebook")
    parser.add_argument("--seed", type=int, default=SEED, help="of the choice")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at the same time")
    parser.add_argument("--anew", action="store_true", help="keep no rows of the last run")
    parser.add_argument("--list", action="store_true", help="print the mutants, run none")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(options: argparse.Namespace) -> None:
    "The mutants of one notebook, in a copy of the project."
    if (ROOT / ".git").exists():
        raise SystemExit("a child runs in a copy, without the history of the project")
    path = NOTEBOOKS / f"{options.child}.ipynb"
    mutants = chosen(path, options.count, options.seed)
    run_notebook(path, mutants, lambda row: print(MARK.decode() + json.dumps(row), flush=True))


def main() -> None:
    "Run the mutants and write what became of them; a part of the notebooks is only printed."
    options = arguments()
    if options.child:
        child(options)
        return
    paths = notebooks(options.notebooks)
    if options.list:
        for m in [m for path in paths for m in chosen(path, options.count, options.seed)]:
            print(f"{m.notebook} {m.cell} [{m.kind}] {m.before}  ->  {m.after}")
        return
    rows, found, whole = [], {}, not options.notebooks
    keep = whole and not options.anew
    for found, digests in campaign(paths, options.count, options.seed, options.jobs, keep):
        rows = [row for name in sorted(found) for row in found[name]]
        if whole:
            write(rows, digests, options.seed)
    for row in summary(rows):
        print(f"{row['notebook']:24}{row['killed']:4} of {row['mutants']:4}  {row['rate']:.1%}")
    missing = [path.stem for path in paths if path.stem not in found]
    if missing:
        raise SystemExit(f"no results: {', '.join(missing)}; run again, what is there is kept")


NAMED: dict[str, list[tuple[str, str, str]]] = {  # (cell, text, what it becomes)
    "11_streaming": [
        ("fold-tiles", "torch.finfo(q.dtype).min)", "0.0)"),
        ("fold-tile", "torch.maximum(m, e.amax(-1, keepdim=True))", "e.amax(-1, keepdim=True)"),
    ],
    "23_transforms": [
        ("resize-image", "antialias=True", "antialias=False"),
        ("random-scale", "in label.shape)", "in label.shape[::-1])"),
        ("turn-hue", "-sin(", "sin("),
        ("training-transform", "[*color, *moves,", "[*moves,"),
    ],
    "25_metrics": [("confusion", "i.long() * num_classes + j.long()", "i * num_classes + j")],
    "26_evaluation": [
        ("resize", "antialias: bool = True", "antialias: bool = False"),
        ("votes", "[view.softmax(1) for view in views]).mean(0)", "views).mean(0).softmax(1)"),
        ("predict", "total = total + at_scale(", "total = at_scale("),
    ],
    "42_losses": [
        ("cross-entropy", "label, class_weights, ignore", "label, ignore"),
        ("danet-loss", "(logits, label, class_weights)", "(logits, label)"),
        ("danet-loss", "weights[name] * parts", "LOSS_WEIGHTS[name] * parts"),
    ],
    "44_training": [
        ("make-optimizer", "momentum=config.momentum, ", ""),
        ("train-step", "enabled=amp", "enabled=False"),
        ("train-step", "label, weights, class_weights)", "label)"),
        ("samples", "SAMPLE, k)", "SAMPLE, place)"),
        ("samples", "self.seed, epoch)[place]", "self.seed, 0)[place]"),
        ("update", "STEP, run.step)", "STEP)"),
        ("update", "dict(zip(LOSS_WEIGHTS, config.loss_weights, strict=True))", "LOSS_WEIGHTS"),
        ("update", "weights, class_weights, config.amp)", "weights, None, config.amp)"),
        ("update", "class_weights, config.amp)", "class_weights)"),
        ("score", "enabled=run.config.amp", "enabled=False"),
        ("fit", " or run.every(config.checkpoint_every)", ""),
        ("train", 'open_split(config, "val")', 'open_split(config, "train")'),
    ],
    "50_attention_maps": [
        ("overlay", "height, width = image.shape[-2:]", "width, height = image.shape[-2:]"),
    ],
}
EQUIVALENT = {  # by `Mutant.key`: why nothing that the notebook could see is different
    tuple(row[part] for part in KEY): row["reason"]
    for row in json.loads(Path(__file__).with_name("equivalent_mutants.json").read_text("utf-8"))
}

if __name__ == "__main__":
    main()
