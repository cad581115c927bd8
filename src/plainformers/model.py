"""Model: the base of every model, a plain torch.nn.Module that is loaded, saved and called by the names users know."""

import copy
import functools
import inspect
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import logging, lora
from .aliases import ALIASES, WITHOUT_EFFECT, rename_keywords, resolve_keywords
from .arguments import as_device, as_dtype, check_arguments, explain, forward_names
from .checkpoint import (
    LoadReport,
    Renames,
    Shard,
    fill,
    find_weights,
    join_parts,
    match_names,
    open_state_dict,
    refuse_quantization,
    save_weights,
    set_tensor,
    shared_groups,
    summary,
)
from .config import HUB_ARGUMENTS, Config, counts_modules
from .hub import fetch, file_in, find_gguf, read_json, upload
from .linear import KINDS, is_prepared, prepare, prepared_sizes, unprepare
from .outputs import ModelOutput, transition_scores

# what code written for Transformers passes to every model, used or not
UNUSED_INPUTS = frozenset({"cache_position", "num_items_in_batch", "token_type_ids"})
UPLOAD = ("token", "private", "revision", "commit_message", "create_pr")


class NothingDrawn(torch.overrides.TorchFunctionMode):
    """Leaves out torch.nn.init, which on the meta device gives nothing and imports half of torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class Model(nn.Module):
    """Base of all models. A model file's `<Family>PreTrainedModel` says what its family shares, in these attributes."""

    config_class: ClassVar[type[Config]] = Config
    base_model_prefix: ClassVar[str] = ""  # where a headed model keeps its base model
    renames: ClassVar[Renames] = ()  # names of old checkpoints -> names here
    may_be_new: ClassVar[tuple[str, ...]] = ()  # drawn, and said, when a checkpoint lacks them; all else is an error
    tied: ClassVar[dict[str, str]] = {}  # name -> the name whose parameter it shares when config.tie_word_embeddings
    prepared: ClassVar[str] = ""  # names of the linear layers that prepare() makes faster
    together: ClassVar[str] = "(?!)"  # those of them that read the same input as their neighbours
    outliers: ClassVar[str] = "(?!)"  # those of them whose inputs have a few huge values
    keep_float32: ClassVar[tuple[str, ...]] = ()  # names that stay in float32 whatever dtype is asked for
    accepts_packed: ClassVar[bool] = False  # attention_mask may be Packed
    quantized: ClassVar[dict[str, Any]] = {}  # quant_method -> (endings of a weight's parts in a file, what joins them)
    main_input_name: ClassVar[str] = "input_ids"

    gradient_checkpointing = False
    loss_parts = 0  # in training, targets whose logits over the vocabulary are made at a time; 0: all, and returned
    _prepared = False
    quantization: str | None = None  # "int8", "int4": what the weights of the prepared layers are rounded to
    _inner = False  # part of a larger model, which reads its outputs by name
    compute_transition_scores = staticmethod(transition_scores)

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
        names, others = self._forward_names
        if not others and not all(k in names for k in keywords):
            ignored = UNUSED_INPUTS.difference(names)
            keywords = {k: v for k, v in keywords.items() if k not in ignored}
            keywords = resolve_keywords(keywords, names, "forward", f"{type(self).__name__}.forward")
        given = dict(zip(names, args, strict=False)) | keywords
        check_arguments(given)
        if self._prepared and not self.quantization and torch.is_grad_enabled():
            self.unprepare()
        try:
            out = super().__call__(*args, **keywords)
        except (IndexError, RuntimeError) as error:
            reason = explain(self.config, given, str(error))
            raise (ValueError(reason) if reason else error) from error
        if return_dict is None:
            return_dict = self._inner or self.config.return_dict
        return out if return_dict or not isinstance(out, ModelOutput) else out.to_tuple()

    # ---- Making

    def post_init(self) -> None:
        """The last line of every model's __init__: draws the weights that are not drawn yet (none on meta) and ties."""
        for module in self.modules():
            own = next(module.parameters(recurse=False), None)
            if own is not None and not own.is_meta and not module.__dict__.get("_drawn"):
                with torch.no_grad():
                    self.init_weights(module)
                module.__dict__["_drawn"] = True
            if isinstance(module, Model) and module is not self:
                module._inner = True
        self.tie_weights()

    def init_weights(self, module: nn.Module) -> None:
        """Draws one module's own parameters; a family says how. Called without gradients."""
        theirs = getattr(self, "_init_weights", None)  # what classes written for Transformers call it
        if theirs is not None:
            theirs(module)

    def tie_weights(self) -> None:
        """Lets the names in `tied` share their parameters, unless the checkpoint held different ones."""
        if not self.config.tie_word_embeddings:
            return
        tied, head = self.tied, self.get_output_embeddings()
        if not tied and getattr(self, "_tied_weights_keys", None) and head is not None:  # a class for Transformers
            head.weight = self.get_input_embeddings().weight
        for name, source in tied.items():
            if name not in self.__dict__.get("_kept_untied", ()):
                set_tensor(self, name, self.get_parameter(source))

    @classmethod
    def from_config(
        cls, config: Config, *, dtype: Any = None, attn_implementation: str | None = None, **older: Any
    ) -> Any:
        """A model with random weights, in training mode like any new torch module; dtype: None is what the config says.

        Other spellings of the two (torch_dtype) are taken too.
        """
        given = {"dtype": dtype, "attn_implementation": attn_implementation}
        given = {name: value for name, value in given.items() if value is not None} | older
        given = resolve_keywords(given, ("dtype", "attn_implementation"), "from_config", f"{cls.__name__}.from_config")
        if "attn_implementation" in given:
            config = copy.deepcopy(config)
            config.attn_implementation = given["attn_implementation"]
        model = cls(config)
        found = as_dtype(given.get("dtype")) or as_dtype(config.dtype)
        return model if found is None else model.to(found)

    _from_config = from_config

    # ---- Loading

    @classmethod
    @functools.cache
    def loading_arguments(cls) -> frozenset[str]:
        """Keywords of from_pretrained that are no fields of a config, for the "did you mean"."""
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
        quantization: str | None = None,
        generation_config: Any = None,
        revision: str | None = None,
        subfolder: str = "",
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        gguf_file: str | None = None,
        **overrides: Any,
    ) -> Any:
        """A model with the weights of a folder or a repository, in evaluation mode.

        config: instead of the folder's config.json. dtype: "auto" (the default: the checkpoint's, float32 in place of
        float16 on a CPU), or a torch dtype or its name. device_map: one device ("cpu", "cuda", "auto", 0, ...).
        output_loading_info: give (model, {"missing_keys": ..., ...}). ignore_mismatched_sizes: draw tensors of another
        shape anew instead of raising. state_dict: weights in place of the files. key_mapping: {regular expression:
        replacement} for names of the checkpoint. variant: "fp16" reads model.fp16.safetensors. revision, subfolder,
        cache_dir, force_download, local_files_only, token: where files come from. gguf_file: a file of llama.cpp to be
        read there (or give its path as the name). quantization: "int8" or "int4" rounds the weights, see prepare.
        generation_config: in place of generation_config.json. Other keywords: fields of the config, arguments of the
        class.
        Raises ValueError when a tensor is missing, has another shape, or a file is damaged; all of them are named.
        """
        given = {"dtype": dtype, "token": token, "attn_implementation": attn_implementation}
        given = {name: value for name, value in given.items() if value is not None}
        overrides = rename_keywords(given | overrides, "from_pretrained")
        dtype, token, kernel = (overrides.pop(n, None) for n in ("dtype", "token", "attn_implementation"))
        places = (revision, subfolder, cache_dir, force_download, local_files_only, token, gguf_file)
        where: dict[str, Any] = dict(zip(HUB_ARGUMENTS, places, strict=True))
        arguments = {k: overrides.pop(k) for k in list(overrides) if k in cls._init_names()}
        name = pretrained_model_name_or_path
        if name is None and (config is None or state_dict is None):
            raise ValueError("Without a name, from_pretrained needs a config and a state_dict.")
        config = cls._make_config(name, config, where, overrides, kernel)
        refuse_quantization(config, quantization_config, cls.quantized)
        device = as_device(device_map)
        if state_dict is not None:
            shards = [open_state_dict(state_dict)]
        else:
            assert name is not None
            shards = find_weights(name, variant, use_safetensors, where)
        if config.extra.get("quantization_config"):  # what is made of it is not quantised
            shards = join_parts(shards, *cls.quantized[config.extra.pop("quantization_config")["quant_method"]])
        check_counts(config, shards)
        dtype = checkpoint_dtype(as_dtype(dtype), config, shards, device)
        model = cls._on_meta(config, arguments)
        renames = (*(key_mapping or {}).items(), *model.renames)
        in_file = [tensor for shard in shards for tensor in shard.shapes]
        expected = set(model.state_dict())
        matched, unexpected = match_names(in_file, expected, cls.base_model_prefix, renames)
        keep = re.compile("|".join(cls.keep_float32) or "(?!)")
        dtype_of = lambda name, _: torch.float32 if keep.search(name) else dtype  # noqa: E731
        report = fill(model, shards, matched, dtype_of=dtype_of, device=device, loaded=rounding(model, quantization))
        report.unexpected = unexpected
        if any(buffer.is_meta for buffer in model.buffers()):  # a user's class made them from its config
            for buffer_name, buffer in cls(config, **arguments).named_buffers():
                if model.get_buffer(buffer_name).is_meta:
                    set_tensor(model, buffer_name, buffer.to(device))
        model._finish_loading(report, ignore_mismatched_sizes, dtype_of, device, name or "the state_dict")
        model._read_generation(None if state_dict is not None else name, where, generation_config)
        if quantization:
            model.prepare(quantization)
        return (model, report.as_info()) if output_loading_info else model

    def _read_generation(self, name: Any, where: dict[str, Any], given: Any) -> None:
        """Keeps what generation_config.json says, for a model that can generate; given: a config in its place."""
        if self.can_generate() and name is not None and find_gguf(name) is None:
            where = {key: value for key, value in where.items() if key != "gguf_file"}
            folder = fetch(name, lambda names: [n for n in names if n == "generation_config.json"], **where)
            path = file_in(folder, "generation_config.json")
            self.__dict__["generation_values"] = None if path is None else read_json(path)
        if given is not None:
            self.generation_config = given

    @classmethod
    def _make_config(
        cls, name: Any, config: Any, where: dict[str, Any], overrides: dict[str, Any], kernel: str | None
    ) -> Config:
        if config is None or isinstance(config, (str, os.PathLike)):
            config = cls.config_class.from_pretrained(name if config is None else config, **where)
        elif isinstance(config, Config):
            config = copy.deepcopy(config)  # the caller's stays as it is
        else:
            raise TypeError(f"config must be a Config or a name, got {type(config).__name__}.")
        config.name_or_path = config.name_or_path if name is None else str(name)
        config.override(overrides, where=f"{cls.__name__}.from_pretrained", meant=cls.loading_arguments())
        if kernel is not None:
            config.attn_implementation = kernel
        return config

    @classmethod
    def _on_meta(cls, config: Config, arguments: dict[str, Any]) -> Any:
        try:
            with torch.device("meta"), NothingDrawn():
                return cls(config, **arguments)
        except (RuntimeError, OverflowError, AssertionError, ValueError) as error:
            raise ValueError(f"{config.name_or_path}: no {cls.__name__} can be made of this config: {error}") from error

    def _finish_loading(
        self, report: LoadReport, ignore_mismatched: bool, dtype_of: Callable, device: torch.device, name: Any
    ) -> None:
        """Draws what may be new, raises for all else that the checkpoint lacks, and says what was not used."""
        kind = type(self).__name__
        report.raise_for(kind, name, self._may_be_new(), ignore_mismatched)
        # not state_dict, which makes rounded weights plain again
        state = {**dict(nn.Module.named_parameters(self, remove_duplicate=False)), **dict(self.named_buffers())}
        new = [n for n in (*report.missing, *(n for n, _, _ in report.mismatched)) if state[n].is_meta]
        there, asked = (sum(t.nbytes for t in state.values() if t.is_meta == meta) for meta in (False, True))
        if asked > 16 * there + 2**26:
            raise ValueError(
                f"{name}: its config asks for {asked:,} bytes of new weights ({summary(new)}); the checkpoint has "
                f"{there:,}."
            )
        self._draw(new, dtype_of, device)
        # a checkpoint may hold an output layer of its own; tying it again would lose that
        together = {n for group in shared_groups(self) for n in group}
        self._kept_untied = {n for n in self.tied if n not in together}
        report.missing = [n for n in report.missing if n not in together]
        left = [n for n, tensor in nn.Module.named_parameters(self) if tensor.is_meta]
        assert not left, f"left without values: {left}"
        if new:
            logging.once(f"{kind} of {name}: new weights were drawn for {summary(new)}. Train them before use.")
        if report.unexpected:
            heads = re.compile(
                "|".join(self.may_be_new) or "(?!)"
            )  # of other models of the family: nothing to wonder at
            level = logging.INFO if all(map(heads.search, report.unexpected)) else logging.WARNING
            logging.once(f"{kind} of {name}: not used from the checkpoint: {summary(report.unexpected)}.", level)
        for module in self.modules():
            module.__dict__["_drawn"] = True
        self.eval()

    @classmethod
    def _may_be_new(cls) -> tuple[str, ...]:
        """may_be_new; in a class of a user's own, everything that he puts on top of the base model, too."""
        ours = cls.__module__.startswith("plainformers.")
        heads = () if ours or not cls.base_model_prefix else (rf"^(?!{cls.base_model_prefix}\.)",)
        return (*cls.may_be_new, *heads)

    def _draw(self, names: list[str], dtype_of: Callable, device: torch.device) -> None:
        """Draws the named parameters and leaves all others as they are."""
        groups = [group for group in shared_groups(self) if group[0] in names]
        by_path: dict[str, list[str]] = {}
        for name in names:
            path, _, attribute = name.rpartition(".")
            by_path.setdefault(path, []).append(attribute)
        for path, attributes in by_path.items():
            module = self.get_submodule(path)
            loaded = dict(module._parameters)
            for attribute, old in loaded.items():
                if old is not None:
                    zeros = torch.zeros(old.shape, dtype=dtype_of(f"{path}.{attribute}", old.dtype), device=device)
                    module._parameters[attribute] = nn.Parameter(zeros)
            with torch.no_grad():
                if hasattr(module, "reset_parameters"):  # torch's own way, for classes that say no other
                    module.reset_parameters()  # type: ignore[operator]
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
        save_function: Any = None,
        **upload_arguments: Any,
    ) -> None:
        """Writes config.json and model.safetensors (or shards and their index) in one atomic step.

        A tied parameter is written once, unless the config ties nothing. max_shard_size: bytes, or "5GB".
        is_main_process=False writes nothing. save_function is accepted and not needed. push_to_hub uploads the folder;
        token, private, revision, commit_message and create_pr say how. Raises OSError, with the old files unchanged,
        when the disk is full.
        """
        options = resolve_keywords(
            upload_arguments, UPLOAD, "save_pretrained", f"{type(self).__name__}.save_pretrained"
        )
        if not safe_serialization:
            raise ValueError("Only safetensors is written (safe_serialization=True); pickles are read, never made.")
        folder = Path(save_directory)
        if folder.is_file():
            raise ValueError(f"{folder} is a file; save_pretrained needs a folder.")
        if not is_main_process:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if self.__dict__.get("adapters"):
            lora.save_adapter(self, folder, state_dict)
            if push_to_hub:
                upload(folder, repo_id or folder.name, **options)
            return
        tensors = dict(self.state_dict() if state_dict is None else state_dict)
        for first, *others in shared_groups(self):
            for name in others if first in tensors else ():
                if self.config.tie_word_embeddings:
                    tensors.pop(name, None)
                elif name in tensors:  # readers that tie nothing look for every name
                    tensors[name] = tensors[name].clone()
        self.config.dtype = str(self.dtype)
        self.config.architectures = [type(self).__name__]
        texts = {"config.json": self.config.to_json_string()}
        if self.can_generate():
            texts["generation_config.json"] = self.generation_config.to_json_string()
        save_weights(folder, tensors, texts, max_shard_size=max_shard_size, variant=variant)
        if push_to_hub:
            upload(folder, repo_id or folder.name, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        max_shard_size: int | str = "50GB",
        variant: str | None = None,
        **upload_arguments: Any,
    ) -> str:
        """Saves into a temporary folder and uploads it; returns the address of the commit.

        upload_arguments: token, private, revision, commit_message, create_pr.
        """
        options = resolve_keywords(upload_arguments, UPLOAD, "push_to_hub", f"{type(self).__name__}.push_to_hub")
        options.setdefault("commit_message", f"Upload {type(self).__name__}")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size, variant=variant)
            return upload(folder, repo_id, **options)

    # ---- Faster linear layers: for inference; whatever changes the weights or hands them out undoes it first

    def prepare(self, quantization: str | None = None) -> bool:
        """Lets a model on a CPU run faster, in place; see linear.py. Pipelines do it to the models that they load.

        state_dict and save_pretrained give the weights as ever. It is undone, for good, by train, parameters, to,
        copying, pickling, load_state_dict, compile and a call with gradients enabled. False where this PyTorch cannot.
        quantization="int8" or "int4" rounds the weights of the blocks and of a head of words: a quarter or a seventh
        of float32's memory, and a model for inference only, which cannot be undone, saved or trained. ValueError where
        that is not possible.
        """
        if quantization not in KINDS:
            known = ", ".join(repr(name) for name in KINDS)
            raise ValueError(f"quantization must be one of {known}, got {quantization!r:.80}.")
        if self.quantization:
            self._refuse(f"prepare(quantization={quantization!r})")
        self.unprepare()
        done = any(map(is_prepared, self.modules()))  # while loading
        done |= bool(self.prepared) and prepare(
            self, self.prepared, self.together, quantization, self.outliers, self.get_output_embeddings()
        )
        if quantization and not done:
            raise ValueError(
                f"{type(self).__name__} cannot be quantised to {quantization} here: that needs a float32 or bfloat16 "
                f"model on a CPU, and a PyTorch that has the kernels; this one is {self.dtype} on {self.device}."
            )
        self._mark_prepared(done, quantization)
        for parameter in self._weights() if quantization else ():
            parameter.requires_grad_(False)
        return done

    def unprepare(self) -> None:
        if self.quantization:
            self._refuse("this")
        if self._prepared:
            unprepare(self)
            self._mark_prepared(False)

    def _refuse(self, what: str) -> None:
        raise ValueError(
            f"The weights of this {type(self).__name__} are rounded to {self.quantization} and the exact ones are "
            f"gone, so {what} is not possible. Load it again, without quantization."
        )

    def _mark_prepared(self, yes: bool, quantization: str | None = None) -> None:
        for module in self.modules():
            if isinstance(module, Model):
                module._prepared, module.quantization = yes, quantization

    def train(self, mode: bool = True) -> Any:
        if mode:
            self.unprepare()
        return super().train(mode)

    def named_parameters(self, *args: Any, **keywords: Any) -> Any:
        self.unprepare()
        return super().named_parameters(*args, **keywords)

    def state_dict(self, *args: Any, **keywords: Any) -> Any:
        if self.quantization:
            self._refuse("reading them")
        return super().state_dict(*args, **keywords)

    def load_state_dict(self, *args: Any, **keywords: Any) -> Any:
        self.unprepare()
        return super().load_state_dict(*args, **keywords)

    def compile(self, *args: Any, **keywords: Any) -> Any:
        self.unprepare()
        return super().compile(*args, **keywords)

    def _apply(self, *args: Any, **keywords: Any) -> Any:
        self.unprepare()
        return super()._apply(*args, **keywords)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.unprepare()
        return super().__reduce_ex__(protocol)

    # ---- Adapters, see lora.py

    add_adapter, load_adapter, delete_adapter = lora.add_adapter, lora.load_adapter, lora.delete_adapter
    set_adapter, active_adapters = lora.set_adapter, lora.active_adapters
    enable_adapters, disable_adapters = lora.enable_adapters, lora.disable_adapters
    get_adapter_state_dict, merge_adapter, merge_and_unload = lora.adapter_state, lora.merge_adapter, lora.merge_adapter
    print_trainable_parameters = lora.print_trainable_parameters

    # ---- Looking and changing

    def _weights(self) -> Any:
        """The parameters outside of prepared layers; to be counted, not to be changed."""
        return (parameter for _, parameter in super().named_parameters())

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self._weights()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self._weights() if p.is_floating_point()), torch.float32)

    @property
    def base_model(self) -> nn.Module:
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([[7, 6, 0, 0, 1], [1, 2, 3, 0, 0], [0, 0, 0, 4, 5]], device=self.device)}

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        looked_at = self.modules() if exclude_embeddings else ()
        embeddings = {id(m.weight) for m in looked_at if isinstance(m, nn.Embedding)}
        prepared = prepared_sizes(self)[1 if only_trainable else 0]
        others = (p for p in self._weights() if id(p) not in embeddings and (p.requires_grad or not only_trainable))
        return prepared + sum(p.numel() for p in others)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and of the buffers."""
        size = sum(p.nbytes for p in self._weights()) + prepared_sizes(self)[2]
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
        multiple = 1 if pad_to_multiple_of is None else pad_to_multiple_of
        for name, value in {"new_num_tokens": size, "pad_to_multiple_of": multiple}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive number, got {value!r}.")
        size = -(-size // multiple) * multiple
        if size == old.num_embeddings:
            return old
        padding = old.padding_idx if old.padding_idx is not None and old.padding_idx < size else None
        new = type(old)(size, old.embedding_dim, padding_idx=padding, device="meta")
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
            new.__dict__["_drawn"] = True
            for name in names:
                before, after = old._parameters[name], new._parameters[name]
                if before is None or after is None:
                    continue
                rows = min(len(before), len(after))
                after[:rows] = before[:rows]
                if mean:
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


def rounding(model: Model, quantization: str | None) -> Callable[[str], None]:
    """What `fill` tells of each tensor that is there."""
    if not quantization:
        return lambda name: None
    from .quantize import RoundWhileLoading

    return RoundWhileLoading(model, quantization)


def check_counts(config: Config, shards: list[Shard]) -> None:
    """Refuses a config that asks for more layers or experts than the checkpoint can hold, before any module is made."""
    layers = sum(len(shard.shapes) for shard in shards)
    # experts may be stacked in one tensor, layers are not
    experts = layers + max((size for shard in shards for shape in shard.shapes.values() for size in shape), default=0)
    for name, value in vars(config).items():
        most = experts if name.endswith("experts") else layers
        if counts_modules(name) and isinstance(value, int) and value > most:
            raise ValueError(
                f"{config.name_or_path}: its config says {name} {value}; the checkpoint, of {layers} tensors, cannot "
                "hold that."
            )


def checkpoint_dtype(
    asked: torch.dtype | None, config: Config, shards: list[Shard], device: torch.device
) -> torch.dtype:
    """What was asked for, else the config's, else the first float tensor's; float16 on a CPU becomes float32."""
    if asked is not None:
        return asked
    floats = (kind for shard in shards for kind in shard.dtypes.values() if kind.is_floating_point)
    found = as_dtype(config.dtype, f"{config.name_or_path}: the config's dtype") or next(floats, torch.float32)
    if found is torch.float16 and device.type == "cpu":
        logging.once(
            f"{config.name_or_path} is stored in float16, which CPUs are slow and coarse in; it is loaded in float32. "
            "dtype='float16' or dtype='bfloat16' decides otherwise."
        )
        return torch.float32
    return found
