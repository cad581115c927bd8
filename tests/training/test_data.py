"""Collators: what a batch holds, on either side of padding, and what is drawn in it."""

import re

import numpy as np
import pytest
import torch

from plainformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice,
    DataCollatorForPermutationLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorForWholeWordMask,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
    DefaultDataCollator,
    default_data_collator,
)

TEXTS = ["A wonderful, unforgettable film.", "No.", "The plot is thin and the acting is dreadful throughout."]


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(request):
    return AutoTokenizer.from_pretrained("plainformers/sentiment-english", padding_side=request.param)


def rows_of(tokenizer, **more):
    return [{**dict(tokenizer(text)), **{k: v[i] for k, v in more.items()}} for i, text in enumerate(TEXTS)]


def test_rows_are_padded_to_the_longest(tokenizer):
    rows = rows_of(tokenizer, label=[1, 0, 1], score=[0.5] * 3)
    batch = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)(rows)
    lengths = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert batch["input_ids"].shape == (3, -(-max(lengths) // 8) * 8) and batch["labels"].tolist() == [1, 0, 1]
    assert batch["attention_mask"].sum(1).tolist() == lengths and batch["score"].dtype == torch.float32
    edge = 0 if tokenizer.padding_side == "left" else -1
    assert batch["input_ids"][1, edge] == tokenizer.pad_token_id


def test_labels_of_tokens_are_padded_beside_them(tokenizer):
    rows = [{**row, "labels": list(range(len(row["input_ids"])))} for row in rows_of(tokenizer)]
    batch = DataCollatorForTokenClassification(tokenizer)(rows)
    for i, row in enumerate(rows):
        real = batch["attention_mask"][i].bool()
        assert batch["labels"][i][real].tolist() == row["labels"] and (batch["labels"][i][~real] == -100).all()
    rows[1]["labels"] = [1]
    with pytest.raises(ValueError, match="row 1 has 4 tokens and 1 labels"):
        DataCollatorForTokenClassification(tokenizer)(rows)


def test_labels_of_another_length_have_their_own_width(tokenizer):
    class Shifts:
        def prepare_decoder_input_ids_from_labels(self, labels):
            return labels.roll(1, 1)

    rows = rows_of(tokenizer, labels=[[1], [2, 3], [4, 5, 6]])
    batch = DataCollatorForSeq2Seq(tokenizer, model=Shifts(), pad_to_multiple_of=4)(rows)
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == (3, 4)
    expected = [-100, -100, -100, 1] if tokenizer.padding_side == "left" else [1, -100, -100, -100]
    assert batch["labels"][0].tolist() == expected


def test_choices_stay_together(tokenizer):
    two = dict(tokenizer(TEXTS[:2])), dict(tokenizer(TEXTS[1:]))
    batch = DataCollatorForMultipleChoice(tokenizer)([{**choices, "label": i} for i, choices in enumerate(two)])
    assert batch["input_ids"].shape[:2] == (2, 2) and batch["labels"].tolist() == [0, 1]
    assert torch.equal(batch["input_ids"][0, 1], batch["input_ids"][1, 0])
    with pytest.raises(ValueError, match="as many choices"):
        DataCollatorForMultipleChoice(tokenizer)([{**two[0], "label": 0}, {**dict(tokenizer(TEXTS)), "label": 0}])


def test_words_are_hidden_as_often_as_asked(tokenizer):
    rows = [{"input_ids": tokenizer(TEXTS[2])["input_ids"]} for _ in range(600)] + [{"input_ids": [101, 102]}]
    torch.manual_seed(0)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    batch = collator(rows)
    plain = tokenizer.pad(rows, return_tensors="pt")["input_ids"]
    special = torch.isin(plain, torch.tensor(tokenizer.all_special_ids))
    asked = batch["labels"] != -100
    assert not (asked & special).any()
    assert asked[~special].float().mean().item() == pytest.approx(0.3, abs=0.02)
    hidden = batch["input_ids"][asked] == tokenizer.mask_token_id
    same = batch["input_ids"][asked] == batch["labels"][asked]
    assert hidden.float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert same.float().mean().item() == pytest.approx(0.1, abs=0.02)
    original = torch.where(asked, batch["labels"], batch["input_ids"])
    assert torch.equal(original, plain)


def test_the_tokens_of_a_word_are_hidden_together(tokenizer):
    rows = [{"input_ids": tokenizer("unforgettable wonderfulness is everywhere")["input_ids"]} for _ in range(200)]
    collator = DataCollatorForWholeWordMask(tokenizer, mlm_probability=0.4, mask_replace_prob=1, random_replace_prob=0)
    batch = collator(rows)
    tokens = tokenizer.convert_ids_to_tokens(rows[0]["input_ids"])
    assert any(token.startswith("##") for token in tokens)
    asked = batch["labels"] != -100
    for i, token in enumerate(tokens):
        if token.startswith("##"):
            assert torch.equal(asked[:, i], asked[:, i - 1])
    assert 0.3 < asked[:, 1:-1].float().mean() < 0.5 and not asked[:, [0, -1]].any()


def test_a_seed_of_ones_own_begins_anew_for_every_batch(tokenizer):
    rows = rows_of(tokenizer)
    one, other = (DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=4) for _ in range(2))
    first = one(rows)["labels"]
    torch.manual_seed(9)
    assert torch.equal(other(rows)["labels"], first)
    one.reseed(1, 2), other(rows), other.reseed(1, 2)
    assert torch.equal(one(rows)["labels"], other(rows)["labels"])


def test_texts_to_be_written_are_their_own_labels(tokenizer):
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows_of(tokenizer))
    real = batch["attention_mask"].bool()
    assert torch.equal(batch["labels"][real], batch["input_ids"][real]) and (batch["labels"][~real] == -100).all()
    rows = [{**row, "labels": [-100] * len(row["input_ids"])} for row in rows_of(tokenizer)]
    assert (DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)["labels"] == -100).all()


def test_permutations_hide_the_future(tokenizer):
    rows = [{"input_ids": list(range(1000, 1010))}, {"input_ids": list(range(1000, 1008))}]
    torch.manual_seed(2)
    batch = DataCollatorForPermutationLanguageModeling(tokenizer)(rows)
    asked = batch["labels"] != -100
    assert asked.any() and batch["perm_mask"].shape == (2, 10, 10)
    for row in range(2):
        for i in asked[row].nonzero().flatten():
            assert batch["perm_mask"][row, i, i] == 1  # nobody sees what it is asked for
        assert not batch["perm_mask"][row][:, ~asked[row]].any()  # all see what is not asked for
    assert torch.equal(batch["target_mapping"][0], torch.eye(10))
    with pytest.raises(ValueError, match="9 tokens; permutation language modeling needs an even"):
        DataCollatorForPermutationLanguageModeling(tokenizer)([{"input_ids": list(range(9))}])


def test_rows_are_flattened():
    batch = DataCollatorWithFlattening(return_seq_idx=True, return_flash_attn_kwargs=True)(
        [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5], "labels": [6, 7]}][:1] + [{"input_ids": [4, 5]}]
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5]] and batch["labels"].tolist() == [[-100, 2, 3, -100, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]] and batch["seq_idx"].tolist() == [[0, 0, 0, 1, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5] and batch["max_length_k"] == 3


def test_columns_of_one_length_are_stacked():
    rows = [{"x": np.ones(2, np.float64) * i, "label": i, "text": "a", "none": None} for i in range(2)]
    batch = default_data_collator(rows)
    assert (
        batch.keys() == {"x", "labels"} and batch["x"].dtype == torch.float32 and batch["labels"].dtype == torch.int64
    )
    assert isinstance(DefaultDataCollator(return_tensors="np")(rows)["x"], np.ndarray)
    assert default_data_collator([{"label": 0.5}])["labels"].dtype == torch.float32


def test_wrong_rows_are_named(tokenizer):
    cases = [
        (lambda: default_data_collator([]), "got no rows"),
        (lambda: default_data_collator([{"x": 1}, {"y": 1}]), "row 1 has the columns ['y'], row 0 ['x']"),
        (lambda: default_data_collator([{"x": [1]}, {"x": [1, 2]}]), "column 'x' has rows of different lengths"),
        (lambda: default_data_collator([{"x": ["a"]}]), "column 'x' holds no numbers: row 0 has ['a']"),
        (lambda: default_data_collator([{"x": 1}], return_tensors="tf"), "must be 'pt' or 'np'"),
        (
            lambda: DataCollatorForLanguageModeling(tokenizer, mlm_probability=0),
            "mlm_probability must be between 0 and 1",
        ),
        (lambda: DataCollatorForLanguageModeling(tokenizer, random_replace_prob=0.9), "more than 1 together"),
        (lambda: DataCollatorForLanguageModeling(tokenizer, mlm=False, whole_word_mask=True), "needs mlm=True"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=re.escape(words)):
            call()

    class Maskless:
        mask_token = None

    with pytest.raises(ValueError, match="mask token, which this Maskless has not"):
        DataCollatorForLanguageModeling(Maskless())
