"""Several processes, started by torchrun: data parallel (DDP) or with sharded parameters (FSDP2), both torch's own.

With one process, every function here does nothing but what its name says.
"""

import contextlib
import os
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed as dist, nn

from .. import lora


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def own_device(args: Any) -> torch.device:
    """The device of this process: its GPU, Apple's, or the CPU."""
    if args.use_cpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", args.local_process_index)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def start(args: Any) -> None:
    """Meets the other processes that torchrun started; once."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not dist.is_available() or dist.is_initialized():
        return
    on_gpu = args.device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(args.device)
    dist.init_process_group(args.ddp_backend or ("nccl" if on_gpu else "gloo"), timeout=args.ddp_timeout_delta)


# ---- Numbers of all processes


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def sum_of(value: Any, device: torch.device) -> Any:
    """The sum of a plain number over all processes."""
    if world_size() == 1:
        return value
    return type(value)(total(torch.tensor(value, dtype=torch.float64, device=device)).item())


def gathered(value: Any) -> list[Any]:
    """What each process has, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


# ---- Models


def wrap(model: nn.Module, args: Any) -> nn.Module:
    """What is called in training, in place of the model: DDP around it, or with fsdp itself, its parameters sharded."""
    if world_size() == 1:
        return model
    if args.fsdp:
        return shard(model, args)
    options = {
        "find_unused_parameters": args.ddp_find_unused_parameters,
        "bucket_cap_mb": args.ddp_bucket_cap_mb,
        "broadcast_buffers": args.ddp_broadcast_buffers,
        "static_graph": args.ddp_static_graph,
    }
    devices = [args.device] if args.device.type == "cuda" else None
    chosen = {name: value for name, value in options.items() if value is not None}
    return nn.parallel.DistributedDataParallel(model, device_ids=devices, **chosen)


def shard(model: nn.Module, args: Any) -> nn.Module:
    """FSDP2: each process keeps a part of every parameter; those of a layer come together while it is computed."""
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    asked = {"full_shard"} if args.fsdp is True else {*(args.fsdp.split() if isinstance(args.fsdp, str) else args.fsdp)}
    known = {"full_shard", "shard_grad_op", "offload", "auto_wrap"}
    if not asked <= known:
        raise ValueError(f"fsdp must be of {', '.join(sorted(known))}, got {args.fsdp!r:.80}.")
    options: dict[str, Any] = {"reshard_after_forward": "shard_grad_op" not in asked}
    if "offload" in asked:
        options["offload_policy"] = CPUOffloadPolicy()
    kind, name = type(model), type(model).__name__
    for several in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        for layer in several:
            if not hasattr(layer, "set_requires_gradient_sync") and any(True for _ in layer.parameters()):
                fully_shard(layer, **options)
    if not hasattr(model, "set_requires_gradient_sync"):
        fully_shard(model, **options)
        if type(model) is not kind:  # what it is saved as
            type(model).__name__ = name
    return model


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a part; all take part in this."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """The part of a whole tensor that this process has of a parameter."""
    if not hasattr(parameter, "placements") or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh: Any = parameter.device_mesh  # pyright: ignore
    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)  # pyright: ignore


def together(model: Any, last: bool) -> Any:
    """A context for one batch of a step: only after the last one do the processes add up their gradients."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not last:
        return model.no_sync()
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)  # pyright: ignore
    return contextlib.nullcontext()


def whole_state(model: nn.Module, copy: bool = False) -> dict[str, Tensor]:
    """The state of a model on the CPU, under its published names; copy: it stays as it is while training goes on."""
    copies: dict[int, Tensor] = {}
    state = {}
    own = lora.adapter_state(model) if getattr(model, "adapters", None) else model.state_dict()
    for name, tensor in own.items():
        key = id(tensor) if hasattr(tensor, "full_tensor") else tensor.data_ptr()  # tied parameters are one
        if key not in copies or copies[key].shape != tensor.shape:
            copies[key] = whole(tensor.detach()).to("cpu", copy=copy)
        state[name] = copies[key]
    return state


@torch.no_grad()
def load_whole_state(model: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Copies weights into a model. Raises ValueError, with nothing changed, when they are another model's."""
    state = {**dict(nn.Module.named_parameters(model, remove_duplicate=False)), **dict(model.named_buffers())}
    wrong = [
        f"{name} has shape {list(tensor.shape)} in place of {list(state[name].shape)}"
        for name, tensor in weights.items()
        if name in state and tensor.shape != state[name].shape
    ]
    unknown = sorted(weights.keys() - state.keys())
    reached = {id(state[name]) for name in weights.keys() & state.keys()}
    kept = model.state_dict().keys()
    missing = sorted(name for name, tensor in state.items() if name in kept and id(tensor) not in reached)
    for what, names in (("unknown here", unknown), ("missing there", missing)):
        wrong += [f"{len(names)} {what}: {', '.join(names[:3])}"] if names else []
    if wrong:
        raise ValueError(f"{where} holds the weights of another model: {'; '.join(wrong[:5])}.")
    for name, tensor in weights.items():
        state[name].copy_(like(tensor, state[name]))


def gathered_rows(kept: Any) -> Any:
    """What the processes kept of their rows, the rows one after the other as the dataset has them.

    Of each batch of all together, process r has rows r, r + W, r + 2W, … of W processes.
    """
    if world_size() == 1:
        return kept.all()
    parts = gathered(kept.parts)
    if not any(parts):
        return None
    kept.parts = [interleaved(several) for several in zip_longest(*parts) if any(one is not None for one in several)]
    return kept.all()


def interleaved(several: tuple[Any, ...]) -> Any:
    """One batch of the parts that the processes had; None where one had no rows left."""
    there = [part for part in several if part is not None]
    if isinstance(there[0], tuple):
        return tuple(interleaved(tuple(part[i] for part in there)) for i in range(len(there[0])))
    if isinstance(there[0], dict):
        return {name: interleaved(tuple(part[name] for part in there)) for name in there[0]}
    width = max((part.shape[1] for part in there if part.ndim > 1), default=0)
    shape = (sum(map(len, there)), *((width, *there[0].shape[2:]) if there[0].ndim > 1 else ()))
    whole = np.full(shape, -100, dtype=there[0].dtype)
    for own, part in enumerate(there):
        places = whole[own :: len(there)]
        places[(slice(len(part)), *((slice(part.shape[1]),) if part.ndim > 1 else ()))] = part
    return whole
