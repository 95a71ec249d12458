"""Write the table of systems into README.md: `python scripts/index.py`, or `--check` to see that it is current.

Every algorithm of the registry needs a title, a paper, a formula id, its spaces, a config and a test; with a
cell missing, or under `--check` with a stale table, the exit status is 1 and each fault is one line.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lit_rl.listing import SECTIONS, AgentEntry, agents, registry, sections, source  # noqa: E402

BEGIN, END = "<!-- systems: written by scripts/index.py -->", "<!-- end of systems -->"


def missing(root: Path = ROOT) -> list[str]:
    """One line for each cell that the sources leave empty."""
    package = root / "lit_rl"
    faults = [
        f"{name}: {source(module, package).relative_to(root)} does not exist"
        for name, module in registry(package).items()
        if not source(module, package).exists()
    ]
    if faults:
        return faults
    for entry in agents(package):
        path = source(entry.module, package)
        parts = sections(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
        where = path.relative_to(root)
        faults += [f"{entry.name}: {where} has no section {name!r}" for name in SECTIONS if not parts.get(name)]
        cells = {
            "title in its first line": entry.title,
            "'Formula sheet: <id>'": entry.formula,
            "class attribute action_spaces": entry.action_spaces,
        }
        faults += [f"{entry.name}: {where} has no {cell}" for cell, value in cells.items() if not value]
        if not entry.configs:
            faults.append(f"{entry.name}: configs/{entry.folder}/ has no .yaml that runs it")
        if not test_of(entry, root).exists():
            faults.append(f"{entry.name}: {test_of(entry, root).relative_to(root)} does not exist")
    return faults


def test_of(entry: AgentEntry, root: Path) -> Path:
    return root / "tests" / "algorithms" / f"test_{entry.folder}.py"


def table(root: Path = ROOT) -> str:
    """The table of systems in Markdown, links relative to the README."""
    lines = [
        "| system | what | paper | formulas | actions | configs | test |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in agents(root / "lit_rl"):
        code = source(entry.module, root / "lit_rl").relative_to(root).as_posix()
        configs = ", ".join(f"[{path.stem}]({path.relative_to(root).as_posix()})" for path in entry.configs)
        test = test_of(entry, root).relative_to(root).as_posix()
        cells = [
            f"[`{entry.name}`]({code})",
            entry.title,
            entry.paper,
            entry.formula,
            ", ".join(entry.action_spaces),
            configs,
            f"[test]({test})",
        ]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is stale")
    options = parser.parse_args(arguments)

    faults = missing(root)
    readme = root / "README.md"
    text = readme.read_text("utf-8")
    if not faults:
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            faults.append(f"README.md needs the markers {BEGIN!r} and {END!r}, once each")
        else:
            head, rest = text.split(BEGIN)
            fresh = f"{head}{BEGIN}\n{table(root)}\n{END}{rest.split(END)[1]}"
            if options.check and fresh != text:
                faults.append("README.md: the table of systems is stale; run python scripts/index.py")
            elif fresh != text:
                readme.write_text(fresh, "utf-8")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
