"""`lit-rl list` and the README's table, on a small package made for the purpose."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_rl.listing import agents, sections

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import index  # noqa: E402

DOCSTRING = '''"""Tabular Q-learning (TQ).

Paper    Watkins 1989, chapter 7,
         page 95.                      Formula sheet: 6.2.1a, G3
Update   q ← q + α (y − q)          (1)

         y = r + γ max q'           (2)
Data     one transition at a time.
Differs  nothing.
"""
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "lit_rl/__init__.py": 'AGENTS = {"TQ": "lit_rl.algorithms.tabular.tq"}\n',
        "lit_rl/agent.py": 'class Agent:\n    observation_spaces = ("discrete",)\n',
        "lit_rl/algorithms/tabular/tq.py": f"{DOCSTRING}import nothing_here\n"
        "class TQ(Agent):\n    action_spaces: ClassVar = (spaces.Discrete, 'box')\n",
        "configs/tq/taxi.yaml": "model: TQ\n",
        "configs/tq/lake.yaml": "model: TQ\n",
        "tests/algorithms/test_tq.py": "",
        "README.md": f"before\n{index.BEGIN}\n{index.END}\nafter\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_entry_is_read_without_importing(project: Path):
    (entry,) = agents(project / "lit_rl")
    assert entry.title == "Tabular Q-learning (TQ)"
    assert entry.paper == "Watkins 1989, chapter 7, page 95"
    assert entry.formula == "6.2.1a, G3"
    assert entry.action_spaces == ("Discrete", "box")
    assert entry.observation == ("discrete",)  # from Agent: the class says nothing else
    assert [path.name for path in entry.configs] == ["lake.yaml", "taxi.yaml"]
    assert entry.folder == "tq"


def test_spaces_may_be_a_constant_of_another_module(project: Path):
    (project / "lit_rl/spaces.py").write_text("EVERY: tuple = ('Box', 'Discrete')\n")
    file = project / "lit_rl/algorithms/tabular/tq.py"
    text = file.read_text().replace("(spaces.Discrete, 'box')", "ALL")
    file.write_text(text.replace("import nothing_here", "from lit_rl.spaces import EVERY as ALL"))
    assert agents(project / "lit_rl")[0].action_spaces == ("Box", "Discrete")


def test_installed_package_without_configs(project: Path):
    for path in (project / "configs" / "tq").iterdir():
        path.unlink()
    (entry,) = agents(project / "lit_rl")
    assert entry.configs == ()


def test_a_config_belongs_to_the_agent_that_it_runs(project: Path):
    """Two agents may share a folder; a config of another one is nobody's business here."""
    (project / "configs" / "tq" / "other.yaml").write_text("trainer: {}\nmodel:\n  class_path: Other\n")
    (project / "configs" / "more").mkdir()
    (project / "configs" / "more" / "far.yaml").write_text("model:\n  class_path: TQ\n")
    (entry,) = agents(project / "lit_rl")
    assert [path.name for path in entry.configs] == ["far.yaml", "lake.yaml", "taxi.yaml"]


def test_sections_keep_blank_lines_inside_and_end_at_other_text():
    parts = sections("Title.\n\nUpdate   a\n\n         b\nMore prose.\n  not this\nData     c")
    assert parts == {"Update": "a\n\nb", "Data": "c"}


def test_index_writes_then_agrees_then_notices(project: Path, capsys: pytest.CaptureFixture[str]):
    assert index.main(["--check"], project) == 1
    assert "stale" in capsys.readouterr().err
    assert index.main([], project) == 0
    assert index.main(["--check"], project) == 0
    text = (project / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    row = next(line for line in text.splitlines() if "TQ" in line)
    assert row.startswith("| [`TQ`](lit_rl/algorithms/tabular/tq.py) | Tabular Q-learning (TQ) | Watkins 1989, ")
    assert row.endswith(
        "| [lake](configs/tq/lake.yaml), [taxi](configs/tq/taxi.yaml) | [test](tests/algorithms/test_tq.py) |"
    )
    (project / "configs" / "tq" / "new.yaml").write_text("model: TQ\n")
    assert index.main(["--check"], project) == 1


@pytest.mark.parametrize(
    ("path", "old", "fault"),
    [
        ("lit_rl/algorithms/tabular/tq.py", "Differs  nothing.\n", "no section 'Differs'"),
        ("lit_rl/algorithms/tabular/tq.py", "Formula sheet: 6.2.1a, G3", "Formula sheet"),
        ("lit_rl/algorithms/tabular/tq.py", "action_", "class attribute action_spaces"),
        ("tests/algorithms/test_tq.py", None, "test_tq.py does not exist"),
        ("configs/tq/lake.yaml", None, "configs/tq/ has no .yaml"),
        ("lit_rl/algorithms/tabular/tq.py", None, "tq.py does not exist"),
    ],
)
def test_index_names_what_is_missing(project: Path, path: str, old: str | None, fault: str, capsys):
    (project / "configs/tq/taxi.yaml").unlink()
    file = project / path
    file.unlink() if old is None else file.write_text(file.read_text().replace(old, ""))
    assert index.main([], project) == 1
    assert fault in capsys.readouterr().err


def test_listing_is_quick_and_needs_no_torch():
    before = time.perf_counter()
    code = (
        "import sys; from lit_rl.listing import print_listing\ntry: print_listing()\nexcept FileNotFoundError: pass\n"
    )
    code += "print('torch' in sys.modules, 'lightning' in sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == "False False\n"
    assert time.perf_counter() - before < 2.0
