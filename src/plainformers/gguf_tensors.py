"""The blocks of GGUF's tensors -> numbers. A block holds 32 or 256 values as small integers, and what they are worth.

Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Shapes: N blocks, V values in a block, G groups
of neighbours among these. A value is its code times its group's scale, plus its group's offset where there is one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .gguf import TENSOR_TYPES
from .gguf_models import Source

PLAIN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CHUNK = 1 << 17  # values that are made at a time: they stay in a processor's cache, and are never all there in float32
# the 16 values that a code of 4 bits stands for
_IQ4 = torch.tensor([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=torch.int8)
_FP4 = torch.tensor([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=torch.int8)  # doubled


def _bits(packed: Tensor, bits: int, width: int) -> Tensor:
    """[N, bytes] -> [N, bytes * 8 / bits]: of each `width` bytes first all lowest bits, then those above them."""
    packed = packed.unflatten(-1, (-1, width))
    codes = packed.new_empty(*packed.shape[:-1], 8 // bits, width)
    for place in range(8 // bits):
        torch.bitwise_right_shift(packed, place * bits, out=codes[..., place, :])
    return codes.bitwise_and_((1 << bits) - 1).flatten(1)


def _half(raw: Tensor) -> Tensor:
    """[N, 2 n] bytes -> [N, n] float32"""
    return raw.contiguous().view(torch.float16).float()


def _fifth(raw: Tensor) -> Tensor:
    """[N, 4 bytes of highest bits, 16 bytes of four bits] -> [N, 32]"""
    return _bits(raw[:, 4:], 4, 16).bitwise_or_(_bits(raw[:, :4], 1, 1) << 4)


def _scales(raw: Tensor) -> tuple[Tensor, Tensor]:
    """[N, two halves, 12 bytes of 8 scales and 8 minima of 6 bits] -> scale, offset [N, 8]"""
    scale, least = _half(raw[:, :4]).split(1, 1)
    a, b, c = raw[:, 4:16].split(4, 1)
    return scale * torch.cat((a & 63, c & 15 | a >> 6 << 4), 1), -least * torch.cat((b & 63, c >> 4 | b >> 6 << 4), 1)


# kind -> what makes (codes [N, V], scale [N, G]) or (codes, scale, offset [N, G]) of blocks [N, bytes]
BLOCKS: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
    "Q4_0": lambda b: (_bits(b[:, 2:], 4, 16).view(torch.int8) - 8, _half(b[:, :2])),
    "Q4_1": lambda b: (_bits(b[:, 4:], 4, 16), *_half(b[:, :4]).split(1, 1)),
    "Q5_0": lambda b: (_fifth(b[:, 2:]).view(torch.int8) - 16, _half(b[:, :2])),
    "Q5_1": lambda b: (_fifth(b[:, 4:]), *_half(b[:, :4]).split(1, 1)),
    "Q8_0": lambda b: (b[:, 2:].view(torch.int8), _half(b[:, :2])),
    "Q2_K": lambda b: (
        _bits(b[:, 16:80], 2, 32), _half(b[:, 80:82]) * (b[:, :16] & 15), -_half(b[:, 82:]) * (b[:, :16] >> 4)
    ),
    "Q3_K": lambda b: (
        (_bits(b[:, 32:96], 2, 32) | _bits(b[:, :32], 1, 32) << 2).view(torch.int8) - 4,
        _half(b[:, 108:]) * ((_bits(b[:, 96:104], 4, 8) | _bits(b[:, 104:108], 2, 4) << 4).view(torch.int8) - 32),
    ),
    "Q4_K": lambda b: (_bits(b[:, 16:], 4, 32), *_scales(b)),
    "Q5_K": lambda b: (_bits(b[:, 48:], 4, 32) | _bits(b[:, 16:48], 1, 32) << 4, *_scales(b)),
    "Q6_K": lambda b: (
        (_bits(b[:, :128], 4, 64) | _bits(b[:, 128:192], 2, 32) << 4).view(torch.int8) - 32,
        _half(b[:, 208:]) * b[:, 192:208].view(torch.int8),
    ),
    "IQ4_NL": lambda b: (_IQ4[_bits(b[:, 2:], 4, 16).int()], _half(b[:, :2])),
    "IQ4_XS": lambda b: (
        _IQ4[_bits(b[:, 8:], 4, 16).int()],
        _half(b[:, :2]) * ((_bits(b[:, 4:8], 4, 1) | _bits(b[:, 2:4], 2, 1) << 4).view(torch.int8) - 32),
    ),
    "MXFP4": lambda b: (_FP4[_bits(b[:, 1:], 4, 16).int()], torch.exp2(b[:, :1].float() - 128)),
}  # fmt: skip


def dequantise(raw: Tensor, kind: str, dtype: torch.dtype, copy: bool = True) -> Tensor:
    """The values of stored bytes [..., bytes of a row] uint8 -> [..., values of a row]. copy: of plain floats, too."""
    if kind in PLAIN:
        return raw.view(PLAIN[kind]).to(dtype, copy=copy)
    values, size = next(sizes for name, *sizes in TENSOR_TYPES.values() if name == kind)
    blocks = raw.reshape(-1, size)
    out = torch.empty(len(blocks), values, dtype=dtype)
    for part, place in zip(blocks.split(CHUNK // values), out.split(CHUNK // values), strict=True):
        codes, scale, *offset = BLOCKS[kind](part)
        numbers = codes.unflatten(1, (scale.shape[1], -1)).float().mul_(scale[..., None])
        place.copy_((numbers.add_(offset[0][..., None]) if offset else numbers).flatten(1))
    return out.view(*raw.shape[:-1], -1)


def tensor_from(data: Tensor, source: Source, dtype: torch.dtype, copy: bool) -> Tensor:
    """The tensor that a source describes, out of the bytes of its file; a view of them if nothing changes, nor copy."""
    made = []
    for info in source.stored:
        raw, shape = data[info.start : info.start + info.size], info.shape
        if source.expert is not None:
            raw, shape = raw.view(shape[0], -1)[source.expert], shape[1:]
        raw = raw.view(*(shape if source.rows and len(shape) == 1 else shape[:-1]), -1)
        if source.rows:  # a row is whole blocks, which need not be opened to be moved
            raw = raw.unflatten(0, source.rows[0]).transpose(*source.rows[1]).flatten(0, 2)
        exact = torch.float32 if source.change == "less one" else dtype
        made.append(dequantise(raw, info.kind, exact, copy).view(shape))
    tensor = made[0] if len(made) == 1 else torch.stack(made, 2).flatten(1, 2)  # the first row of each, the second, ...
    if source.change == "transposed":
        return tensor.mT.contiguous()
    return (tensor - 1).to(dtype) if source.change == "less one" else tensor
