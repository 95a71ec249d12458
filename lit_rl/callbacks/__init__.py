"""What happens around training: saving, stopping, watching. In every hook ``pl_module`` is an :class:`lit_rl.Agent`."""

from lit_rl.callbacks.config_text import ConfigText
from lit_rl.callbacks.plans import PlanPictures
from lit_rl.callbacks.progress import EnvStepProgress
from lit_rl.callbacks.ranks import WatchRanks
from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.callbacks.search_trees import SearchPictures
from lit_rl.callbacks.signals import StopOnSignal
from lit_rl.callbacks.tables import TablePictures
from lit_rl.callbacks.video import EvaluationVideo

__all__ = [
    "ConfigText",
    "EnvStepProgress",
    "EvaluationVideo",
    "PlanPictures",
    "SaveCheckpoint",
    "SearchPictures",
    "StopOnSignal",
    "TablePictures",
    "WatchRanks",
]
