"""What the library offers, read from its sources: no algorithm, no torch is imported.

``lit-rl list`` prints it and ``scripts/index.py`` writes it into the README. The docstring of an
algorithm's module is its entry, so that what is listed and what is read are the same words::

    Deep Q-network (DQN).

    Paper    Mnih et al. 2015, Algorithm 1.       Formula sheet: 7.1b
    Update   the equations
    Data     where the experience comes from
    Differs  from the paper
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent
SECTIONS = ("Paper", "Update", "Data", "Differs")
_SEQUENCES = (ast.Tuple, ast.List)


class AgentEntry(NamedTuple):
    """One algorithm, as its source describes it. What the source leaves out is empty."""

    name: str
    module: str  # dotted
    title: str
    paper: str
    formula: str  # ids of the formula sheet
    action_spaces: tuple[str, ...]
    observation: tuple[str, ...]
    configs: tuple[Path, ...]

    @property
    def folder(self) -> str:
        """The module's own name: also that of its test, and of its folder of configs unless it shares another's."""
        return self.module.rpartition(".")[2]


def agents(package: Path = PACKAGE) -> list[AgentEntry]:
    """Every algorithm of the registry in ``package/__init__.py``, in its order.

    Raises:
        FileNotFoundError: the registry names a module that has no file.
    """
    shared = _attributes(package / "agent.py", "Agent", package)
    runs = _configs(package.parent / "configs")
    return [_entry(package, name, module, shared, runs.get(name, ())) for name, module in registry(package).items()]


def registry(package: Path = PACKAGE) -> dict[str, str]:
    """The table ``AGENTS`` of ``package/__init__.py``: public name to dotted module."""
    for node in ast.parse((package / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["AGENTS"]:
            return ast.literal_eval(node.value)
    raise ValueError(f"{package / '__init__.py'} has no table AGENTS")


def source(module: str, package: Path = PACKAGE) -> Path:
    """The file of a dotted module of the package."""
    return package.joinpath(*module.split(".")[1:]).with_suffix(".py")


def sections(docstring: str) -> dict[str, str]:
    """The sections of an algorithm's docstring by name; continued lines are indented below the first."""
    found: dict[str, str] = {}
    current = ""
    for line in docstring.splitlines():
        heading = re.match(rf"({'|'.join(SECTIONS)})\b\s*(.*)", line)
        if heading:
            current = heading[1]
            found[current] = heading[2]
        elif current and (line.startswith(" ") or not line.strip()):
            found[current] += "\n" + line.strip()
        else:
            current = ""
    return {name: text.strip() for name, text in found.items()}


def print_listing() -> None:
    """Print algorithms, the spaces that they serve and their configs as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("algorithm", "what", "actions", "observations", "configs", box=None, padding=(0, 2, 0, 0))
    for entry in agents():
        title = re.sub(rf"\s*\({re.escape(entry.name)}\)$", "", entry.title)
        configs = "\n".join(_shown(path) for path in entry.configs)
        table.add_row(entry.name, title, ", ".join(entry.action_spaces), ", ".join(entry.observation), configs)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _configs(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The configs in the folders of ``folder`` by the agent that they run: a folder may serve several."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.glob("*/*.yaml")):
        agent = re.search(r"^model:\s+(?:class_path:\s+)?(\w+)", path.read_text("utf-8"), re.M)
        if agent:
            found[agent[1]] = (*found.get(agent[1], ()), path)
    return found


def _entry(
    package: Path, name: str, module: str, shared: dict[str, tuple[str, ...]], configs: tuple[Path, ...]
) -> AgentEntry:
    path = source(module, package)
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paper, _, formula = sections(docstring).get("Paper", "").partition("Formula sheet:")
    own = shared | _attributes(path, name, package)
    return AgentEntry(
        name=name,
        module=module,
        title=docstring.partition("\n")[0].rstrip("."),
        paper=" ".join(paper.split()).rstrip("."),
        formula=" ".join(formula.split()).rstrip("."),
        action_spaces=own.get("action_spaces", ()),
        observation=own.get("observation_spaces", ()),
        configs=configs,
    )


def _attributes(path: Path, class_name: str, package: Path) -> dict[str, tuple[str, ...]]:
    """Class attributes of ``class_name`` that are sequences of strings or of names."""
    if not path.exists():
        return {}
    tree = ast.parse(path.read_text("utf-8"))
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name] or [[]]
    found = {name: _follow(value, tree, package) for name, value in _assigned(body).items()}
    return {name: tuple(map(_word, value.elts)) for name, value in found.items() if isinstance(value, _SEQUENCES)}


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """What a block assigns to plain names, annotated or not."""
    found: dict[str, ast.expr] = {}
    for line in body:
        if isinstance(line, ast.Assign):
            found |= {ast.unparse(target): line.value for target in line.targets}
        elif isinstance(line, ast.AnnAssign) and line.value is not None:
            found[ast.unparse(line.target)] = line.value
    return found


def _follow(value: ast.expr, tree: ast.Module, package: Path) -> ast.expr:
    """A name's value, where it is a constant of this module or of one in the package that it is imported from."""
    if not isinstance(value, ast.Name):
        return value
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("lit_rl."):
            names = {alias.asname or alias.name: alias.name for alias in line.names}
            if value.id in names:
                home = ast.parse(source(str(line.module), package).read_text("utf-8"))
                return _follow(ast.Name(names[value.id]), home, package)
    return _assigned(tree.body).get(value.id, value)


def _word(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node).rpartition(".")[2]


def _shown(path: Path) -> str:
    """As one would type it: relative to where the user stands, if that is shorter."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
