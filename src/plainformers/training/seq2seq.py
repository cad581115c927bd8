"""Seq2SeqTrainer: a Trainer whose evaluation can write texts, and metrics that read them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..generation_config import GenerationConfig
from .arguments import TrainingArguments, setting
from .evaluation import EvalLoopOutput, PredictionOutput
from .trainer import Trainer


@dataclass(init=False)
class Seq2SeqTrainingArguments(TrainingArguments):
    """TrainingArguments, and how texts are written in an evaluation."""

    sortish_sampler: bool = setting(False)  # texts of like length together
    predict_with_generate: bool = setting(False)
    generation_max_length: int | None = setting(None, "[1, inf)")
    generation_num_beams: int | None = setting(None, "[1, inf)")
    generation_config: Any = setting(None)  # a GenerationConfig, or the name of a folder that holds one

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sortish_sampler:
            self.train_sampling_strategy = "group_by_length"

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        if isinstance(self.generation_config, GenerationConfig):
            values["generation_config"] = self.generation_config.to_dict()
        return values


class Seq2SeqTrainer(Trainer):
    """A Trainer that, with predict_with_generate, hands compute_metrics the ids of written texts in place of logits.

    evaluate and predict take the settings of generate (max_length, num_beams, …) for that one call.
    """

    _generation: dict[str, Any] | None = None

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        self._generation = gen_kwargs or self._generation
        try:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self._generation = None

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        self._generation = gen_kwargs
        try:
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)
        finally:
            self._generation = None

    def evaluation_loop(self, *args: Any, **keywords: Any) -> EvalLoopOutput:
        if isinstance(self.args.generation_config, str):  # pyright: ignore
            self.args.generation_config = GenerationConfig.from_pretrained(self.args.generation_config)  # pyright: ignore
        return super().evaluation_loop(*args, **keywords)

    def generation_settings(self) -> dict[str, Any]:
        """What generate is called with: the call's settings before those of the arguments."""
        args: Any = self.args
        given = dict(self._generation or {})
        if args.generation_config is not None:
            given.setdefault("generation_config", args.generation_config)
        if given.get("max_length") is None and given.get("max_new_tokens") is None and args.generation_max_length:
            given["max_length"] = args.generation_max_length
        if given.get("num_beams") is None and args.generation_num_beams:
            given["num_beams"] = args.generation_num_beams
        return {name: value for name, value in given.items() if value is not None}

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        if not self.args.predict_with_generate or prediction_loss_only:  # pyright: ignore
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        loss = None
        if any(inputs.get(name) is not None for name in self.label_names):
            loss, _, _ = super().prediction_step(model, inputs, True, ignore_keys)
        labels = inputs.get("labels")
        known = {
            n: v for n, v in self._prepare_inputs(inputs).items() if n not in (*self.label_names, "decoder_input_ids")
        }
        with torch.no_grad(), self.autocast():
            written = self.model.generate(**known, **self.generation_settings())
        return loss, written, labels
