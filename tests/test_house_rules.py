"""The house rules, as tests. A rule is a function from a file to its faults, and is tried on a bad file too."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import lit_rl
from lit_rl.listing import SECTIONS, agents, registry, sections, source

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lit_rl"
MODULES = sorted(PACKAGE.rglob("*.py"))

# No import runs upward. Rooms on the same floor may know each other; what is not named here has no floor yet.
FLOORS = {
    0: "functional nn planning envs batch checkpoint schedules metrics listing optimizer record hyperparameters bounds"
    " collective",
    1: "policies",
    2: "data",
    3: "agent descent examine loading loggers resume safeguards",
    4: "algorithms callbacks trainer",
    5: "cli play export predict commands",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}

# Words that mean something only where the project was written, and hosts that only an installer should know.
PAGES = "design|formulas|targets|systems|checklist|platform-facts|faults|speed|style"
FOREIGN = re.compile(
    rf"(?<![\w./-])/(?:work|home|root|Users|opt)/|\bshared/(?:{PAGES})|(?<!docs/)\b(?:{PAGES})\.m[d]\b"
    r"|\bpy[p]i\.org|\bpythonhoste[d]\.org|download\.pytorc[h]\.org"
)

# A named paper (its year) or an id of the formula sheet (5.6.2a, 0.4, G14, H2).
CITATION = re.compile(r"\b(?:19|20)\d\d\b|\b\d+(?:\.\d+)+[a-z]?\b|\b\d+[a-z]\b|\b[GH]\d+\b")

Rule = Callable[[Path, ast.Module], Iterator[str]]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def room(module: str) -> str:
    return module.split(".")[1]


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of lit_rl that run when this code runs: at the top and inside functions, but not for annotations only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("lit_rl."))
        elif isinstance(node, ast.ImportFrom) and node.module == "lit_rl":
            for alias in node.names:
                if alias.name in lit_rl.__all__ and alias.name not in ("AGENTS", "RECIPES", "__version__"):
                    yield lit_rl._HOMES[alias.name]
                elif alias.name not in lit_rl.__all__:
                    yield f"lit_rl.{alias.name}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_rl."):
            yield str(node.module)
        else:
            yield from imports(node)


def runs_upward(path: Path, tree: ast.Module) -> Iterator[str]:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own not in FLOOR:
        yield f"{own!r} has no floor: give it one in FLOORS"
        return
    for module in imports(tree):
        if room(module) not in FLOOR:
            yield f"imports {module}, which has no floor: give it one in FLOORS"
        elif FLOOR[room(module)] > FLOOR[own]:
            yield f"imports {module}: floor {FLOOR[room(module)]} from floor {FLOOR[own]}"


def relative_import(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}: relative import; write the module out"


def torch_in_envs(path: Path, tree: ast.Module) -> Iterator[str]:
    if path.is_relative_to(PACKAGE / "envs"):
        for node in tree.body:
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            if isinstance(node, ast.Import | ast.ImportFrom) and any(name.split(".")[0] == "torch" for name in names):
                yield f"line {node.lineno}: worker processes would pay for importing torch"


def forbidden_imports(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute) else ""
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield f"line {node.lineno}: future annotations hide shapes from the run-time check"
        if re.search(r"\btorch\.distributions\b", text) or re.search(r"from torch import .*\bdistributions\b", text):
            yield f"line {node.lineno}: torch.distributions; see functional/"
        if isinstance(node, ast.Attribute) and node.attr == "inference_mode":
            yield f"line {node.lineno}: inference_mode: its tensors break a later backward; use no_grad"


def too_long(path: Path, tree: ast.Module) -> Iterator[str]:
    lines = len(path.read_text("utf-8").splitlines())
    if lines > 300:
        yield f"{lines} lines; split it (300 at most, 250 is a smell)"


def shapeless_name(path: Path, tree: ast.Module) -> Iterator[str]:
    if re.search(r"util|common|helper|misc|manager", path.stem):
        yield "a name that says nothing"


def step_counter(path: Path, tree: ast.Module) -> Iterator[str]:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "global_step" and own in ("algorithms", "agent", "data"):
            yield f"line {node.lineno}: global_step counts optimisers; use env_steps or updates"


def soup(path: Path, tree: ast.Module) -> Iterator[str]:
    if path.is_relative_to(PACKAGE / "algorithms"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.args.kwarg:
                yield f"line {node.lineno}: {node.name}(**{node.args.kwarg.arg})"


def too_many_arguments(path: Path, tree: ast.Module) -> Iterator[str]:
    if path.is_relative_to(PACKAGE / "algorithms") or path == PACKAGE / "agent.py":
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if count > 12:
                    yield f"line {node.lineno}: {count} arguments; 12 at most, group them into recipes"


def subclassed_final(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if ast.unparse(base).rpartition(".")[2] in registry(PACKAGE):
                    yield f"line {node.lineno}: {node.name} subclasses the final {ast.unparse(base)}"


def uncited(path: Path, tree: ast.Module) -> Iterator[str]:
    if path.is_relative_to(PACKAGE / "functional"):
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        for node in public:
            own = ast.get_docstring(node)
            if not own or not CITATION.search(own + (ast.get_docstring(tree) or "")):
                yield f"line {node.lineno}: {node.name} has no docstring, or neither it nor the module's names a source"


RULES: dict[Rule, tuple[str, str]] = {  # rule: a file that breaks it, and its text
    runs_upward: ("data/bad.py", "def late():\n    from lit_rl.agent import Agent"),
    relative_import: ("nn/bad.py", "from .body import Body"),
    torch_in_envs: ("envs/bad.py", "from torch import nn"),
    forbidden_imports: ("nn/bad.py", "from torch.distributions import Normal"),
    too_long: ("nn/bad.py", "x = 1\n" * 301),
    shapeless_name: ("nn/common.py", ""),
    step_counter: ("algorithms/bad.py", "def f(self):\n    return self.trainer.global_step"),
    soup: ("algorithms/bad.py", "def f(**kwargs):\n    return kwargs"),
    too_many_arguments: ("algorithms/bad.py", "class A:\n def __init__(self, a,b,c,d,e,f,g,h,i,j,k,l, *, m): 0"),
    subclassed_final: ("algorithms/bad.py", "class Mine(DQN):\n    pass"),
    uncited: ("functional/bad.py", 'def gae(x):\n    """Advantages."""'),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: Rule):
    checked = [path for path in MODULES if path != PACKAGE / "__init__.py"]
    assert len(checked) > 5
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in checked for fault in rule(path, parse(path))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_breach_is_seen(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name, text = RULES[rule]
    bad = tmp_path / name
    bad.parent.mkdir()
    bad.write_text(text)
    (tmp_path / "__init__.py").write_text("AGENTS = {'DQN': 'lit_rl.algorithms.dqn'}")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert len(list(rule(bad, parse(bad)))) == 1


def test_annotation_only_imports_may_look_upward():
    tree = ast.parse("if TYPE_CHECKING:\n    from lit_rl.agent import Agent\nfrom lit_rl.batch import Rollout")
    assert list(imports(tree)) == ["lit_rl.batch"]


def test_envs_and_listing_import_no_torch():
    envs = [f"lit_rl.envs.{path.stem}" for path in (PACKAGE / "envs").glob("*.py") if path.stem != "__init__"]
    code = "import importlib, sys\nfor m in sys.argv[1:]: importlib.import_module(m)\nprint('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "lit_rl.listing", *envs]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


@pytest.mark.parametrize("name", registry(PACKAGE))
def test_algorithm_is_complete(name: str):
    path = source(registry(PACKAGE)[name])
    assert path.exists(), f"the registry names {path.relative_to(ROOT)}"
    assert name in [node.name for node in parse(path).body if isinstance(node, ast.ClassDef)]
    parts = sections(ast.get_docstring(parse(path)) or "")
    assert [section for section in SECTIONS if not parts.get(section)] == []
    assert CITATION.search(parts["Paper"].partition("Formula sheet:")[2]), "Paper needs 'Formula sheet: <id>'"
    (entry,) = (entry for entry in agents() if entry.name == name)
    assert entry.action_spaces, f"{name} needs a class attribute action_spaces"
    most = {"MPC": 8, "MCTS": 5}.get(name, 4)  # one for each planner, and for each kind of world
    assert 1 <= len(entry.configs) <= most, f"configs/{entry.folder}/ has {len(entry.configs)} files"
    assert (ROOT / "tests" / "algorithms" / f"test_{entry.folder}.py").exists()


def test_registry_and_algorithm_files_agree():
    named = {source(module) for module in registry(PACKAGE).values()}
    finals = {
        path
        for path in (PACKAGE / "algorithms").rglob("*.py")
        if re.search(r"^Paper ", ast.get_docstring(parse(path)) or "", re.M)
    }
    assert named, "the registry is empty"
    assert finals <= named, f"not in AGENTS: {finals - named}"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.y*ml")), ids=lambda path: path.stem)
def test_config_is_a_complete_run(path: Path):
    assert path.suffix == ".yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(config, dict) and "model" in config


def test_the_project_speaks_of_itself_alone():
    kinds = {".py", ".md", ".yaml", ".toml", ".sh", ".txt", ""}
    places = ["lit_rl", "tests", "scripts", "configs", "docs", ".ci"]
    files = [path for place in places for path in (ROOT / place).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files = [path for path in files if path.suffix in kinds and "__pycache__" not in path.parts]
    assert len(files) > 20
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := FOREIGN.search(line))
    ]
    assert not faults, "\n".join(faults)


def test_foreign_words_are_seen():
    for words in (["", "home", "me"], ["", "work", "main"], ["shared", "speed"], ["see style" + ".md"]):
        assert FOREIGN.search("/".join(words)), words
    assert not FOREIGN.search("https://example.org/home/page and docs/design" + ".md")


def test_readme_table_is_current():
    check = subprocess.run([sys.executable, "scripts/index.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
