"""The Trainer: one loop from rows of a dataset to a trained model, which reads top to bottom and can be overridden.

The loss of an optimizer step is the sum over its targets (tokens, sequences) divided by their number: how rows are
split into batches, accumulated batches and processes changes nothing.
"""

import contextlib
import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import logging
from ..aliases import did_you_mean
from . import checkpoints, distributed, evaluation, publishing, reporting, resuming
from .arguments import TrainingArguments
from .callbacks import (
    Callbacks,
    DefaultFlowCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerControl,
    TrainerState,
    is_seen,
    metric_of,
    when_terminated,
)
from .data import DataCollatorWithPadding, default_data_collator
from .evaluation import PredictionOutput, TrainOutput, speed
from .loader import KeepColumns, is_idle, lengths_of, make_loader, numbered, plan
from .neftune import Noise
from .optim import get_scheduler, make_optimizer, parameter_groups
from .packing import pack
from .search import search
from .seeding import enable_full_determinism, set_seed
from .targets import MOST_LOGITS, count_multiplied, count_targets, find_label_names, smooth_loss


class Trainer:
    """Trains and evaluates a model; the arguments are those of Transformers' class.

    model: a Model, or any torch.nn.Module whose forward takes the batch by name and returns a loss when it gets labels.
    train_dataset: rows, as a list of dicts, a torch Dataset or one of the datasets library, streamed or not.
    eval_dataset: the same, or a dict of several. processing_class: the tokenizer, saved with the model; it pads where
    no data_collator is given. model_init: makes the model anew for every train(). compute_loss_func: (outputs, labels,
    num_items_in_batch=the targets of this batch) -> loss. compute_metrics: EvalPrediction -> dict of numbers.
    optimizers: (optimizer, scheduler) in place of those of the arguments; optimizer_cls_and_kwargs: another class.
    preprocess_logits_for_metrics: (logits, labels) -> what is kept of them.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[..., dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        tokenizer: Any = None,
    ):
        self.args = args = TrainingArguments() if args is None else args
        if not isinstance(args, TrainingArguments):
            raise TypeError(f"args must be TrainingArguments, got {type(args).__name__}.")
        distributed.start(args)
        (enable_full_determinism if args.full_determinism else set_seed)(args.seed)
        if args.log_level != "passive":
            logging.set_verbosity(getattr(logging, args.log_level.upper()))
        if (model is None) == (model_init is None):
            raise ValueError("Give the Trainer a model, or a model_init that makes one, and not both.")
        self.model_init = model_init
        self.model: Any = self._make_model() if model is None else model
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
        self.processing_class = tokenizer if processing_class is None else processing_class
        pads = hasattr(self.processing_class, "pad")
        self.data_collator = data_collator or (
            DataCollatorWithPadding(self.processing_class) if pads else default_data_collator
        )
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer, self.lr_scheduler = optimizers
        self._given_optimizers = optimizers
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self.state = self._new_state()
        self.control, _ = TrainerControl(), self.packs
        quiet = args.disable_tqdm if args.disable_tqdm is not None else not is_seen()
        shown = PrinterCallback if quiet else ProgressCallback
        self.callbacks = Callbacks(
            [DefaultFlowCallback, *reporting.reporters(args.report_to), *(callbacks or ()), shown]
        )
        self.writer = checkpoints.Writer()
        self.model_wrapped: Any = self.model  # what is called in training: compiled, distributed
        self.place_model_on_device()
        self._call("on_init_end")

    # ---- Training

    def train(
        self,
        resume_from_checkpoint: str | os.PathLike[str] | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Trains the model in place and returns (global_step, training_loss, metrics).

        resume_from_checkpoint: a checkpoint's folder, or True for the newest whole one of output_dir: the run goes on
        exactly as it would have. Raises ValueError when there is none or it belongs to something else.
        """
        args, began = self.args, time.perf_counter()
        resume = args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        checkpoint = checkpoints.find(resume, args.output_dir) if resume else None
        set_seed(args.seed)
        if self.model_init is not None:
            self.model = self._make_model(trial)
            self.place_model_on_device()
        loader = self.get_train_dataloader()
        per_epoch, total, epochs = plan(loader, args, resuming.rows_of(self))
        self._set_up(total)
        epoch, start = self._begin(checkpoint, total, epochs, loader)
        self.control = TrainerControl()
        self._call("on_train_begin", train_dataloader=loader)
        if args.eval_on_start:
            self._evaluate(ignore_keys_for_eval)
        done_before = self.state.global_step
        with when_terminated(self.control) if args.enable_jit_checkpoint else contextlib.nullcontext():
            while epoch < epochs and not self.control.should_training_stop and self.state.global_step < total:
                self.control.should_epoch_stop = False
                self._call("on_epoch_begin", train_dataloader=loader)
                for number, window in self._windows(loader, epoch, start):
                    self._call("on_step_begin", train_dataloader=loader)
                    self._step(window, loader, number)
                    self._place = (epoch, number)
                    self.state.epoch = epoch + (number / per_epoch[1] if per_epoch else 0.0)
                    self._call("on_step_end", train_dataloader=loader)
                    self._log_evaluate_save(ignore_keys_for_eval)
                    if self.control.should_epoch_stop or self.control.should_training_stop:
                        break
                else:
                    if not self.state.global_step:
                        raise ValueError("The training dataset gave no batch.")
                    if not per_epoch or self._place[1] >= per_epoch[1]:
                        self.state.epoch = float(epoch + 1)
                self._call("on_epoch_end", train_dataloader=loader)
                if self.state.epoch == epoch + 1:
                    self._place = (epoch + 1, 0)
                self._log_evaluate_save(ignore_keys_for_eval)
                epoch, start = epoch + 1, 0
        return self._end(began, done_before)

    def _windows(self, loader: Any, epoch: int, start: int) -> Iterator[tuple[int, list[Any]]]:
        """(batches of the epoch so far, the batches of one optimizer step) for each step of an epoch."""
        window: list[Any] = []
        number = start
        for index, batch in numbered(loader, self._data_seed, epoch, start):
            number = index + 1
            window.append(batch)
            if len(window) == self.args.gradient_accumulation_steps:
                yield number, window
                window = []
        if window:
            yield number, window

    def _step(self, window: list[Any], loader: Any, number: int) -> None:
        """One optimizer step: the gradient of the mean loss over all targets of the window's batches."""
        args = self.args
        counts = [self.count_targets(batch) for batch in window]
        if is_idle(loader, number - 1):
            counts[-1] = 0  # rows ran out: another process has this batch, too
        self._targets = distributed.sum_of(sum(counts), args.device)
        if not self._targets:
            raise ValueError(
                f"Step {self.state.global_step + 1} has no target: all its labels are -100, or were cut off. Check the "
                "labels of the dataset."
            )
        share = torch.zeros((), dtype=torch.float64, device="cpu" if args.device.type == "mps" else args.device)
        for i, batch in enumerate(window):
            last = i == len(window) - 1
            with distributed.together(self.model_wrapped, last):
                loss = self.training_step(self.model_wrapped, batch, counts[i])
            share += loss.to(share) * (counts[i] / self._targets)
            self._count_tokens(batch)
            if not last:
                self._call("on_substep_end")
        self._update(share)
        self.state.global_step += 1
        self._window_loss += distributed.total(share)
        self._window_steps += 1

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: int | None = None) -> Tensor:
        """Forward and backward of one batch, whose gradients add up; returns its loss, the mean over its targets.

        num_items_in_batch: how many targets the batch has, of those of the whole step; None: it is the whole step.
        """
        model.train()
        if self.packs:
            inputs = pack(inputs, self._shifts)[0]
        inputs = self._prepare_inputs(inputs)
        self._noise.mask = inputs.get("attention_mask")
        with self.autocast():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        if loss.dim():
            loss = loss.mean()
        # processes take the mean of their gradients
        share = 1.0 if num_items_in_batch is None else num_items_in_batch * self.args.world_size / self._targets
        self.scaler.scale(loss * share).backward()
        return loss.detach()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, the mean over its targets; with return_outputs (loss, outputs). Override it freely.

        num_items_in_batch: how many targets the batch has. Batches are weighed by it, whatever computes the loss.
        """
        labels, epsilon = inputs.get("labels"), self.args.label_smoothing_factor
        if labels is not None and self.compute_loss_func is not None:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        else:
            outputs: Any = model(**inputs)
            loss = outputs[0] if isinstance(outputs, tuple) else outputs.get("loss")
            if loss is None:
                wanted = " or ".join(self.label_names) or "labels"
                raise ValueError(
                    f"{type(self.model).__name__} returned no loss for a batch of {', '.join(inputs)}. It returns one "
                    f"when the rows hold {wanted}."
                )
            if labels is not None and epsilon and not labels.is_floating_point():
                loss = smooth_loss(outputs["logits"], labels, epsilon, self._shifts)  # pyright: ignore
        return (loss, outputs) if return_outputs else loss

    def _update(self, loss: Tensor) -> None:
        """Clips the gradients, changes the weights and the learning rate."""
        optimizer, most = self.optimizer, self.args.max_grad_norm
        self.scaler.unscale_(optimizer)
        if most > 0:
            norm: Any = nn.utils.clip_grad_norm_(self.model.parameters(), most)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self._grad_norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        # a GPU is not waited for at every step; what it found is looked at when something is logged or saved
        if self.args.device.type == "cpu":
            self._refuse_nan(loss)
        self._call("on_pre_optimizer_step")
        self.scaler.step(optimizer)
        self.scaler.update()
        self._call("on_optimizer_step")
        self._learning_rate = optimizer.param_groups[0]["lr"]
        if not isinstance(self.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.lr_scheduler.step()
        self.model_wrapped.zero_grad(set_to_none=True)
        every = self.args.torch_empty_cache_steps
        if every and self.state.global_step % every == 0:
            torch.cuda.empty_cache()  # without a GPU it does nothing

    def _refuse_nan(self, loss: Tensor) -> None:
        """Raises before weights that are still right are changed or saved, once the loss is no number."""
        if not torch.isfinite(loss) and (loss.isnan() or not self.args.logging_nan_inf_filter):
            self.writer.wait()
            last = checkpoints.newest_whole(self.args.output_dir)
            raise FloatingPointError(
                f"The loss of step {self.state.global_step + 1} is {float(loss)}: training ended before it changed the "
                f"weights. Lower the learning rate ({self._learning_rate:g}) or look for rows that give no number."
                f"{f' The last checkpoint is {last}.' if last else ''}"
            )

    # ---- Setting up

    def _make_model(self, trial: Any = None) -> nn.Module:
        assert self.model_init is not None
        model = self.model_init(trial) if inspect.signature(self.model_init).parameters else self.model_init()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model_init must return a model, got {type(model).__name__}.")
        return model

    def place_model_on_device(self) -> None:
        if next(self.model.parameters(), torch.empty(0)).device != self.args.device:
            self.model.to(self.args.device)

    def _new_state(self) -> TrainerState:
        first, local = self.args.process_index == 0, self.args.local_process_index == 0
        batch = self.args.train_batch_size
        return TrainerState(train_batch_size=batch, is_local_process_zero=local, is_world_process_zero=first)

    def _set_up(self, total: int) -> None:
        """Everything between a model and its first step."""
        args, model = self.args, self.model
        if args.gradient_checkpointing:
            if not hasattr(model, "gradient_checkpointing_enable"):
                raise ValueError(
                    f"gradient_checkpointing: {type(model).__name__} has no gradient_checkpointing_enable."
                )
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs)
        if args.fp16 and args.device.type == "cpu":
            raise ValueError("fp16 needs a GPU; bf16=True works on CPUs, too.")
        if args.tf32 is not None and args.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = args.tf32
        self.scaler = torch.amp.GradScaler(args.device.type, enabled=args.fp16)
        wrapped: Any = torch.compile(
            model, backend=args.torch_compile_backend or "inductor", mode=args.torch_compile_mode
        ) if args.torch_compile else model  # fmt: skip
        self.model_wrapped = distributed.wrap(wrapped, args)
        if self.model_init is not None:  # another model: other parameters
            self.optimizer, self.lr_scheduler = self._given_optimizers
        self.create_optimizer_and_scheduler(total)
        whole = not args.chunked_loss or args.label_smoothing_factor or args.torch_compile or not self._own_loss
        if hasattr(model, "loss_parts"):
            model.loss_parts = 0 if whole else max(64, MOST_LOGITS // (getattr(model.config, "vocab_size", None) or 1))
        self._noise = Noise(model, args.neftune_noise_alpha)
        self._window_loss = torch.zeros((), dtype=torch.float64)
        self._total_loss, self._window_steps, self._place, self._logged = 0.0, 0, (0, 0), -1
        self._grad_norm, self._learning_rate, self._multiplied = None, args.learning_rate, count_multiplied(model)
        self._data_seed = args.seed if args.data_seed is None else args.data_seed

    @property
    def _own_loss(self) -> bool:
        """Whether no code of the user's looks at batches and logits."""
        return type(self).compute_loss is Trainer.compute_loss and self.compute_loss_func is None

    @property
    def packs(self) -> bool:
        """Whether batches lose their padding before the model sees them; not where code of the user's looks at them."""
        args, able = self.args, bool(getattr(self.model, "accepts_packed", False))
        if args.padding_free and not able:
            raise ValueError(
                f"padding_free=True: {type(self.model).__name__} takes padded batches only; leave it unset."
            )
        return able and (
            bool(args.padding_free) or self._own_loss and args.padding_free is None and not args.torch_compile
        )

    @property
    def _shifts(self) -> bool:
        """Whether labels are compared with the logits one place before, as a model that writes texts does."""
        return bool(getattr(self.model, "can_generate", bool)())

    def _begin(self, checkpoint: Path | None, total: int, epochs: int, loader: Any) -> tuple[int, int]:
        """Takes up a checkpoint, or begins anew; returns the epoch and its first batch."""
        args, folder = self.args, Path(self.args.output_dir)
        self.state = self._new_state()
        if self.is_world_process_zero():
            if folder.is_dir():
                checkpoints.tidy(folder)
            if checkpoint is None or checkpoint.resolve().parent != folder.resolve():
                checkpoints.set_aside(folder, args.overwrite_output_dir)
        distributed.barrier()
        place = (0, 0) if checkpoint is None else resuming.restore(self, checkpoint, loader)
        self.state.max_steps, self.state.num_train_epochs = total, epochs
        if checkpoint is not None and self.state.global_step >= total:
            logging.get_logger().warning(
                f"{checkpoint} is at step {self.state.global_step} of {total}: nothing is left."
            )
        return place

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        self.create_optimizer()
        self.create_scheduler(num_training_steps, self.optimizer)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the arguments, made once; biases and norms do not decay."""
        if self.optimizer is None:
            args = self.args
            groups = parameter_groups(self.model if model is None else model, args.weight_decay)
            if not any(group["params"] for group in groups):
                raise ValueError("The model has no parameter that requires a gradient: nothing would be trained.")
            if self.optimizer_cls_and_kwargs is not None:
                kind, keywords = self.optimizer_cls_and_kwargs
                self.optimizer = kind(groups, **keywords)
            else:
                self.optimizer = make_optimizer(
                    args.optim, groups, learning_rate=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2),
                    eps=args.adam_epsilon, weight_decay=args.weight_decay, optim_args=args.optim_args,
                )  # fmt: skip
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the learning rate, made once."""
        if self.lr_scheduler is None:
            self.lr_scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer=self.optimizer if optimizer is None else optimizer,
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_training_steps=num_training_steps,
                scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
            )
        return self.lr_scheduler

    # ---- Data

    @functools.cached_property
    def label_names(self) -> list[str]:
        """Columns that are labels: those of the arguments, else those that the model's forward names so."""
        return find_label_names(self.model) if self.args.label_names is None else self.args.label_names

    def get_train_dataloader(self) -> Any:
        if self.train_dataset is None:
            raise ValueError("Training needs a train_dataset.")
        args, strategy = self.args, self.args.train_sampling_strategy
        lengths = None
        if strategy == "group_by_length":
            name = getattr(self.model, "main_input_name", "input_ids")
            lengths = lengths_of(self.train_dataset, args.length_column_name, name)
        seed = args.seed if args.data_seed is None else args.data_seed
        return self._loader(
            self.train_dataset, args.train_batch_size, strategy, seed, args.dataloader_drop_last, lengths
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if dataset is None:
            raise ValueError("Evaluation needs an eval_dataset.")
        return self._loader(dataset, self.args.eval_batch_size, "sequential", self.args.seed)

    get_test_dataloader = get_eval_dataloader

    def _loader(
        self, dataset: Any, size: int, strategy: str, seed: int, drop_last: bool = False, lengths: Any = None
    ) -> Any:
        collate = self.data_collator
        if self.args.remove_unused_columns:
            collate = KeepColumns(collate, self.model, self.label_names)
        return make_loader(
            dataset, collate, size, self.args, strategy=strategy, seed=seed, lengths=lengths, drop_last=drop_last,
            rank=self.args.process_index, world=self.args.world_size,
        )  # fmt: skip

    def _prepare_inputs(self, inputs: Any) -> Any:
        """The batch on the device of the model."""
        device = self.args.device
        return evaluation.apply(lambda x: x.to(device, non_blocking=True) if isinstance(x, Tensor) else x, inputs)

    def count_targets(self, inputs: dict[str, Any]) -> int:
        """How many targets a batch has: what its loss is the mean over. Override it where a loss counts otherwise."""
        return count_targets(inputs, self.label_names, self._shifts)

    def _count_tokens(self, inputs: dict[str, Any]) -> None:
        ids, mask = inputs.get(getattr(self.model, "main_input_name", "input_ids")), inputs.get("attention_mask")
        seen = self.args.include_num_input_tokens_seen
        if isinstance(ids, Tensor):
            self.state.total_flos += 6 * ids.numel() * self._multiplied
        if isinstance(ids, Tensor) and seen not in (False, "no"):
            some = mask if seen == "non_padding" and isinstance(mask, Tensor) else torch.ones_like(ids)
            self.state.num_input_tokens_seen += distributed.sum_of(int(some.sum()), self.args.device)

    def num_examples(self, dataloader: Any) -> int:
        return len(dataloader.dataset.dataset if hasattr(dataloader, "places") else dataloader.dataset)

    def autocast(self) -> Any:
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16
        on = self.args.bf16 or self.args.fp16
        return torch.autocast(self.args.device.type, dtype, enabled=on) if on else contextlib.nullcontext()

    # ---- While it runs

    def _call(self, event: str, **more: Any) -> None:
        given = {
            "model": self.model, "processing_class": self.processing_class, "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler, "train_dataloader": None, "eval_dataloader": None,
        }  # fmt: skip
        self.control = self.callbacks.call(event, self.args, self.state, self.control, **given | more)

    def _log_evaluate_save(self, ignore_keys: list[str] | None) -> None:
        """Does what the callbacks asked for."""
        control = self.control
        self.writer.check()
        if control.should_log and self._window_steps:
            control.should_log = False
            self._log_window()
        if control.should_evaluate:
            control.should_evaluate = False
            metrics = self._evaluate(ignore_keys)
            if self._is_best(metrics) and self.args.save_strategy == "best":
                control.should_save = True
        if control.should_save:
            control.should_save = False
            self._save_checkpoint()

    def _log_window(self) -> None:
        """Logs the mean loss of the steps since the last time."""
        loss = float(self._window_loss) / self._window_steps
        self._refuse_nan(torch.tensor(loss))
        self._total_loss += float(self._window_loss)
        self._window_loss.zero_()
        self._window_steps = 0
        logs = {"loss": loss, "learning_rate": self._learning_rate}
        if self._grad_norm is not None:
            logs["grad_norm"] = float(self._grad_norm)
        self.log(logs)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Adds an entry to state.log_history and tells the callbacks; call it for numbers of your own, too."""
        entry = {**logs, "epoch": self.state.epoch}
        if self.args.include_num_input_tokens_seen not in (False, "no"):
            entry["num_input_tokens_seen"] = self.state.num_input_tokens_seen
        if start_time is not None:
            entry["runtime"] = round(time.time() - start_time, 4)
        self.state.log_history.append({**entry, "step": self.state.global_step})
        self._call("on_log", logs=entry)

    def _evaluate(self, ignore_keys: list[str] | None) -> dict[str, float]:
        metrics = self.evaluate(ignore_keys=ignore_keys)
        if isinstance(self.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.lr_scheduler.step(metric_of(metrics, self.args.metric_for_best_model or "loss"))
        return metrics

    def _is_best(self, metrics: dict[str, float]) -> bool:
        """Whether metric_for_best_model is better than ever; notes it."""
        if self.args.metric_for_best_model is None:
            return False
        value, best = metric_of(metrics, self.args.metric_for_best_model), self.state.best_metric
        better = best is None or (value > best if self.args.greater_is_better else value < best)
        if better:
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step
        return better

    def _end(self, began: float, done_before: int) -> TrainOutput:
        """What is left to do after the last step."""
        state, args = self.state, self.args
        self._total_loss += float(self._window_loss)
        self._window_loss.zero_()
        self.writer.wait()
        self._noise.end()
        if args.load_best_model_at_end and state.best_model_checkpoint:
            resuming.load_weights(self.model, Path(state.best_model_checkpoint))
        steps, seconds = state.global_step - done_before, time.perf_counter() - began
        samples = steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        loss = self._total_loss / max(state.global_step, 1)
        metrics = {**speed("train", seconds, samples, steps), "total_flos": state.total_flos, "train_loss": loss}
        self.log(metrics)
        self._call("on_train_end")
        if args.push_to_hub and self.is_world_process_zero():
            self.push_to_hub()
        return TrainOutput(state.global_step, loss, {**metrics, "epoch": state.epoch})

    # ---- Evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss and what compute_metrics gives, of a dataset or of each of a dict of several."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, dict):
            metrics: dict[str, float] = {}
            for name, one in dataset.items():
                metrics |= self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics
        loader, began = self.get_eval_dataloader(eval_dataset), time.perf_counter()
        only = True if self.compute_metrics is None else None
        out = self.evaluation_loop(loader, "Evaluation", only, ignore_keys, metric_key_prefix)
        batches = -(-out.num_samples // (self.args.eval_batch_size * self.args.world_size))
        seconds = time.perf_counter() - began
        metrics = {**out.metrics, **speed(metric_key_prefix, seconds, out.num_samples, batches)}
        self.log(metrics)
        self._call("on_evaluate", metrics=metrics)
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """(predictions, label_ids, metrics): logits of all rows, arrays in the order of the rows.

        Where lengths differ, -100 fills up.
        """
        loader, began = self.get_test_dataloader(test_dataset), time.perf_counter()
        out = self.evaluation_loop(loader, "Prediction", False, ignore_keys, metric_key_prefix)
        batches = -(-out.num_samples // (self.args.eval_batch_size * self.args.world_size))
        out.metrics.update(speed(metric_key_prefix, time.perf_counter() - began, out.num_samples, batches))
        self._call("on_predict", metrics=out.metrics)
        return PredictionOutput(out.predictions, out.label_ids, out.metrics)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> evaluation.EvalLoopOutput:
        only = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        return evaluation.evaluation_loop(self, dataloader, only, ignore_keys, metric_key_prefix)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """(loss, logits, labels) of a batch; what is not there is None. Override it to predict otherwise."""
        return evaluation.prediction_step(self, model, inputs, prediction_loss_only, ignore_keys)

    # ---- Saving

    def _save_checkpoint(self) -> None:
        """Copies everything and lets it be written while training goes on; every process takes part."""
        args, state, folder = self.args, self.state, Path(self.args.output_dir)
        self._refuse_nan(self._window_loss)
        if state.best_global_step is not None and (
            state.best_global_step == state.global_step or (folder / f"checkpoint-{state.best_global_step}").is_dir()
        ):
            state.best_model_checkpoint = str(folder / f"checkpoint-{state.best_global_step}")
        snapshot = resuming.take(self)
        best, is_pushed = state.best_model_checkpoint, args.push_to_hub and args.hub_strategy != "end"

        def write() -> None:
            path = checkpoints.write(snapshot, folder)
            checkpoints.rotate(folder, args.save_total_limit, best)
            if is_pushed:
                publishing.push_checkpoint(self, path)

        if self.is_world_process_zero():
            self.writer.start(write)
        self._call("on_save")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The model, and the processing_class beside it, as from_pretrained reads them; settings as JSON."""
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        weights = distributed.whole_state(self.model)
        if self.is_world_process_zero():
            folder.mkdir(parents=True, exist_ok=True)
            resuming.write_model(self.model, self.processing_class, weights, folder)
            (folder / checkpoints.SETTINGS).write_text(self.args.to_json_string() + "\n", encoding="utf-8")
        distributed.barrier()

    def save_state(self) -> None:
        """trainer_state.json in output_dir."""
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(folder / checkpoints.STATE)

    def log_metrics(self, split: str, metrics: dict[str, Any]) -> None:
        """Prints metrics, a line each."""
        if self.is_world_process_zero():
            reporting.print_metrics(split, metrics)

    def save_metrics(self, split: str, metrics: dict[str, Any], combined: bool = True) -> None:
        """Writes {split}_results.json and, with combined, adds them to all_results.json."""
        if self.is_world_process_zero():
            reporting.write_metrics(Path(self.args.output_dir), split, metrics, combined)

    def create_model_card(self, **facts: Any) -> None:
        """README.md in output_dir, unless one is there. facts: those of a pipeline's card (license, data, …)."""
        if self.is_world_process_zero():
            publishing.write_card(self, facts)

    def push_to_hub(self, commit_message: str = "End of training", blocking: bool = True, **options: Any) -> str:
        """Saves the model to output_dir and uploads it to hub_model_id; returns the address of the commit.

        options: token, private, revision, create_pr. blocking=False uploads in the background and returns "".
        """
        self._call("on_push_begin")
        self.save_model()
        if not self.is_world_process_zero():
            return ""
        if blocking:
            return publishing.push(self, commit_message, options)
        self.writer.start(functools.partial(publishing.push, self, commit_message, options))
        return ""

    def hyperparameter_search(self, **options: Any) -> Any:
        """See search.search: hp_space, compute_objective, n_trials, direction, backend, hp_name."""
        return search(self, **options)

    # ---- Small things

    def add_callback(self, callback: Any) -> None:
        self.callbacks.add(callback)

    def pop_callback(self, callback: Any) -> Any:
        return self.callbacks.take(callback)

    remove_callback = pop_callback

    def is_world_process_zero(self) -> bool:
        return self.state.is_world_process_zero

    def is_local_process_zero(self) -> bool:
        return self.state.is_local_process_zero

    def __getattr__(self, name: str) -> Any:
        if name == "callback_handler":  # its name in Transformers
            return self.callbacks
        raise AttributeError(f"Trainer has no {name!r}.{did_you_mean(name, dir(type(self)))}")
