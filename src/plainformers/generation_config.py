"""GenerationConfig: what generate is asked for, and the reading and writing of generation_config.json."""

import copy
import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .aliases import did_you_mean, rename_keywords, resolve_keywords, unknown_argument
from .config import HUB_ARGUMENTS, Config, field_types, fits
from .hub import fetch, file_in, names_in, read_json, write_file

FILE = "generation_config.json"
INF = float("inf")
NOTES = ("transformers_version", "_from_model_config", "_commit_hash")  # what files say beside the fields
# Transformers' names for caches that a model of its own accord makes as it needs them
OWN_CACHES = ("hybrid", "hybrid_chunked", "sliding_window", "offloaded_hybrid", "offloaded_hybrid_chunked")
CACHES = ("dynamic", "static", "offloaded", "offloaded_static", "quantized", *OWN_CACHES)
MARK = {"greenlist_ratio", "bias", "hashing_key", "seeding_scheme", "context_width"}
LENGTHS = (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens"))
# field -> why it cannot be set; a file may hold it, and then it changes nothing
UNSUPPORTED = {
    "compile_config": "generate compiles nothing by itself; call torch.compile on the model",
    "continuous_batching_config": "that is for servers; generate takes one batch at a time",
    "return_legacy_cache": "past_key_values.to_legacy_cache() gives the old tuples",
    "speculation_type": "no model here drafts by diffusion",
    "token_healing": "cut the last token off the prompt, and give prefix_allowed_tokens_fn those that begin like it",
    "use_mtp": "no model here predicts several tokens at once; give an assistant_model or prompt_lookup_num_tokens",
}


def setting(default: Any = None, allowed: str | tuple = "") -> Any:
    """A field that is None until it is set.

    default: what generate takes None for. allowed: an interval, such as "(0, 1]" without 0 and with 1, or the choices.
    """
    return dataclasses.field(default=None, metadata={"default": default, "allowed": allowed})


@dataclass(init=False, repr=False)
class GenerationConfig:
    """All settings of generate. Each is None until it is set, and then means the first value at its field below.

    Unknown keywords raise TypeError, values that are not allowed or exclude each other ValueError.
    extra: keys of a generation_config.json that are no fields; readable and settable as attributes.
    """

    # how long the text becomes, the prompt counted or not; neither: 20 new tokens
    max_length: int | None = setting(None, "[1, inf)")
    max_new_tokens: int | None = setting(None, "[1, inf)")
    min_length: int | None = setting(0, "[0, inf)")
    min_new_tokens: int | None = setting(None, "[0, inf)")
    max_time: float | None = setting(None, "[0, inf)")  # seconds
    stop_strings: str | list[str] | None = setting()
    early_stopping: bool | str | None = setting(False, (True, False, "never"))  # of beam search
    # how the next token is chosen
    do_sample: bool | None = setting(False)
    num_beams: int | None = setting(1, "[1, inf)")
    num_beam_groups: int | None = setting(1, "[1, inf)")
    diversity_penalty: float | None = setting(0.0, "[0, inf)")
    length_penalty: float | None = setting(1.0)  # of beam search: above 0 prefers long texts
    penalty_alpha: float | None = setting(None, "[0, 1]")  # contrastive search
    dola_layers: str | list[int] | None = setting()  # "low", "high" or layers
    constraints: list[Any] | None = setting()
    force_words_ids: list[list[Any]] | None = setting()
    num_return_sequences: int | None = setting(1, "[1, inf)")
    # what may be drawn; only with do_sample
    temperature: float | None = setting(1.0, "[0, inf)")
    top_k: int | None = setting(50, "[0, inf)")  # 0: all
    top_p: float | None = setting(1.0, "[0, 1]")
    min_p: float | None = setting(None, "[0, 1]")
    top_h: float | None = setting(None, "(0, 1]")
    typical_p: float | None = setting(1.0, "(0, 1]")
    epsilon_cutoff: float | None = setting(0.0, "[0, 1)")
    eta_cutoff: float | None = setting(0.0, "[0, 1)")
    # rules for every way of choosing; see logits.py
    repetition_penalty: float | None = setting(1.0, "(0, inf)")
    encoder_repetition_penalty: float | None = setting(1.0, "(0, inf)")
    no_repeat_ngram_size: int | None = setting(0, "[0, inf)")
    encoder_no_repeat_ngram_size: int | None = setting(0, "[0, inf)")
    bad_words_ids: list[list[int]] | None = setting()
    sequence_bias: dict[Any, float] | list[Any] | None = setting()  # {(1, 2): 0.5} or [[[1, 2], 0.5]]
    exponential_decay_length_penalty: list[float] | None = setting()  # (from this token on, factor)
    suppress_tokens: list[int] | None = setting()
    begin_suppress_tokens: list[int] | None = setting()
    forced_bos_token_id: int | None = setting()
    forced_eos_token_id: int | list[int] | None = setting()
    remove_invalid_values: bool | None = setting(False)
    renormalize_logits: bool | None = setting(False)
    guidance_scale: float | None = setting()
    watermarking_config: dict[str, Any] | None = setting()  # arguments of logits.watermark
    token_healing: bool | None = setting(False)
    # what is returned
    return_dict_in_generate: bool | None = setting(False)
    output_scores: bool | None = setting(False)
    output_logits: bool | None = setting(False)
    output_attentions: bool | None = setting(False)
    output_hidden_states: bool | None = setting(False)
    # special tokens
    pad_token_id: int | None = setting()
    bos_token_id: int | None = setting()
    eos_token_id: int | list[int] | None = setting()
    decoder_start_token_id: int | list[int] | None = setting()
    # the cache
    use_cache: bool | None = setting(True)
    cache_implementation: str | None = setting(None, CACHES)
    cache_config: dict[str, Any] | None = setting()
    max_cache_len: int | None = setting(None, "[1, inf)")
    return_legacy_cache: bool | None = setting(False)
    prefill_chunk_size: int | None = setting(None, "[1, inf)")
    low_memory: bool | None = setting(False)
    # drafts that the model checks
    is_assistant: bool | None = setting(False)
    num_assistant_tokens: int | None = setting(20, "[1, inf)")
    num_assistant_tokens_schedule: str | None = setting("constant", ("constant", "heuristic", "heuristic_transient"))
    assistant_confidence_threshold: float | None = setting(0.4, "[0, 1]")
    assistant_lookbehind: int | None = setting(10, "[0, inf)")
    target_lookbehind: int | None = setting(10, "[0, inf)")
    assistant_early_exit: int | None = setting(None, "[1, inf)")
    assistant_ensemble_weight: float | None = setting(None, "(0, 1)")
    prompt_lookup_num_tokens: int | None = setting(None, "[1, inf)")
    max_matching_ngram_size: int | None = setting(None, "[1, inf)")
    speculation_type: str | None = setting()
    use_mtp: bool | None = setting(False)
    # how it is run
    compile_config: Any = setting()
    disable_compile: bool | None = setting(False)
    continuous_batching_config: Any = setting()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __init__(self, **keywords: Any):
        object.__setattr__(self, "extra", {name: keywords.pop(name) for name in NOTES if name in keywords})
        self._file: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}
        for name, value in resolve_keywords(keywords, self.names(), "generation", "GenerationConfig").items():
            setattr(self, name, value)
        self.validate()

    @classmethod
    def names(cls) -> set[str]:
        return cls.__dataclass_fields__.keys() - {"extra"}

    def __getattr__(self, name: str) -> Any:
        # only called for what is no field
        if not name.startswith("__") and name in self.__dict__.get("extra", ()):
            return self.extra[name]
        raise AttributeError(f"GenerationConfig has no {name!r}.{did_you_mean(name, self.names())}")

    def __setattr__(self, name: str, value: Any) -> None:
        if value and name in UNSUPPORTED:
            raise ValueError(f"{name} is not supported: {UNSUPPORTED[name]}.")
        if name in self.extra:
            self.extra[name] = value
        elif name in self.__dataclass_fields__ or name.startswith("_"):
            # numbers and lists of numpy and torch
            object.__setattr__(self, name, value.tolist() if hasattr(value, "tolist") else value)
        else:
            raise AttributeError(f"GenerationConfig has no {name!r}.{did_you_mean(name, self.names())}")

    def __repr__(self) -> str:
        return f"GenerationConfig({', '.join(f'{name}={value!r}' for name, value in self._set().items())})"

    def _set(self) -> dict[str, Any]:
        """The fields that are set."""
        return {f.name: value for f in SETTINGS if (value := getattr(self, f.name)) is not None}

    # ---- Checks

    def validate(self) -> None:
        """Raises ValueError that names every field whose value is not allowed or does not go with another's."""
        wrong, hints = [], field_types(GenerationConfig)
        for f in SETTINGS:
            value, allowed = getattr(self, f.name), f.metadata["allowed"]
            if value is None:
                continue
            if not fits(value, hints[f.name]):
                wrong.append(f"{f.name} must be {str(hints[f.name]).removesuffix(' | None')}, got {value!r:.100}")
            elif isinstance(allowed, str) and allowed and not inside(value, allowed):
                wrong.append(f"{f.name} must be in {allowed}, got {value!r:.40}")
            elif isinstance(allowed, tuple) and value not in allowed:
                wrong.append(f"{f.name} must be {' or '.join(map(repr, allowed))}, got {value!r:.100}")
        wrong = wrong or list(self._contradictions())
        if wrong:
            raise ValueError(f"GenerationConfig: {'; '.join(wrong)}.")

    def _contradictions(self) -> Iterator[str]:
        beams, groups, sample = self.num_beams or 1, self.num_beam_groups or 1, bool(self.do_sample)
        if sample and self.temperature == 0:
            yield "temperature=0 cannot be drawn from; to take the likeliest token use do_sample=False"
        if (count := self.num_return_sequences or 1) > beams and not (sample and beams == 1):
            yield f"num_return_sequences={count} needs do_sample=True, or num_beams to be as many; it is {beams}"
        for least, most in LENGTHS:
            if (getattr(self, least) or 0) > (getattr(self, most) or INF):
                yield f"{least}={getattr(self, least)} is more than {most}={getattr(self, most)}"
        if groups > 1 and (beams % groups or sample or not self.diversity_penalty):
            yield (
                f"num_beam_groups={groups} must divide num_beams={beams} and needs a diversity_penalty above 0, got "
                f"{self.diversity_penalty}, and do_sample=False"
            )
        if groups == 1 and self.diversity_penalty:
            yield f"diversity_penalty={self.diversity_penalty} needs num_beam_groups above 1"
        if (self.constraints or self.force_words_ids) and (beams == 1 or sample or groups > 1):
            yield "constraints and force_words_ids need num_beams above 1, one group and do_sample=False"
        if self.penalty_alpha and (beams > 1 or sample):
            yield f"penalty_alpha={self.penalty_alpha} (contrastive search) needs num_beams=1 and do_sample=False"
        for name in ("dola_layers", "prompt_lookup_num_tokens", "assistant_early_exit"):
            if getattr(self, name) is not None and beams > 1:
                yield f"{name} needs num_beams=1, got {beams}"
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = getattr(self, name)
            forced = {forced} if isinstance(forced, int) else set(forced or ())
            if forced and forced <= set(self.suppress_tokens or ()):
                yield f"{name}={getattr(self, name)} is forced, but suppress_tokens rules it out"
        for name, value in (("bad_words_ids", self.bad_words_ids), ("sequence_bias", self.sequence_bias)):
            words = [word[0] for word in value] if name == "sequence_bias" and isinstance(value, list) else value
            if not all(isinstance(word, (list, tuple)) and word and min(word) >= 0 for word in words or ()):
                yield f"{name} must name sequences of one token or more, got {value!r:.100}"
        if (decay := self.exponential_decay_length_penalty) and (len(decay) != 2 or decay[1] <= 0):
            yield f"exponential_decay_length_penalty must be (start, factor) with a factor above 0, got {decay!r:.80}"
        if (mark := self.watermarking_config) and (
            not mark.keys() <= MARK or mark.get("seeding_scheme") not in (None, "lefthash", "selfhash")
        ):
            yield f"watermarking_config may have {', '.join(sorted(MARK))}, the scheme lefthash or selfhash, got {mark}"

    # ---- For generate

    def get_generation_mode(self, assistant_model: Any = None) -> str:
        """The name of the way in which tokens are chosen."""
        if self.constraints or self.force_words_ids:
            return "constrained_beam_search"
        if (self.num_beams or 1) > 1:
            grouped = (self.num_beam_groups or 1) > 1
            return "group_beam_search" if grouped else "beam_sample" if self.do_sample else "beam_search"
        if self.penalty_alpha and self.top_k not in (0, 1):
            return "contrastive_search"
        if assistant_model is not None or self.prompt_lookup_num_tokens or self.assistant_early_exit:
            return "assisted_generation"
        if self.dola_layers is not None:
            return "dola_generation"
        return "sample" if self.do_sample else "greedy_search"

    def resolved(self, model_config: "GenerationConfig | None" = None, **overrides: Any) -> "GenerationConfig":
        """All settings for one call: overrides (None counts, too) before this config's before the model's before the
        defaults stated at the fields. max_length and max_new_tokens stay None where nobody set them.
        """
        values = {f.name: f.metadata["default"] for f in SETTINGS}
        for layer in ({} if model_config is None else model_config._set(), self._set(), overrides):
            for length, new in zip(*LENGTHS, strict=True):  # a length said later replaces one in the other measure
                if layer.get(length) is not None and layer.get(new) is None:
                    values[new] = None
            values |= layer
            for least, most in LENGTHS:
                if least not in layer and (values[least] or 0) > (values[most] or INF):
                    values[least] = values[most]
        if values["cache_implementation"] in OWN_CACHES:
            values["cache_implementation"] = None
        config = GenerationConfig(**copy.deepcopy(values))
        config.extra |= self.extra
        return config

    def update(self, **changes: Any) -> dict[str, Any]:
        """Sets fields, and returns those keywords that are none."""
        known = self.names() | self.extra.keys()
        for name in changes.keys() & known:
            setattr(self, name, changes[name])
        self.validate()
        return {name: value for name, value in changes.items() if name not in known}

    def copy(self, **changes: Any) -> "GenerationConfig":
        """Another config, with changes; TypeError for those that are no fields."""
        other = copy.deepcopy(self)
        if unknown := other.update(**changes):
            raise unknown_argument(next(iter(unknown)), self.names(), "GenerationConfig")
        return other

    # ---- Files

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name: str | os.PathLike[str], config_file_name: str = FILE, *,
        return_unused_kwargs: bool = False, **keywords: Any,
    ) -> Any:  # fmt: skip
        """Reads generation_config.json of a folder or a repository.

        keywords: revision, subfolder, cache_dir, force_download, local_files_only, token; others override fields.
        return_unused_kwargs: give (config, keywords that are no fields) instead of raising.
        """
        keywords = rename_keywords(keywords, "from_pretrained")
        where = {name: keywords.pop(name) for name in HUB_ARGUMENTS if name in keywords}
        name = pretrained_model_name
        folder = fetch(
            name if isinstance(name, str) else Path(name),
            lambda names: [n for n in names if n == config_file_name],
            **where,
        )
        if (path := file_in(folder, config_file_name)) is None:
            there = ", ".join(names_in(folder)[:20]) or "nothing"
            raise FileNotFoundError(f"{name} has no {config_file_name}; in {folder} there is {there}.")
        try:
            return cls.from_dict(read_json(path), return_unused_kwargs=return_unused_kwargs, **keywords)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """A config from the content of a generation_config.json; what is no field of ours is kept in extra."""
        fields = cls.names() - {name for name in UNSUPPORTED if config_dict.get(name)}
        config = cls(**copy.deepcopy({k: v for k, v in config_dict.items() if k in fields}))
        config.extra |= copy.deepcopy({k: v for k, v in config_dict.items() if k not in fields})
        config._file, config._loaded = copy.deepcopy(config_dict), config.to_dict()
        unused = config.update(**overrides)
        if unused and not return_unused_kwargs:
            raise unknown_argument(next(iter(unused)), cls.names(), "GenerationConfig")
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def from_model_config(cls, model_config: Config | dict[str, Any]) -> "GenerationConfig":
        """From a model's config.json, where older checkpoints say how to generate."""
        if isinstance(model_config, Config):
            values = model_config._state() | model_config.get_text_config(decoder=True)._state()
        else:
            values = model_config
        # older versions wrote defaults, too
        usual = {f.name: f.metadata["default"] for f in SETTINGS if f.name not in UNSUPPORTED} | {"max_length": 20}
        found = {name: values[name] for name in usual if values.get(name) not in (None, usual[name])}
        if values.get("force_bos_token_to_be_generated"):
            found.setdefault("forced_bos_token_id", values.get("bos_token_id"))
        config = cls(**copy.deepcopy(found))
        config.return_dict_in_generate = config.output_attentions or config.output_hidden_states or None
        return config

    def to_dict(self) -> dict[str, Any]:
        """All fields and what else the file held, as JSON has them."""
        values = {f.name: getattr(self, f.name) for f in SETTINGS}
        if isinstance(self.sequence_bias, dict):
            values["sequence_bias"] = [[list(sequence), bias] for sequence, bias in self.sequence_bias.items()]
        return copy.deepcopy(values | self.extra)

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: the file as it was read with the changes since; of a new config the fields that are set."""
        result = copy.deepcopy(self._file)
        for name, value in self.to_dict().items():
            if value != self._loaded.get(name):
                result[name] = value
        return result

    def to_json_string(self, use_diff: bool = True) -> str:
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str], config_file_name: str = FILE) -> None:
        """Writes generation_config.json into a folder, which is made when it is not there."""
        self.validate()
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_file(file_in(folder, config_file_name) or folder / config_file_name, self.to_json_string())


SETTINGS = tuple(f for f in dataclasses.fields(GenerationConfig) if f.name != "extra")


def inside(value: float, interval: str) -> bool:
    """Whether a number lies in an interval such as "(0, 1]"."""
    low, high = map(float, interval[1:-1].split(","))
    return low < value < high or value in [low] * (interval[0] == "[") + [high] * (interval[-1] == "]")
