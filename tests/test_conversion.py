"""Original vocabulary files that are no SentencePiece models: the same ids, or an error that says why not."""

import base64
import gzip
import json
import os
import random
import re
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
)
from plainformers.families import (
    CL100K_SPLIT,
    CLIP_SPLIT,
    FAMILIES,
    GGUF_SPLITS,
    TEKKEN_SPLIT,
    WHISPER_LANGUAGES,
    Original,
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
        vocab_size=size + len(special),
        special_tokens=list(special),
        initial_alphabet=alphabet,
        show_progress=False,
        **end,
    )
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
    return vocab, [tuple(merge.split()) for merge in merges]


# ---- Byte-level BPE


@pytest.mark.parametrize(
    "name", ["GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer"]
)
def test_bytes_give_every_text_back(name, tmp_path):
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
    vocab, merges = trained(special)
    tokenizer = AutoTokenizer.from_pretrained(write_bpe(tmp_path, vocab, merges, name))
    assert type(tokenizer) is CLASSES[name]
    by_hand = CLASSES[name](tmp_path / "vocab.json", tmp_path / "merges.txt")
    in_memory = CLASSES[name](vocab=vocab, merges=merges)
    nfc = name in ("GPTNeoXTokenizer", "Qwen2Tokenizer")
    for text in hard_texts(200):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert by_hand.encode(text, add_special_tokens=False) == in_memory.encode(text, add_special_tokens=False) == ids
        if not nfc:
            assert tokenizer.decode(ids) == text
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is CLASSES[name]
    assert [again(text).data for text in SAMPLES] == [tokenizer(text).data for text in SAMPLES]


def test_frames_of_the_families(tmp_path):
    vocab, merges = tiny("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    roberta = AutoTokenizer.from_pretrained(write_bpe(tmp_path, vocab, merges, "RobertaTokenizer"))
    assert roberta("hello", "hello").tokens() == ["<s>", "hello", "</s>", "</s>", "hello", "</s>"]
    ids = roberta("hello <mask>")["input_ids"]
    assert len(ids) == 4 and ids[2] == roberta.mask_token_id, "the mask takes the blank before it"
    assert "token_type_ids" not in roberta("hello")
    assert roberta("hello world", return_offsets_mapping=True)["offset_mapping"][2] == (6, 11)


def test_files_that_contradict_themselves(tmp_path):
    vocab, merges = tiny("<|endoftext|>")
    folder = write_bpe(tmp_path, vocab, merges, "GPT2Tokenizer")
    for file, content, message in (
        ("merges.txt", "#version: 0.2\nh nothing\n", "merges.txt"),
        ("merges.txt", "h e l\n", "merges.txt"),
        ("vocab.json", '{"a": 0', "vocab.json"),
        ("vocab.json", '{"a": -1}', "vocab.json"),
        ("vocab.json", '{"a": 0, "b": 0}', "vocab.json"),
        ("vocab.json", '{"a": "b"}', "vocab.json"),
        ("vocab.json", "[1]", "vocab.json"),
    ):
        kept = (folder / file).read_bytes()
        (folder / file).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            AutoTokenizer.from_pretrained(folder)
        (folder / file).write_bytes(kept)
    os.remove(folder / "merges.txt")
    with pytest.raises(FileNotFoundError, match="merges_file"):
        AutoTokenizer.from_pretrained(folder)


# ---- tiktoken


def as_bytes(token: str) -> bytes:
    back = {shown: byte for byte, shown in BYTES.items()}
    return bytes(back[letter] for letter in token)


def test_ranks_give_their_merges_back(tmp_path):
    vocab, merges = trained(size=900)
    found = recover_merges(dict(sorted(vocab.items(), key=lambda entry: entry[1])))
    assert [tuple(merge) for merge in found] == merges
    path = tmp_path / "small.tiktoken"
    lines = (base64.b64encode(as_bytes(token)) + b" %d" % index for token, index in vocab.items())
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert looks_like_tiktoken(path) and read_ranks(path) == vocab
    (tmp_path / "other.model").write_bytes(b"\n\x0e\n\x05<unk>")
    assert not looks_like_tiktoken(tmp_path / "other.model")
    path.write_bytes(b"!!! 1\n")
    with pytest.raises(ValueError, match="small.tiktoken"):
        read_ranks(path)


# ---- Bytes


def test_byt5_needs_no_file(tmp_path):
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer"})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("hello", "漢字 é", *hard_texts(60)):
        ids = tokenizer(text)["input_ids"]
        assert ids == [byte + 3 for byte in text.encode()] + [1]
        if "\ufffd" not in text:  # which is also what bytes that are no text become, and is left out
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("é")["input_ids"] == tokenizer("é")["input_ids"]


# ---- Frames, prefixes and special tokens


def test_more_frames(tmp_path):
    bert = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    deberta = AutoTokenizer.from_pretrained(write_bpe(tmp_path / "deberta", *tiny(*bert), "DebertaTokenizer"))
    pair = deberta("hello", "hello")
    assert pair.tokens() == ["[CLS]", "hello", "[SEP]", "hello", "[SEP]"] and pair["token_type_ids"] == [0, 0, 0, 1, 1]
    roberta = tiny("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    blenderbot = AutoTokenizer.from_pretrained(write_bpe(tmp_path / "blender", *roberta, "BlenderbotTokenizer"))
    assert blenderbot("hello world").tokens() == ["Ġhello", "Ġworld", "</s>"]
    folder = write_bpe(tmp_path / "roberta", *roberta, "RobertaTokenizer")
    kept = AutoTokenizer.from_pretrained(folder, trim_offsets=False)
    assert kept("hello world", return_offsets_mapping=True)["offset_mapping"][2] == (5, 11)
    prefixed = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    assert prefixed("hello").tokens() == ["<s>", "Ġhello", "</s>"]
    flags = {"content": "<mask>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    plain = AutoTokenizer.from_pretrained(write_bpe(tmp_path / "x", *roberta, "RobertaTokenizer", mask_token=flags))
    assert len(plain("hello <mask>")["input_ids"]) == 5, "what the file says about a token goes first"
    neox = write_bpe(
        tmp_path / "neox", *tiny("<|endoftext|>"), "GPTNeoXTokenizer", add_bos_token=True, add_eos_token=True
    )
    assert AutoTokenizer.from_pretrained(neox)("hello").tokens() == ["<|endoftext|>", "hello", "<|endoftext|>"]
    qwen = AutoTokenizer.from_pretrained(write_bpe(tmp_path / "qwen", *tiny("<|endoftext|>"), "Qwen2Tokenizer"))
    assert qwen.tokenize("12e\u0301") == ["1", "2", "Ã", "©"]
    vocab, merges = tiny("<|endoftext|>")
    with pytest.raises(ValueError, match="The vocabulary lacks <s> and </s>"):
        CLASSES["RobertaTokenizer"](vocab, merges)
    alone = {token: index for index, token in enumerate(["<unk>", "a", "b"])}
    assert CLASSES["GPT2Tokenizer"](alone, [], unk_token="<unk>")("abc")["input_ids"] == [1, 2, 0], "nothing vanishes"


WHISPER = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>")


def test_whisper_begins_with_language_and_task(tmp_path):
    vocab, merges = tiny(*WHISPER, "<|notimestamps|>")
    folder = write_bpe(tmp_path, vocab, merges, "WhisperTokenizer")
    assert AutoTokenizer.from_pretrained(folder)("hello").tokens() == [
        WHISPER[1],
        "<|notimestamps|>",
        "hello",
        WHISPER[0],
    ]
    french = AutoTokenizer.from_pretrained(folder, language="French", task="translate", predict_timestamps=True)
    assert french("hello").tokens() == [WHISPER[1], "<|fr|>", "<|translate|>", "hello", WHISPER[0]]
    with pytest.raises(ValueError, match="lacks '<|de|>'"):
        french.set_prefix_tokens(language="german")
    french.set_prefix_tokens(task="transcribe")
    assert french("hello").tokens()[:4] == [WHISPER[1], "<|fr|>", "<|transcribe|>", "hello"]
    french.set_prefix_tokens(predict_timestamps=False)
    start = [WHISPER[1], "<|fr|>", "<|transcribe|>", "<|notimestamps|>"]
    assert french.convert_ids_to_tokens(french.prefix_tokens) == start
    with pytest.raises(ValueError, match="'elvish' is none of Whisper's languages"):
        french.set_prefix_tokens("elvish")
    french.save_pretrained(folder / "saved")
    english = AutoTokenizer.from_pretrained(folder / "saved", language="english")
    assert english.convert_ids_to_tokens(english.prefix_tokens) == [WHISPER[1], "<|en|>", *start[2:]]
    backend, family = french.backend_tokenizer, FAMILIES["WhisperTokenizer"]
    frame_texts(backend, Original(family, french.special_tokens_map, {"language": "en"}))
    assert backend.encode("hello").tokens == [WHISPER[1], "<|en|>", "<|notimestamps|>", "hello", WHISPER[0]]
    assert whisper_prefix("castilian", None, True) == [WHISPER[1], "<|es|>"]
    with pytest.raises(ValueError, match="'klingon' is none of Whisper's languages"):
        AutoTokenizer.from_pretrained(folder, language="klingon")
    with pytest.raises(ValueError, match="task must be"):
        AutoTokenizer.from_pretrained(folder, task="summarise")
    # tokens that come after the vocabulary: the frame waits for them
    later, special = tiny(WHISPER[0]), {"eos_token": WHISPER[0]}
    backend = convert({"vocab_file": later[0], "merges_file": later[1]}, family, special, {}, "WhisperTokenizer")
    assert backend.encode("hello").tokens == ["hello"]
    with pytest.raises(ValueError, match="lacks '<|startoftranscript|>'"):
        frame_texts(backend, Original(family, special))
    backend.add_special_tokens([WHISPER[1], "<|notimestamps|>"])
    frame_texts(backend, Original(family, special))
    assert len(backend.encode("hello").ids) == 4


# ---- CLIP


def clip_bpe():
    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True)
    split = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    vocab, merges = trained((), 900, split, normalizer, "</w>")
    for token in (*(shown + "</w>" for shown in BYTES.values()), "<|startoftext|>", "<|endoftext|>"):
        vocab.setdefault(token, len(vocab))
    return vocab, merges


def test_clip(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(write_bpe(tmp_path, *clip_bpe(), "CLIPTokenizer"))
    encoded = tokenizer("  The QUICK\n\nbrown")
    assert encoded.tokens()[0] == "<|startoftext|>" and encoded.tokens()[-1] == "<|endoftext|>"
    assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == "the quick brown"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_clip_of_openai(tmp_path):
    """Its file of merges is the whole vocabulary."""
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write('"bpe_simple_vocab_16e6.txt#version: 0.2\nt h\nth e</w>\n')
    vocab, merges = read_clip_merges(path)
    assert len(vocab) == 516 and vocab["the</w>"] == 513 and merges == [("t", "h"), ("th", "e</w>")]
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("The")["input_ids"] == [514, 513, 515]
    assert CLASSES["CLIPTokenizer"](path)("the")["input_ids"] == [514, 513, 515]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="holds no merges of CLIP"):
        AutoTokenizer.from_pretrained(tmp_path)
    path.write_bytes(gzip.compress(b"\0" * (80 << 20)))
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_clip_merges(path)


# ---- More of tiktoken


def write_ranks(path: Path, ranks) -> Path:
    lines = (base64.b64encode(as_bytes(piece)) + b" %d" % rank for piece, rank in ranks.items())
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def by_ranks(word: bytes, ranks: dict[bytes, int]) -> list[int]:
    """As tiktoken does: a word that is a piece, else the pair of the lowest rank first, the leftmost of them."""
    if word in ranks:
        return [ranks[word]]
    parts = [word[i : i + 1] for i in range(len(word))]
    while pairs := [
        (ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False)) if a + b in ranks
    ]:
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[part] for part in parts]


def test_ranks_encode_as_they_say(tmp_path):
    """Also with pieces that no merge makes, and with pieces that can be made in several ways."""
    chance = random.Random(5)
    pieces = [chr(97 + letter) for letter in range(3)]
    for size in range(2, 7):
        pieces += sorted({"".join(chance.choices("abc", k=size)) for _ in range(3 * size)})
    others = [shown for shown in BYTES.values() if shown not in pieces]
    middle = pieces[3:]
    chance.shuffle(middle)
    ranks = {piece: rank for rank, piece in enumerate([*pieces[:3], *others, *middle])}
    path = write_ranks(tmp_path / "x.tiktoken", ranks)
    family = FAMILIES["GPT2Tokenizer"]
    backend = convert({"vocab_file": path}, family, family.special, {"pat_str": r"\S+|\s+"}, "x")
    raw = {as_bytes(piece): rank for piece, rank in ranks.items()}
    for _ in range(3000):
        word = "".join(chance.choices("abc", k=chance.randint(1, 14)))
        assert backend.encode(word).ids == by_ranks(word.encode(), raw), word


def test_rank_files_that_are_wrong(tmp_path):
    vocab, _ = tiny()
    path = write_ranks(tmp_path / "x.tiktoken", vocab)
    family = FAMILIES["GPT2Tokenizer"]

    def load(**settings):
        return convert({"vocab_file": path}, family, family.special, settings, "x")

    with pytest.raises(ValueError, match="x.tiktoken has 267 ranks; known are"):
        load()
    listed = {"267": {"content": "<a>"}, "270": {"content": "<b>"}}
    backend = load(pat_str=CL100K_SPLIT, added_tokens_decoder=listed)
    assert [backend.token_to_id(token) for token in ("<a>", "<|reserved_token_268|>", "<b>")] == [267, 268, 270]
    with pytest.raises(ValueError, match="far behind 267 ranks"):
        load(pat_str=CL100K_SPLIT, added_tokens_decoder={"9999999999": "<a>"})
    whole = path.read_bytes()
    for content, message in (
        (whole + b"@@@@ 300\n", "x.tiktoken, line 268"),
        (whole + b"YWJj\n", "x.tiktoken, line 268"),
        (whole + b"YWJj 1\n", "the ranks from 0 to 267, each once"),
        (whole + b"YWJj 999\n", "the ranks from 0 to 267, each once"),
        (whole + b"YWJj -1\n", "the ranks from 0 to 267, each once"),
        (b"YQ== 0\nYg== 1\n", "no piece for 254 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(pat_str=CL100K_SPLIT)
    long = {"a" * size: 256 + size for size in range(1, 1200)}
    with pytest.raises(ValueError, match="too long to find their merges"):
        recover_merges({shown: i for i, shown in enumerate(BYTES.values())} | long)


def test_tekken(tmp_path):
    vocab, _ = tiny()
    entries = [
        {"rank": rank, "token_bytes": base64.b64encode(as_bytes(piece)).decode(), "token_str": None}
        for piece, rank in vocab.items()
    ]
    config = {"pattern": TEKKEN_SPLIT, "default_num_special_tokens": 30, "default_vocab_size": 30 + 266}
    data = {"config": config, "vocab": entries}
    path = write_json(tmp_path / "tekken.json", data)
    tokenizer = CLASSES["LlamaTokenizer"](path)
    assert tokenizer("hello world").tokens() == ["<s>", "hello", "Ġworld"]
    assert tokenizer.backend_tokenizer.get_vocab_size() == 296, "what the file keeps in reserve is left out"
    assert [tokenizer.convert_tokens_to_ids(token) for token in ("[INST]", "<SPECIAL_29>", "!")] == [3, 29, 30]
    for broken in (
        {**data, "vocab": entries[1:]},
        {**data, "config": {**config, "pattern": "("}},
        {**data, "config": {**config, "default_num_special_tokens": 5}},
        {**data, "vocab": [{"rank": 0, "token_bytes": 5}]},
        {"config": {}},
        [],
    ):
        write_json(path, broken)
        with pytest.raises(ValueError, match="tekken.json"):
            CLASSES["LlamaTokenizer"](path)


# ---- Characters and words


def test_perceiver_and_canine(tmp_path):
    perceiver = CLASSES["PerceiverTokenizer"]()
    assert perceiver("aé")["input_ids"] == [4, 103, 201, 175, 5]
    assert perceiver.decode([103, 201], skip_special_tokens=True) == "a\ufffd"
    canine = CLASSES["CanineTokenizer"]()
    assert canine("aé😀", "b") == {
        "input_ids": [0xE000, 97, 233, 0x1F600, 0xE001, 98, 0xE001],
        "attention_mask": [1] * 7,
        "token_type_ids": [0] * 5 + [1] * 2,
    }
    assert canine.decode(canine("नम स्ते\n")["input_ids"], skip_special_tokens=True) == "नम स्ते\n"
    with pytest.raises((TypeError, ValueError), match="Missing .UNK. token"):
        canine("\U00050000")
    byt5 = CLASSES["ByT5Tokenizer"](extra_ids=2)
    assert len(byt5) == 261 and byt5("x <extra_id_1>y")["input_ids"] == [123, 35, 260, 124, 1]
    with pytest.raises(ValueError, match="extra_ids must be"):
        CLASSES["ByT5Tokenizer"](extra_ids=-1)
    with pytest.raises(ValueError, match="must be 3 different ones"):
        CLASSES["ByT5Tokenizer"](pad_token="</s>")


def test_words(tmp_path):
    esm = tmp_path / "vocab.txt"
    esm.write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", "L", "A", "<mask>"]), encoding="utf-8")
    tokenizer = CLASSES["EsmTokenizer"](esm)
    assert tokenizer("LA A<mask>zz L")["input_ids"] == [0, 4, 5, 5, 6, 3, 4, 2]
    words = {"[UNK]": 0, "[PAD]": 1, "the": 2, "end": 3}
    level = CLASSES["WordLevelTokenizer"](words, do_lower_case=True)
    assert level("The  END\tnear")["input_ids"] == [2, 3, 0] and level.decode([2, 3]) == "the end"
    with pytest.raises(ValueError, match="lacks .*UNK"):
        CLASSES["WordLevelTokenizer"]({"a": 0})


# ---- Files that are wrong


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ({}, "holds no tokens"),
        ({"a": 0, "b": 2}, "no token for the ids 1"),
        ({"a": 0, "b": 10**15}, "no token for the ids 1, 2, 3, 4, 5"),
        ({"a": 0, "b": 0}, "the id 0 to two tokens, 'a' and 'b'"),
        ({"a": -1}, "token 'a' the id -1"),
        ({"a": True}, "token 'a' the id True"),
        ({"a": 0.0}, "token 'a' the id 0.0"),
        ({"a": None}, "token 'a' the id None"),
        ({5: 0}, "token 5 the id 0"),
    ],
)
def test_ids_that_are_wrong(vocab, message):
    with pytest.raises(ValueError, match=message):
        read_ids(vocab)


def test_gaps_are_filled_by_what_is_listed():
    settings = {"added_tokens_decoder": {"1": {"content": "<b>"}, "7": {"content": "<far>"}, "x": {"content": "y"}}}
    assert listed_tokens(settings) == {1: "<b>", 7: "<far>"}
    assert read_ids({"a": 0, "c": 2}, settings) == {"a": 0, "<b>": 1, "c": 2}


def test_merges_in_memory():
    vocab = {"a": 0, "b": 1, "ab": 2}
    assert read_merges(["#version: 0.2", "a b", ""], vocab) == read_merges([("a", "b")], vocab) == [("a", "b")]
    for merges in ([("a", "c")], [("b", "a")], [("a",)], ["a  b"], [("a", "b", "c")]):
        with pytest.raises(ValueError, match="merges, entry 1"):
            read_merges(merges, vocab)


# ---- Time

UNITS = (" ", "\n", "a", "A", "1", "!", "\u0301", "aB", "\t ")
PATTERNS = sorted({pattern for patterns in GGUF_SPLITS.values() for pattern in patterns} | {CLIP_SPLIT})


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=range(len(PATTERNS)))
def test_no_pattern_takes_the_square_of_a_megabyte(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    for unit in UNITS:
        started = time.perf_counter()
        split.pre_tokenize_str(unit * (1_000_000 // len(unit)) + "x")
        assert time.perf_counter() - started < 20, unit  # the square would take hours


# ---- The published vocabularies

DATA = Path(os.environ.get("PLAINFORMERS_TEST_VOCABULARIES", "/nonexistent"))  # tokenizers/ and expected/ of the data
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="PLAINFORMERS_TEST_VOCABULARIES names no folder of them")


@pytest.mark.real
@needs_data
@pytest.mark.parametrize(
    ("expected", "name", "files"),
    [
        ("gpt2", "GPT2Tokenizer", ("gpt2/vocab.json", "gpt2/merges.txt")),
        ("gpt2", "GPT2Tokenizer", ("tiktoken/gpt2.tiktoken",)),
        ("whisper", "WhisperTokenizer", ("tiktoken/gpt2.tiktoken",)),
        ("cl100k_base", "GPT2Tokenizer", ("tiktoken/cl100k_base.tiktoken.gz",)),
        ("o200k_base", "GPT2Tokenizer", ("tiktoken/o200k_base.tiktoken.gz",)),
        ("clip", "CLIPTokenizer", ("clip/bpe_simple_vocab_16e6.txt.gz",)),
        ("bert_uncased", "BertTokenizer", ("wordpiece/bert-base-uncased-vocab.txt",)),
        ("bert_cased", "BertTokenizer", ("wordpiece/bert-base-cased-vocab.txt",)),
        ("pegasus", "PegasusTokenizer", ("pegasus/tokenizer.json.gz",)),
    ],
)
def test_published_vocabularies(expected, name, files, tmp_path):
    record = json.loads(gzip.decompress((DATA / "expected" / "tokenizers.json.gz").read_bytes()))
    paths = [DATA / "tokenizers" / file for file in files]
    for place, path in enumerate(paths):
        if path.suffix == ".gz" and name != "CLIPTokenizer":
            paths[place] = tmp_path / path.stem
            paths[place].write_bytes(gzip.decompress(path.read_bytes()))
    settings = {"do_lower_case": False} if expected == "bert_cased" else {}
    started = time.perf_counter()
    if paths[0].name == "tokenizer.json":
        tokenizer = CLASSES[name](tokenizer_file=paths[0])
    else:
        tokenizer = CLASSES[name](*paths, **settings)
    assert time.perf_counter() - started < 20  # 2.5 s for 200,000 ranks
    # gpt2 and tiktoken's were recorded without looking for special tokens in texts
    tokenizer.split_special_tokens = expected in ("gpt2", "cl100k_base", "o200k_base")
    ids = record["tokenizers"][expected]["ids"]
    assert [tokenizer(text, add_special_tokens=False)["input_ids"] for text in record["texts"]] == ids


# ---- Against the reference

MASK = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}
ROBERTA, GPT2 = ("<s>", "<pad>", "</s>", "<unk>", "<mask>"), ("<|endoftext|>",)
LANGUAGES = tuple(f"<|{code}|>" for code in dict.fromkeys(WHISPER_LANGUAGES.values()))
PREFIXES = (*WHISPER[:2], *LANGUAGES, "<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|notimestamps|>")
PREFIXED = {"extra_special_tokens": list(PREFIXES[1:])}
REFERENCES = {
    "GPT2Tokenizer": (GPT2, [{}, {"add_prefix_space": True}, {"add_bos_token": True}]),
    "RobertaTokenizer": (ROBERTA, [{"mask_token": MASK, "trim_offsets": trim} for trim in (True, False)]),
    "BartTokenizer": (ROBERTA, [{"mask_token": MASK, "add_prefix_space": True}]),
    "BlenderbotTokenizer": (ROBERTA, [{"mask_token": MASK}]),
    "DebertaTokenizer": (
        ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"),
        [{"mask_token": {**MASK, "content": "[MASK]"}}],
    ),
    "CodeGenTokenizer": (GPT2, [{}]),
    "GPTNeoXTokenizer": ((*GPT2, "<|padding|>"), [{}, {"add_bos_token": True, "add_eos_token": True}]),
    "Qwen2Tokenizer": ((*GPT2, "<|im_start|>"), [{"extra_special_tokens": ["<|im_start|>"]}]),
    "WhisperTokenizer": (
        PREFIXES,
        [PREFIXED, {**PREFIXED, "language": "french", "task": "translate"}, {**PREFIXED, "predict_timestamps": True}],
    ),
    "CLIPTokenizer": (("<|startoftext|>", "<|endoftext|>"), [{}]),
    "OpenAIGPTTokenizer": (("<unk>",), [{}]),
    "HerbertTokenizer": (ROBERTA, [{}]),
    "ByT5Tokenizer": (("<pad>", "<extra_id_0>", "<extra_id_124>"), [{}]),
    "PerceiverTokenizer": (("[PAD]", "[MASK]", "[CLS]"), [{}]),
    "CanineTokenizer": (("\ue000",), [{}]),
    "EsmTokenizer": (("<mask>", "MKT", "L A", "<null_1>", "G.-V"), [{}]),
}
ESM = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"


def reference_folder(folder: Path, name: str, special: tuple[str, ...], config: dict) -> Path:
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": name, **config})
    if name == "EsmTokenizer":
        (folder / "vocab.txt").write_text("\n".join(ESM.split()), encoding="utf-8")
    elif name == "CLIPTokenizer":
        write_bpe(folder, *clip_bpe(), name, **config)
    elif FAMILIES[name].kind == "wordbpe":
        backend = Backend(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=name == "OpenAIGPTTokenizer")
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=900, special_tokens=list(special), end_of_word_suffix="</w>", show_progress=False
        )
        backend.train_from_iterator(SAMPLES * 3, trainer)
        model = json.loads(backend.to_str())["model"]
        write_bpe(folder, model["vocab"], model["merges"], name, **config)
    elif FAMILIES[name].kind == "bytelevel":
        write_bpe(folder, *trained(special), name, **config)
    return folder


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "config"), [(name, config) for name, (_, configs) in REFERENCES.items() for config in configs]
)
def test_the_reference_gives_the_same(name, config, tmp_path):
    """Ids, offsets, types and decoded texts of 10,000 texts and 300 pairs, from the same files; then each reads what
    the other saved.

    Left out, since version 5 has them wrong: Blenderbot's frame and DeBERTa's of pairs, CANINE's types of pairs, that a
    mask takes the blank before it without a file that says so. ByT5 there adds no </s> to a text that ends in one.
    """
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    special, _ = REFERENCES[name]
    folder = reference_folder(tmp_path, name, special, config)
    ours = AutoTokenizer.from_pretrained(folder)
    theirs = getattr(transformers, name).from_pretrained(folder)
    assert type(ours) is CLASSES[name]
    texts = hard_texts(10_000, special)
    pairs = [] if name == "DebertaTokenizer" else list(zip(texts[:300], texts[300:600], strict=True))
    slow = name in ("ByT5Tokenizer", "PerceiverTokenizer", "CanineTokenizer", "EsmTokenizer")
    if slow:  # Python takes U+001C to U+001F for blanks beside special tokens, Unicode does not
        texts = [text for text in texts if not re.search("[\x1c-\x1f]", text)]
    call = {"return_token_type_ids": True, "add_special_tokens": name != "BlenderbotTokenizer"}
    for inputs in [(text,) for text in texts] + pairs:
        want = theirs(*inputs, **call, return_offsets_mapping=not slow)
        got = ours(*inputs, **call, return_offsets_mapping=not slow)
        for column in want:
            if column != "token_type_ids" or name != "CanineTokenizer" or len(inputs) == 1:
                assert list(map(str, got[column])) == list(map(str, want[column])), (column, inputs)
        for skip in (False, True):
            text = theirs.decode(want["input_ids"], skip_special_tokens=skip)
            if name == "ByT5Tokenizer" and "\ufffd" in text:  # which is also what bytes that are no text become
                continue
            if name != "CanineTokenizer" or skip:
                assert ours.decode(got["input_ids"], skip_special_tokens=skip) == text, inputs
    theirs.save_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    read = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    crossed, again = (getattr(transformers, name).from_pretrained(tmp_path / who) for who in ("ours", "theirs"))
    keeps = list(again("a")["input_ids"]) == list(theirs("a")["input_ids"])
    assert keeps or config == {
        "add_bos_token": True,
        "add_eos_token": True,
    }  # which it loses when it reads its own file
    for text in texts[:2000]:
        assert read(text)["input_ids"] == list(theirs(text)["input_ids"]), text
        assert not keeps or list(crossed(text)["input_ids"]) == ours(text)["input_ids"], text
