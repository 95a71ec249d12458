#!/usr/bin/env bash
# Makes .venv beside pyproject.toml and installs lit_rl into it: scripts/setup.sh [extra,extra,...]
# Quick when nothing changed, safe to interrupt and to run twice at once. PYTHON=... chooses the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/.setup # line 1: what was installed from; line 2: with which extras
extras=${1:-}

state="$root $(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)"

current() { # is everything that was asked for in place?
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] || return 1
    local was have extra
    { read -r was && read -r have; } <"$stamp" || return 1
    [ "$was" = "$state" ] || return 1
    for extra in ${extras//,/ }; do
        case ",$have," in *",$extra,"*) ;; *) return 1 ;; esac
    done
}

find_python() {
    local candidate
    set -- python3 python3.13 python3.12 python3.11 python3.10 python
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
    for candidate; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup.sh: no Python >= 3.10 found${PYTHON:+ at PYTHON=$PYTHON}; install one, or name it with PYTHON=/path/to/python" >&2
    return 1
}

make_venv() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python)
    if ! "$python" -m venv --clear "$venv" >/dev/null 2>&1; then # Debian's python3 lacks ensurepip
        "$python" -m venv --clear --without-pip "$venv"
        "$python" -m pip install -qq pip --target \
            "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    fi
}

install() {
    local pip=("$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input
        -c "$root/scripts/constraints.txt")
    echo "setup.sh: installing lit_rl${extras:+[$extras]} into $venv (once; takes a few minutes)" >&2
    rm -f "$stamp"
    "${pip[@]}" torch # first and alone, so that nothing else chooses its build
    "${pip[@]}" -e "$root${extras:+[$extras]}"
    printf '%s\n' "$state" ",$extras," >"$stamp.new"
    mv "$stamp.new" "$stamp" # last: an interrupted run leaves no stamp and starts over
}

current && exit
if command -v flock >/dev/null; then
    exec 9<"$root/pyproject.toml"
    flock 9
    current && exit # another run did it meanwhile
fi
if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$state" ]; then # keep what an earlier call asked for
    had=$(sed -n '2s/^,*\(.*[^,]\),*$/\1/p' "$stamp")
    extras=$had${had:+${extras:+,}}$extras
fi
make_venv
install
