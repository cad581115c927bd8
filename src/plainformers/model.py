"""Model: the base of every model, a plain torch.nn.Module that can be loaded, saved and called by the names users know."""

import functools
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import logging
from .aliases import ALIASES, WITHOUT_EFFECT, rename_keywords, resolve_keywords, unknown_argument
from .checkpoint import (
    LoadReport,
    Renames,
    Shard,
    choose_weights,
    fill,
    match_names,
    open_state_dict,
    open_weights,
    owner_of,
    save_weights,
    set_tensor,
    shard_names,
    shared_groups,
)
from .config import HUB_ARGUMENTS, Config, counts_modules
from .hub import fetch, file_in, names_in, upload
from .outputs import ModelOutput

# what code written for Transformers passes to every model, used or not
UNUSED_INPUTS = frozenset({"cache_position", "num_items_in_batch", "token_type_ids"})


@functools.cache
def forward_names(forward: Callable[..., Any]) -> frozenset[str] | None:
    """Keywords of a forward; None when it takes any (a user's own class)."""
    parameters = inspect.signature(forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters) - {"self"}


def check_inputs(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int, torch.device]:
    """(B, T, device) of a model's input: input_ids [B, T] or inputs_embeds [B, T, C], never both."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give exactly one of input_ids and inputs_embeds.")
    if input_ids is None:
        assert inputs_embeds is not None
        return inputs_embeds.shape[0], inputs_embeds.shape[1], inputs_embeds.device
    if not isinstance(input_ids, Tensor):
        raise TypeError(
            f"input_ids must be a tensor, got {type(input_ids).__name__}. A tokenizer makes one: tokenizer(text, return_tensors='pt')."
        )
    if input_ids.is_floating_point() or input_ids.dim() != 2:
        raise TypeError(f"input_ids must be integers of shape [B, T], got {input_ids.dtype} {list(input_ids.shape)}.")
    return input_ids.shape[0], input_ids.shape[1], input_ids.device


def as_dtype(dtype: Any) -> torch.dtype | None:
    """torch.float16 of torch.float16, "float16" or "torch.float16"; None of None and "auto"."""
    if isinstance(dtype, torch.dtype) or dtype is None or dtype == "auto":
        found = None if dtype == "auto" else dtype
    else:
        found = getattr(torch, str(dtype).removeprefix("torch."), "unknown")
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(
            f"dtype must be 'auto' or a floating type such as 'float32', 'bfloat16' or 'float16', got {dtype!r}."
        )
    return found


def as_device(device_map: Any) -> torch.device:
    """The one device that a device_map names: None, "auto", "cpu", "cuda", 0, torch.device or {"": one of these}."""
    if isinstance(device_map, dict):
        if set(device_map) != {""}:
            raise ValueError(
                f"device_map must name one device for the whole model, {{'': 'cuda:0'}}; got {device_map!r}."
            )
        device_map = device_map[""]
    if device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        device_map = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(
            "cpu" if device_map is None else f"cuda:{device_map}" if isinstance(device_map, int) else device_map
        )
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{device_map!r} is no device; there are 'auto', 'cpu', 'cuda', 'cuda:0', 'mps'.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"The device {device} was asked for, but this PyTorch sees no CUDA device. Use 'cpu' or 'auto'."
        )
    return device


class Model(nn.Module):
    """Base of all models. A model file's `<Family>PreTrainedModel` says what its family shares, in these attributes."""

    config_class: ClassVar[type[Config]] = Config
    base_model_prefix: ClassVar[str] = ""  # where a headed model keeps its base model
    renames: ClassVar[Renames] = ()  # names of old checkpoints -> names here
    may_be_new: ClassVar[tuple[str, ...]] = ()  # drawn, and said, when a checkpoint lacks them; all else is an error
    tied: ClassVar[dict[str, str]] = {}  # name -> the name whose parameter it shares when config.tie_word_embeddings
    keep_float32: ClassVar[tuple[str, ...]] = ()  # names that stay in float32 whatever dtype is asked for
    accepts_packed: ClassVar[bool] = False  # attention_mask may be Packed
    main_input_name: ClassVar[str] = "input_ids"

    gradient_checkpointing = False

    def __init__(self, config: Config):
        if not isinstance(config, Config):
            raise TypeError(
                f"{type(self).__name__} takes a {self.config_class.__name__}, got {type(config).__name__}. "
                f"To load a checkpoint, call {type(self).__name__}.from_pretrained(name)."
            )
        super().__init__()
        config.validate()
        self.config = config
        self.name_or_path = config.name_or_path
        self._forward_names = forward_names(type(self).forward)

    # ---- Calling

    def __call__(self, *args: Any, return_dict: bool | None = None, **keywords: Any) -> Any:
        """Checks the names of the arguments and calls forward. return_dict=False gives a tuple."""
        names = self._forward_names
        if names is not None and not names.issuperset(keywords):
            ignored = UNUSED_INPUTS - names
            keywords = {k: v for k, v in keywords.items() if k not in ignored}
            keywords = resolve_keywords(keywords, names, "forward", f"{type(self).__name__}.forward")
        try:
            out = super().__call__(*args, **keywords)
        except IndexError as error:
            reason = self._explain(*args, **keywords)
            raise (ValueError(reason) if reason else error) from error
        return out.to_tuple() if return_dict is False and isinstance(out, ModelOutput) else out

    def _explain(self, input_ids: Any = None, *others: Any, **inputs: Any) -> str | None:
        """What is wrong with ids that an embedding table refused; looked at only after it did."""
        limits = (
            ("input_ids", input_ids, "vocab_size", "the vocabulary"),
            ("token_type_ids", inputs.get("token_type_ids"), "type_vocab_size", "the token types"),
            ("position_ids", inputs.get("position_ids"), "max_position_embeddings", "the positions"),
        )
        for name, ids, field, what in limits:
            size = getattr(self.config, field, None)
            if isinstance(ids, Tensor) and size is not None:
                outside = (ids < 0) | (ids >= size)
                if outside.any():
                    where = outside.nonzero()[0].tolist()
                    return f"{name}{where} is {int(ids[tuple(where)])}; {what} of this model are 0 to {size - 1}."
        most = getattr(self.config, "max_position_embeddings", None)
        if isinstance(input_ids, Tensor) and most is not None and input_ids.shape[-1] > most:
            return (
                f"The input is {input_ids.shape[-1]} tokens long; this model has {most} positions. "
                f"Cut it: tokenizer(text, truncation=True, max_length={most})."
            )
        return None

    # ---- Making

    def post_init(self) -> None:
        """The last line of every model's __init__: draws the weights that are not drawn yet (none on meta) and ties."""
        for module in self.modules():
            own = next(module.parameters(recurse=False), None)
            if own is not None and not own.is_meta and not module.__dict__.get("_drawn"):
                with torch.no_grad():
                    self.init_weights(module)
                module._drawn = True
        self.tie_weights()

    def init_weights(self, module: nn.Module) -> None:
        """Draws one module's own parameters; a family says how. Called without gradients."""

    def tie_weights(self) -> None:
        """Lets the names in `tied` share their parameters, unless the checkpoint held different ones."""
        if not self.config.tie_word_embeddings:
            return
        for name, source in self.tied.items():
            if name not in self.__dict__.get("_kept_untied", ()):
                set_tensor(self, name, self.get_parameter(source))

    @classmethod
    def from_config(cls, config: Config, *, dtype: Any = None, attn_implementation: str | None = None) -> Any:
        """A model with random weights, in training mode like any new torch module."""
        if attn_implementation is not None:
            config.attn_implementation = attn_implementation
        model = cls(config)
        found = as_dtype(dtype)
        return model if found is None else model.to(found)

    _from_config = from_config

    # ---- Loading

    @classmethod
    @functools.cache
    def loading_arguments(cls) -> frozenset[str]:
        """Keywords of from_pretrained that are no fields of a config."""
        own = {p.name for p in inspect.signature(cls.from_pretrained).parameters.values() if p.kind is p.KEYWORD_ONLY}
        return frozenset(
            own | cls._init_names() | ALIASES["from_pretrained"].keys() | WITHOUT_EFFECT["from_pretrained"]
        )

    @classmethod
    def _init_names(cls) -> set[str]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self", "config"}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *,
        config: Config | str | os.PathLike[str] | None = None,
        dtype: Any = None,
        device_map: Any = None,
        attn_implementation: str | None = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        state_dict: dict[str, Tensor] | None = None,
        key_mapping: dict[str, str] | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        quantization_config: Any = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **overrides: Any,
    ) -> Any:
        """A model with the weights of a folder or a repository, in evaluation mode.

        config: instead of the folder's config.json. dtype: "auto" (the default: the checkpoint's, float32 in place of float16
        on a CPU), or a torch dtype or its name. device_map: one device ("cpu", "cuda", "auto", 0, ...).
        output_loading_info: give (model, {"missing_keys": ..., ...}). ignore_mismatched_sizes: draw tensors of another shape
        anew instead of raising. state_dict: weights in place of the files. key_mapping: {regular expression: replacement} for
        names of the checkpoint. variant: "fp16" reads model.fp16.safetensors. revision, subfolder, cache_dir,
        force_download, local_files_only, token: where files come from. Other keywords: fields of the config, arguments of
        the class.
        Raises ValueError when a tensor is missing, has another shape, or a file is damaged; all of them are named.
        """
        where = dict(
            zip(HUB_ARGUMENTS, (revision, subfolder, cache_dir, force_download, local_files_only, token), strict=True)
        )
        overrides = rename_keywords(overrides, "from_pretrained")
        dtype = overrides.pop("dtype", dtype)
        where["token"] = overrides.pop("token", token)
        attn_implementation = overrides.pop("attn_implementation", attn_implementation)
        arguments = {k: overrides.pop(k) for k in list(overrides) if k in cls._init_names()}
        name = pretrained_model_name_or_path
        if name is None and (config is None or state_dict is None):
            raise ValueError("Without a name, from_pretrained needs a config and a state_dict.")
        config = cls._make_config(name, config, where, overrides)
        if attn_implementation is not None:
            config.attn_implementation = attn_implementation
        refuse_quantization(config, quantization_config)
        device = as_device(device_map)
        if state_dict is not None:
            shards = [open_state_dict(state_dict)]
        else:
            assert name is not None
            shards = find_weights(name, variant, use_safetensors, where)
        check_counts(config, shards)
        dtype = checkpoint_dtype(as_dtype(dtype), config, shards, device)
        model = cls._on_meta(config, arguments)
        renames = (*(key_mapping or {}).items(), *cls.renames)
        in_file = [tensor for shard in shards for tensor in shard.shapes]
        expected = set(model.state_dict())
        matched, unexpected = match_names(in_file, expected, cls.base_model_prefix, renames)
        keep = re.compile("|".join(cls.keep_float32)) if cls.keep_float32 else None
        report = fill(
            model, shards, matched, device=device,
            dtype_of=lambda name, _: torch.float32 if keep and keep.search(name) else dtype,
        )  # fmt: skip
        report.unexpected = unexpected
        model._finish_loading(report, ignore_mismatched_sizes, device, dtype, name or "the state_dict")
        return (model, report.as_info()) if output_loading_info else model

    @classmethod
    def _make_config(cls, name: Any, config: Any, where: dict[str, Any], overrides: dict[str, Any]) -> Any:
        if config is None or isinstance(config, (str, os.PathLike)):
            return cls.config_class.from_pretrained(name if config is None else config, **where, **overrides)
        if not isinstance(config, Config):
            raise TypeError(f"config must be a Config or a name, got {type(config).__name__}.")
        for key, value in overrides.items():
            if key not in config.keywords() | set(config.extra):
                raise unknown_argument(
                    key, config.keywords() | cls.loading_arguments(), f"{cls.__name__}.from_pretrained"
                )
            setattr(config, key, value)
        if name is not None:
            config.name_or_path = str(name)
        return config

    @classmethod
    def _on_meta(cls, config: Config, arguments: dict[str, Any]) -> Any:
        try:
            with torch.device("meta"):
                return cls(config, **arguments)
        except (RuntimeError, OverflowError) as error:
            raise ValueError(f"{config.name_or_path}: no model can be made of this config ({error}).") from error

    def _finish_loading(
        self, report: LoadReport, ignore_mismatched: bool, device: torch.device, dtype: torch.dtype, name: Any
    ) -> None:
        kind = type(self).__name__
        if report.mismatched and not ignore_mismatched:
            lines = "\n".join(
                f"  {n}: {list(file)} in the checkpoint, {list(ours)} here" for n, file, ours in report.mismatched
            )
            raise ValueError(
                f"{name} does not fit {kind} as its config describes it:\n{lines}\n"
                "Change the config, or pass ignore_mismatched_sizes=True to draw these anew."
            )
        allowed = re.compile("|".join(self.may_be_new) or "(?!)")
        lacking = [n for n in report.missing if not allowed.search(n)]
        if lacking:
            raise ValueError(
                f"{name} lacks {len(lacking)} tensors of {kind}: {', '.join(lacking[:20])}{' …' if len(lacking) > 20 else ''}. "
                f"It has {len(report.unexpected)} that {kind} does not know: {', '.join(report.unexpected[:10]) or 'none'}."
            )
        new = [*report.missing, *(n for n, _, _ in report.mismatched)]
        self._draw(new, device, dtype)
        # a checkpoint may hold an output layer of its own; tying it again would lose that
        together = {n for group in shared_groups(self) for n in group}
        self._kept_untied = {n for n in self.tied if n not in together}
        report.missing = [n for n in report.missing if n not in together]
        left = [n for n, tensor in self.state_dict().items() if tensor.is_meta]
        assert not left, f"left without values: {left}"
        if new:
            logging.once(f"{kind} of {name}: new weights were drawn for {summary(new)}. Train them before use.")
        if report.unexpected:
            logging.once(f"{kind} of {name}: not used from the checkpoint: {summary(report.unexpected)}.", logging.INFO)
        for module in self.modules():
            module._drawn = True
        self.eval()

    def _draw(self, names: list[str], device: torch.device, dtype: torch.dtype) -> None:
        """Draws the named parameters and leaves all others as they are."""
        groups = [group for group in shared_groups(self) if group[0] in names]
        by_module: dict[nn.Module, list[str]] = {}
        for name in names:
            module, attribute = owner_of(self, name)
            by_module.setdefault(module, []).append(attribute)
        for module, attributes in by_module.items():
            loaded = dict(module._parameters)
            for attribute, old in loaded.items():
                if old is not None:
                    module._parameters[attribute] = nn.Parameter(torch.zeros(old.shape, dtype=dtype, device=device))
            with torch.no_grad():
                self.init_weights(module)
            for attribute, old in loaded.items():
                if attribute not in attributes:
                    module._parameters[attribute] = old
        for first, *others in groups:
            for name in others:
                set_tensor(self, name, self.get_parameter(first))

    # ---- Saving

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        state_dict: dict[str, Tensor] | None = None,
        max_shard_size: int | str = "50GB",
        variant: str | None = None,
        is_main_process: bool = True,
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        token: str | bool | None = None,
        save_function: Any = None,
    ) -> None:
        """Writes config.json and model.safetensors (or shards and their index) in one atomic step.

        A tied parameter is written once. max_shard_size: bytes, or a text such as "5GB". is_main_process=False writes nothing.
        save_function is accepted and not needed. Raises OSError, with the old files unchanged, when the disk is full.
        """
        if not safe_serialization:
            raise ValueError("Only safetensors is written (safe_serialization=True); pickles are read, never made.")
        folder = Path(save_directory)
        if folder.is_file():
            raise ValueError(f"{folder} is a file; save_pretrained needs a folder.")
        if not is_main_process:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = dict(self.state_dict() if state_dict is None else state_dict)
        for names in shared_groups(self):
            for name in names[1:]:
                tensors.pop(name, None)
        self.config.dtype = str(self.dtype)
        self.config.architectures = [type(self).__name__]
        texts = {"config.json": self.config.to_json_string()}
        save_weights(folder, tensors, texts, max_shard_size=max_shard_size, variant=variant)
        if push_to_hub:
            upload(folder, repo_id or folder.name, token=token)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "50GB",
        variant: str | None = None,
    ) -> str:
        """Saves into a temporary folder and uploads it; returns the address of the commit."""
        folder = tempfile.mkdtemp()
        try:
            self.save_pretrained(folder, max_shard_size=max_shard_size, variant=variant)
            message = commit_message or f"Upload {type(self).__name__}"
            return upload(
                folder,
                repo_id,
                token=token,
                private=private,
                revision=revision,
                commit_message=message,
                create_pr=create_pr,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # ---- Looking and changing

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    @property
    def base_model(self) -> nn.Module:
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([[7, 6, 0, 0, 1], [1, 2, 3, 0, 0], [0, 0, 0, 4, 5]], device=self.device)}

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        embeddings = (
            {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)} if exclude_embeddings else set()
        )
        return sum(
            p.numel() for p in self.parameters() if id(p) not in embeddings and (p.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and of the buffers."""
        size = sum(p.nbytes for p in self.parameters())
        return size + sum(b.nbytes for b in self.buffers()) if return_buffers else size

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of input_ids; a base model says where it is."""
        if self.base_model is self:
            raise AttributeError(f"{type(self).__name__} has no input embeddings.")
        return self.base_model.get_input_embeddings()  # type: ignore[operator]

    def set_input_embeddings(self, value: nn.Module) -> None:
        if self.base_model is self:
            raise AttributeError(f"{type(self).__name__} has no input embeddings.")
        self.base_model.set_input_embeddings(value)  # type: ignore[operator]

    def get_output_embeddings(self) -> nn.Module | None:
        """The layer that makes logits over the vocabulary; None when the model has none."""
        return None

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        raise AttributeError(f"{type(self).__name__} has no output embeddings.")

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Makes the vocabulary larger or smaller, at its end; changes config.vocab_size.

        mean_resizing: new rows are the mean of the old ones, so that new tokens start as average words; else drawn.
        """
        old = self.get_input_embeddings()
        assert isinstance(old, nn.Embedding)
        size = old.num_embeddings if new_num_tokens is None else new_num_tokens
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"new_num_tokens must be a positive number, got {new_num_tokens!r}.")
        if pad_to_multiple_of is not None:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        if size == old.num_embeddings:
            return old
        padding = old.padding_idx if old.padding_idx is not None and old.padding_idx < size else None
        new = nn.Embedding(size, old.embedding_dim, padding_idx=padding, device="meta")
        self._resized(old, new, ("weight",), mean_resizing)
        head = self.get_output_embeddings()
        tied = isinstance(head, nn.Linear) and head.weight is old.weight
        self.set_input_embeddings(new)
        if isinstance(head, nn.Linear):
            new_head = nn.Linear(head.in_features, size, bias=head.bias is not None, device="meta")
            self._resized(head, new_head, ("bias",) if tied else ("weight", "bias"), mean_resizing)
            if tied:
                new_head.weight = new.weight
            self.set_output_embeddings(new_head)
        self.config.vocab_size = size
        return new

    def _resized(self, old: nn.Module, new: nn.Module, names: tuple[str, ...], mean: bool) -> None:
        """Gives `new` the rows of `old`, and values for the rows that are more."""
        for name in names:
            before = old._parameters[name]
            if before is None:
                continue
            shape = new._parameters[name].shape  # type: ignore[union-attr]
            new._parameters[name] = nn.Parameter(before.new_zeros(shape), requires_grad=before.requires_grad)
        with torch.no_grad():
            if not any(p.is_meta for p in new.parameters()):
                self.init_weights(new)
            new._drawn = True  # type: ignore[assignment]
            for name in names:
                before, after = old._parameters[name], new._parameters[name]
                if before is None or after is None:
                    continue
                rows = min(len(before), len(after))
                after[:rows] = before[:rows]
                if mean and name == "weight":
                    after[rows:] = before.float().mean(0).to(before.dtype)
        new.train(old.training)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recomputes the layers in the backward pass instead of keeping what they made; only non-reentrant."""
        if (gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError("Only use_reentrant=False is supported; it gives the same gradients.")
        for module in self.modules():
            if isinstance(module, Model):
                module.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        for module in self.modules():
            if isinstance(module, Model):
                module.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        return any(isinstance(m, Model) and m.gradient_checkpointing for m in self.modules())

    def enable_input_require_grads(self) -> None:
        """Makes the input embeddings' output require gradients, for training adapters on frozen weights."""
        self.get_input_embeddings().register_forward_hook(lambda _, __, out: out.requires_grad_(True))

    def set_attn_implementation(self, attn_implementation: str) -> None:
        self.config.attn_implementation = attn_implementation

    def can_generate(self) -> bool:
        return hasattr(self, "generate")


def summary(names: list[str]) -> str:
    """Names in a line: the first ten, and how many there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def find_weights(name: Any, variant: str | None, use_safetensors: bool | None, where: dict[str, Any]) -> list[Shard]:
    """The shards of a folder's or repository's checkpoint, opened."""

    def choose(names: list[str]) -> list[str]:
        return choose_weights(names, variant, use_safetensors)

    folder = fetch(name, choose, **where)
    names = names_in(folder)
    chosen = choose(names)
    if not chosen:
        asked = f" of variant {variant!r}" if variant else ""
        raise FileNotFoundError(
            f"{name} has no weights{asked}: looked for model.safetensors, pytorch_model.bin and their index files in {folder}; "
            f"there is {', '.join(names[:20]) or 'nothing'}."
        )
    if chosen[0].endswith(".json"):
        index = file_in(folder, chosen[0])
        assert index is not None
        shards = shard_names(index)
        folder = fetch(name, lambda names: [*chosen, *(n for n in names if n in shards)], **where)
    return open_weights(folder, chosen[0])


def refuse_quantization(config: Config, quantization_config: Any) -> None:
    asked = quantization_config or config.extra.get("quantization_config")
    if asked:
        method = asked.get("quant_method", asked) if isinstance(asked, dict) else type(asked).__name__
        raise ValueError(
            f"{config.name_or_path or 'The config'} asks for quantisation by {method!r}, which is not supported here; "
            "its weights would be read as raw integers. Use a checkpoint in float32, float16 or bfloat16."
        )


def check_counts(config: Config, shards: list[Shard]) -> None:
    """Refuses a config that asks for more layers or experts than the checkpoint can hold, before any module is made."""
    sizes = [size for shard in shards for shape in shard.shapes.values() for size in shape]
    most = sum(len(shard.shapes) for shard in shards) + max(sizes, default=0)
    for name, value in vars(config).items():
        if counts_modules(name) and isinstance(value, int) and value > most:
            raise ValueError(f"{config.name_or_path}: {name} is {value}, which the checkpoint cannot hold.")


def checkpoint_dtype(
    asked: torch.dtype | None, config: Config, shards: list[Shard], device: torch.device
) -> torch.dtype:
    """What was asked for, else the config's, else the first float tensor's; float16 on a CPU becomes float32."""
    if asked is not None:
        return asked
    floats = (kind for shard in shards for kind in shard.dtypes.values() if kind.is_floating_point)
    found = as_dtype(config.dtype) or next(floats, torch.float32)
    if found is torch.float16 and device.type == "cpu":
        logging.once(
            f"{config.name_or_path} is stored in float16, which CPUs are slow and coarse in; it is loaded in float32. "
            "dtype='float16' or dtype='bfloat16' decides otherwise."
        )
        return torch.float32
    return found
