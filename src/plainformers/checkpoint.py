"""Checkpoint files: which there are, what they hold, tensors out of them into a model, and tensors back into files.

Reading maps the files and copies nothing. Writing is staged beside the old files and made visible in one step.
"""

import contextlib
import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .hub import COMMIT_FOLDER, fetch, file_in, find_gguf, interrupted_save, names_in, only_gguf, plain_name

Renames = Iterable[tuple[str, str | None]]  # (regular expression, replacement); None drops the tensor

ROW_SCALE = ".row_scale"  # beside an int8 tensor [N, …] of a file marked so: its float scales [N]
INT8_ROWS = {"format": "pt", "stored_as": "int8 rows"}  # the metadata of such a file
STAGING = ".plainformers-saving"  # becomes COMMIT_FOLDER, from which hub.file_in reads

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip  # no 8-bit floats: they mean nothing without scales, which are kept in many ways


# ---- Reading


def with_variant(name: str, variant: str | None) -> str:
    """model.safetensors -> model.fp16.safetensors"""
    if variant is None:
        return name
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", variant):
        raise ValueError(f"variant must be a word such as 'fp16', got {variant!r}.")
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{variant}.{ending}"


def choose_weights(names: list[str], variant: str | None = None, use_safetensors: bool | None = None) -> list[str]:
    """The one file to begin with: the weights, or the index of their shards. Empty when there is none."""
    safe, old = (
        (with_variant(f"{file}.{ending}", variant), with_variant(f"{file}.{ending}.index.json", variant))
        for file, ending in (("model", "safetensors"), ("pytorch_model", "bin"))
    )
    wanted = (*safe, *old) if use_safetensors is None else safe if use_safetensors else old
    found = [name for name in wanted if name in names][:1]
    return found or ([] if use_safetensors or variant else only_gguf(names, ()))


def find_weights(name: Any, variant: str | None, use_safetensors: bool | None, where: dict[str, Any]) -> list["Shard"]:
    """The shards of a folder's or repository's checkpoint, opened; where: the arguments of hub.fetch."""

    def choose(names: list[str]) -> list[str]:
        return choose_weights(names, variant, use_safetensors)

    where = dict(where)
    if (path := find_gguf(name, where.pop("gguf_file", None), **where)) is not None:
        return [_open_gguf(path)]
    folder = fetch(name, choose, **where)
    names = names_in(folder)
    chosen = choose(names)
    if not chosen:
        asked = f" of variant {variant!r}" if variant else ""
        kinds = {None: "model.safetensors, pytorch_model.bin", True: "model.safetensors", False: "pytorch_model.bin"}
        raise FileNotFoundError(
            f"{name} has no weights{asked}: looked for {kinds.get(use_safetensors)} and index files of shards "
            f"in {folder}; there is {', '.join(names[:20]) or 'nothing'}."
        )
    if not chosen[0].endswith(".json"):
        return [open_shard(required_file(folder, chosen[0]))]
    weight_map = read_index(required_file(folder, chosen[0]))
    shards = set(weight_map.values())
    folder = fetch(name, lambda names: [*chosen, *(n for n in names if n in shards)], **where)
    return open_shards(folder, weight_map)


def read_index(path: Path) -> dict[str, str]:
    """{tensor: shard} of an index file; every shard is a plain name in the index's own folder."""
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        if not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
            raise TypeError("weight_map must map tensor names to file names")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not an index of shards: {error!r:.200}. Fetch the file again.") from error
    for name in dict.fromkeys(weight_map.values()):
        if re.search(r"[/\\:\0]|^\.", name):
            raise ValueError(f"{path} names the shard {name!r:.200}; only plain file names of its own folder are read.")
        if not name.endswith((".safetensors", ".bin")):
            raise ValueError(f"{path} names the shard {name!r:.200}; shards end in .safetensors or .bin.")
    return weight_map


@dataclass
class Shard:
    """One file of weights: what it holds, and a function that reads one tensor of it."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    read: Callable[..., Tensor]
    casts: bool = False  # read takes a dtype, too, and makes that at once

    def close(self) -> None:
        """Lets go of the file, so that pages which were only read for a cast do not stay in memory."""
        self.read = _closed


def _closed(name: str, *_: Any) -> Tensor:
    raise ValueError(f"{name} was asked for after its file was closed.")


def open_shard(path: Path) -> Shard:
    """Reads the header only; tensors are mapped when they are read."""
    return {".safetensors": _open_safetensors, ".gguf": _open_gguf}.get(path.suffix, _open_pickle)(path)


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands in it twice")
    return names


def _open_safetensors(path: Path) -> Shard:
    try:
        with path.open("rb") as stream:  # the length of the header, then the header
            header = stream.read(min(int.from_bytes(stream.read(8), "little"), 100_000_000))
        json.loads(header, object_pairs_hook=_refuse_twins)
        file = safe_open(path, framework="pt")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        kinds = {name: part.get_dtype() for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error!s:.200}); it is damaged or cut. Fetch it again."
        ) from error
    unknown = sorted({str(kind) for kind in kinds.values()} - DTYPES.keys())
    if unknown:
        raise ValueError(f"{path} holds tensors of type {', '.join(unknown)}; known are {', '.join(DTYPES)}.")
    shard = Shard(path, shapes, {name: DTYPES[kind] for name, kind in kinds.items()}, file.get_tensor)
    return _int8_rows(shard) if (file.metadata() or {}).get("stored_as") == INT8_ROWS["stored_as"] else shard


def _int8_rows(shard: Shard) -> Shard:
    """A file that stores matrices as int8 with a scale per row, read as float32."""
    read = shard.read
    scales = {name + ROW_SCALE for name, dtype in shard.dtypes.items() if dtype == torch.int8}
    rows = {s: shard.shapes[s.removesuffix(ROW_SCALE)] for s in scales}
    lacking = sorted(s for s, shape in rows.items() if len(shape) < 2 or shard.shapes.get(s) != shape[:1])
    if lacking:
        raise ValueError(f"{shard.path} lacks the scales of its int8 tensors: {', '.join(lacking[:10])}.")

    def read_float(name: str) -> Tensor:
        tensor = read(name)
        if tensor.dtype != torch.int8:
            return tensor.float()
        scale = read(name + ROW_SCALE).float()
        return tensor.float().mul_(scale.view(-1, *[1] * (tensor.dim() - 1)))

    shapes = {name: shape for name, shape in shard.shapes.items() if name not in scales}
    return Shard(shard.path, shapes, dict.fromkeys(shapes, torch.float32), read_float)


def store_int8_rows(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes float tensors so that matrices take a byte per value; each row is rounded by itself."""
    stored = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2:
            stored[name] = tensor.half()
            continue
        scale = tensor.abs().amax(dim=tuple(range(1, tensor.dim()))).clamp(min=1e-12) / 127
        stored[name] = (tensor / scale.view(-1, *[1] * (tensor.dim() - 1))).round().to(torch.int8)
        stored[name + ROW_SCALE] = scale
    save_file(stored, path, metadata=INT8_ROWS)


def _open_pickle(path: Path) -> Shard:
    """An old pytorch_model.bin, through torch's restricted reader, which knows tensors and plain containers only."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch cannot read is an error here
            try:
                tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                tensors = torch.load(path, map_location="cpu", weights_only=True)  # written before torch 1.6
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError,
            AttributeError, AssertionError, OverflowError, MemoryError, ArithmeticError) as error:  # fmt: skip
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{path} could not be read as weights: it is damaged, or holds code or objects, which are never loaded "
            f"here ({type(error).__name__}: {reason:.200})."
        ) from error
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds a {type(tensors).__name__}, not a dictionary of tensors.")
    return open_state_dict(tensors, path)


def _open_gguf(path: Path) -> Shard:
    """A file of llama.cpp, its tensors under their published names; what is quantised is read as float32."""
    from .gguf import read_gguf
    from .gguf_models import gguf_sources
    from .gguf_tensors import BLOCKS, PLAIN, tensor_from

    file, known = read_gguf(path), [*PLAIN, *BLOCKS]
    for name, info in file.tensors.items():
        if info.kind not in known:
            raise ValueError(f"{path}: tensor {name!r:.200} is {info.kind}; supported are {', '.join(known)}.")
    sources = gguf_sources(file)
    data = torch.from_numpy(np.memmap(path, np.uint8, "c"))  # what is written to it stays in memory
    copy = any(info.kind in BLOCKS for info in file.tensors.values())  # a few norms must not keep the whole file mapped
    shapes = {name: source.shape for name, source in sources.items()}
    dtypes = {name: PLAIN.get(source.stored[0].kind, torch.float32) for name, source in sources.items()}
    return Shard(path, shapes, dtypes, lambda name, dtype: tensor_from(data, sources[name], dtype, copy), casts=True)


def open_state_dict(tensors: dict[str, Any], path: Path | None = None) -> Shard:
    """Tensors in memory, as a shard; those of a caller (path None) are copied when they are read."""
    place = path or "The state_dict"
    others = [
        f"{name!r} ({type(value).__name__})"
        for name, value in tensors.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
        or value.layout is not torch.strided or value.is_quantized or value.is_meta
    ]  # fmt: skip
    if others:
        raise ValueError(f"{place} holds more than plain tensors with names: {', '.join(others[:10])}.")
    seen: set[int] = set()

    def read(name: str) -> Tensor:
        tensor = tensors[name].detach()
        memory = tensor.untyped_storage().data_ptr()
        if path is None or memory in seen:  # two parameters of a model are one only where the model says so
            return tensor.clone(memory_format=torch.contiguous_format)
        seen.add(memory)
        return tensor.contiguous()

    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return Shard(Path(place), shapes, {name: value.dtype for name, value in tensors.items()}, read)


def open_shards(folder: Path, weight_map: dict[str, str]) -> list[Shard]:
    """The shards that an index names; what it says must be what they hold."""
    shards = [open_shard(required_file(folder, name)) for name in dict.fromkeys(weight_map.values())]
    seen: dict[str, Path] = {}
    for shard in shards:
        for tensor in shard.shapes:
            if tensor in seen:
                raise ValueError(f"{tensor!r} stands in two shards, {seen[tensor].name} and {shard.path.name}.")
            seen[tensor] = shard.path
    lacking = [f"{tensor!r} ({name})" for tensor, name in weight_map.items() if tensor not in seen]
    if lacking:
        raise ValueError(
            f"The index in {folder} names {len(lacking)} tensors that no shard holds: {', '.join(lacking[:10])}. "
            "Fetch the files again."
        )
    return shards


def refuse_quantization(config: Any, quantization_config: Any, known: Iterable[str] = ()) -> None:
    """ValueError for what a config, or a caller, asks for; known: methods that a checkpoint may be stored by."""
    asked = quantization_config or config.extra.get("quantization_config")
    if asked:
        method = asked.get("quant_method", asked) if isinstance(asked, dict) else type(asked).__name__
        if not quantization_config and method in list(known):
            return
        raise ValueError(
            f"{config.name_or_path or 'The config'} asks for quantisation by {method!r}, which is not supported here; "
            "its weights would be read as raw integers. Use a checkpoint in float32, float16 or bfloat16."
        )


def join_parts(shards: list[Shard], endings: tuple[str, ...], make: Callable[..., Tensor]) -> list[Shard]:
    """Shards in which what is stored in parts, its name with each ending, is the one tensor that make(*parts) gives."""
    holders = {name: shard for shard in shards for name in shard.shapes}
    stems = {name.removesuffix(endings[0]) for name in holders if name.endswith(endings[0])}
    used = {stem + ending for stem in stems for ending in endings}

    def joined(shard: Shard) -> Shard:
        parts: dict[str, list[tuple[Callable[[str], Tensor], str]]] = {}
        plain, shapes, dtypes = shard.read, dict(shard.shapes), dict(shard.dtypes)
        for first in [name for name in shapes if name.endswith(endings[0])]:
            name = first.removesuffix(endings[0])
            names = [name + ending for ending in endings]
            if name in holders or not holders.keys() >= set(names):
                raise ValueError(f"{shard.path} must hold {' and '.join(names)}, and no {name}.")
            try:
                sizes = [(holders[n].shapes[n], holders[n].dtypes[n]) for n in names]
                empty = make(*(torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in sizes))
            except ValueError as error:
                raise ValueError(f"{name!r} of {shard.path} cannot be read: {error}") from error
            shapes[name], dtypes[name] = tuple(empty.shape), empty.dtype
            parts[name] = [(holders[n].read, n) for n in names]
        shapes = {name: shape for name, shape in shapes.items() if name not in used}
        return Shard(
            shard.path,
            shapes,
            dtypes,
            lambda name: make(*(read(n) for read, n in parts[name])) if name in parts else plain(name),
        )

    return [joined(shard) for shard in shards]


def required_file(folder: Path, name: str) -> Path:
    path = file_in(folder, name)
    if path is None:
        there = ", ".join(names_in(folder)[:20])
        raise FileNotFoundError(f"{name} is missing in {folder}; there is {there or 'nothing'}.")
    return path


# ---- Names of a checkpoint -> names of a model


def rename(name: str, renames: Renames) -> str | None:
    for pattern, replacement in renames:
        if replacement is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, replacement, name)
    return name


def match_names(
    names: Iterable[str], expected: set[str], prefix: str, renames: Renames
) -> tuple[dict[str, str], list[str]]:
    """({name in the model: name in the checkpoint}, [names that the model has no place for]).

    prefix: where a headed model keeps its base model; a checkpoint may have or lack it.
    """
    matched: dict[str, str] = {}
    unexpected = []
    for name in names:
        new = rename(name, renames)
        if new is None:
            continue
        options = (new, f"{prefix}.{new}", new.removeprefix(f"{prefix}."))
        place = next((option for option in options if option in expected), None)
        if place is None:
            unexpected.append(name)
        elif place in matched:
            raise ValueError(f"The checkpoint has two tensors for {place!r}: {matched[place]!r} and {name!r}.")
        else:
            matched[place] = name
    return matched, unexpected


# ---- Filling a model


@dataclass
class LoadReport:
    """What a loading found; names are the model's, except for unexpected ones, which are the checkpoint's."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)  # shapes: file's, ours

    def raise_for(self, kind: str, name: Any, may_be_new: Iterable[str], ignore_mismatched: bool) -> None:
        """ValueError for other shapes, and for missing tensors that no pattern of may_be_new names."""
        if self.mismatched and not ignore_mismatched:
            lines = (f"  {n}: {list(file)} in the checkpoint, {list(ours)} here" for n, file, ours in self.mismatched)
            raise ValueError(
                "\n".join((f"{name} does not fit {kind} as its config describes it:", *lines))
                + "\nChange the config, or pass ignore_mismatched_sizes=True to draw these anew."
            )
        allowed = re.compile("|".join(may_be_new) or "(?!)")
        lacking = [n for n in self.missing if not allowed.search(n)]
        if lacking:
            raise ValueError(
                f"{name} lacks {len(lacking)} tensors of {kind}: {summary(lacking)}. It has {len(self.unexpected)} "
                f"that {kind} does not know: {summary(self.unexpected) or 'none'}."
            )

    def as_info(self) -> dict[str, Any]:
        """As output_loading_info gives it."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unexpected),
            "mismatched_keys": set(self.mismatched),
            "error_msgs": [],
        }


def summary(names: list[str]) -> str:
    """Names in a line: the first ten, and how many there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def set_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor in the place of a parameter or buffer, without copying it."""
    module, attribute = owner_of(model, name)
    old = module._parameters.get(attribute)
    if old is None:
        module._buffers[attribute] = tensor
    elif isinstance(tensor, nn.Parameter):
        module._parameters[attribute] = tensor
    else:
        module._parameters[attribute] = nn.Parameter(
            tensor, requires_grad=old.requires_grad and tensor.is_floating_point()
        )


def shared_groups(model: nn.Module) -> list[list[str]]:
    """The names under which one parameter stands more than once (tied weights), in the model's order."""
    groups: dict[int, list[str]] = {}
    for name, parameter in nn.Module.named_parameters(model, remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def fill(
    model: nn.Module,
    shards: list[Shard],
    matched: dict[str, str],
    *,
    dtype_of: Callable[[str, torch.dtype], torch.dtype],
    device: torch.device,
    loaded: Callable[[str], None] = lambda name: None,
) -> LoadReport:
    """Puts the tensors of a checkpoint into a model on the meta device.

    dtype_of(name, dtype in the file) -> dtype in memory. loaded: is told of each name whose tensor is there. What
    shares a parameter in the model shares it afterwards too, unless the checkpoint holds different tensors for it.
    Nothing is copied that needs no cast and stays on the CPU.
    """
    report = LoadReport()
    groups = {name: names for names in shared_groups(model) for name in names}
    empty = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in empty.items()}
    place_of = {name_in_file: name for name, name_in_file in matched.items()}
    filled: set[str] = set()
    for shard in shards:
        for name_in_file, shape in shard.shapes.items():
            name = place_of.get(name_in_file)
            if name is None:
                continue
            if shape != shapes[name]:
                report.mismatched.append((name, shape, shapes[name]))
                continue
            kind = shard.dtypes[name_in_file]
            floats = kind.is_floating_point
            if floats != empty[name].is_floating_point():
                raise ValueError(
                    f"{shard.path} holds {name_in_file!r} as {kind}; it is {empty[name].dtype} here. Quantised weights "
                    "are not read; use a checkpoint in float32, float16 or bfloat16."
                )
            try:
                dtype = dtype_of(name, kind) if floats else kind
                tensor = shard.read(name_in_file, *[dtype] * shard.casts).to(device, dtype)
            except (SafetensorError, RuntimeError) as error:
                raise ValueError(f"{name_in_file!r} of {shard.path} could not be read: {error!s:.200}.") from error
            set_tensor(model, name, tensor)
            filled.add(name)
            loaded(name)
        shard.close()
    for names in {id(group): group for group in groups.values()}.values():
        have = [name for name in names if name in filled]
        if not have:
            continue
        first = model.get_parameter(have[0])
        for name in names:
            if name not in filled or torch.equal(model.get_parameter(name), first):
                set_tensor(model, name, first)
                filled.add(name)
    named = [name for name, _, _ in report.mismatched]
    report.missing = [name for name in shapes if name not in filled and name not in named]
    return report


# ---- Writing


def parse_size(size: int | str) -> int:
    """Bytes of "5GB", "200MB", "1GiB" or a number."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    units = {f"{letter}{ending}": base**power for power, letter in enumerate("KMGT", 1)
             for ending, base in (("B", 1000), ("IB", 1024))}  # fmt: skip
    found = re.fullmatch(r"(\d{1,12})\s*([KMGT]I?B)", size.strip().upper()) if isinstance(size, str) else None
    if not found or not int(found[1]):
        raise ValueError(f"max_shard_size must be a number of bytes or a text such as '5GB', got {size!r}.")
    return int(found[1]) * units[found[2]]


def split_shards(tensors: dict[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """Fills shards in order, as Transformers does; a tensor that is too large stands alone."""
    shards: list[dict[str, Tensor]] = []
    current: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if tensor.nbytes > max_bytes:
            shards.append({name: tensor})
            continue
        if size + tensor.nbytes > max_bytes:
            shards.append(current)
            current, size = {}, 0
        current[name] = tensor
        size += tensor.nbytes
    return [*shards, current] if current or not shards else shards


def save_weights(
    folder: Path,
    tensors: dict[str, Tensor],
    texts: dict[str, str],
    *,
    max_shard_size: int | str = "50GB",
    variant: str | None = None,
) -> list[str]:
    """Writes weights, and the texts (file name -> content) that go with them, in one atomic step; returns the names.

    A process killed at any moment leaves the old files or the new ones. A failing write (a full disk) raises OSError
    and leaves the old ones.
    """
    shards = split_shards(tensors, parse_size(max_shard_size))
    single = with_variant("model.safetensors", variant)
    index = with_variant("model.safetensors.index.json", variant)
    stem = single.removesuffix(".safetensors")
    names = [single]
    if len(shards) > 1:
        names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = {
            "total_parameters": sum(t.numel() for t in tensors.values()),
            "total_size": sum(t.nbytes for t in tensors.values()),
        }
        texts = texts | {
            index: json.dumps({"metadata": total, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n"
        }
    written = [*names, *texts]
    with only_writer(folder):
        try:
            finish_commit(folder)
            staging = folder / STAGING
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
        except OSError as error:
            raise OSError(f"{folder} cannot be written ({error}); nothing was changed.") from error
        try:
            for name, text in texts.items():
                (staging / name).write_text(text, encoding="utf-8")
            ours = re.compile(re.escape(stem) + r"(-\d{5}-of-\d{5})?\.safetensors")
            old = [name for name in names_in(folder) if ours.fullmatch(name) or name == index]
            manifest = {"files": written, "remove": [name for name in old if name not in written]}
            (staging / "manifest.json").write_text(json.dumps(manifest))
            mode = (staging / "manifest.json").stat().st_mode
            for name, shard in zip(names, shards, strict=True):
                plain = {n: t.detach().contiguous() for n, t in shard.items()}
                save_file(plain, staging / name, metadata={"format": "pt"})
                os.chmod(staging / name, mode)  # it lets nobody else read, whatever the umask says
            for path in (*staging.iterdir(), staging):
                sync(path)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if isinstance(error, (OSError, SafetensorError)):
                raise OSError(f"Saving to {folder} failed ({error}); what was there before is unchanged.") from error
            raise
        os.rename(staging, folder / COMMIT_FOLDER)  # from here on the new files are the ones that are read
        sync(folder)
        finish_commit(folder)
    return written


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lets one process at a time write into a folder; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def finish_commit(folder: Path) -> None:
    """Moves the files of a committed save to their places; does nothing when there is none."""
    commit = folder / COMMIT_FOLDER
    if not commit.is_dir():
        return
    new, removed = interrupted_save(folder)
    for name in new | removed:
        plain_name(name)
    for name in new:
        if (commit / name).exists():
            os.replace(commit / name, folder / name)
    for name in removed - new:
        (folder / name).unlink(missing_ok=True)
    sync(folder)
    (commit / "manifest.json").unlink(missing_ok=True)  # last, since readers go by it
    shutil.rmtree(commit)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk; Windows can do so only for what is open for writing."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
