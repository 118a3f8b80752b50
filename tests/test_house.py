"The rules of the house that a linter cannot hold: CONTRIBUTING.md says them in words."

import ast
import io
import re
import subprocess
import sys
import tokenize
from itertools import groupby
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for p in (ROOT / "danet_nb").glob("*.py") if p.name != "_modidx.py")
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
SCRIPTS = sorted([*ROOT.glob("*.py"), *ROOT.glob("tests/*.py"), *ROOT.glob("benchmarks/*.py")])
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "data/README.md", ROOT / "tests/fixtures/README.md"])
FRONT_DOOR = {
    "AttentionExplorer",
    "DANet",
    "TrainConfig",
    "evaluate",
    "load_danet",
    "open_dataset",
    "predict",
    "train",
}
DEVELOPMENT = {"nbdev", "fastcore", "execnb", "IPython", "ipywidgets", "nbformat", "pytest"}
HEAVY = {"torch", "numpy", "PIL", "matplotlib", "safetensors", "huggingface_hub"}
LIGHT = ("settings", "config", "commands", "cli", "tables", "files", "label_tables")
COLUMNS = 100
TOOLS = 90  # from this number on every module may import


def name_of(path):
    return path.stem


def cells(path, kind):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == kind]


def exported(cell):
    return re.match(r"#\| ?exporti?\b", cell.source) is not None


# Direction: a module imports what comes before it in the order of reading


def module_numbers():
    "`{module: number}` as the notebooks' names and their `default_exp` say."
    numbers = {}
    for path in NOTEBOOKS:
        source = "\n".join(c.source for c in cells(path, "code"))
        module = re.search(r"^#\| ?default_exp (\S+)", source, flags=re.M)
        if module:
            numbers[module[1]] = int(path.name[:2])
    return numbers


def imported_modules(source, names):
    "The package's modules, out of `names`, that `source` imports anywhere, also in a function."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = "danet_nb." if node.level else ""
            base = f"{package}{node.module or ''}".rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    parts = [name.split(".") + [""] for name in found]
    inside = {part[1] for part in parts if part[0] == "danet_nb"} - {"__version__"}
    return {name if name in names else "__init__" for name in inside}


def climbs(module, source, numbers):
    "What `module` imports although it comes later in the order of reading."
    mine = numbers[module]
    later = []
    for name in imported_modules(source, numbers):
        tool = numbers[name] >= TOOLS and mine < TOOLS
        if not tool and numbers[name] >= mine:
            later.append(name)
        if mine >= TOOLS and numbers[name] < TOOLS:
            later.append(name)
    return sorted(later)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_up(path):
    numbers = module_numbers()
    numbers.setdefault("__init__", 63)
    later = climbs(path.stem, path.read_text(encoding="utf-8"), numbers)
    assert not later, f"{path.stem} imports {later}, which come after it in the order of reading"


@pytest.mark.parametrize(
    "source",
    [
        "from .training import fit",
        "from . import training",
        "import danet_nb.training",
        "from danet_nb.training import fit",
        "def f():\n    from .training import fit",
        "from danet_nb import train",
    ],
)
def test_a_climb_is_noticed(source):
    numbers = {"danet": 17, "training": 44, "__init__": 63, "files": 92}
    assert climbs("danet", source, numbers)
    assert climbs("files", source, numbers)
    assert not climbs("danet", "from .files import f\nfrom . import __version__", numbers)


# Numbers: chapters in tens


def free_numbers():
    "The numbers that CONTRIBUTING keeps for notebooks to come."
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [int(n) for n in re.findall(r"^\| (\d\d) \|", text, flags=re.M)]


def test_every_number_is_used_once_and_gaps_are_explained():
    used = [int(p.name[:2]) for p in NOTEBOOKS if p.name[:2].isdigit()]
    numbers = sorted(used + free_numbers())
    assert len(numbers) == len(set(numbers)), f"a number is used twice: {numbers}"
    for chapter, group in groupby(numbers, key=lambda number: number // 10):
        group = list(group)
        assert group == list(range(10 * chapter, 10 * chapter + len(group))), (
            f"chapter {chapter} has a gap that CONTRIBUTING.md does not explain: {group}"
        )


def test_notebooks_are_named_after_their_modules():
    for module, number in module_numbers().items():
        name = "package" if module == "__init__" else module
        assert (ROOT / "nbs" / f"{number:02}_{name}.ipynb").exists(), module


# The front door and what stays outside


def fresh_modules(statement):
    "Names of all modules in a new process after `statement`."
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_import_of_the_package_loads_nothing():
    modules = fresh_modules("import danet_nb")
    assert not modules & HEAVY
    assert [name for name in modules if name.startswith("danet_nb.")] == []


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module):
    heavy = fresh_modules(f"import danet_nb.{module}") & HEAVY
    assert not heavy, f"import danet_nb.{module} loads {heavy}: import them where they are used"


def test_the_front_door_offers_what_is_promised():
    import danet_nb

    assert set(danet_nb.__all__) == FRONT_DOOR
    assert FRONT_DOOR <= set(dir(danet_nb))
    for name in FRONT_DOOR:
        assert callable(getattr(danet_nb, name)), name
    with pytest.raises(AttributeError, match="unheard_of"):
        danet_nb.unheard_of  # noqa: B018


def import_time(node):
    "Every node below `node` that runs when the module is imported."
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from import_time(child)


def packages(node):
    "The packages that an import statement names; none for any other statement."
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {node.module.split(".")[0]}
    return set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_development_tools_are_not_imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in import_time(tree):
        assert not packages(node) & DEVELOPMENT, f"line {node.lineno}"


# Public names


def public_names(path):
    "`__all__` of a module."
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_a_public_name_has_one_home():
    names = [name for p in MODULES if p.stem != "__init__" for name in public_names(p)]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"exported by two modules: {twice}"


def public_definitions(source, names):
    "Functions and classes of the top level that are in `names`."
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n for n in ast.parse(source).body if isinstance(n, kinds) and n.name in names]


def commented_lines(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def parameters(function):
    "The parameters of a function, `self` and `cls` left out."
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg]
    return [a for a in every if a is not None and a.arg not in ("self", "cls")]


def fields(definition):
    "The fields of a dataclass."
    decorators = [ast.unparse(d) for d in definition.decorator_list]
    if not any(d.startswith("dataclass") for d in decorators):
        return []
    return [node for node in definition.body if isinstance(node, ast.AnnAssign)]


def undocumented(source, names):
    "Public definitions without a docstring; parameters and fields without a comment."
    comments = commented_lines(source)
    missing = []
    for definition in public_definitions(source, names):
        if not ast.get_docstring(definition):
            missing.append(definition.name)
        if isinstance(definition, ast.FunctionDef):
            described = {a.arg: a for a in parameters(definition)}
        else:
            described = {ast.unparse(f.target): f for f in fields(definition)}
        for name, node in described.items():
            if comments.isdisjoint(range(node.lineno, node.end_lineno + 1)):
                missing.append(f"{definition.name}: {name}")
    return missing


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_are_documented(path):
    missing = undocumented(path.read_text(encoding="utf-8"), public_names(path))
    assert not missing, f"without docstring or comment: {missing}"


def test_a_missing_comment_is_noticed():
    good = 'def f(\n    x,  # images\n):\n    "Does."\n'
    assert not undocumented(good, ["f"])
    assert undocumented('def f(x):\n    "Does."\n', ["f"]) == ["f: x"]
    assert undocumented("def f(): pass\n", ["f"]) == ["f"]
    assert undocumented('@dataclass\nclass A:\n    "Is."\n    x: int\n', ["A"]) == ["A: x"]


# Dialect


def unannotated(source):
    "Functions and methods, inner functions left out, that do not annotate everything."
    tree = ast.parse(source)
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    missing = []
    for function in (n for body in bodies for n in body if isinstance(n, ast.FunctionDef)):
        names = [a.arg for a in parameters(function) if a.annotation is None]
        if function.returns is None and function.name != "__init__":
            names.append("return")
        missing += [f"{function.name}: {name}" for name in names]
    return missing


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_is_annotated(path):
    missing = unannotated(path.read_text(encoding="utf-8"))
    assert not missing, f"without annotation: {missing}"


def test_a_missing_annotation_is_noticed():
    assert unannotated("def f(x): ...") == ["f: x", "f: return"]
    assert unannotated("class A:\n    def f(self, x: int): ...") == ["f: return"]
    assert not unannotated("def f(x: int) -> int: ...")


def without_magics(source):
    return re.sub(r"^\s*[%!].*", "", source, flags=re.M)


def sources():
    "`(place, source)` of every script and code cell."
    for path in SCRIPTS:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        for cell in cells(path, "code"):
            yield f"{path.name}, cell {cell.id}", without_magics(cell.source)


def test_a_caught_exception_is_called_error():
    for place, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ExceptHandler):
                assert node.name in (None, "error"), f"{place}: {node.name}"


def test_functional_has_one_import():
    "`import torch.nn.functional as F`, and no other way."
    for place, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "torch.nn":
                assert "functional" not in [alias.name for alias in node.names], place


def mixed(source):
    "Whether a cell holds imports and anything else; nbdev cannot show such a cell."
    statements = ast.parse(source).body
    imports = [n for n in statements if isinstance(n, (ast.Import, ast.ImportFrom))]
    return 0 < len(imports) < len(statements)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_imports_have_a_cell_of_their_own(path):
    "Exported ones hold nothing else; those of the notebook may end with what it sets up."
    named = [c for c in cells(path, "code") if c.id != "notebook-imports"]
    wrong = [c.id for c in named if mixed(without_magics(c.source))]
    assert not wrong, f"move the imports to the imports cell: {wrong}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_cells_are_short_and_announced(path):
    "At most 25 lines in a cell that exports nothing, and three code cells without a word between."
    kinds = []
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code" and not exported(cell) and not cell.id.endswith("imports"):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 25, f"cell {cell.id} has {len(lines)} lines"
        if not re.match(r"#\| ?hide", cell.source):
            kinds.append(cell.cell_type)
    runs = [len(list(group)) for kind, group in groupby(kinds) if kind == "code"]
    assert max(runs, default=0) <= 3, "more than three code cells without prose"


# Columns


def wide(text):
    "Lines over the limit; nbdev writes `__all__`, on wider ones."
    text = re.sub(r"^__all__ = \[.*?\]$", "", text, flags=re.S | re.M)
    return [line for line in text.splitlines() if len(line) > COLUMNS]


def prose(text):
    "Markdown without formulas, tables, indented code and the targets of links."
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "    "))]
    return "\n".join(lines)


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_columns_of_python(path):
    assert not wide(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_columns_of_notebooks(path):
    for cell in cells(path, "code"):
        assert not wide(cell.source), f"cell {cell.id}"
    for cell in cells(path, "markdown"):
        assert not wide(prose(cell.source)), f"cell {cell.id}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_columns_of_pages(path):
    assert not wide(prose(path.read_text(encoding="utf-8")))


def test_a_wide_line_is_noticed():
    assert wide("x" * 101)
    assert not wide("x" * 100)
    assert wide(prose("word " * 21))
    assert not wide(prose("| " + "x" * 200))
    assert not wide(prose(f"[a link]({'x' * 200})"))
