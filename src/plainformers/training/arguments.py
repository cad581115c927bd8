"""TrainingArguments: all settings of a Trainer, under the names that users know from Transformers 4 and 5."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from ..aliases import did_you_mean, rename_keywords, unknown_argument
from ..config import field_types, fits
from ..generation_config import inside
from . import distributed

STEPS, SAVES = ("no", "steps", "epoch"), ("no", "steps", "epoch", "best")
# v4's and v5's names of what cannot be set here -> (values that ask for nothing, why not and what to do)
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "accelerator_config": ((None,), "nothing here is built on Accelerate; batches are split by the sampler"),
    "auto_find_batch_size": ((False,), "lower per_device_train_batch_size and raise gradient_accumulation_steps by the "
                             "same factor: losses and gradients stay the same"),
    "average_tokens_across_devices": ((True,), "the loss is always the mean over the targets of all devices"),
    "debug": (("", None, []), "use torch.autograd.set_detect_anomaly(True)"),
    "deepspeed": ((None,), "use fsdp='full_shard', which is torch's own"),
    "eval_use_gather_object": ((False,), "predictions are gathered as arrays"),
    "fp16_backend": (("auto",), "there is one: torch's"),
    "fp16_opt_level": (("O1",), "that belonged to NVIDIA's Apex"),
    "fsdp_min_num_params": ((0,), "fsdp shards layer by layer"),
    "fsdp_transformer_layer_cls_to_wrap": ((None,), "the layers are found in the model"),
    "half_precision_backend": (("auto", "cuda_amp", "cpu_amp"), "there is one: torch's"),
    "jit_mode_eval": ((False,), "use torch_compile=True"),
    "liger_kernel_config": ((None,), "see use_liger_kernel"),
    "local_rank": ((-1, 0, None), "torchrun says it in the environment"),
    "log_on_each_node": ((True, False), "one process of all logs"),
    "mp_parameters": (("",), "that belonged to SageMaker"),
    "optim_target_modules": ((None,), "GaLore and APOLLO are not here; add_adapter trains few parameters"),
    "parallelism_config": ((None,), "use torchrun, and fsdp for models larger than one device"),
    "past_index": ((-1,), "no model here hands its memory from batch to batch"),
    "push_to_hub_organization": ((None,), "use hub_model_id='organization/name'"),
    "ray_scope": (("last",), "hyperparameter_search runs its trials here, one by one"),
    "save_on_each_node": ((False,), "one process of all saves; give a folder that all nodes see"),
    "save_safetensors": ((True,), "only safetensors is written: pickles can run code"),
    "skip_memory_metrics": ((True,), "use torch.cuda.max_memory_allocated or a profiler"),
    "torchdynamo": ((None,), "use torch_compile_backend"),
    "tpu_metrics_debug": ((False,), "TPUs are not supported"),
    "tpu_num_cores": ((None,), "TPUs are not supported"),
    "trackio_bucket_id": ((None,), "Trackio is not supported; write a TrainerCallback"),
    "trackio_space_id": ((None, "trackio"), "Trackio is not supported; write a TrainerCallback"),
    "trackio_static_space_id": ((None,), "Trackio is not supported; write a TrainerCallback"),
    "use_legacy_prediction_loop": ((False,), "there is one loop"),
    "use_liger_kernel": ((False,), "large vocabularies never get all their logits at once here; see chunked_loss"),
}  # fmt: skip


def setting(default: Any, allowed: str | tuple[Any, ...] = "") -> Any:
    """A field; allowed: the choices, or an interval such as "(0, 1]" without 0 and with 1."""
    metadata = {"allowed": allowed}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(init=False)
class TrainingArguments:
    """All settings of a Trainer. An unknown keyword raises TypeError, a value that is not allowed ValueError.

    Counts of steps are optimizer steps; a fraction below 1 is that part of all steps. Spellings of Transformers 4 are
    taken too (evaluation_strategy, warmup_ratio, no_cuda, group_by_length, …).
    """

    # how much
    output_dir: str = setting("trainer_output")
    per_device_train_batch_size: int = setting(8, "[1, inf)")
    per_device_eval_batch_size: int = setting(8, "[1, inf)")
    num_train_epochs: float = setting(3.0, "(0, inf)")
    max_steps: int = setting(-1)  # above 0: in place of num_train_epochs
    gradient_accumulation_steps: int = setting(1, "[1, inf)")
    do_train: bool = setting(False)  # the three are for scripts; the Trainer asks none
    do_eval: bool = setting(False)
    do_predict: bool = setting(False)
    # the optimizer
    learning_rate: float = setting(5e-5, "[0, inf)")
    lr_scheduler_type: str = setting("linear")
    lr_scheduler_kwargs: Any = setting(None)
    warmup_steps: float = setting(0, "[0, inf)")
    optim: str = setting("adamw_torch_fused")
    optim_args: str | dict[str, Any] | None = setting(None)  # "name=value, name=value"
    weight_decay: float = setting(0.0, "[0, inf)")
    adam_beta1: float = setting(0.9, "[0, 1)")
    adam_beta2: float = setting(0.999, "[0, 1)")
    adam_epsilon: float = setting(1e-8, "[0, inf)")
    max_grad_norm: float = setting(1.0, "[0, inf)")  # 0: gradients are not clipped
    label_smoothing_factor: float = setting(0.0, "[0, 1)")
    neftune_noise_alpha: float | None = setting(None, "(0, inf)")
    # precision, memory and speed
    bf16: bool = setting(False)  # autocast; the weights stay float32
    fp16: bool = setting(False)
    bf16_full_eval: bool = setting(False)
    fp16_full_eval: bool = setting(False)
    tf32: bool | None = setting(None)
    gradient_checkpointing: bool = setting(False)
    gradient_checkpointing_kwargs: Any = setting(None)
    torch_compile: bool = setting(False)
    torch_compile_backend: str | None = setting(None)
    torch_compile_mode: str | None = setting(None)
    use_cache: bool = setting(False)  # training keeps no cache; the field is there for code that sets it
    torch_empty_cache_steps: int | None = setting(None, "[1, inf)")
    padding_free: bool | None = setting(None)  # batches without padding; None: where the model takes them
    chunked_loss: bool = setting(True)  # logits over large vocabularies are made a part at a time, and not returned
    # what is logged
    logging_strategy: str = setting("steps", STEPS)
    logging_steps: float = setting(500, "(0, inf)")
    logging_first_step: bool = setting(False)
    logging_nan_inf_filter: bool = setting(True)  # a loss that is no number counts as the mean of the others
    logging_dir: str | None = setting(None)  # of TensorBoard; None: runs/ in output_dir
    include_num_input_tokens_seen: bool | str = setting("no", (True, False, "no", "all", "non_padding"))
    log_level: str = setting("passive", ("passive", "debug", "info", "warning", "error", "critical"))
    log_level_replica: str = setting("warning", ("passive", "debug", "info", "warning", "error", "critical"))
    disable_tqdm: bool | None = setting(None)  # None: a progress bar on a terminal and in a notebook
    report_to: Any = setting("none")
    run_name: str | None = setting(None)
    project: str = setting("huggingface")  # of Weights & Biases
    # evaluation
    eval_strategy: str = setting("no", STEPS)
    eval_steps: float | None = setting(None, "(0, inf)")  # None: logging_steps
    eval_delay: float = setting(0, "[0, inf)")  # epochs or steps before the first
    eval_on_start: bool = setting(False)
    eval_accumulation_steps: int | None = setting(None, "[1, inf)")  # batches of logits kept on the device
    eval_do_concat_batches: bool = setting(True)
    prediction_loss_only: bool = setting(False)
    batch_eval_metrics: bool = setting(False)
    include_for_metrics: list[str] = setting([])
    # checkpoints
    save_strategy: str = setting("steps", SAVES)
    save_steps: float = setting(500, "(0, inf)")
    save_total_limit: int | None = setting(None, "[1, inf)")
    save_only_model: bool = setting(False)
    load_best_model_at_end: bool = setting(False)
    metric_for_best_model: str | None = setting(None)  # None: the loss
    greater_is_better: bool | None = setting(None)  # None: unless the metric's name ends in "loss"
    resume_from_checkpoint: str | bool | None = setting(None)
    ignore_data_skip: bool = setting(False)
    restore_callback_states_from_checkpoint: bool = setting(False)
    enable_jit_checkpoint: bool = setting(False)  # SIGTERM saves and ends
    overwrite_output_dir: bool = setting(False)  # delete the checkpoints of an earlier run; False: set them aside
    # the hub
    push_to_hub: bool = setting(False)
    hub_model_id: str | None = setting(None)
    hub_strategy: str = setting("every_save", ("end", "every_save", "checkpoint", "all_checkpoints"))
    hub_token: str | None = setting(None)
    hub_private_repo: bool | None = setting(None)
    hub_always_push: bool = setting(False)
    hub_revision: str | None = setting(None)
    # the same numbers again
    seed: int = setting(42, "[0, inf)")
    data_seed: int | None = setting(None, "[0, inf)")
    full_determinism: bool = setting(False)
    # data
    train_sampling_strategy: str = setting("random", ("random", "sequential", "group_by_length"))
    length_column_name: str = setting("length")
    remove_unused_columns: bool = setting(True)
    label_names: list[str] | None = setting(None)
    dataloader_drop_last: bool = setting(False)
    dataloader_num_workers: int = setting(0, "[0, inf)")
    dataloader_pin_memory: bool = setting(True)
    dataloader_persistent_workers: bool = setting(False)
    dataloader_prefetch_factor: int | None = setting(None, "[1, inf)")
    dataloader_multiprocessing_context: str | None = setting(None, ("fork", "spawn", "forkserver"))
    dataloader_in_order: bool = setting(True)
    # several processes; see distributed.py
    use_cpu: bool = setting(False)
    fsdp: bool | str | list[str] | None = setting(None)
    fsdp_config: Any = setting(None)
    ddp_backend: str | None = setting(None, ("nccl", "gloo", "mpi", "ccl"))
    ddp_find_unused_parameters: bool | None = setting(None)
    ddp_bucket_cap_mb: int | None = setting(None, "[1, inf)")
    ddp_broadcast_buffers: bool | None = setting(None)
    ddp_static_graph: bool | None = setting(None)
    ddp_timeout: int = setting(1800, "[1, inf)")  # seconds

    def __init__(self, output_dir: str | os.PathLike[str] | None = None, **given: Any):
        if output_dir is not None:
            given["output_dir"] = os.fspath(output_dir)
        kind, own = type(self).__name__, {f.name: f for f in dataclasses.fields(self)}
        given = rename_keywords(reworded(given), "training")
        for name, (nothing, why) in REFUSED.items():
            if name in given and given.pop(name) not in nothing:
                raise ValueError(f"{kind}: {name} is not supported: {why}.")
        for name in given.keys() - own.keys():
            raise unknown_argument(name, own, kind)
        for name, f in own.items():
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            value = given.get(name, default)
            if value is None and "None" not in str(f.type):  # as Transformers has it for some
                value = default
            object.__setattr__(self, name, value.value if isinstance(value, Enum) else value)
        self.__post_init__()

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__ and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}.{did_you_mean(name, self.__dataclass_fields__)}"
            )
        object.__setattr__(self, name, value)

    def __post_init__(self) -> None:
        """Reads what a command line gives as text, then checks every value."""
        for name in ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "fsdp_config"):
            value = getattr(self, name)
            if isinstance(value, str):
                path = Path(value)
                text = path.read_text(encoding="utf-8") if not value.lstrip().startswith("{") else value
                setattr(self, name, json.loads(text))
        for name in ("eval_strategy", "logging_strategy", "save_strategy"):
            value = getattr(self, name)
            setattr(self, name, {True: "steps", False: "no", "false": "no"}.get(value, value))
        if isinstance(self.report_to, str):
            self.report_to = [] if self.report_to == "none" else [self.report_to]
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps
        if self.load_best_model_at_end or self.save_strategy == "best":
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        self.validate()

    # ---- Checks

    def validate(self) -> None:
        """Raises ValueError that names every field whose value is not allowed or does not go with another's."""
        wrong, hints = [], field_types(type(self))
        for f in dataclasses.fields(self):
            value: Any = getattr(self, f.name)
            allowed = f.metadata.get("allowed", "")
            if value is None and "None" in str(hints[f.name]):
                continue
            if not fits(value, hints[f.name]):
                kind = getattr(hints[f.name], "__name__", str(hints[f.name])).removesuffix(" | None")
                wrong.append(f"{f.name} must be {kind}, got {value!r:.100}")
            elif isinstance(allowed, tuple) and value not in allowed:
                wrong.append(f"{f.name} must be {' or '.join(map(repr, allowed))}, got {value!r:.100}")
            elif isinstance(allowed, str) and allowed and not inside(value, allowed):  # pyright: ignore
                wrong.append(f"{f.name} must be in {allowed}, got {value!r:.40}")
        wrong = wrong or list(self._contradictions())
        if wrong:
            raise ValueError(f"{type(self).__name__}: {'; '.join(wrong)}.")

    def _contradictions(self) -> Iterator[str]:
        if self.bf16 and self.fp16 or self.bf16_full_eval and self.fp16_full_eval:
            yield "bf16 and fp16 exclude each other"
        if self.torch_compile and self.padding_free:
            yield "torch_compile compiles for padded batches: leave padding_free unset"
        if self.max_steps == 0:
            yield "max_steps=0 would train nothing; give -1 for num_train_epochs, or a count"
        if self.load_best_model_at_end and self.save_strategy != "best":
            if self.eval_strategy != self.save_strategy or self.eval_strategy == "no":
                yield (
                    f"load_best_model_at_end needs eval_strategy and save_strategy to be the same, 'steps' or 'epoch'; "
                    f"they are {self.eval_strategy!r} and {self.save_strategy!r}"
                )
            elif self.eval_strategy == "steps" and self.save_steps % (self.eval_steps or 1) > 1e-9:
                yield (
                    f"load_best_model_at_end needs save_steps={self.save_steps} to be a multiple of "
                    f"eval_steps={self.eval_steps}"
                )
        if self.save_strategy == "best" and self.eval_strategy == "no":
            yield "save_strategy='best' needs an eval_strategy"
        if self.dataloader_prefetch_factor and not self.dataloader_num_workers:
            yield "dataloader_prefetch_factor needs dataloader_num_workers above 0"
        if self.save_only_model and self.restore_callback_states_from_checkpoint:
            yield "save_only_model saves no states of callbacks to restore"
        for name in ("logging_steps", "eval_steps", "save_steps"):
            value: float = getattr(self, name)
            if value > 1 and value != int(value):
                yield f"{name} must be a whole number or a fraction below 1, got {value}"

    # ---- What follows from the settings

    @property
    def device(self) -> torch.device:
        return distributed.own_device(self)

    @property
    def world_size(self) -> int:
        return distributed.world_size()

    @property
    def process_index(self) -> int:
        return distributed.rank()

    @property
    def local_process_index(self) -> int:
        return int(os.environ.get("LOCAL_RANK", 0))

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: 1 or 0. Several are used by several processes, see torchrun."""
        return int(self.device.type == "cuda")

    @property
    def parallel_mode(self) -> str:
        return "distributed" if self.world_size > 1 else "not_parallel"

    @property
    def should_save(self) -> bool:
        """Whether this process writes files."""
        return self.process_index == 0

    should_log = should_save

    @property
    def train_batch_size(self) -> int:
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        return self.per_device_eval_batch_size

    @property
    def ddp_timeout_delta(self) -> timedelta:
        return timedelta(seconds=self.ddp_timeout)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        return math.ceil(as_steps(self.warmup_steps, num_training_steps))

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """Lets the first process (of the machine, if local) run the block before the others, which find its files."""
        first = (self.local_process_index if local else self.process_index) == 0
        if not first:
            distributed.barrier()
        try:
            yield
        finally:
            if first:
                distributed.barrier()

    def get_process_log_level(self) -> str:
        return self.log_level if self.should_log else self.log_level_replica

    # ---- As data

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them; tokens are hidden."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: f"<{k.upper()}>" if k.endswith("_token") and v else v for k, v in values.items()}

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """The fields as texts, numbers and bools: what a tool that records parameters takes."""
        return {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in self.to_dict().items()}


def as_steps(value: float, total: int) -> float:
    """A count of steps, of a count or of a fraction of the total below 1."""
    return value if value >= 1 or not value else value * total


def reworded(given: dict[str, Any]) -> dict[str, Any]:
    """The keywords, with those of Transformers 4 that say the same by another value in today's words."""
    given = dict(given)
    ratio = given.pop("warmup_ratio", None)
    if ratio and not given.get("warmup_steps"):
        given["warmup_steps"] = ratio
    if given.pop("group_by_length", False):
        given["train_sampling_strategy"] = "group_by_length"
    if given.pop("adafactor", False):
        given["optim"] = "adafactor"
    if given.pop("include_inputs_for_metrics", False):
        given["include_for_metrics"] = [*given.get("include_for_metrics", ()), "inputs"]
    return given
