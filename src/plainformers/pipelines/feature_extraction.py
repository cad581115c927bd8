"""feature-extraction: texts to the hidden states of their tokens, or to one vector each (embeddings)."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..encoding import BatchEncoding
from ..hub import fetch, file_in, read_json
from .base import Pipeline, per_row, read_text


def weighted_mean(x: Tensor) -> Tensor:
    """Later tokens count more: SGPT, Muennighoff, 2022, https://arxiv.org/abs/2202.08904"""
    weights = torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype)
    return weights @ x / weights.sum()


# a sequence's tokens [n, C] -> [C]
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda x: x[0],
    "max": lambda x: x.amax(0),
    "mean": lambda x: x.mean(0),
    "mean_sqrt_len": lambda x: x.sum(0) / len(x) ** 0.5,
    "weightedmean": weighted_mean,
    "lasttoken": lambda x: x[-1],
}
# what 1_Pooling/config.json calls them, in the order in which several are joined
PUBLISHED = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
FOLDER = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")


def wanted_files(names: list[str]) -> list[str]:
    return [name for name in names if name in FOLDER or name.endswith("Pooling/config.json")]


class Sentences(NamedTuple):
    """What a sentence-transformers folder says beside the model."""

    poolings: tuple[str, ...]
    normalized: bool
    longest: int | None  # tokens
    prompts: Mapping[str, str]  # name -> what is put before a text
    prompt_name: str | None  # of the prompt that is put before every text


def read_sentences(folder: Any) -> Sentences | None:
    """None where there is no modules.json; ValueError for modules that we do not know."""

    def read(name: str) -> dict[str, Any]:
        path = file_in(folder, name)
        return {} if path is None else read_json(path)

    poolings: list[str] = []
    path, normalized = file_in(folder, "modules.json"), False
    if path is None:
        return None
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(modules, list) and all(isinstance(module, dict) for module in modules)
    except (ValueError, AssertionError, RecursionError):
        raise ValueError(f"{path} is no list of modules in JSON.") from None
    for module in modules:
        kind, path = str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))
        if kind == "Pooling":
            said = read(f"{path}/config.json")
            poolings = [name for key, name in PUBLISHED.items() if said.get(key)]
            newer = said.get("pooling_mode")
            poolings = poolings or ([newer] if isinstance(newer, str) else list(newer or ()))
        elif kind == "Normalize":
            normalized = True
        elif kind != "Transformer":
            raise ValueError(f"{folder}: modules.json names {module.get('type')!r}; Transformer, Pooling and Normalize "
                             "are read.")  # fmt: skip
    if not poolings or (unknown := [name for name in poolings if name not in POOLINGS]):
        raise ValueError(
            f"{folder}: its pooling is {unknown if poolings else 'not said'}; known are {', '.join(POOLINGS)}."
        )
    more = read("config_sentence_transformers.json")
    longest = read("sentence_bert_config.json").get("max_seq_length")
    return Sentences(tuple(poolings), normalized, longest, more.get("prompts") or {}, more.get("default_prompt_name"))


class FeatureExtractionPipeline(Pipeline):
    """Hidden states of texts, by any base model (…Model).

    As in Transformers, an answer is a nested list [1, n, C] of the text's n tokens; return_tensors=True gives a tensor.
    With pooling, it is one float32 array: [C] for a text, [texts, C] for a list. `encode` is the short form.
    """

    task = "feature-extraction"
    model_ending = "Model"

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        answer = super().__call__(inputs, **arguments)
        if {**self.defaults, **arguments}.get("pooling") is None or not isinstance(inputs, (list, tuple)):
            return answer
        if not answer:
            return np.zeros((0, self.model.config.hidden_size), np.float32)
        return torch.stack(answer) if isinstance(answer[0], Tensor) else np.stack(answer)

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        """Embeddings as the model's folder says (its modules.json): pooling, length, prompt. arguments: of a call."""
        return self(inputs, **{"pooling": "model", **arguments})

    @cached_property
    def sentences(self) -> Sentences | None:
        """What the model's folder says of embeddings; None when it is no sentence-transformers folder."""
        name = self.model.name_or_path
        return read_sentences(fetch(name, wanted_files)) if name else None

    def read(self, item: Any, number: int | None = None) -> str:
        return read_text(item, number)

    def preprocess(
        self,
        inputs: Any,
        *,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        tokenize_kwargs: dict[str, Any] | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Tokens of one text or a list of them.

        prompt: put before every text; prompt_name: one of those in the model's folder. tokenize_kwargs: further
        arguments of the tokenizer.
        """
        several = isinstance(inputs, (list, tuple))
        texts = [self.read(item, i) for i, item in enumerate(inputs)] if several else [self.read(inputs)]
        before = prompt if prompt is not None else self.named_prompt(prompt_name)
        texts = [before + text for text in texts] if before else texts
        call = {
            "truncation": truncation,
            "max_length": max_length,
            "padding": padding,
            "return_tensors": return_tensors,
        }
        return self.tokenise(texts if several else texts[0], **{**(tokenize_kwargs or {}), **call})

    def named_prompt(self, name: str | None) -> str:
        prompts = self.sentences.prompts if name is not None and self.sentences else {}
        if name is not None and name not in prompts:
            there = ", ".join(map(repr, prompts)) or "none"
            raise ValueError(f"The model's folder has no prompt {name!r}; there are: {there}. prompt=… gives any.")
        return prompts[name] if name is not None else ""

    def postprocess(
        self,
        outputs: Any,
        inputs: Any = None,
        *,
        pooling: str | None = None,
        normalized: bool | None = None,
        as_tensors: bool = False,
    ) -> list[Any]:
        """pooling: cls, max, mean, mean_sqrt_len, weightedmean, lasttoken; "model": as the model's folder says; None:
        every token's. normalized: whether embeddings have length 1; None is as the folder says.
        """
        rows = per_row(outputs.last_hidden_state, inputs)
        if pooling is None:
            made = [row[None] for row in rows]
            return made if as_tensors else [row.tolist() for row in made]
        said = self.settings if pooling == "model" else None
        names = (pooling,) if said is None else said.poolings
        x = torch.stack([torch.cat([POOLINGS[name](row.float()) for name in names]) for row in rows])
        if normalized or (normalized is None and said is not None and said.normalized):
            x = normalize(x, dim=-1)
        return list(x) if as_tensors else list(x.cpu().numpy())

    @property
    def settings(self) -> Sentences:
        if self.sentences is None:
            raise ValueError(
                f"{self.model.name_or_path or 'The model'} has no modules.json that says how its tokens are pooled: "
                'give pooling="mean", say, as the model was trained.'
            )
        return self.sentences

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        return super().call_arguments() | {"return_tensors"}

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        if "return_tensors" in given:
            given["as_tensors"] = bool(given.pop("return_tensors"))
        pooling = given.get("pooling")
        if pooling == "model":
            said = self.settings
            given.setdefault("max_length", said.longest)
            given["truncation"] = True if given.get("truncation") is None else given["truncation"]
            if said.prompt_name is not None and given.get("prompt") is None:
                given.setdefault("prompt_name", said.prompt_name)
        elif pooling is not None and pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of model, {', '.join(POOLINGS)}, or None, got {pooling!r}.")
        return given
