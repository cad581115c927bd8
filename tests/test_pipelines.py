import math

import pytest
import torch
from torch.utils.data import Dataset

import plainformers
from plainformers import (
    BertConfig,
    BertForNextSentencePrediction,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    Packed,
    Pipeline,
    TextClassificationPipeline,
    logging as messages,
    pipeline,
)
from plainformers.pipelines import TASKS, base
from plainformers.registry import AUTO_CLASSES

WORDS = [
    *("the", "a", "film", "was", "is", "good", "bad", "long", "short", "very", "not"),
    *("and", "but", "i", "you", "saw", "it", "again", "never", "boring"),
]
VOCAB = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
TEXTS = [" ".join(WORDS[(7 * i + 3 * j) % len(WORDS)] for j in range(i % 13)) for i in range(40)]  # 0 to 12 words
PAIR = {"text": "the film was good", "text_pair": "i saw it again"}


def make_model(num_labels=3, kind=BertForSequenceClassification, **fields):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCAB), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, num_labels=num_labels, initializer_range=0.5, **fields,
    )  # fmt: skip
    return kind(config).eval()


def make_tokenizer():
    return BertTokenizer(vocab=dict(VOCAB), model_max_length=16)


def make_pipe(num_labels=3, *, problem_type=None, **arguments):
    model = make_model(num_labels, problem_type=problem_type)
    return TextClassificationPipeline(model=model, tokenizer=make_tokenizer(), device="cpu", **arguments)


@pytest.fixture(scope="module")
def pipe():
    return make_pipe()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_pipe().save_pretrained(path)
    return str(path)


@pytest.fixture
def said(monkeypatch):
    """What messages.once would say."""
    texts = []
    monkeypatch.setattr(messages, "once", lambda message, level=messages.WARNING: texts.append(message))
    return texts


def logits_of(pipe, text, pair=None):
    """By the model and the tokenizer alone."""
    with torch.no_grad():
        inputs = pipe.tokenizer(text, pair, truncation=True, max_length=16, return_tensors="pt")
        return pipe.model(**inputs).logits[0]


def expected(pipe, text, pair=None):
    scores = logits_of(pipe, text, pair).softmax(-1)
    best = int(scores.argmax())
    return {"label": f"LABEL_{best}", "score": pytest.approx(float(scores[best]), abs=1e-5)}


# ---- Answers


def test_one_text_gives_a_list_of_one(pipe):
    assert pipe("the film was good") == [expected(pipe, "the film was good")]


def test_the_tiny_model_tells_texts_apart(pipe):
    scores = {round(answer["score"], 4) for answer in pipe(TEXTS)}
    assert len(scores) > 20


@pytest.mark.parametrize("collection", [list, tuple])
def test_many_texts_keep_their_order(pipe, collection):
    assert pipe(collection(TEXTS)) == [expected(pipe, text) for text in TEXTS]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_size_of_batches_changes_nothing(pipe, batch_size):
    assert pipe(TEXTS, batch_size=batch_size) == [expected(pipe, text) for text in TEXTS]


def test_batch_size_is_what_the_model_sees(pipe, monkeypatch):
    seen = []
    forward = pipe.forward

    def count(inputs):
        mask = inputs.get("attention_mask")
        seen.append(len(mask.lengths) if isinstance(mask, Packed) else len(inputs["input_ids"]))
        return forward(inputs)

    monkeypatch.setattr(pipe, "forward", count)
    pipe(TEXTS[:10], batch_size=4)
    assert seen == [4, 4, 2]


def test_by_default_little_is_padded(pipe, monkeypatch):
    seen = []
    forward = pipe.forward
    monkeypatch.setattr(
        pipe, "forward", lambda inputs: seen.append(tuple(inputs["input_ids"].shape)) or forward(inputs)
    )
    monkeypatch.setattr(base, "TOKENS", 40)
    want = pipe(TEXTS)
    tokens = sum(len(pipe.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert all(rows * length <= 40 for rows, length in seen)
    assert sum(rows * length for rows, length in seen) == tokens, "nothing at all"
    seen.clear()
    monkeypatch.setattr(type(pipe), "packs", False)
    for got, packed in zip(pipe(TEXTS), want, strict=True):
        assert got["label"] == packed["label"] and got["score"] == pytest.approx(packed["score"], abs=1e-5)
    assert all(rows * length <= 40 for rows, length in seen)
    assert sum(rows * length for rows, length in seen) < 1.1 * tokens


def test_windows_of_a_long_list_join(pipe, monkeypatch):
    monkeypatch.setattr(base, "WINDOW", 7)
    assert pipe(TEXTS) == [expected(pipe, text) for text in TEXTS]


def test_top_k(pipe):
    scores = sorted(logits_of(pipe, "not good").softmax(-1).tolist(), reverse=True)
    every = pipe("not good", top_k=None)
    assert [answer["score"] for answer in every] == pytest.approx(scores, abs=1e-5)
    assert pipe("not good", top_k=99) == every
    assert pipe("not good", top_k=2) == every[:2]
    assert pipe("not good", top_k=1) == every[:1]
    assert pipe(["not good"], top_k=1) == [every[:1]]
    two = pipe(["not good", "a film"], top_k=2)
    assert [len(answer) for answer in two] == [2, 2]
    assert [answer["score"] for answer in two[0]] == pytest.approx(scores[:2], abs=1e-5)


def test_top_k_of_the_constructor_is_the_default_of_calls():
    pipe = make_pipe(top_k=None)
    every = pipe("not good", top_k=None)
    assert pipe("not good") == [every]  # as Transformers nests it
    assert pipe(["not good"]) == [every]
    assert pipe("not good", top_k=1) == every[:1]


def test_return_all_scores_keeps_the_order_of_the_labels(pipe):
    scores = logits_of(pipe, "very bad").softmax(-1).tolist()
    every = [{"label": f"LABEL_{i}", "score": pytest.approx(score, abs=1e-5)} for i, score in enumerate(scores)]
    assert pipe("very bad", return_all_scores=True) == [every]
    assert pipe(["very bad"], return_all_scores=True) == [every]
    assert pipe("very bad", return_all_scores=False) == pipe("very bad")
    assert make_pipe(return_all_scores=True)("very bad", top_k=1) == pipe("very bad", top_k=1)


@pytest.mark.parametrize(
    ("labels", "problem", "function"),
    [
        (3, None, "softmax"),
        (3, "single_label_classification", "softmax"),
        (3, "multi_label_classification", "sigmoid"),
        (1, None, "sigmoid"),
        (1, "regression", "none"),
        (2, "regression", "none"),
    ],
)
def test_the_problem_decides_the_function(labels, problem, function):
    pipe = make_pipe(labels, problem_type=problem)
    x = logits_of(pipe, "it was good")
    scores = {"softmax": x.softmax(-1), "sigmoid": x.sigmoid(), "none": x}[function]
    in_order = sorted(pipe("it was good", top_k=None), key=lambda answer: answer["label"])
    assert [answer["score"] for answer in in_order] == pytest.approx(scores.tolist(), abs=1e-5)


def test_function_to_apply_goes_before_the_problem(pipe):
    x = logits_of(pipe, "it was good")
    assert pipe("it was good", function_to_apply="none")[0]["score"] == pytest.approx(float(x.max()), abs=1e-5)
    assert pipe("it was good", function_to_apply="SIGMOID")[0]["score"] == pytest.approx(
        1 / (1 + math.exp(-float(x.max()))), abs=1e-5
    )


def test_pairs(pipe):
    answer = expected(pipe, PAIR["text"], PAIR["text_pair"])
    assert pipe(PAIR) == answer
    assert pipe({"text": "good"}) == expected(pipe, "good")
    assert pipe([PAIR, "good", {"text": "bad", "text_pair": None}]) == [
        answer,
        expected(pipe, "good"),
        expected(pipe, "bad"),
    ]
    assert pipe(PAIR, top_k=1) == [answer]


def test_no_text_is_a_text_and_no_texts_are_none(pipe):
    assert pipe("") == [expected(pipe, "")]
    assert pipe([]) == []
    assert list(pipe(text for text in ())) == []


def test_the_three_steps_by_hand(pipe):
    inputs = pipe.preprocess(["good", "the film was bad"])
    assert inputs["input_ids"].tolist() == [[2, 10, 3, 0, 0, 0], [2, 5, 7, 8, 11, 3]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    outputs = pipe.forward(inputs)
    assert torch.allclose(outputs.logits[1], logits_of(pipe, "the film was bad"), atol=1e-6)
    assert pipe.postprocess(outputs) == [expected(pipe, "good"), expected(pipe, "the film was bad")]
    assert pipe.postprocess(pipe.forward(pipe.preprocess("good"))) == pipe("good")
    assert pipe.model(**pipe.preprocess(PAIR)).logits.shape == (1, 3)


def test_a_step_that_a_user_changes_is_the_one_that_is_called():
    class Loud(TextClassificationPipeline):
        def preprocess(self, inputs, *, quiet: bool = False, **arguments):
            texts = [inputs] if isinstance(inputs, str) else inputs
            return super().preprocess(texts if quiet else [f"very {text}" for text in texts], **arguments)

    loud = Loud(make_model(), make_tokenizer(), device="cpu")
    assert loud("good") == [expected(loud, "very good")]
    assert loud(TEXTS, max_length=15) == [expected(loud, f"very {text}") for text in TEXTS]
    assert loud("good", quiet=True) == [expected(loud, "good")]


# ---- Streams


def test_a_generator_is_answered_lazily_and_in_order(pipe):
    read = []
    results = pipe(read.append(text) or text for text in TEXTS)
    assert read == []
    assert next(results) == expected(pipe, TEXTS[0])
    assert len(read) == 1
    assert list(results) == [expected(pipe, text) for text in TEXTS[1:]]
    assert list(pipe(iter(["good"]), top_k=1)) == [[expected(pipe, "good")]]


class Texts(Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, index):
        return TEXTS[index % len(TEXTS)]  # never raises IndexError, as many do not


class Rows:
    def __len__(self):
        return 2

    def __iter__(self):
        yield PAIR
        yield {"text": "good"}


def test_datasets_give_iterators_that_know_their_length(pipe):
    results = pipe(Texts(), batch_size=8)
    assert len(results) == len(TEXTS)
    assert next(results) == expected(pipe, TEXTS[0])
    assert list(results) == [expected(pipe, text) for text in TEXTS[1:]]
    assert list(pipe(Rows())) == [expected(pipe, PAIR["text"], PAIR["text_pair"]), expected(pipe, "good")]


# ---- Long texts


def test_what_the_model_cannot_take_is_cut_and_said_once(pipe, said):
    long = "good bad " * 30
    assert pipe(long) == [expected(pipe, long)]
    assert pipe([long, "good"]) == [expected(pipe, long), expected(pipe, "good")]
    assert len(set(said)) == 1 and "16 tokens" in said[0]
    said.clear()
    assert pipe(long, truncation=True) == [expected(pipe, long)]
    assert pipe(" ".join(["good"] * 14)) == [expected(pipe, "good " * 14)]  # 16 tokens, none too many
    assert said == []


def test_truncation_false_makes_a_long_text_an_error(pipe):
    with pytest.raises(ValueError, match="16 positions"):
        pipe("good bad " * 30, truncation=False)


def test_the_model_limits_a_tokenizer_that_knows_none(said):
    pipe = TextClassificationPipeline(make_model(), BertTokenizer(vocab=dict(VOCAB)), device="cpu")
    assert pipe.longest == 16
    assert pipe("good bad " * 30, truncation=True) == [expected(pipe, "good bad " * 30)]


def test_a_very_long_text(pipe, said):
    assert pipe("good bad " * 12_000) == [expected(pipe, "good bad " * 30)]


def test_arguments_of_the_tokenizer_go_by_name(pipe):
    assert pipe("good bad long", truncation=True, max_length=4) == [expected(pipe, "good bad")]
    assert pipe(["good bad long", "good"], truncation=True, max_length=4)[0] == expected(pipe, "good bad")
    with torch.no_grad():
        bare = pipe.model(torch.tensor([[10, 11]])).logits[0].softmax(-1).max()
    assert pipe("good bad", add_special_tokens=False)[0]["score"] == pytest.approx(float(bare), abs=1e-5)


@pytest.mark.parametrize("padding", [{"padding": True}, {"padding": "max_length"}, {"pad_to_multiple_of": 8}])
def test_padding_changes_nothing(pipe, padding):
    assert pipe(TEXTS, **padding) == [expected(pipe, text) for text in TEXTS]
    assert pipe("not good", **padding) == [expected(pipe, "not good")]


def test_padding_to_a_length_is_done(pipe, monkeypatch):
    seen = []
    forward = pipe.forward
    monkeypatch.setattr(pipe, "forward", lambda inputs: seen.append(inputs["input_ids"].shape[1]) or forward(inputs))
    pipe("good", padding="max_length")
    pipe(["good", "bad"], padding="max_length", truncation=True, max_length=9)
    assert seen == [16, 9]


# ---- The model


def test_a_model_in_training_is_evaluated_and_stays_in_training():
    pipe = make_pipe()
    answer = pipe("the film was good")
    pipe.model.train()
    assert pipe("the film was good") == answer
    assert pipe.model.training


def test_outputs_need_no_gradient(pipe):
    assert not pipe.forward(pipe.preprocess("good")).logits.requires_grad


def test_dtype_and_device():
    for spelling in ("dtype", "torch_dtype"):
        pipe = make_pipe(**{spelling: "bfloat16"})
        assert pipe.dtype == pipe.torch_dtype == torch.bfloat16 == pipe.model.classifier.weight.dtype
    assert make_pipe()("good")[0]["score"] == pytest.approx(pipe("good")[0]["score"], abs=0.05)
    for device in ("cpu", -1, torch.device("cpu")):
        pipe = TextClassificationPipeline(make_model(), make_tokenizer(), device=device)
        assert pipe.device == torch.device("cpu")
    assert "device='cpu'" in repr(pipe)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error of a machine without a GPU")
@pytest.mark.parametrize("device", [0, "cuda", "cuda:1"])
def test_a_device_that_is_not_there(device, folder):
    with pytest.raises(ValueError, match="was asked for"):
        pipeline("text-classification", model=folder, device=device)


# ---- pipeline()


@pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis"])
def test_a_pipeline_of_a_folder(folder, pipe, task):
    made = pipeline(task, model=folder, device="cpu")
    assert type(made) is TextClassificationPipeline
    assert made.task == "text-classification"
    assert made(TEXTS) == [expected(pipe, text) for text in TEXTS]


def test_what_is_saved_is_loaded_again(folder, pipe, tmp_path):
    pipeline("text-classification", folder, device="cpu").save_pretrained(tmp_path / "again")
    again = pipeline("text-classification", str(tmp_path / "again"), device="cpu")
    assert again(TEXTS) == pipe(TEXTS)
    for name, tensor in pipe.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


def test_the_task_is_found_from_the_model(folder):
    assert pipeline(model=folder, device="cpu").task == "text-classification"
    assert pipeline(model=make_model(), tokenizer=make_tokenizer(), device="cpu").task == "text-classification"


def test_a_model_that_is_loaded(folder, pipe):
    model = plainformers.AutoModelForSequenceClassification.from_pretrained(folder)
    made = pipeline("text-classification", model=model, device="cpu")  # the tokenizer is found by the model's folder
    assert made.model is model
    assert made("good") == [expected(pipe, "good")]
    assert pipeline("text-classification", model=make_model(), tokenizer=folder, device="cpu")("good") == made("good")


def test_arguments_reach_the_loader(folder):
    made = pipeline(
        "text-classification", folder, device_map="cpu", torch_dtype=torch.bfloat16, top_k=2, batch_size=4,
        framework="pt", use_fast=True, trust_remote_code=False, num_workers=2,
        model_kwargs={"attn_implementation": "eager"},
    )  # fmt: skip
    assert made.dtype == torch.bfloat16
    assert made.batch_size == 4
    assert made.model.config.attn_implementation == "eager"
    assert [len(answer) for answer in made(["good", "bad"])] == [2, 2]


def test_a_config_of_ones_own(folder):
    config = plainformers.AutoConfig.from_pretrained(folder, id2label={0: "bad", 1: "so so", 2: "good"})
    assert pipeline("text-classification", folder, config=config, device="cpu")("film")[0]["label"] in (
        "bad",
        "so so",
        "good",
    )
    assert pipeline(model=folder, config=config, device="cpu")("film")[0]["label"] in ("bad", "so so", "good")


def test_a_pipeline_class_of_ones_own(folder):
    class Short(TextClassificationPipeline):
        def postprocess(self, outputs, inputs=None, **arguments):
            return [answer["label"] for answer in super().postprocess(outputs, inputs, **arguments)]

    made = pipeline("text-classification", folder, pipeline_class=Short, device="cpu")
    assert made(["good", "bad"]) == [answer["label"] for answer in make_pipe()(["good", "bad"])]


def test_the_table_of_tasks():
    for name, task in TASKS.items():
        kind = getattr(plainformers.pipelines, task.pipeline)
        assert issubclass(kind, Pipeline)
        assert kind.task == name
        assert AUTO_CLASSES[task.head] == f"AutoModel{kind.model_ending.removeprefix('Model')}"


# ---- What is wrong is said


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("sentimental-analysis", "no task 'sentimental-analysis'. Did you mean 'sentiment-analysis'\\? There are: "),
        ("summarization", "'summarization' is not here yet. There are: .*sentiment-analysis, text-classification"),
        ("translation_en_to_de", "is not here yet"),
    ],
)
def test_unknown_tasks(task, message):
    with pytest.raises(ValueError, match=message):
        pipeline(task)


def test_a_task_that_is_no_name():
    with pytest.raises(TypeError, match="say model="):
        pipeline(make_model())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Name a task or a model"):
        pipeline()


def test_a_checkpoint_without_the_head_is_refused(tmp_path):
    make_model(kind=BertModel).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no trained head for text-classification: its checkpoint lacks classifier"):
        pipeline("text-classification", model=str(tmp_path))
    assert pipeline(model=str(tmp_path)).task == "feature-extraction"
    make_model(kind=BertForNextSentencePrediction).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a BertForNextSentencePrediction"):
        pipeline(model=str(tmp_path))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="ForSequenceClassification, which BertModel is not"):
        pipeline("text-classification", model=make_model(kind=BertModel), tokenizer=make_tokenizer())
    with pytest.raises(ValueError, match="No task fits"):
        pipeline(model=make_model(kind=BertForNextSentencePrediction), tokenizer=make_tokenizer())
    with pytest.raises(TypeError, match="needs a Model, got Linear"):
        TextClassificationPipeline(torch.nn.Linear(2, 2), make_tokenizer())


def test_a_tokenizer_must_be_there():
    with pytest.raises(ValueError, match="give tokenizer="):
        pipeline("text-classification", model=make_model())
    with pytest.raises(TypeError, match="needs a tokenizer .* got NoneType"):
        TextClassificationPipeline(make_model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topk": 2}, "no argument 'topk'. Did you mean 'top_k'"),
        ({"tokeniser": "x"}, "Did you mean 'tokenizer'"),
        ({"dtype": "float32", "torch_dtype": "float32"}, "twice"),
        ({"top_k": 1, "return_all_scores": True}, "give one of them"),
    ],
)
def test_misspelt_arguments_of_pipeline(folder, arguments, message):
    with pytest.raises(TypeError, match=message):
        pipeline("text-classification", folder, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "cpu", "device_map": "auto"}, "say the same"),
        ({"image_processor": object()}, "no use for a image_processor"),
        ({"model": make_model(), "tokenizer": make_tokenizer(), "revision": "main"}, "loaded already"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"device": "gpu"}, "is no device"),
        ({"dtype": "int8"}, "dtype must be"),
    ],
)
def test_wrong_arguments_of_pipeline(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline("text-classification", **{"model": folder, **arguments})
    with pytest.raises(TypeError, match="subclass of Pipeline"):
        pipeline("text-classification", folder, pipeline_class=dict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_lenght": 4}, TypeError, "Did you mean 'max_length'"),
        ({"batchsize": 4}, TypeError, "Did you mean 'batch_size'"),
        ({"return_tensors": "pt"}, TypeError, "no argument 'return_tensors'"),
        ({"top_k": 0}, ValueError, "top_k must be"),
        ({"top_k": "two"}, ValueError, "top_k must be"),
        ({"top_k": 1.5}, ValueError, "top_k must be"),
        ({"function_to_apply": "softmx"}, ValueError, "Did you mean 'softmax'"),
        ({"batch_size": True}, ValueError, "batch_size must be"),
        ({"truncation": "longest"}, ValueError, "truncation must be"),
        ({"padding": "shortest"}, ValueError, "padding must be"),
    ],
)
def test_wrong_arguments_of_a_call(pipe, arguments, error, message):
    for inputs in ("good", ["good", "bad"]):
        with pytest.raises(error, match=message):
            pipe(inputs, **arguments)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "The input must be a text .* not int: 3"),
        (None, "The input must be a text .* not NoneType"),
        (b"good", "The input must be a text .* not bytes"),
        (["good", 3], "Input 1 must be a text .* not int: 3"),
        (["good", ["good", "bad"]], 'Input 1 .* dict, {"text".* not list'),
        ([("good", "bad")], "Input 0 .* not tuple"),
        ({"text": "good", "pair": "bad"}, "key 'pair'.* Did you mean 'text_pair'"),
        ({"text_pair": "good"}, "lacks 'text'"),
        (["good", {"text": "good", "text_pair": 3}], "Input 1 needs a str as 'text_pair', not int"),
    ],
)
def test_inputs_that_are_no_texts(pipe, inputs, message):
    with pytest.raises(TypeError, match=message):
        pipe(inputs)


def test_a_wrong_item_of_a_stream_is_named_by_its_place(pipe):
    results = pipe(iter(["good", "bad", "long", 3.5]))
    assert next(results) == expected(pipe, "good")
    with pytest.raises(TypeError, match="Input 3 must be a text .* not float"):
        list(results)


def test_wrong_arguments_are_said_before_a_stream_begins(pipe):
    with pytest.raises(TypeError, match="top_k"):
        pipe((text for text in TEXTS), topk=2)
