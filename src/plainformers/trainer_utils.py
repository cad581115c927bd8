"""Small names of training that code imports from here, where they stand in Transformers."""

from .training.callbacks import TrainerControl, TrainerState
from .training.checkpoints import get_last_checkpoint
from .training.evaluation import EvalLoopOutput, EvalPrediction, PredictionOutput, TrainOutput
from .training.optim import SchedulerType
from .training.search import BestRun
from .training.seeding import enable_full_determinism, set_seed

# fmt: off
__all__ = [
    "BestRun", "EvalLoopOutput", "EvalPrediction", "PredictionOutput", "SchedulerType", "TrainOutput",
    "TrainerControl", "TrainerState", "enable_full_determinism", "get_last_checkpoint", "set_seed",
]
# fmt: on
