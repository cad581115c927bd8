"""Stand-ins: what an ejected file holds in place of definitions that are larger, since a whole library rests on them.

eject.py takes a definition from here wherever a model file, or what it imports, uses one of the same name. Each is
called as ours is and gives the same numbers to the last bit; a packed batch alone may differ in rounding. The comment
above each says what it leaves out. Everywhere it is the checks of what torch refuses too, if in other words.
"""

import inspect
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
# What was filled in stays when what it follows from is changed.


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
        known = {f.name for f in fields(self)} | type(self).attribute_map.keys() | {"num_labels", "label2id"}
        if unknown := given.keys() - known:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}.")
        self.update(given)

    def update(self, given: dict[str, Any]) -> None:
        for f in () if vars(self) else fields(self):  # of a new one
            setattr(self, f.name, f.default if f.default_factory is MISSING else f.default_factory())
        # num_labels makes id2label, which makes label2id; what is given counts more than what is made
        newer = ("layer_types", "rope_parameters", "rope_scaling")  # spellings that count more than older ones
        for name in sorted(given, key=lambda name: (name != "num_labels", name in newer, name)):
            setattr(self, name, given[name])
        self.validate()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Reads config.json; what it holds beyond the fields is kept."""
        path, config = Path(folder) / "config.json", cls.__new__(cls)
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
        name = type(self).attribute_map.get(name, name)
        super().__setattr__(name, value)
        if name == "rope_theta" and vars(self).get("rope_parameters"):  # one number in two places
            self.rope_parameters = self.rope_parameters | {name: value}
        if name == "rope_parameters" and value and hasattr(type(self), "rope_theta"):
            vars(self)["rope_theta"] = value.get("rope_theta", self.rope_theta)

    def fill(self, name: str, value: Any) -> None:
        """Gives a field that nobody set the value that follows from others."""
        setattr(self, name, value if getattr(self, name) is None else getattr(self, name))

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


# Left out: the logits of a large vocabulary, a part at a time.


def vocabulary_loss(head: Any, x: Tensor, labels: Tensor | None, *, shifted: bool, parts: int) -> Any:
    """(loss, count, logits [B, T, V]) of hidden states x [B, T, C]; shifted: labels [B, T] are one place further on."""
    logits = head(x)
    if labels is None:
        return None, None, logits
    read, labels = (logits[:, :-1], labels[:, 1:]) if shifted else (logits, labels)
    total = F.cross_entropy(read.flatten(0, -2).float(), labels.flatten().long(), reduction="sum")
    return total / (count := (labels != -100).sum()).clamp(min=1), count, logits


# Left out: the Hub, another dtype or device while loading (float16 stays so on a CPU), shards when saving, checks of
# arguments, return_dict, faster layers, resizing of the vocabulary. With new weights, a model is drawn, then filled.
class Model(nn.Module):
    """Base of the models. Making one draws its weights; from_pretrained reads them."""

    config_class: ClassVar[type[Config]] = Config
    base_model_prefix: ClassVar[str] = ""  # where a headed model keeps its base model
    renames: ClassVar[tuple[tuple[str, str | None], ...]] = ()  # names of old checkpoints -> names here; None drops
    may_be_new: ClassVar[tuple[str, ...]] = ()  # drawn, and said, when a checkpoint lacks them; all else is an error
    tied: ClassVar[dict[str, str]] = {}  # name -> the name whose parameter it shares when config.tie_word_embeddings
    prepared, together, outliers, accepts_packed, main_input_name, quantized = "", "", "", False, "input_ids", {}
    gradient_checkpointing, loss_parts = False, 0

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
        path = Path(folder) / "generation_config.json"
        vars(model)["generation_config"] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        model.load_state_dict(weights, strict=False, assign=True)
        return model.to(getattr(torch, config.dtype) if config.dtype else next(iter(weights.values())).dtype).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors; a tied parameter is written once."""
        (folder := Path(folder)).mkdir(parents=True, exist_ok=True)
        named = self.named_parameters(remove_duplicate=self.config.tie_word_embeddings)
        weights = {name: p.detach().clone(memory_format=torch.contiguous_format) for name, p in named}
        self.config.dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
        self.config.architectures = [type(self).__name__]
        # a new file in the old one's place: a model that was loaded from here still reads the old one
        save_file(weights, folder / "new.safetensors", metadata={"format": "pt"})
        (folder / "new.safetensors").replace(folder / "model.safetensors")
        told = {"config": self.config.to_dict(), "generation_config": getattr(self, "generation_config", None)}
        for name in filter(told.get, told):
            (folder / f"{name}.json").write_text(json.dumps(told[name], indent=2) + "\n", encoding="utf-8")


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


# Left out: where the sequences of a packed batch begin, as a property.


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


def last_token(x: Tensor, mask: Tensor | Packed | None) -> Tensor:
    """[B, C]: the last real token of each sequence of x [B, T, C]."""
    if isinstance(mask, Packed):
        return x[0, torch.tensor(mask.lengths).cumsum(0) - 1]
    if mask is None or mask.dim() != 2:
        return x[:, -1]
    T = x.shape[1]
    last = T - 1 - mask[:, -T:].ne(0).int().flip(1).argmax(dim=1)
    return x[torch.arange(x.shape[0], device=x.device), last.to(x.device)]


# Left out: the kernel for packed batches; a mask keeps their sequences apart instead.

Attend = Callable[..., Tensor]  # what bind_attention returns


def bind_attention(
    kernel: str, *, Q: int, K: int, causal: bool, device: Any, mask: Any = None, past=None, window=None, record=None
) -> Attend:
    """The function that layers call: attend(q [B, H, Q, D], k [B, G, K, D], v) -> [B, H, Q, D], G divides H.

    mask: see dense_mask. past: tokens before the queries, of which K - Q are left. window: tokens that a token sees to
    each side, itself included. record: a list that receives each layer's weights [B, H, Q, K]; takes the eager kernel.
    """
    if kernel not in ("sdpa", "eager"):
        raise ValueError(f"attn_implementation must be 'sdpa' or 'eager', got {kernel!r}.")
    sdpa, past = kernel == "sdpa" and record is None, K - Q if past is None else past
    whole = window is None or window >= K
    is_causal = sdpa and causal and whole and mask is None and Q == K > 1  # causal and nothing else: needs no mask
    seen = None if is_causal else dense_mask(mask, Q, K, causal, device, past, None if whole else window)

    def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, dropout=0.0, head_mask: Any = None) -> Tensor:
        """dropout: of attention weights, 0 outside of training; head_mask: [H], what a head's weights are scaled by."""
        heads = None if head_mask is None else head_mask[:, None, None].to(q)
        if sdpa:
            added, shape = seen.to(q.dtype) if seen is not None and seen.is_floating_point() else seen, q.shape
            if Q == 1 and not dropout and (added is None or added.dim() < 4 or added.shape[1] == 1):
                q = q.reshape(shape[0], k.shape[1], -1, shape[3])  # heads that share keys become queries of one
            grouped = q.shape[1] != k.shape[1]
            x = F.scaled_dot_product_attention(q, k, v, added, dropout, is_causal, scale=scale, enable_gqa=grouped)
            return x.reshape(shape) if heads is None else x.reshape(shape) * heads
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


def dense_mask(mask: Any, Q: int, K: int, causal: bool, device: Any, past: int, window: Any) -> Tensor | None:
    """Broadcasts to [B, H, Q, K]: bool with True = may be seen, or float to be added; None when all is seen.

    mask: None, [B, past + Q] with 1 = real token, [B, Q, K], Packed; or [B, 1 or H, Q, K], which says everything.
    """
    if hasattr(mask, "lengths"):
        own = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(mask.lengths)])
        mask = own[:, None] == own
    elif mask is not None and mask.dim() == 4:
        return mask if mask.is_floating_point() else mask.bool()
    elif mask is not None and mask.dim() == 2:
        if mask.shape[1] != past + Q:
            raise ValueError(f"attention_mask covers {mask.shape[1]} tokens; {past + Q} are attended to.")
        mask = mask[:, None, None, -K:].bool()
    elif mask is not None:
        mask = mask[:, None].bool()
    if window is None and (not causal or Q == 1):
        return mask
    # how far a key lies before a query; the queries are the last Q of K tokens
    before = torch.arange(K - Q, K, device=device)[:, None] - torch.arange(K, device=device)
    near = before.abs() < (window or K)
    near = near & (before >= 0) if causal else near
    return near if mask is None else mask & near


# Left out: cropping, the tuples of older code; keys and values stand together, by layer.


class DynamicCache:
    """Grows with every token. `past_key_values` of a forward pass; the same object comes back, longer.

    layers: keys and values [B, G, K, D] of the tokens seen, or of those in the window; cross: of an encoder's output,
    made once.
    """

    def __init__(self):
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer that new tokens see, theirs at the end. Changes the cache."""
        Q = k.shape[2]
        if layer in self.layers:
            k, v = (torch.cat(parts, dim=2) for parts in zip(self.layers[layer], (k, v), strict=True))
        K = Q + min(k.shape[2] - Q, k.shape[2] if window is None else window - 1)
        self.layers[layer] = k, v = k[:, :, -K:], v[:, :, -K:]
        self.length += Q if layer == min(self.layers) else 0
        return k, v

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if layer not in self.cross:
            self.cross[layer] = make()
        return self.cross[layer]

    def get_seq_length(self) -> int:
        return self.length

    def key_length(self, Q: int, window: int | None = None) -> int:
        """How many keys append will give for Q new tokens."""
        return Q + (self.length if window is None else min(self.length, window - 1))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was. Changes the cache."""
        for kept in (self.layers, self.cross):
            for layer, (k, v) in kept.items():
                kept[layer] = k.index_select(0, beam_idx), v.index_select(0, beam_idx)


Cache = DynamicCache


def as_cache(past_key_values: DynamicCache | None, wanted: bool) -> DynamicCache | None:
    return DynamicCache() if past_key_values is None and wanted else past_key_values


# Left out: faster layers.


def project(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    return tuple(layer(x) for layer in layers)


def activate(layer: nn.Linear, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return act(layer(x))


# Left out: activations that few models use.


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function that a config's name stands for."""
    known = dict(gelu=F.gelu, gelu_new=partial(F.gelu, approximate="tanh"), relu=F.relu, silu=F.silu, tanh=torch.tanh)
    known |= dict.fromkeys(("gelu_fast", "gelu_pytorch_tanh"), known["gelu_new"]) | {"linear": nn.Identity()}
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


# Left out: beams, drafts, streaming, other rules, padding behind the prompts. Finished rows are computed on.

generation_config: Any = None
DRAWING = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
SETTINGS = DRAWING | dict.fromkeys(
    ["max_new_tokens", "max_length", "repetition_penalty", "eos_token_id", "pad_token_id"]
)


@torch.no_grad()
def generate(model: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **settings: Any) -> Tensor:
    """Writes on after prompts [B, T] that may be padded on the left; returns them and what follows, [B, more].

    settings, before those of generation_config.json: max_new_tokens, or max_length, which counts the prompt, neither:
    20 new ones; eos_token_id, one or several; pad_token_id; repetition_penalty; do_sample: tokens are drawn, by
    temperature, top_k (50) and top_p, else the best is taken.
    """
    if strange := sorted(settings.keys() - SETTINGS.keys()):
        raise TypeError(f"generate has no setting {', '.join(strange)}; there are {', '.join(SETTINGS)}.")
    lengths = {"max_new_tokens", "max_length"}
    file = model.generation_config or {n: v for n, v in vars(model.config).items() if n in SETTINGS.keys() - lengths}
    if strange := sorted(n for n, v in file.items() if v and n not in SETTINGS and not re.search("^_|version|^bos", n)):
        warnings.warn(f"generation_config.json sets {', '.join(strange)}; that is not done here.", stacklevel=2)
    late = lengths if any(settings.get(name) for name in lengths) else ()  # a length given here counts alone
    told = SETTINGS | {n: v for n, v in file.items() if v is not None and n not in late} | settings
    (B, T), pad, ends = input_ids.shape, told["pad_token_id"], told["eos_token_id"]
    last = T + told["max_new_tokens"] if told["max_new_tokens"] else told["max_length"] or T + 20
    ends = torch.tensor([] if ends is None else ends, dtype=torch.long, device=input_ids.device).view(-1)
    if attention_mask is None and pad is not None and pad not in ends:
        attention_mask = input_ids.ne(pad).long()
    mask = None if attention_mask is None or attention_mask.all() else attention_mask
    if last <= T or (mask is not None and not mask[:, -1].all()):
        raise ValueError(f"Prompts must end in real tokens, and sooner than after max_length ({last}); they have {T}.")
    fill = pad if pad is not None else int(ends[0]) if len(ends) else 0
    few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    ids, cache, alive = input_ids, DynamicCache(), torch.ones(B, dtype=torch.bool, device=input_ids.device)
    while ids.shape[1] < last and alive.any():
        new = ids[:, cache.get_seq_length() :]
        out = model(new, attention_mask=mask, past_key_values=cache, use_cache=True, **few)
        scores = choose_from(out.logits[:, -1].float(), ids, mask, told)
        token = torch.multinomial(scores.softmax(-1), 1)[:, 0] if told["do_sample"] else scores.argmax(-1)
        ids = torch.cat((ids, torch.where(alive, token, fill)[:, None]), 1)
        mask = None if mask is None else F.pad(mask, (0, 1), value=1)
        alive = alive & ~torch.isin(token, ends)
    return ids


def choose_from(scores: Tensor, ids: Tensor, mask: Tensor | None, told: dict[str, Any]) -> Tensor:
    """The scores [B, V] by which the next token after ids [B, T] is chosen; -inf for what may not be drawn."""
    for row, one in enumerate(ids) if told["repetition_penalty"] else ():
        seen, penalty = one if mask is None else one[mask[row].bool()], told["repetition_penalty"]
        scores[row, seen] = torch.where(scores[row, seen] < 0, scores[row, seen] * penalty, scores[row, seen] / penalty)
    if not told["do_sample"]:
        return scores
    scores = scores / (told["temperature"] or 1.0)
    if told["top_k"]:
        worst = scores.topk(min(told["top_k"], scores.shape[1])).values[:, -1:]
        scores = scores.masked_fill(scores < worst, -torch.inf)
    if told["top_p"] is not None:  # the fewest best tokens that have so much together
        rising, tokens = scores.sort(dim=-1, stable=True)
        out = rising.softmax(-1).cumsum(-1) <= 1 - told["top_p"]
        out[:, -1] = False
        scores = scores.masked_fill(out.scatter(1, tokens, out), -torch.inf)
    return scores
