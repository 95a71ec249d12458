"""The shell scripts: they parse, and setup.sh installs once, again after a change, and never half."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]

# Plays python, its venv and its pip: logs what pip is asked, and fails where the file `break` says so.
FAKE_PYTHON = """#!/usr/bin/env bash
here=@HERE@
case "$*" in
    *"-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    *"pip install"*)
        sleep 0.1
        echo "${@: -1}" >>"$here/log"
        [ -f "$here/break" ] && grep -qx -- "${@: -1}" "$here/break" && { echo "no such wheel" >&2; exit 1; } ;;
esac
exit 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"  # with a space, as people have them
    (root / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "scripts/setup.sh", "scripts/constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    python = tmp_path / "a python"
    python.write_text(FAKE_PYTHON.replace("@HERE@", str(tmp_path)))
    python.chmod(0o755)
    return root


def setup(root: Path, extras: str = "", python: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(root / "scripts" / "setup.sh"), extras]
    environment = os.environ | {"PYTHON": python or str(root.parent / "a python")}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def installed(root: Path) -> list[str]:
    log = root.parent / "log"
    return [line.removeprefix(str(root)) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses_and_may_be_run(script: Path):
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def test_torch_comes_first_and_the_second_call_does_nothing(project: Path):
    assert setup(project).returncode == 0
    assert installed(project) == ["torch", ""]
    start = time.perf_counter()
    again = setup(project)
    assert time.perf_counter() - start < 0.3
    assert again.returncode == 0 and again.stderr == ""
    assert installed(project) == ["torch", ""]


def test_extras_add_up_and_known_ones_cost_nothing(project: Path):
    setup(project, "test")
    setup(project, "box2d")
    assert installed(project)[1::2] == ["[test]", "[test,box2d]"]
    for extras in ("", "test", "box2d,test"):
        setup(project, extras)
    assert len(installed(project)) == 4


@pytest.mark.parametrize("name", ["pyproject.toml", "scripts/constraints.txt"])
def test_a_change_installs_again(project: Path, name: str):
    setup(project, "test")
    with (project / name).open("a") as file:
        file.write("# changed\n")
    setup(project)
    assert installed(project)[1::2] == ["[test]", ""]


def test_a_failed_install_is_shown_and_tried_again(project: Path):
    (project.parent / "break").write_text(f"{project}\n")
    failed = setup(project)
    assert failed.returncode != 0 and "no such wheel" in failed.stderr
    (project.parent / "break").unlink()
    assert setup(project).returncode == 0
    assert installed(project) == ["torch", "", "torch", ""]


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock two calls at once are not kept apart")
def test_two_at_once_install_once(project: Path):
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(setup, [project, project]))
    assert [result.returncode for result in results] == [0, 0]
    assert installed(project) == ["torch", ""]


def test_no_python_is_one_line(project: Path):
    result = setup(project, python="/nowhere/python")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "PYTHON=/path/to/python" in result.stderr


def test_constraints_name_every_direct_dependency():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and newer")
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(r.name): r for line in lines if line[0] != "#" for r in [Requirement(line)]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = {name: group for name, group in project["optional-dependencies"].items() if name != "atari"}
    for requirement in map(Requirement, sum(optional.values(), project["dependencies"])):
        pin = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), f"{pin} against {requirement}"
