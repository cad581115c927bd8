"""GGUF: what a file's head says, the tokenizer in it, and files that lie."""

import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from plainformers import AutoTokenizer, train_tokenizer
from plainformers.gguf import read_gguf
from plainformers.gguf_tokenizer import tokenizer_from_gguf

TEXTS = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
SENTENCE = "No model file imports another, it's a rule."
KINDS = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(item):
    """A value with its type before it."""
    if isinstance(item, str):
        return struct.pack("<I", 8) + text(item)
    if isinstance(item, list):
        first = item[0]
        kind = 8 if isinstance(first, str) else KINDS[type(first)][0]
        body = [text(one) if kind == 8 else struct.pack(f"<{KINDS[type(one)][1]}", one) for one in item]
        return struct.pack("<IIQ", 9, kind, len(item)) + b"".join(body)
    kind, code = KINDS[type(item)]
    return struct.pack(f"<I{code}", kind, item)


def make_gguf(fields, tensors=(), version=3):
    """tensors: (name, array float32), or (name, type, shape, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(fields))
    head += b"".join(text(name) + value(item) for name, item in fields.items())
    data = b""
    for name, *rest in tensors:
        kind, shape, stored = rest if len(rest) > 1 else (0, rest[0].shape, rest[0].tobytes())
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", kind, len(data))
        data += stored + b"\0" * (-len(stored) % 32)
    return head + b"\0" * (-len(head) % 32) + data


@pytest.fixture(scope="module")
def bpe():
    return train_tokenizer(TEXTS, "bpe", vocab_size=400)


@pytest.fixture(scope="module")
def fields(bpe):
    import json

    model = json.loads(bpe.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe.get_vocab(), key=bpe.get_vocab().__getitem__)
    return {
        "general.architecture": "gpt2",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token == "<|endoftext|>" else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_the_head_is_read(write):
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    fields = {"a": "text", "b": 3, "c": 0.5, "d": True, "e": [1, 2, 3], "f": ["x", "y"], "g": [True, False]}
    for version in (2, 3):
        found = read_gguf(write(make_gguf(fields, [("w", weights), ("v", weights[0])], version)))
        assert found.version == version and list(found.tensors) == ["w", "v"]
        plain = {name: item.tolist() if isinstance(item, np.ndarray) else item for name, item in found.metadata.items()}
        assert plain == fields
        info = found.tensors["w"]
        assert info.shape == (2, 3) and info.kind == "F32" and info.size == 24
        np.testing.assert_array_equal(found.stored("w").view(np.float32).reshape(2, 3), weights)
        np.testing.assert_array_equal(found.stored("v").view(np.float32), weights[0])


def test_the_tokenizer_is_that_of_the_vocabulary(bpe, fields, write, tmp_path):
    path = write(make_gguf(fields))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for line in [*TEXTS, SENTENCE, "漢字 \t\n 🎬", ""]:
        assert tokenizer.encode(line, add_special_tokens=False) == bpe.encode(line, add_special_tokens=False)
    assert tokenizer.eos_token == "<|endoftext|>" and tokenizer.chat_template == "{{ messages[0].content }}"
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(SENTENCE).data == tokenizer(SENTENCE).data
    assert path.exists()
    with pytest.raises(FileNotFoundError, match="no 'other.gguf'; of GGUF files there is model.gguf"):
        AutoTokenizer.from_pretrained(tmp_path, gguf_file="other.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "rwkv"}, "model is 'rwkv'"),
        ({"tokenizer.ggml.pre": "never-heard-of"}, "pre is 'never-heard-of'"),
        ({"tokenizer.ggml.merges": ["nothing-of-it"]}, "merges cannot be read"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "one for each token"),
        ({"tokenizer.ggml.eos_token_id": 99_999}, "eos_token_id is 99999"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "has 'a' twice"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokens is a ndarray"),
        ({"tokenizer.ggml.model": None}, "model is missing"),
    ],
)
def test_a_vocabulary_that_contradicts_itself(change, message, fields, write):
    changed = {name: item for name, item in {**fields, **change}.items() if item is not None}
    with pytest.raises(ValueError, match=message) as error:
        tokenizer_from_gguf(write(make_gguf(changed)))
    assert "model.gguf" in str(error.value)


def lying(at, code, number, content=None):
    content = make_gguf({"a": ["x", "y"]}, [("w", np.zeros(3, np.float32))]) if content is None else content
    return content[:at] + struct.pack(code, number) + content[at + struct.calcsize(code) :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"PK" * 20, "begins with"),
        (lying(4, "<I", 1), "of version 1"),
        (lying(4, ">I", 3), "big-endian"),
        (lying(8, "<Q", 2**60), "number of tensors"),
        (lying(16, "<Q", 2**60), "number of metadata fields"),
        (lying(24, "<Q", 2**62), "a name of"),
        (lying(33, "<I", 77), "type 77"),
        (lying(37, "<I", 99), "array of type 99"),
        (lying(41, "<Q", 2**61), "an array of"),
        (lying(49, "<Q", 2**50), "a string needs"),
        (make_gguf({"a": "x" * 500})[:200], "needs 500 bytes"),
    ],
)
def test_a_file_that_lies(content, message, write):
    with pytest.raises(ValueError, match=message) as error:
        read_gguf(write(content))
    assert "model.gguf" in str(error.value)


def test_tensors_lie_inside_the_file(write):
    whole = make_gguf({}, [("w", np.zeros(100, np.float32))])
    with pytest.raises(ValueError, match=re.escape("tensor 'w': it ends at byte")):
        read_gguf(write(whole[:-64]))
    assert read_gguf(write(whole[:-64]), tensors=False).tensors == {}


@settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_a_clear_error(data, fields, tmp_path):
    content = bytearray(make_gguf(fields, [("w", np.zeros((2, 32), np.float32))]))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for read in (read_gguf, tokenizer_from_gguf):
        try:
            read(path)
        except ValueError as error:
            assert "fuzzed.gguf" in str(error)


VECTORS = Path(os.environ.get("PLAINFORMERS_TEST_GGUF", "/nonexistent"))  # a folder of ggml-vocab-*.gguf[.gz] and .out


@pytest.mark.real
@pytest.mark.skipif(not VECTORS.is_dir(), reason="PLAINFORMERS_TEST_GGUF names no folder of llama.cpp's vocabularies")
def test_the_vectors_of_llama_cpp(tmp_path):
    import gzip

    inputs = (VECTORS / "inputs.txt").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    files = sorted(VECTORS.glob("*.gguf.gz"))
    assert len(inputs) == 46 and files
    for file in files:
        path = tmp_path / file.stem
        path.write_bytes(gzip.decompress(file.read_bytes()))
        backend, _ = tokenizer_from_gguf(path)
        expected = (VECTORS / f"{file.stem}.out").read_text().split("\n")
        for source, line in zip(inputs, expected, strict=False):
            assert backend.encode(source, add_special_tokens=False).ids == [int(i) for i in line.split()], file.name
