"""GGUF files: metadata (the vocabulary among them) and where each tensor lies. Nothing is copied until it is asked for.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Every count, length
and offset of a file is checked against its size before anything is made from it.
"""

import mmap
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MOST_OBJECTS = 1 << 22  # strings, keys, tensors and lists of one file; real ones have some 100,000
MOST_DIMENSIONS, MOST_NESTING, MOST_KEY = 4, 4, 1 << 16

# type of a value -> how struct and numpy read it
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LEAST = {_STRING: 8, _ARRAY: 12} | {kind: struct.calcsize(f"<{code}") for kind, code in _NUMBERS.items()}

# type of a tensor -> its name, values per block, bytes per block
_TYPES = """
0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34, 9 Q8_1 32 36, 10
Q2_K 256 84, 11 Q3_K 256 110, 12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210, 15 Q8_K 256 292, 16 IQ2_XXS 256
66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50, 20 IQ4_NL 32 18, 21 IQ3_S 256 110, 22 IQ2_S 256 82, 23
IQ4_XS 256 136, 24 I8 1 1, 25 I16 1 2, 26 I32 1 4, 27 I64 1 8, 28 F64 1 8, 29 IQ1_M 256 56, 30 BF16 1 2, 34
TQ1_0 256 54, 35 TQ2_0 256 66, 39 MXFP4 32 17
"""
TENSOR_TYPES = {int(i): (name, int(v), int(n)) for i, name, v, n in (row.split() for row in _TYPES.split(","))}


class TensorInfo(NamedTuple):
    """Where one tensor lies in its file, still in the form in which it is stored."""

    name: str
    shape: tuple[int, ...]  # as torch counts: the last dimension is the one that lies together
    kind: str  # a name of TENSOR_TYPES
    start: int  # bytes, from the beginning of the file
    size: int  # bytes


class GGUF(NamedTuple):
    """What the head of a file says."""

    path: Path
    version: int
    metadata: dict[str, Any]  # numbers, booleans and strings; arrays of numbers are numpy's, of strings lists
    tensors: dict[str, TensorInfo]

    def stored(self, name: str) -> np.ndarray:
        """The bytes of a tensor as they are stored [size], uint8, mapped and read-only."""
        info = self.tensors[name]
        return np.memmap(self.path, np.uint8, "r", info.start, (info.size,)) if info.size else np.empty(0, np.uint8)


def read_gguf(path: str | Path, *, tensors: bool = True) -> GGUF:
    """Reads the head. tensors=False leaves the tensors out, so that those of an unknown type do no harm.

    Raises ValueError, naming file and field, for what is no such file, is cut, or promises more than it holds.
    """
    path = Path(path)
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise ValueError(f"{path} is not a GGUF file: it has {path.stat().st_size} bytes, a head has at least 24.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Head(path, data).read(tensors)


class _Head:
    """A place in a file that moves on as values are read; `field` is what an error calls the value."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.data, self.size = path, data, len(data)
        self.place, self.objects, self.field = 0, 0, "the head"

    def error(self, what: str) -> ValueError:
        return ValueError(f"{self.path}, {self.field}: {what}. The file is damaged or cut; fetch it again.")

    def need(self, size: int, what: str) -> int:
        """Moves on by size bytes, which must be there; returns where they begin."""
        start = self.place
        if size > self.size - start:
            raise self.error(f"{what} needs {size:,} bytes at byte {start:,}, but the file has {self.size:,}")
        self.place = start + size
        return start

    def count(self, number: int, what: str) -> None:
        """Counts objects against the limit, before they are made."""
        self.objects += number
        if self.objects > MOST_OBJECTS:
            raise self.error(f"{number:,} {what}; no more than {MOST_OBJECTS:,} objects are read from one file")

    def number(self, code: str) -> Any:
        format = f"<{code}"
        (value,) = struct.unpack_from(format, self.data, self.need(struct.calcsize(format), "a number"))
        return value

    def string(self, most: int | None = None) -> str:
        length = self.number("Q")
        if most is not None and length > most:
            raise self.error(f"a name of {length:,} bytes; at most {most:,} are read")
        start = self.need(length, "a string")
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as reason:
            raise self.error(f"a string that is not UTF-8 ({reason})") from None

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(depth + 1)
        if kind == 7:
            if (byte := self.number("B")) > 1:
                raise self.error(f"a boolean that is {byte}, not 0 or 1")
            return bool(byte)
        if kind not in _NUMBERS:
            raise self.error(f"values of type {kind}, which is not known")
        return self.number(_NUMBERS[kind])

    def array(self, depth: int) -> Any:
        kind, length = self.number("I"), self.number("Q")
        if kind not in _LEAST:
            raise self.error(f"an array of type {kind}, which is not known")
        if depth > MOST_NESTING:
            raise self.error(f"arrays within arrays, more than {MOST_NESTING} deep")
        if length * _LEAST[kind] > self.size - self.place:
            raise self.error(f"an array of {length:,} values at byte {self.place:,}, but the file has {self.size:,}")
        if kind in _NUMBERS:
            dtype = np.dtype(np.uint8 if kind == 7 else f"<{_NUMBERS[kind]}")
            start = self.need(length * dtype.itemsize, "an array")
            values = np.frombuffer(self.data[start : self.place], dtype)
            return values.astype(bool) if kind == 7 else values
        self.count(length, "values in an array")
        return self.strings(length) if kind == _STRING else [self.value(kind, depth) for _ in range(length)]

    def strings(self, length: int) -> list[str]:
        """A vocabulary, say: the same as so many calls of string, in a third of the time."""
        data, size, found, unpack = self.data, self.size, list[str](), struct.Struct("<Q").unpack_from
        for _ in range(length):
            start = self.place + 8
            if start > size or (end := start + unpack(data, self.place)[0]) > size:
                self.string()  # raises
            try:
                found.append(data[start:end].decode())
            except UnicodeDecodeError:
                self.string()
            self.place = end
        return found

    def read(self, tensors: bool) -> GGUF:
        if (magic := self.data[:4]) != b"GGUF":
            raise ValueError(f"{self.path} is not a GGUF file: it begins with {magic!r}, not with b'GGUF'.")
        self.place = 4
        version = self.number("I")
        if version not in (2, 3):
            kind = "big-endian" if version & 0xFFFF == 0 and version else f"of version {version}"
            raise ValueError(f"{self.path} is {kind}; GGUF of versions 2 and 3, little-endian, is read here.")
        n_tensors, n_fields = self.number("Q"), self.number("Q")
        self.field = "the number of metadata fields"
        if n_fields * 13 > self.size:
            raise self.error(f"{n_fields:,}, more than fit in {self.size:,} bytes")
        metadata: dict[str, Any] = {}
        for index in range(n_fields):
            self.field = f"metadata field {index}"
            self.count(1, "field")
            name = self.string(MOST_KEY)
            self.field = f"metadata field {name!r:.200}"
            if name in metadata:
                raise self.error("it stands there twice")
            metadata[name] = self.value(self.number("I"))
        infos = {info.name: info for info in self.tensor_infos(n_tensors, metadata)} if tensors else {}
        return GGUF(self.path, version, metadata, infos)

    def tensor_infos(self, number: int, metadata: dict[str, Any]) -> Iterator[TensorInfo]:
        self.field = "the number of tensors"
        if number * 24 > self.size:
            raise self.error(f"{number:,}, more than fit in {self.size:,} bytes")
        found: dict[str, tuple[tuple[int, ...], str, int, int]] = {}
        for index in range(number):
            self.field = f"tensor {index}"
            self.count(1, "tensor")
            name = self.string(MOST_KEY)
            self.field = f"tensor {name!r:.200}"
            if name in found:
                raise self.error("it stands there twice")
            if not 0 < (dimensions := self.number("I")) <= MOST_DIMENSIONS:
                raise self.error(f"{dimensions} dimensions; there can be 1 to {MOST_DIMENSIONS}")
            shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
            kind, offset = self.number("I"), self.number("Q")
            if kind not in TENSOR_TYPES:
                known = ", ".join(name for name, *_ in TENSOR_TYPES.values())
                raise self.error(f"type {kind} is not known; known are {known}")
            label, values, size = TENSOR_TYPES[kind]
            if shape[-1] % values:
                raise self.error(f"rows of {shape[-1]} values do not fill blocks of {values}, as {label} has them")
            found[name] = shape, label, offset, prod(shape) // values * size
        self.field = "metadata field 'general.alignment'"
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self.error(f"it must be a power of two, not {alignment!r:.50}")
        base = -(-self.place // alignment) * alignment  # the tensors begin at the next multiple
        for name, (shape, label, offset, size) in found.items():
            self.field = f"tensor {name!r:.200}"
            if offset % alignment:
                raise self.error(f"it begins at {offset}, not at a multiple of {alignment}")
            if base + offset + size > self.size:
                raise self.error(f"it ends at byte {base + offset + size:,}, but the file has {self.size:,}")
            yield TensorInfo(name, shape, label, base + offset, size)
