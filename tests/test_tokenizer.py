"""Text becomes the right ids and comes back, whatever the files look like; and nothing wrong passes in silence."""

import copy
import json
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import assets
import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import AddedToken

import plainformers.logging
from plainformers.encoding import NO_LIMIT, BatchEncoding, CharSpan, TokenSpan
from plainformers.tokenizer import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Tokenizer
from plainformers.tokenizer_classes import (
    REGISTERED,
    AutoTokenizer,
    BertTokenizer,
    BertTokenizerFast,
    DistilBertTokenizer,
    load_tokenizer,
)

DATA = Path(__file__).parent / "data" / "tokenizers"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, "the", "cat", "s", "##s", "sat", "on", "mat", ",", "!", "'", "a", "b", "c", "d", "e", "É"]
PAD, UNK, CLS, SEP, MASK, THE, CAT, S, SS, SAT, ON, MAT = range(12)
A, B, C, D, E = (TOKENS.index(letter) for letter in "abcde")


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(vocab):
    return BertTokenizer(vocab, model_max_length=16)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A model's folder with tokenizer.json, whose file cuts and pads by itself as MiniLM's does."""
    path = tmp_path / "model"
    tokenizer.save_pretrained(path)
    backend = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=4, pad_id=PAD, pad_token="[PAD]")
    backend.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def said(monkeypatch):
    """The messages that are logged during a test."""
    lines = []
    monkeypatch.setattr(plainformers.logging, "_said", set())
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = plainformers.logging.get_logger()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


# ---- Encoding


def test_one_text(tokenizer):
    assert tokenizer("The cats sat!") == {
        "input_ids": [CLS, THE, CAT, SS, SAT, TOKENS.index("!"), SEP],
        "token_type_ids": [0] * 7,
        "attention_mask": [1] * 7,
    }
    assert tokenizer("")["input_ids"] == [CLS, SEP]
    assert tokenizer("zebra the", add_special_tokens=False)["input_ids"] == [UNK, THE]
    assert tokenizer.encode("the cat") == [CLS, THE, CAT, SEP]
    assert tokenizer.tokenize("the cats") == ["the", "cat", "##s"]
    assert tokenizer.tokenize("the", "cat", add_special_tokens=True) == ["[CLS]", "the", "[SEP]", "cat", "[SEP]"]


def test_special_tokens_in_the_text(tokenizer):
    assert tokenizer.encode("the [MASK] sat") == [CLS, THE, MASK, SAT, SEP]
    tokenizer.split_special_tokens = True
    assert MASK not in tokenizer.encode("the [MASK] sat")
    tokenizer.split_special_tokens = False
    assert tokenizer.encode("the [MASK] sat") == [CLS, THE, MASK, SAT, SEP]


def test_pairs(tokenizer):
    expected = {"input_ids": [CLS, A, SEP, B, C, SEP], "token_type_ids": [0, 0, 0, 1, 1, 1], "attention_mask": [1] * 6}
    rows = {name: [column] for name, column in expected.items()}
    assert tokenizer("a", "b c") == expected
    assert tokenizer(["a"], ["b c"]) == rows
    assert tokenizer([("a", "b c")]) == rows
    assert tokenizer.batch_encode_plus([["a", "b c"]]) == rows
    assert tokenizer.encode_plus("a", "b c") == expected


def test_words(tokenizer):
    assert tokenizer(["cats", "a b"], is_split_into_words=True)["input_ids"] == [CLS, CAT, SS, A, B, SEP]
    encoded = tokenizer([["cats", "a"], ["b"]], is_split_into_words=True)
    assert encoded["input_ids"] == [[CLS, CAT, SS, A, SEP], [CLS, B, SEP]]
    assert encoded.word_ids(0) == [None, 0, 0, 1, None]
    assert tokenizer(["a"], ["b", "c"], is_split_into_words=True)["input_ids"] == [CLS, A, SEP, B, C, SEP]
    assert tokenizer([], is_split_into_words=True)["input_ids"] == [CLS, SEP]


def test_any_sequence_of_texts(tokenizer):
    expected = [[CLS, A, SEP], [CLS, B, SEP]]
    assert tokenizer(("a", "b"))["input_ids"] == expected
    assert tokenizer(np.array(["a", "b"]))["input_ids"] == expected


def test_targets_become_labels(tokenizer):
    assert tokenizer("a", text_target="b")["labels"] == [CLS, B, SEP]
    assert tokenizer(text_target="b")["input_ids"] == [CLS, B, SEP]
    with tokenizer.as_target_tokenizer():
        assert tokenizer("b")["input_ids"] == [CLS, B, SEP]


def test_columns_that_are_asked_for(tokenizer):
    encoded = tokenizer(
        "a b",
        return_special_tokens_mask=True,
        return_offsets_mapping=True,
        return_length=True,
        return_token_type_ids=False,
    )
    assert encoded == {
        "input_ids": [CLS, A, B, SEP],
        "attention_mask": [1, 1, 1, 1],
        "special_tokens_mask": [1, 0, 0, 1],
        "offset_mapping": [(0, 0), (0, 1), (2, 3), (0, 0)],
        "length": [4],
    }
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert list(tokenizer("a", return_attention_mask=False)) == ["input_ids"]
    assert list(tokenizer("a", return_token_type_ids=True)) == ["input_ids", "token_type_ids", "attention_mask"]


def test_padding(tokenizer):
    texts = ["a", "a b c"]
    encoded = tokenizer(texts, padding=True)
    assert encoded["input_ids"] == [[CLS, A, SEP, PAD, PAD], [CLS, A, B, C, SEP]]
    assert encoded["attention_mask"] == [[1, 1, 1, 0, 0], [1] * 5]
    assert encoded.tokens(0) == ["[CLS]", "a", "[SEP]", "[PAD]", "[PAD]"]
    assert encoded.sequence_ids(0) == [None, 0, None, None, None]
    assert tokenizer(texts, padding="longest", padding_side="left")["input_ids"][0] == [PAD, PAD, CLS, A, SEP]
    assert tokenizer("a", padding="max_length", max_length=4)["input_ids"] == [CLS, A, SEP, PAD]
    assert len(tokenizer("a", padding="max_length")["input_ids"]) == 16
    assert [len(row) for row in tokenizer(texts, padding=True, pad_to_multiple_of=8)["input_ids"]] == [8, 8]
    assert tokenizer(texts, padding="do_not_pad")["input_ids"][0] == [CLS, A, SEP]
    tokenizer.pad_token_type_id = 3
    assert tokenizer(texts, padding=True)["token_type_ids"][0] == [0, 0, 0, 3, 3]


def test_truncation(tokenizer):
    assert tokenizer.encode("a b c d", truncation=True, max_length=4) == [CLS, A, B, SEP]
    assert tokenizer.encode("a b c d", truncation="longest_first", max_length=2) == [CLS, SEP]
    assert tokenizer.encode("a b c", "d e", truncation="only_first", max_length=6) == [CLS, A, SEP, D, E, SEP]
    assert tokenizer.encode("a b c", "d e", truncation="only_second", max_length=7) == [CLS, A, B, C, SEP, D, SEP]
    assert tokenizer.encode("a b c", "d", truncation=True, max_length=5) == [CLS, A, SEP, D, SEP]
    assert len(tokenizer.encode("a " * 40, truncation=True)) == 16
    assert tokenizer.encode("a b c", truncation=False, max_length=3) == [CLS, A, B, C, SEP]
    assert tokenizer.encode("a b c", padding="max_length", max_length=3) == [CLS, A, B, C, SEP]
    assert tokenizer.encode("a b c", truncation="do_not_truncate", max_length=3) == [CLS, A, B, C, SEP]
    tokenizer.truncation_side = "left"
    assert tokenizer.encode("a b c d", truncation=True, max_length=4) == [CLS, C, D, SEP]
    assert tokenizer.encode("a b c d") == [CLS, A, B, C, D, SEP]


def test_overflow_becomes_rows(tokenizer):
    options = {"truncation": "only_second", "max_length": 6, "stride": 1, "return_overflowing_tokens": True}
    encoded = tokenizer(["a", "b"], ["a b c d", "e"], padding=True, return_offsets_mapping=True, **options)
    assert encoded["input_ids"] == [
        [CLS, A, SEP, A, B, SEP],
        [CLS, A, SEP, B, C, SEP],
        [CLS, A, SEP, C, D, SEP],
        [CLS, B, SEP, E, SEP, PAD],
    ]
    assert encoded.pop("overflow_to_sample_mapping") == [0, 0, 0, 1]
    assert encoded["offset_mapping"][1] == [(0, 0), (0, 1), (0, 0), (2, 3), (4, 5), (0, 0)]
    assert encoded.sequence_ids(1) == [None, 0, None, 1, 1, None]
    assert tokenizer("a", "b", **options)["overflow_to_sample_mapping"] == [0]


def test_tensors(tokenizer):
    encoded = tokenizer(["a", "a b"], padding=True, return_tensors="pt")
    assert encoded["input_ids"].dtype == torch.int64
    assert encoded["input_ids"].tolist() == [[CLS, A, SEP, PAD], [CLS, A, B, SEP]]
    assert tokenizer("a", return_tensors="np")["attention_mask"].tolist() == [[1, 1, 1]]
    empty = tokenizer("", add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert empty.shape == (1, 0) and empty.dtype == torch.int64


def test_threads_do_not_disturb_each_other(tokenizer):
    wrong = []

    def work(length):
        for _ in range(300):
            ids = tokenizer("a b c d", truncation=True, max_length=length)["input_ids"]
            rows = tokenizer(["a b c d"] * 2, truncation=bool(length % 2), max_length=length)["input_ids"]
            if len(ids) != length or {len(row) for row in rows} != {length if length % 2 else 6}:
                wrong.append(length)

    threads = [threading.Thread(target=work, args=(length,)) for length in (2, 3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_long_text_takes_bounded_time(tokenizer):
    assert len(tokenizer("the cat " * 125_000, truncation=True)["input_ids"]) == 16
    assert tokenizer("x" * 1_000_000)["input_ids"] == [CLS, UNK, SEP]


# ---- What is refused, and what is said


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (["a b a"], {"max_lenght": 1}, TypeError, "Did you mean 'max_length'"),
        ([], {}, TypeError, "text must be a str, not NoneType"),
        ([3], {}, TypeError, "text must be a str, not int: 3"),
        ([b"a"], {}, TypeError, "text must be a str, not bytes"),
        ([{"text": "a"}], {}, TypeError, "text must be a str, not dict"),
        ([["a", None]], {}, TypeError, r"text\[1\] must be a str, not NoneType"),
        ([["a"], [None]], {}, TypeError, r"text_pair\[0\] must be a str, not NoneType"),
        ([[["a", "b", "c"]]], {}, TypeError, "is_split_into_words=True"),
        (["a", ["b"]], {}, TypeError, "text is a str, text_pair a list"),
        ([["a"], "b"], {}, TypeError, "text_pair must be a list too"),
        ([["a", "b"], ["c"]], {}, ValueError, "text has 2 texts, text_pair 1"),
        (["ab\ud800"], {}, ValueError, r"U\+D800\) at character 2"),
        (["a"], {"return_tensors": "tf"}, ValueError, "'pt' .*'np' .* not 'tf'"),
        ([["a", "a b"]], {"return_tensors": "pt"}, ValueError, "rows of 3 to 4 items.*padding=True"),
        ([["a", "a b"]], {"return_tensors": "np"}, ValueError, "rows of 3 to 4 items.*padding=True"),
        ([[]], {"return_tensors": "pt"}, ValueError, "empty list"),
        (["a"], {"padding": "longst"}, ValueError, "Did you mean 'longest'"),
        (["a"], {"truncation": "only_frist"}, ValueError, "Did you mean 'only_first'"),
        (["a"], {"padding": True, "padding_side": "middle"}, ValueError, "'left' or 'right', not 'middle'"),
        (["a b"], {"truncation": True, "max_length": 1}, ValueError, "beside 2 special ones"),
        (["a b"], {"truncation": True, "max_length": -1}, ValueError, "not -1"),
        (["a b"], {"truncation": True, "max_length": 4.0}, ValueError, "not 4.0"),
        (["a b"], {"truncation": True, "max_length": 4, "stride": 2}, ValueError, "too few for stride=2"),
        (["a", "b c d"], {"truncation": "only_first", "max_length": 4}, ValueError, "longest_first"),
        (
            ["a"],
            {"truncation": True, "padding": True, "max_length": 5, "pad_to_multiple_of": 4},
            ValueError,
            "max_length=5 is not a multiple of pad_to_multiple_of=4",
        ),
    ],
)
def test_refused(tokenizer, arguments, options, error, message):
    with pytest.raises(error, match=message):
        tokenizer(*arguments, **options)
    assert tokenizer.encode("a b c d") == [CLS, A, B, C, D, SEP]  # and the state is as before


def test_a_panic_of_the_library_is_an_error(tokenizer, capfd):
    with pytest.raises(ValueError, match="gave up"):
        tokenizer("a b c", "d e", truncation=True, max_length=6, stride=1)
    capfd.readouterr()
    assert tokenizer.encode("a", "b") == [CLS, A, SEP, B, SEP]


def test_no_texts(tokenizer):
    assert tokenizer([]) == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert tokenizer([], padding=True, truncation=True)["input_ids"] == []


def test_padding_needs_a_pad_token(tokenizer):
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"no pad_token.*tokenizer.eos_token.*add_special_tokens"):
        tokenizer(["a", "b"], padding=True)
    tokenizer.pad_token = "<new>"
    assert tokenizer.pad_token_id is None
    with pytest.raises(ValueError, match="'<new>' is not in the vocabulary"):
        tokenizer(["a", "b"], padding=True)


def test_messages_come_once(tokenizer, said):
    for count in (20, 21):
        tokenizer("a " * count)
    assert len(said) == 1 and "more tokens than the 16" in said[0]
    tokenizer("a " * 20, verbose=False)
    tokenizer.model_max_length = NO_LIMIT
    for _ in range(2):
        assert len(tokenizer("a " * 20, truncation=True)["input_ids"]) == 22
        assert len(tokenizer("a", padding="max_length")["input_ids"]) == 3
    assert len(said) == 2 and "not cut or padded" in said[1]
    assert tokenizer.encode("a b c", max_length=4) == [CLS, A, B, SEP]
    assert len(said) == 3 and "max_length without truncation" in said[2]
    assert tokenizer.encode("a b c", max_length=4, padding=True) == [CLS, A, B, C, SEP]
    assert len(said) == 4 and "max_length has no effect" in said[3]


# ---- BatchEncoding


def test_batch_encoding_is_a_mapping(tokenizer):
    encoded = tokenizer("a b")
    assert {**encoded} == dict(encoded.items()) and encoded.input_ids == encoded["input_ids"]
    assert encoded[0].ids == [CLS, A, B, SEP] and encoded.is_fast and encoded.n_sequences == 1
    assert tokenizer(["a", "b"])[1:]["input_ids"] == [[CLS, B, SEP]]
    with pytest.raises(AttributeError, match="has no 'input_id'.*Did you mean 'input_ids'"):
        assert encoded.input_id
    with pytest.raises(KeyError):
        encoded["labels"]
    other = encoded.copy()
    other["labels"] = 1
    assert "labels" not in encoded and other.tokens() == encoded.tokens()
    for again in (pickle.loads(pickle.dumps(encoded)), copy.deepcopy(encoded)):
        assert again == encoded and again.word_ids() == encoded.word_ids()


def test_batch_encoding_tensors(tokenizer):
    encoded = tokenizer("a b")
    assert encoded.convert_to_tensors("pt", prepend_batch_axis=True) is encoded
    assert encoded.input_ids.tolist() == [[CLS, A, B, SEP]]
    assert encoded.to("meta") is encoded and encoded.attention_mask.device.type == "meta"
    assert BatchEncoding({"x": [[1.5]], "y": [[1]]}, tensor_type="np")["x"].dtype == np.float64
    for kind in ("pt", "np"):
        with pytest.raises(ValueError, match="'x' cannot be made"):
            BatchEncoding({"x": ["text"]}, tensor_type=kind)
    with pytest.raises(ValueError, match="not made from text"):
        BatchEncoding({"input_ids": [1]}).word_ids()


def test_where_tokens_come_from(tokenizer):
    encoded = tokenizer(["b", "the cats sat"], ["b", "on a"])  # [CLS] the cat ##s sat [SEP] on a [SEP]
    assert encoded.n_sequences == 2
    assert encoded.word_ids(1) == [None, 0, 1, 1, 2, None, 0, 1, None]
    assert encoded.sequence_ids(1) == [None, 0, 0, 0, 0, None, 1, 1, None]
    assert encoded.token_to_chars(1, 3) == CharSpan(7, 8) and encoded.token_to_chars(1, 0) is None
    assert encoded.token_to_word(1, 3) == 1 and encoded.token_to_word(1, -2) == 1
    assert encoded.token_to_sequence(1, 6) == 1 and encoded.token_to_sequence(1, 0) is None
    assert encoded.word_to_tokens(1, 1) == TokenSpan(2, 4) and encoded.word_to_tokens(1, 1, sequence_index=1) == (7, 8)
    assert encoded.word_to_chars(1, 1) == CharSpan(4, 8)
    assert encoded.char_to_token(1, 5) == 2 and encoded.char_to_token(1, 3) is None
    assert encoded.char_to_word(1, 7) == 1 and encoded.char_to_word(1, 3, sequence_index=1) == 1
    assert encoded.token_to_word(1) == 0  # the first row, when no row is named


# ---- Ids that are made already


def test_pad(tokenizer):
    rows = [tokenizer("a"), {name: torch.tensor(column) for name, column in tokenizer("a b").items()}]
    padded = tokenizer.pad(rows, return_tensors="pt")
    assert padded["input_ids"].tolist() == [[CLS, A, SEP, PAD], [CLS, A, B, SEP]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    columns = tokenizer.pad({"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]}, padding_side="left")
    assert columns == {"input_ids": [[1, 2], [PAD, 3]], "labels": [[1, 2], [3]], "attention_mask": [[1, 1], [0, 1]]}
    assert tokenizer.pad({"input_ids": [1, 2]}, padding="max_length", max_length=3)["input_ids"] == [1, 2, PAD]
    assert tokenizer.pad({"input_ids": [[1], [2, 3]]}, pad_to_multiple_of=4)["input_ids"][0] == [1, PAD, PAD, PAD]
    assert tokenizer.pad({"input_ids": []}) == {"input_ids": [], "attention_mask": []}


def test_pad_refuses(tokenizer):
    with pytest.raises(ValueError, match="pad needs 'input_ids'"):
        tokenizer.pad({"ids": [[1]]})
    with pytest.raises(ValueError, match="Row 1 has"):
        tokenizer.pad([{"input_ids": [1]}, {"input_ids": [1], "labels": [1]}])
    with pytest.raises(TypeError, match="not str"):
        tokenizer.pad(["a"])
    with pytest.raises(ValueError, match="'labels' has rows of 1 to 2"):
        tokenizer.pad({"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]}, return_tensors="pt")


def test_ids_are_framed(tokenizer):
    assert tokenizer.build_inputs_with_special_tokens([A], [B, C]) == [CLS, A, SEP, B, C, SEP]
    assert tokenizer.create_token_type_ids_from_sequences([A], [B, C]) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.get_special_tokens_mask([A], [B]) == [1, 0, 1, 0, 1]
    assert tokenizer.get_special_tokens_mask([CLS, A, SEP], already_has_special_tokens=True) == [1, 0, 1]
    assert (tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)) == (2, 3)
    assert (tokenizer.max_len_single_sentence, tokenizer.max_len_sentences_pair) == (14, 13)


def test_prepare_for_model(tokenizer):
    made = tokenizer.prepare_for_model([A, B, C], [D], truncation=True, max_length=6, padding="max_length")
    assert made["input_ids"] == [CLS, A, B, SEP, D, SEP] and made["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert tokenizer.prepare_for_model([A], return_tensors="np")["input_ids"].tolist() == [CLS, A, SEP]
    rows = tokenizer.prepare_for_model([A], return_tensors="np", prepend_batch_axis=True)
    assert rows["input_ids"].tolist() == [[CLS, A, SEP]]
    with pytest.raises(TypeError, match="Did you mean 'max_length'"):
        tokenizer.prepare_for_model([A], max_lenght=3)


def test_truncate_sequences(tokenizer):
    assert tokenizer.truncate_sequences([1, 2, 3, 4], None, 2, stride=1) == ([1, 2], None, [2, 3, 4])
    assert tokenizer.truncate_sequences([1, 2, 3, 4], [5, 6], 3) == ([1, 2], [5], [])
    assert tokenizer.truncate_sequences([1, 2], [5, 6], 1, "only_second") == ([1, 2], [5], [6])
    assert tokenizer.truncate_sequences([1, 2], [5, 6], 0) == ([1, 2], [5, 6], [])
    tokenizer.truncation_side = "left"
    assert tokenizer.truncate_sequences([1, 2, 3], None, 1) == ([2, 3], None, [1])
    with pytest.raises(ValueError, match="3 tokens cannot be removed"):
        tokenizer.truncate_sequences([1, 2], [5, 6], 3, "only_first")


# ---- Decoding


def test_decode(tokenizer):
    ids = tokenizer.encode("the cats, sat!")
    assert tokenizer.decode(ids) == "[CLS] the cats, sat! [SEP]"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the cats, sat!"
    assert tokenizer.decode(CAT) == "cat" and tokenizer.decode([]) == ""
    for several in ([[A], [B]], np.array([[A], [B]]), torch.tensor([[A], [B]]), [torch.tensor([A]), np.array([B])]):
        assert tokenizer.decode(several) == tokenizer.batch_decode(several) == ["a", "b"]
    assert tokenizer.decode(torch.tensor([A, B])) == "a b" and tokenizer.decode(list(np.array([A, B]))) == "a b"
    assert tokenizer.decode(tokenizer("a", return_tensors="pt"), skip_special_tokens=True) == ["a"]
    assert tokenizer.batch_decode([A, B]) == ["a b"] and tokenizer.batch_decode([]) == []


def test_decoding_cleans_up_when_asked(tokenizer):
    ids = [A, TOKENS.index("'"), S]
    assert tokenizer.decode(ids) == "a ' s"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "a's"
    tokenizer.clean_up_tokenization_spaces = True
    assert tokenizer.decode([ids, ids]) == ["a's", "a's"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == "a ' s"
    assert tokenizer.clean_up_tokenization("do n't , I 'm") == "don't, I'm"


def test_decode_refuses(tokenizer):
    with pytest.raises(ValueError, match="-100 is no token id"):
        tokenizer.decode([A, -100])
    with pytest.raises(TypeError, match="not str: 'a'"):
        tokenizer.decode(["a"])
    with pytest.raises(TypeError, match="not float"):
        tokenizer.batch_decode([[1.0]])


def test_tokens_and_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["cat", "zebra"]) == [CAT, UNK] and tokenizer.convert_tokens_to_ids("a") == A
    assert tokenizer.convert_ids_to_tokens([CLS, CAT, 999]) == ["[CLS]", "cat", None]
    assert tokenizer.convert_ids_to_tokens(torch.tensor([CLS, CAT]), skip_special_tokens=True) == ["cat"]
    assert tokenizer.convert_ids_to_tokens(CAT) == "cat"
    assert tokenizer.convert_tokens_to_string(["cat", "##s", "a"]) == "cats a"


# ---- Vocabulary and special tokens


def test_vocabulary(tokenizer):
    assert len(tokenizer) == tokenizer.vocab_size == len(TOKENS)
    assert tokenizer.get_vocab() == tokenizer.vocab == {token: index for index, token in enumerate(TOKENS)}
    assert tokenizer.get_added_vocab() == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert tokenizer.added_tokens_decoder[MASK].content == "[MASK]"


def test_added_tokens(tokenizer):
    size = len(TOKENS)
    assert tokenizer.add_tokens(["xyz", "xyz"]) == 1 and tokenizer.add_tokens("[PAD]", special_tokens=True) >= 0
    assert tokenizer.encode("a XYZ", add_special_tokens=False) == [A, size]
    assert tokenizer.add_special_tokens({"pad_token": "<p>", "additional_special_tokens": ["<x>", "[SEP]"]}) == 2
    assert (tokenizer.pad_token_id, len(tokenizer), tokenizer.vocab_size) == (size + 1, size + 3, size)
    assert tokenizer.encode("a<x>b", add_special_tokens=False) == [A, size + 2, B]
    assert tokenizer.extra_special_tokens == tokenizer.additional_special_tokens == ["<x>", "[SEP]"]
    assert tokenizer.extra_special_tokens_ids == [size + 2, SEP]
    tokenizer.add_special_tokens({"extra_special_tokens": ["<y>"]}, replace_extra_special_tokens=False)
    assert tokenizer.extra_special_tokens == ["<x>", "[SEP]", "<y>"]
    assert tokenizer.decode([A, size + 2], skip_special_tokens=True) == "a"
    with pytest.raises(ValueError, match="'padtoken' is no special token. Did you mean 'pad_token'"):
        tokenizer.add_special_tokens({"padtoken": "<p>"})
    with pytest.raises(TypeError, match="must be a str or an AddedToken, not int"):
        tokenizer.add_tokens([3])


def test_special_tokens(tokenizer):
    assert (tokenizer.pad_token, tokenizer.cls_token_id, tokenizer.eos_token, tokenizer.eos_token_id) == (
        "[PAD]",
        CLS,
        None,
        None,
    )
    assert tokenizer.all_special_ids == [UNK, SEP, PAD, CLS, MASK]
    tokenizer.eos_token = tokenizer.sep_token
    assert tokenizer.eos_token_id == SEP and tokenizer.special_tokens_map["eos_token"] == "[SEP]"
    tokenizer.bos_token_id = CLS
    assert tokenizer.bos_token == "[CLS]"
    with pytest.raises(ValueError, match="no such id"):
        tokenizer.bos_token_id = 999
    with pytest.raises(TypeError, match="must be a str"):
        tokenizer.bos_token = 3
    with pytest.raises(AttributeError, match="Did you mean 'pad_token'"):
        assert tokenizer.padtoken


def test_copies(tokenizer):
    tokenizer.padding_side = "left"
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert again("a", truncation=True, max_length=4) == tokenizer("a") and again.padding_side == "left"
        again.add_tokens("xyz")
        assert len(again) == len(tokenizer) + 1


# ---- Construction


def test_public_names(vocab):
    assert PreTrainedTokenizerFast is PreTrainedTokenizerBase is Tokenizer and BertTokenizerFast is BertTokenizer
    assert "token_type_ids" not in DistilBertTokenizer(vocab)("a")


def test_bert_options(vocab):
    assert BertTokenizer(str(vocab)).tokenize("É") == ["e"]
    assert BertTokenizer(vocab, do_lower_case=False).tokenize("É the The") == ["É", "the", "[UNK]"]
    assert BertTokenizer(vocab, False, strip_accents=True).tokenize("É") == ["[UNK]"]
    assert BertTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}).encode("a") == [CLS, A, SEP]
    without_mask = {token: index for index, token in enumerate(TOKENS) if token != "[MASK]"}
    assert BertTokenizer(without_mask).mask_token is None
    with pytest.raises(TypeError, match="Did you mean 'model_max_length'"):
        BertTokenizer(vocab, model_max_lenght=3)
    with pytest.raises(TypeError, match="needs a vocabulary"):
        BertTokenizer()
    with pytest.raises(ValueError, match=r"lacks '\[SEP\]'"):
        BertTokenizer(vocab={"[UNK]": 0, "[CLS]": 1})
    with pytest.raises(ValueError, match="never_split"):
        BertTokenizer(vocab, never_split=["a"])
    with pytest.raises(ValueError, match="'left' or 'right'"):
        BertTokenizer(vocab, padding_side="top")


def test_a_tokenizer_object(tokenizer):
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "a": 1, "<mask>": 2}, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    raw.enable_truncation(1)
    ours = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", mask_token=AddedToken("<mask>", lstrip=True), eos_token="</s>"
    )
    assert ours("a a <mask> b")["input_ids"] == [1, 1, 2, 0] and ours.eos_token_id == 3
    assert ours.backend_tokenizer is raw and ours.tokenize("a <mask>") == ["a", " <mask>"]
    assert BertTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, do_lower_case=False).tokenize("É") == ["É"]
    with pytest.raises(TypeError, match="needs a tokenizers.Tokenizer"):
        Tokenizer("vocab.txt")


# ---- Files


def test_tokenizer_json_neither_cuts_nor_pads(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer) is BertTokenizer and tokenizer.name_or_path == str(folder)
    assert tokenizer("a")["input_ids"] == [CLS, A, SEP]
    assert tokenizer("a b c d")["input_ids"] == [CLS, A, B, C, D, SEP]
    assert tokenizer.model_max_length == 16


def test_saving_gives_back_what_was_loaded(folder, tmp_path):
    config = read_json(folder / "tokenizer_config.json")
    config |= {"auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}, "unknown": {"a": [1]}, "never_split": None}
    del config["padding_side"]
    write_json(folder / "tokenizer_config.json", config)
    mask = {"content": "[MASK]", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    write_json(folder / "special_tokens_map.json", {"mask_token": mask, "pad_token": "[PAD]"})
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False)
    tokenizer("a b c", truncation=True, max_length=3, padding="max_length")
    paths = tokenizer.save_pretrained(tmp_path / "again")
    names = ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.txt"]
    assert [Path(path).name for path in paths] == names == sorted(names, key=names.index)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(names)
    for name in names[:3]:
        assert read_json(tmp_path / "again" / name) == read_json(folder / name)
    assert (tmp_path / "again" / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()


def test_changes_are_saved(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=9)
    tokenizer.padding_side = "left"
    tokenizer.eos_token = "[SEP]"
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.add_tokens("xyz")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<x>"]})
    tokenizer.save_pretrained(tmp_path / "again")
    config = read_json(tmp_path / "again" / "tokenizer_config.json")
    assert (config["model_max_length"], config["padding_side"], config["eos_token"]) == (9, "left", "[SEP]")
    assert read_json(tmp_path / "again" / "special_tokens_map.json")["additional_special_tokens"] == ["<x>"]
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again.encode("xyz<x>") == tokenizer.encode("xyz<x>") == [CLS, len(TOKENS), len(TOKENS) + 1, SEP]
    assert again.extra_special_tokens == ["<x>"] and again.chat_template == "{{ messages }}"
    assert (again.model_max_length, again.padding_side, again.eos_token_id) == (9, "left", SEP)


def test_a_new_tokenizer_saves_all(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "new")
    config = read_json(tmp_path / "new" / "tokenizer_config.json")
    assert config["tokenizer_class"] == "BertTokenizer" and config["do_lower_case"] is True
    assert config["cls_token"] == "[CLS]" and config["model_max_length"] == 16
    assert tokenizer.save_vocabulary(tmp_path, "my") == (str(tmp_path / "my-vocab.txt"),)
    with pytest.raises(ValueError, match="is a file"):
        tokenizer.save_pretrained(tmp_path / "my-vocab.txt")
    with pytest.raises(TypeError, match="Did you mean 'push_to_hub'|no argument 'push_to_hb'"):
        tokenizer.save_pretrained(tmp_path, push_to_hb=True)


def test_push_to_hub(tokenizer, monkeypatch):
    seen = {}

    def upload(folder, repo_id, **options):
        seen.update(options, repo_id=repo_id, names=sorted(path.name for path in Path(folder).iterdir()))
        return "address"

    monkeypatch.setattr("plainformers.tokenizer_files.upload", upload)
    assert tokenizer.push_to_hub("me/mine", private=True, use_auth_token="t") == "address"
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert seen == {"repo_id": "me/mine", "private": True, "token": "t", "names": names}


def test_vocab_txt_is_converted(vocab, tmp_path):
    (tmp_path / "m").mkdir()
    vocab.rename(tmp_path / "m" / "vocab.txt")
    folder = tmp_path / "m"
    assert type(AutoTokenizer.from_pretrained(folder)) is BertTokenizer  # nothing else is there
    write_json(folder / "config.json", {"model_type": "distilbert"})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer) is DistilBertTokenizer and tokenizer("É a") == {
        "input_ids": [CLS, E, A, SEP],
        "attention_mask": [1] * 4,
    }
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "ElectraTokenizerFast", "do_lower_case": False})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("É") == ["É"] and "token_type_ids" in tokenizer("a")
    tokenizer.save_pretrained(tmp_path / "again")
    assert read_json(tmp_path / "again" / "tokenizer_config.json")["tokenizer_class"] == "ElectraTokenizerFast"
    assert AutoTokenizer.from_pretrained(folder, do_lower_case=True).tokenize("É") == ["e"]
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "FooTokenizer"})
    with pytest.raises(ValueError, match="not known how FooTokenizer splits"):
        AutoTokenizer.from_pretrained(folder)
    write_json(folder / "tokenizer_config.json", {})
    write_json(folder / "config.json", {"model_type": "esm"})
    with pytest.raises(ValueError, match="model_type 'esm'"):
        AutoTokenizer.from_pretrained(folder)


def test_overrides(folder):
    tokenizer = BertTokenizer.from_pretrained(
        folder, do_lower_case=False, padding_side="left", pad_token="[MASK]", additional_special_tokens=["<x>"]
    )
    assert tokenizer.tokenize("É") == ["É"] and tokenizer.pad_token_id == MASK
    assert tokenizer(["a", "a b"], padding=True)["input_ids"][0] == [MASK, CLS, A, SEP]
    assert tokenizer.convert_tokens_to_ids("<x>") == len(TOKENS)
    with pytest.raises(TypeError, match="Did you mean 'padding_side'"):
        AutoTokenizer.from_pretrained(folder, paddin_side="left")
    with pytest.raises(FileNotFoundError, match="no folder 'other'"):
        AutoTokenizer.from_pretrained(folder, subfolder="other")


def test_added_tokens_of_old_files(vocab, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    vocab.rename(folder / "vocab.txt")
    size = len(TOKENS)
    write_json(folder / "added_tokens.json", {"xyz": size, "<x>": size + 1})
    write_json(
        folder / "special_tokens_map.json", {"additional_special_tokens": ["<x>"], "mask_token": {"content": "a"}}
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("xyz b <x>", add_special_tokens=False) == [size, B, size + 1]
    assert tokenizer.mask_token_id == A and tokenizer.decode([size, size + 1], skip_special_tokens=True) == "xyz"
    write_json(folder / "added_tokens.json", {"xyz": 99})
    with pytest.raises(ValueError, match="added_tokens.json contradicts itself: it gives token 'xyz' the id 99"):
        AutoTokenizer.from_pretrained(folder)


def test_added_tokens_decoder_and_named_tokens(folder, tmp_path):
    config = read_json(folder / "tokenizer_config.json")
    size = len(TOKENS)
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    config["added_tokens_decoder"] = {str(size): {"content": "<img>", **flags}}
    config["extra_special_tokens"] = {"image_token": "<img>", "video_token": "<vid>"}
    write_json(folder / "tokenizer_config.json", config)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.encode("a<img>", add_special_tokens=False) == [A, size]
    assert (tokenizer.image_token, tokenizer.image_token_id, tokenizer.video_token_id) == ("<img>", size, size + 1)
    tokenizer.save_pretrained(tmp_path / "again")
    saved = read_json(tmp_path / "again" / "tokenizer_config.json")
    assert saved["extra_special_tokens"] == config["extra_special_tokens"]
    assert saved["added_tokens_decoder"][str(size + 1)]["content"] == "<vid>"
    assert AutoTokenizer.from_pretrained(tmp_path / "again").get_vocab() == tokenizer.get_vocab()


def test_which_file_names_the_special_tokens(folder):
    config = read_json(folder / "tokenizer_config.json")
    write_json(folder / "special_tokens_map.json", {"pad_token": "[MASK]"})
    assert AutoTokenizer.from_pretrained(folder).pad_token == "[MASK]"
    write_json(folder / "tokenizer_config.json", config | {"added_tokens_decoder": {"0": {"content": "[PAD]"}}})
    assert AutoTokenizer.from_pretrained(folder).pad_token == "[PAD]"


def test_pad_token_of_tokenizer_json_alone(folder, tmp_path):
    (tmp_path / "bare").mkdir()
    (folder / "tokenizer.json").rename(tmp_path / "bare" / "tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bare")
    assert type(tokenizer) is Tokenizer and tokenizer.special_tokens_map == {"pad_token": "[PAD]"}
    assert tokenizer(["a", "a b"], padding=True)["input_ids"] == [[CLS, A, SEP, PAD], [CLS, A, B, SEP]]
    assert type(AutoTokenizer.from_pretrained(tmp_path / "bare", tokenizer_type="bert")) is BertTokenizer
    assert AutoTokenizer.from_pretrained(tmp_path / "bare", tokenizer_type="bert").mask_token_id == MASK


def test_a_chat_template_file(folder, tmp_path):
    (folder / "chat_template.jinja").write_text("{{ x }}", encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == "{{ x }}"
    tokenizer.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").read_text(encoding="utf-8") == "{{ x }}"


def test_no_tokenizer_in_the_folder(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="looked for tokenizer.json and original files .*vocab.txt.* it is empty"
    ):
        AutoTokenizer.from_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {})
    with pytest.raises(FileNotFoundError, match="original files .*; there are config.json"):
        AutoTokenizer.from_pretrained(tmp_path)


def without_quote(text):
    return text.replace('"', "", 1)


def cut_short(text):
    return text[: len(text) // 2]


def other_added_id(text):
    data = json.loads(text)
    data["added_tokens"][0]["id"] = 7
    return json.dumps(data)


def other_frame(text):
    data = json.loads(text)
    data["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [99_999]
    return json.dumps(data)


@pytest.mark.parametrize(
    "damage, message",
    [
        (without_quote, "not a tokenizer.json that can be read"),
        (cut_short, "not a tokenizer.json that can be read"),
        (lambda text: "[]", "not a tokenizer.json that can be read"),
        (lambda text: "", "not a tokenizer.json that can be read"),
        (other_added_id, r"gives token '\[PAD\]' the id 7, but the vocabulary has 0"),
        (other_frame, r"gives token '\[CLS\]' the id 99999, but the vocabulary has 2"),
    ],
)
def test_damaged_tokenizer_json(folder, damage, message):
    path = folder / "tokenizer.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=f"tokenizer.json.*{message}"):
        AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "config.json", "added_tokens.json"]
)
def test_damaged_json(folder, name):
    (folder / name).write_text('{"a": ', encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name} is not readable as JSON"):
        AutoTokenizer.from_pretrained(folder)
    (folder / name).write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name} must hold a JSON object, not a list"):
        AutoTokenizer.from_pretrained(folder)


def test_damaged_values(folder):
    (folder / "special_tokens_map.json").unlink()
    config = read_json(folder / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", config | {"cls_token": {"text": "[CLS]"}})
    with pytest.raises(ValueError, match="cls_token must be a string or an object with 'content'"):
        AutoTokenizer.from_pretrained(folder)
    write_json(folder / "tokenizer_config.json", config | {"model_max_length": "long"})
    with pytest.raises(ValueError, match="model_max_length must be a number of tokens, not 'long'"):
        AutoTokenizer.from_pretrained(folder)
    write_json(folder / "tokenizer_config.json", config | {"added_tokens_decoder": {"x": {"content": "a"}}})
    with pytest.raises(ValueError, match="added_tokens_decoder must have ids"):
        AutoTokenizer.from_pretrained(folder)
    write_json(folder / "tokenizer_config.json", config | {"extra_special_tokens": 3})
    with pytest.raises(ValueError, match="extra_special_tokens must be a list of tokens"):
        AutoTokenizer.from_pretrained(folder)
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "added_tokens.json", {"a": "b"})
    with pytest.raises(ValueError, match="added_tokens.json must give 'a' a whole number"):
        AutoTokenizer.from_pretrained(folder)
    (folder / "added_tokens.json").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="vocab.txt is not UTF-8"):
        AutoTokenizer.from_pretrained(folder)


def test_a_save_that_fails_leaves_the_old_file(folder, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = (folder / "tokenizer.json").read_bytes()
    tokenizer.add_tokens("xyz")

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        tokenizer.save_pretrained(folder)
    assert (folder / "tokenizer.json").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_a_vocabulary_with_gaps(tmp_path, said):
    vocab = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 5}
    BertTokenizer(vocab).save_pretrained(tmp_path)
    assert "ids have gaps" in said[0] and not (tmp_path / "vocab.txt").exists()
    assert AutoTokenizer.from_pretrained(tmp_path).encode("a") == [1, 5, 2]


def test_register(folder, monkeypatch):
    class Mine(BertTokenizer):
        pass

    monkeypatch.setattr("plainformers.tokenizer_classes.REGISTERED", {})
    write_json(folder / "config.json", {"model_type": "mine"})
    AutoTokenizer.register("mine", fast_tokenizer_class=Mine)
    assert type(AutoTokenizer.from_pretrained(folder)) is Mine
    with pytest.raises(ValueError, match="exist_ok=True"):
        AutoTokenizer.register("mine", BertTokenizer)
    with pytest.raises(TypeError, match="subclass of Tokenizer"):
        AutoTokenizer.register("other", dict)
    with pytest.raises(TypeError, match="AutoTokenizer.from_pretrained"):
        AutoTokenizer()
    assert REGISTERED == {}


def test_importing_is_cheap():
    code = (
        "import sys, plainformers.tokenizer_classes; "
        "print([name for name in ('torch', 'numpy', 'huggingface_hub', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- A real vocabulary; the expected ids and texts are those of the reference


@pytest.fixture(scope="module")
def minilm():
    folder = assets.find("minilm")
    if folder is None:
        pytest.skip("minilm is absent; python tests/assets.py minilm fetches it")
    return folder


@pytest.mark.real
def test_real_ids_and_texts(minilm, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes())
    rows = read_json(DATA / "bert_uncased.json")["rows"]
    for tokenizer in (AutoTokenizer.from_pretrained(minilm), load_tokenizer(tmp_path)):
        assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id) == (0, 100, 101)
        assert (tokenizer.sep_token_id, tokenizer.mask_token_id, len(tokenizer)) == (102, 103, 30522)
        assert tokenizer([row["text"] for row in rows])["input_ids"] == [row["ids"] for row in rows]
        assert tokenizer.batch_decode([row["ids"] for row in rows], skip_special_tokens=True) == [
            row["decoded"] for row in rows
        ]


@pytest.mark.real
def test_real_files_come_back(minilm, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    assert tokenizer.model_max_length == 512 and len(tokenizer("a " * 300)["input_ids"]) == 302
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        assert read_json(tmp_path / name) == read_json(minilm / name)
    expected = read_json(minilm / "tokenizer.json")
    expected["truncation"]["direction"] = "Right"  # a field that the library did not have then
    assert read_json(tmp_path / "tokenizer.json") == expected
    assert (tmp_path / "vocab.txt").read_bytes() == (minilm / "vocab.txt").read_bytes()
