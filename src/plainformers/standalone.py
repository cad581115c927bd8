"""Stand-ins: what an ejected file holds in place of definitions that are larger, since a whole library rests on them.

eject.py takes a definition from here wherever a model file, or what it imports, uses one of the same name. Each is
called as ours is and gives the same numbers to the last bit; a packed batch alone may differ in rounding. The comment
above each says what it leaves out. Everywhere it is the checks of what torch refuses too, if in other words.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# Left out: the Hub, values given in order, checks of types and sizes, spellings of older versions but torch_dtype.
# Keys of a file that are no fields become plain attributes. What is saved has all fields, not only those of the file.


@dataclass(init=False)
class Config:
    """Base of a model's configuration: a field per key of config.json, given by keyword or read from a folder."""

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}  # common name -> this config's name, e.g. hidden_size -> dim

    dtype: str | None = None  # of the weights in the checkpoint, e.g. "bfloat16"
    id2label: Any = None  # {0: name of the first label, ...}; None: two without names
    problem_type: str | None = None  # regression, single_label_classification or multi_label_classification
    output_attentions: bool = False
    output_hidden_states: bool = False
    tie_word_embeddings: bool = True
    attn_implementation: str = "sdpa"  # or "eager"; not saved

    def __init__(self, **given: Any):
        for f in fields(self):
            setattr(self, f.name, f.default if f.default_factory is MISSING else f.default_factory())
        if unknown := given.keys() - vars(self).keys() - type(self).attribute_map.keys() - {"num_labels"}:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}.")
        self.update(given)

    def update(self, given: dict[str, Any]) -> None:
        # num_labels makes id2label, which makes label2id; what is given counts more than what is made
        for name in sorted(given, key=lambda name: (name != "num_labels", name)):
            setattr(self, name, given[name])
        self.validate()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Reads config.json; what it holds beyond the fields is kept."""
        path, config = Path(folder) / "config.json", cls()
        values = json.loads(path.read_text(encoding="utf-8"))
        if (kind := values.pop("model_type", cls.model_type)) != cls.model_type:
            raise ValueError(f"{path} says model_type {kind!r}; {cls.__name__} reads {cls.model_type!r}.")
        config.update({"dtype": values.pop("torch_dtype", None)} | values)
        return config

    def __getattr__(self, name: str) -> Any:  # called for what is no attribute
        if name not in type(self).attribute_map:
            raise AttributeError(f"{type(self).__name__} has no {name!r}.")
        return getattr(self, type(self).attribute_map[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "id2label":  # the keys of JSON are texts
            value = {int(i): label for i, label in (value or {0: "LABEL_0", 1: "LABEL_1"}).items()}
            self.label2id = {label: i for i, label in value.items()}
        super().__setattr__(type(self).attribute_map.get(name, name), value)

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != self.num_labels:
            self.id2label = {i: f"LABEL_{i}" for i in range(count)}

    def validate(self) -> None:
        """Raises ValueError for what cannot be; a model's own config says what."""

    def to_dict(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "attn_implementation"}
        return {"model_type": self.model_type} | values


# Left out: the Hub, another dtype or device while loading (float16 stays so on a CPU), shards when saving, checks of
# arguments, return_dict, faster layers, resizing of the vocabulary. With new weights, a model is drawn, then filled.


class Model(nn.Module):
    """Base of the models. Making one draws its weights; from_pretrained reads them."""

    config_class: ClassVar[type[Config]] = Config
    base_model_prefix: ClassVar[str] = ""  # where a headed model keeps its base model
    renames: ClassVar[tuple[tuple[str, str | None], ...]] = ()  # names of old checkpoints -> names here; None drops
    may_be_new: ClassVar[tuple[str, ...]] = ()  # drawn, and said, when a checkpoint lacks them; all else is an error
    tied: ClassVar[dict[str, str]] = {}  # name -> the name whose parameter it shares when config.tie_word_embeddings
    prepared, accepts_packed, main_input_name = "", False, "input_ids"
    gradient_checkpointing = False

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def post_init(self) -> None:
        """The last line of every model's __init__: draws the weights that are not drawn yet (none on meta) and ties."""
        for module in self.modules():
            if not hasattr(module, "drawn") and not any(p.is_meta for p in module.parameters(recurse=False)):
                with torch.no_grad():
                    self.init_weights(module)
            module.drawn = True  # type: ignore[assignment]
        for name, source in self.tied.items() if self.config.tie_word_embeddings else ():
            owner, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(owner), attribute, self.get_parameter(source))

    def init_weights(self, module: nn.Module) -> None:
        """Draws one module's own parameters; a family says how."""

    def gradient_checkpointing_enable(self) -> None:
        for module in self.modules():
            module.gradient_checkpointing = True  # type: ignore[assignment]

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """A model with the weights of a folder, in evaluation mode; raises where they do not fit or are missing."""
        config, stored = cls.config_class.from_pretrained(folder), read_weights(Path(folder))
        with torch.device("meta"):
            model = cls(config)
        weights, unused = place_weights(stored, model)
        new, family = model.state_dict().keys() - weights.keys(), re.compile("|".join(cls.may_be_new) or "(?!)")
        if lacking := sorted(name for name in new if not family.search(name)):
            raise ValueError(f"{folder} lacks {lacking} of {cls.__name__}; there is no place for its {unused}.")
        if new:
            model = cls(config)
            warnings.warn(f"{folder} lacks {sorted(new)}: they are drawn. Train them before use.", stacklevel=2)
        if strange := [name for name in unused if not family.search(name)]:
            warnings.warn(f"{folder} has {strange}, for which {cls.__name__} has no place.", stacklevel=2)
        model.load_state_dict(weights, strict=False, assign=True)
        return model.to(getattr(torch, config.dtype) if config.dtype else next(iter(weights.values())).dtype).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors; a tied parameter is written once."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        named = self.named_parameters(remove_duplicate=self.config.tie_word_embeddings)
        weights = {name: p.detach().clone(memory_format=torch.contiguous_format) for name, p in named}
        self.config.dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
        self.config.architectures = [type(self).__name__]
        # a new file in the old one's place: a model that was loaded from here still reads the old one
        save_file(weights, folder / "new.safetensors", metadata={"format": "pt"})
        (folder / "new.safetensors").replace(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=2) + "\n", encoding="utf-8")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's checkpoint, in one file or in shards; safetensors are mapped, not copied."""
    choices = [file + index for file in ("model.safetensors", "pytorch_model.bin") for index in ("", ".index.json")]
    first = next((file for file in choices if (folder / file).is_file()), choices[0])
    index = json.loads((folder / first).read_text(encoding="utf-8")) if first.endswith(".json") else None
    weights: dict[str, Tensor] = {}
    for file in [first] if index is None else sorted(set(index["weight_map"].values())):
        if re.search(r"[/\\:\0]|^\.", file):
            raise ValueError(f"{folder / first} names {file!r}; only plain file names of its own folder are read.")
        safe = file.endswith(".safetensors")
        weights |= load_file(folder / file) if safe else torch.load(folder / file, "cpu", weights_only=True)
    return weights


def place_weights(stored: dict[str, Tensor], model: Model) -> tuple[dict[str, Tensor], list[str]]:
    """({name in the model: its tensor}, [names that have no place there]) of a checkpoint."""
    parameters, prefix = dict(model.named_parameters(remove_duplicate=False)), f"{model.base_model_prefix}."
    weights, unused = {}, []
    for name, tensor in stored.items():
        place = name
        for pattern, new in model.renames:
            place = "" if new is None and re.search(pattern, place) else re.sub(pattern, new or "", place)
        found = [one for one in (place, prefix + place, place.removeprefix(prefix)) if one in parameters]
        if not found:
            unused += [name] if place else []
        elif found[0] in weights:
            raise ValueError(f"The checkpoint has two tensors for {found[0]!r}; one of them is {name!r}.")
        elif not tensor.is_floating_point() or tensor.element_size() < 2:
            raise ValueError(f"The checkpoint holds {name!r} as {tensor.dtype}; save the model as floats first.")
        else:
            weights[found[0]] = nn.Parameter(tensor)
    for one in set(parameters.values()):  # what shares a parameter shares the tensor, unless there are different ones
        names = [name for name, parameter in parameters.items() if parameter is one]
        first = next((weights[name] for name in names if name in weights), None)
        if first is not None:
            weights |= {name: first for name in names if name not in weights or weights[name].equal(first)}
    return weights, unused


# Left out: keys() and values() are views, not lists; an output is changed by attribute only.


@dataclass
class ModelOutput(Mapping[str, Any]):
    """Base of all outputs, which are read by attribute, by name or as a tuple; what is None does not count in it."""

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self)

    def __iter__(self) -> Iterator[str]:
        names = [f.name for f in fields(self) if not f.metadata.get("outside_tuple")]
        return iter([name for name in names if getattr(self, name) is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, key: Any) -> Any:
        return {name: getattr(self, name) for name in self}[key] if isinstance(key, str) else self.to_tuple()[key]


@dataclass
class LogitsOutput(ModelOutput):
    """Logits of any head that makes one kind: words [B, T, V], token labels [B, T, N], sequence labels [B, N]."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    loss_count: Tensor | None = field(default=None, kw_only=True, metadata={"outside_tuple": True})


MaskedLMOutput = LogitsOutput
CausalLMOutput = LogitsOutput
SequenceClassifierOutput = LogitsOutput
TokenClassifierOutput = LogitsOutput
MultipleChoiceModelOutput = LogitsOutput
NextSentencePredictorOutput = LogitsOutput


# Left out: last_token and mean_tokens.


@dataclass(frozen=True)
class Packed:
    """Takes the place of attention_mask when input_ids is one row [1, T] of concatenated sequences."""

    lengths: tuple[int, ...]  # tokens of each sequence, in order; they sum to T


def make_position_ids(mask: Tensor | Packed | None, B: int, T: int, past: int, device: torch.device) -> Tensor:
    """[B or 1, T]: each token's place in its own sequence, so that padding on the left shifts nothing."""
    if isinstance(mask, Packed):
        if (1, sum(mask.lengths)) != (B, T):
            raise ValueError(
                f"The lengths {mask.lengths} need input of shape [1, {sum(mask.lengths)}], got [{B}, {T}]."
            )
        return torch.cat([torch.arange(n, device=device) for n in mask.lengths])[None]
    positions = torch.arange(past, past + T, device=device)[None]
    if mask is None or mask.dim() != 2:
        return positions
    return (positions - mask.ne(0).int().argmax(dim=1)[:, None].to(device)).clamp(min=0)


def first_token(x: Tensor, mask: Tensor | Packed | None) -> Tensor:
    """[B, C]: the first real token of each sequence of x [B, T, C]."""
    if isinstance(mask, Packed):
        return x[0, torch.tensor((0, *mask.lengths[:-1])).cumsum(0)]
    if mask is None or mask.dim() != 2 or mask.shape[1] != x.shape[1]:  # a longer mask counts tokens in a cache
        return x[:, 0]
    return x[torch.arange(x.shape[0], device=x.device), mask.ne(0).int().argmax(dim=1).to(x.device)]


# Left out: windows, and the kernel for packed batches; a mask keeps their sequences apart instead.

Attend = Callable[..., Tensor]  # what bind_attention returns


def bind_attention(
    kernel: str, *, Q: int, K: int, causal: bool, device: torch.device, mask: Any = None, record: list | None = None
) -> Attend:
    """The function that layers call: attend(q [B, H, Q, D], k [B, G, K, D], v) -> [B, H, Q, D], G divides H.

    mask: see dense_mask. record: a list that receives each layer's weights [B, H, Q, K]; this takes the eager kernel.
    """
    if kernel not in ("sdpa", "eager"):
        raise ValueError(f"attn_implementation must be 'sdpa' or 'eager', got {kernel!r}.")
    sdpa = kernel == "sdpa" and record is None
    is_causal = sdpa and causal and mask is None and Q == K > 1  # causal and nothing else: needs no mask
    seen = None if is_causal else dense_mask(mask, Q, K, causal, device)

    def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, dropout=0.0, head_mask: Any = None) -> Tensor:
        """dropout: of attention weights, 0 outside of training; head_mask: [H], what a head's weights are scaled by."""
        heads = None if head_mask is None else head_mask[:, None, None].to(q)
        if sdpa:
            added = seen.to(q.dtype) if seen is not None and seen.is_floating_point() else seen
            grouped = q.shape[1] != k.shape[1]
            x = F.scaled_dot_product_attention(q, k, v, added, dropout, is_causal, scale=scale, enable_gqa=grouped)
            return x if heads is None else x * heads
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.transpose(-1, -2) * scale
        if seen is not None:
            boolean = seen.dtype == torch.bool
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min) if boolean else scores + seen
        weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
        weights = weights if heads is None else weights * heads
        if record is not None:
            record.append(weights)
        return F.dropout(weights, dropout) @ v

    return attend


def dense_mask(mask: Any, Q: int, K: int, causal: bool, device: torch.device) -> Tensor | None:
    """Broadcasts to [B, H, Q, K]: bool with True = may be seen, or float to be added; None when all is seen.

    mask: None, [B, K] with 1 = real token, [B, Q, K], Packed, or [B, 1 or H, Q, K], which says everything itself.
    """
    if hasattr(mask, "lengths"):
        own = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(mask.lengths)])
        mask = own[:, None] == own
    elif mask is not None and mask.dim() == 4:
        return mask if mask.is_floating_point() else mask.bool()
    elif mask is not None:
        if mask.shape[-1] != K:
            raise ValueError(f"attention_mask covers {mask.shape[-1]} tokens; {K} are attended to.")
        mask = (mask[:, None, None] if mask.dim() == 2 else mask[:, None]).bool()
    if not causal or Q == 1:
        return mask
    past = torch.ones(Q, K, dtype=torch.bool, device=device).tril(K - Q)  # the queries are the last Q of K tokens
    return past if mask is None else mask & past


# Left out: cropping, the tuples of older code; keys and values stand together, by layer.


class DynamicCache:
    """Grows with every token. `past_key_values` of a forward pass; the same object comes back, longer.

    layers: keys and values [B, G, K, D] of the tokens seen; cross: of an encoder's output, made once.
    """

    def __init__(self):
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, with the new ones at the end. Changes the cache."""
        if layer in self.layers:
            k, v = (torch.cat(parts, dim=2) for parts in zip(self.layers[layer], (k, v), strict=True))
        self.layers[layer] = k, v
        return k, v

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if layer not in self.cross:
            self.cross[layer] = make()
        return self.cross[layer]

    def get_seq_length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was. Changes the cache."""
        for kept in (self.layers, self.cross):
            for layer, (k, v) in kept.items():
                kept[layer] = k.index_select(0, beam_idx), v.index_select(0, beam_idx)


def as_cache(past_key_values: DynamicCache | None, wanted: bool) -> DynamicCache | None:
    return DynamicCache() if past_key_values is None and wanted else past_key_values


# Left out: faster layers.


def activate(layer: nn.Linear, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return act(layer(x))


# Left out: activations that few models use.


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function that a config's name stands for."""
    known = {"gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh"), "relu": F.relu, "silu": F.silu}
    known["tanh"] = torch.tanh
    if name not in known:
        raise ValueError(f"The config asks for the activation {name!r}; known are {', '.join(known)}. Add it here.")
    return known[name]


def check_inputs(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int, torch.device]:
    """(B, T, device) of a model's input: input_ids [B, T] or inputs_embeds [B, T, C], never both."""
    given = inputs_embeds if input_ids is None else input_ids
    if given is None or (input_ids is not None and inputs_embeds is not None):
        raise ValueError("Give exactly one of input_ids and inputs_embeds.")
    return given.shape[0], given.shape[1], given.device


# Left out: what is wrong with labels, in words.


def sequence_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> tuple[Tensor, Tensor]:
    """The loss of logits [B, N], and its number of targets; without a problem_type, N and the labels say which it is:

    regression (labels [B] or [B, N]) when N is 1; single_label_classification (labels [B]) when the labels are
    integers; multi_label_classification (labels [B, N]) otherwise.
    """
    labels, integers = labels.to(logits.device), not labels.is_floating_point() and labels.dtype != torch.bool
    several = "single_label_classification" if integers else "multi_label_classification"
    problem_type = problem_type or ("regression" if logits.shape[-1] == 1 else several)
    if problem_type == "single_label_classification":
        total, count = F.cross_entropy(logits.float(), labels.view(-1).long(), reduction="sum"), (labels != -100).sum()
        return total / count.clamp(min=1), count
    measure = {"regression": F.mse_loss, "multi_label_classification": F.binary_cross_entropy_with_logits}[problem_type]
    return measure(logits.float(), labels.view(logits.shape).float()), torch.tensor(labels.numel()).to(logits.device)
