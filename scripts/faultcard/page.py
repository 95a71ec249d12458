"""What was measured, as a page of the documentation."""

import re
from typing import Any

HEAD = """# What it survives

Written by `python scripts/faults.py`; `--rows 1 2` measures some rows, `--quick` fewer repetitions of each (as the
tests do). Every fault is dealt for real: signals and kills to processes, limits and small file systems for full disks,
damaged bytes in files. A figure is the number of cases that went as they must of all that were tried, unless its unit
says otherwise. Rows that miss their target say so, and why stands below the table.
"""

PLACE = re.compile(r"(?<![\w.])/(?:[\w.-]+/)+")  # folders of the machine that measured: nobody else has them

COLUMNS = ("#", "fault", "unit", "figure", "target", "verdict", "repetitions", "s", "date")


def page(rows: dict[str, dict[str, Any]], closing: str) -> str:
    """Markdown of all rows measured so far."""
    lines = [HEAD, f"`{closing}`", "", "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for number, kept in rows.items():
        few = kept["repetitions"] < kept["full"]
        repetitions = f"{kept['repetitions']} of {kept['full']}" if few else str(kept["repetitions"])
        cells = (
            number, kept["title"], kept["unit"], kept["figure"], kept["target"], _loud(kept["verdict"]),
            repetitions, f"{kept['seconds']:.0f}", kept["date"],
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    for title, key in (("Misses", "missed"), ("Notes", "note")):
        entries = [(number, text) for number, kept in rows.items() for text in _as_list(kept[key])]
        if entries:
            lines += ["", f"## {title}", ""]
            lines += [f"- row {number}: {PLACE.sub('', text)}" for number, text in entries]
    lines += ["", "## Measured on", ""]
    machines: dict[str, list[str]] = {}
    for number, kept in rows.items():
        facts = ", ".join(f"{name} {value}" for name, value in kept["machine"].items() if name != "load")
        machines.setdefault(facts, []).append(number)
    lines += [f"- rows {', '.join(numbers)}: {facts}" for facts, numbers in machines.items()]
    return "\n".join(lines) + "\n"


def _as_list(value: str | list[str]) -> list[str]:
    return value[:5] if isinstance(value, list) else [value] if value else []


def _loud(verdict: str) -> str:
    return f"**{verdict.lower()}**" if verdict == "MISSES" else verdict
