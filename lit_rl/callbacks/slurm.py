"""The scheduler SLURM: which job this is, and how it is put back into the queue."""

import os
import re
import signal
import subprocess
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_warn


def job() -> str | None:
    """The number of the job that this process belongs to, with the task's where it is an array; None outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return name if re.fullmatch(r"[0-9]+(_[0-9]+)?", name) else None


def was_requeued() -> bool:
    """Whether SLURM has started this job before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def requeue_signal(trainer: Any) -> int | None:
    """The signal by which SLURM asks to save and to be queued again; None where nobody asks that."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal or signal.SIGUSR1
    return None


def requeue() -> bool:
    """Ask SLURM to run this job again. Returns whether it agreed; if not, a warning has said why."""
    number = job()
    if number is None:
        rank_zero_warn("not queued again: SLURM_JOB_ID names no job")
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", number], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        said = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        rank_zero_warn(f"job {number} is not queued again, scontrol says: {said}; the checkpoint is saved")
    return not said
