"""Original vocabulary files that are neither WordPiece nor SentencePiece: the same ids, or an error that says why not."""

import base64
import gzip
import json
import os
import random
import time
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer as Backend, models, normalizers, pre_tokenizers, trainers

from plainformers import AutoTokenizer
from plainformers.conversion import (
    BYTES,
    convert,
    frame_texts,
    listed_tokens,
    looks_like_tiktoken,
    read_clip_merges,
    read_ids,
    read_merges,
    read_ranks,
    recover_merges,
    whisper_prefix,
    with_special,
)
from plainformers.families import (
    CL100K_SPLIT,
    CLIP_SPLIT,
    FAMILIES,
    GGUF_SPLITS,
    GPT2_SPLIT,
    O200K_SPLIT,
    QWEN2_SPLIT,
    RANK_FILES,
    TEKKEN_SPLIT,
)
from plainformers.tokenizer_classes import CLASSES

SAMPLES = (
    "the quick brown fox isn't here, they've gone and I'll say we're done; she'd know it's John's",
    "Grüße aus München, où est l'été? ¿Dónde está el niño? naïve façade Ærøskøbing Łódź",
    "Привет, как дела? Съешь же ещё этих мягких французских булок",
    "Γειά σου Κόσμε ᾿Αθῆναι ὁδός",
    "שלום עולם מה שלומך",
    "مرحبا بالعالم كيف حالك ٣٤٥",
    "你好，世界。我爱自然语言处理",
    "こんにちは世界。カタカナとひらがな",
    "안녕하세요 세계 한국어 문장",
    "नमस्ते दुनिया कैसे हो",
    "สวัสดีชาวโลก",
    "வணக்கம் உலகம்",
    "ሰላም ዓለም",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕿𝖊𝖝𝖙 𐐷𐐲𐑌 𓀀𓁿",
    "def f(x, y=3.14):\n\treturn {'a': [1, 2, 33, 444, 5555, 66666]}\r\n\r\n# end",
    "Ω Å ﬁ ﬂ ① ½ ² ǅ ſ ẞ İ ı",
)
MARKS = "\u0301\u0308\u0327\u20e3\u0e31\u093c\ufe0f\u200d\u200b\u00ad\u2060\ufeff\u202e\u202c\u2066\u2069"
CONTROLS = "\0\x01\x07\x08\x0b\x0c\x1b\x1f\x7f\x85\x9f\u2028\u2029\ufffd\uffff\ue000"
SPACES = (" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", " " * 17, "\n" * 9, "\t" * 5)
EMOJI = ("😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "❤️", "🇩🇪🇫🇷", "1️⃣", "🤷‍♂️")


def hard_texts(count: int, special: tuple[str, ...] = (), seed: int = 0) -> list[str]:
    """Texts of all scripts, with emoji, marks, control characters, runs of blanks, numbers, special tokens inside."""
    chance = random.Random(seed)
    words = [word for sample in SAMPLES for word in sample.split(" ")]

    def part() -> str:
        kind = chance.random()
        if kind < 0.45:
            return chance.choice(words)
        if kind < 0.60:
            return chance.choice(SPACES)
        if kind < 0.68:
            return chance.choice(EMOJI)
        if kind < 0.74:
            return chance.choice("aéक你 ") + "".join(chance.choices(MARKS, k=chance.randint(1, 4)))
        if kind < 0.79:
            return chance.choice(CONTROLS)
        if kind < 0.86:
            return str(chance.randrange(10 ** chance.randint(1, 12)))
        if kind < 0.92:
            return chance.choice(["'s", "'S", "'re", "’s", "''", "...", "!?", "--", "<|", "|>", "</w>", "//", "#$%"])
        if kind < 0.96 and special:
            return chance.choice(special)
        return chr(chance.choice([*range(32, 0x3000), *range(0x10000, 0x10400), *range(0x1F000, 0x1FA00)]))

    joined = ("".join if chance.random() < 0.5 else " ".join for _ in range(count))
    return ["", " ", *(join(part() for _ in range(chance.randint(1, 14))) for join in joined)][:count]


def write_json(path: Path, value) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def trained(special=(), size=700, split=None, normalizer=None, suffix=None):
    """(vocabulary, merges) of a small BPE over bytes, made here, with special tokens before."""
    end = {"end_of_word_suffix": suffix} if suffix else {}
    backend = Backend(models.BPE(**end))
    backend.pre_tokenizer = split or pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer:
        backend.normalizer = normalizer
    alphabet = sorted(BYTES.values())
    trainer = trainers.BpeTrainer(
        vocab_size=size + len(special), special_tokens=list(special), initial_alphabet=alphabet, show_progress=False, **end
    )  # fmt: skip
    backend.train_from_iterator([*SAMPLES * 3, *hard_texts(300, seed=7)], trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def write_bpe(folder: Path, vocab, merges, name: str, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": name, **config})
    return folder


def tiny(*extra: str):
    """A vocabulary of 256 bytes, a few pieces and special tokens."""
    pieces = ["he", "hel", "hell", "hello", "Ġw", "Ġwo", "or", "Ġwor", "ld", "Ġworld", "Ġhello"]
    merges = ["h e", "he l", "hel l", "hell o", "Ġ w", "Ġw o", "o r", "Ġwo r", "l d", "Ġwor ld", "Ġ hello"]
    vocab = {token: index for index, token in enumerate([*extra, *BYTES.values(), *pieces])}
    return vocab, merges
