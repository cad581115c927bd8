"""What pipe.trace, pipe.watch and attention_view show: the real numbers, of any input, and nothing that runs."""

import base64
import html
import json
import re

import numpy as np
import pytest
import torch
from test_pipelines import make_model, make_pipe

import plainformers
from plainformers import BertModel, TextClassificationPipeline, Trace, attention_view, pipeline, watch
from plainformers.trace import MOST_INPUTS, WIDTH
from plainformers.views import Page

TEXT = "The food was cold and the waiter was rude."
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m \u202e &amp;"


@pytest.fixture(scope="module")
def pipe():
    return pipeline("sentiment-analysis")


@pytest.fixture(scope="module")
def traced(pipe):
    return pipe.trace(TEXT, attention=True)


# ---- The numbers are those of a call


def test_a_trace_is_the_call(pipe):
    found = pipe.trace(TEXT)
    assert isinstance(found, Trace)
    (answer,) = pipe(TEXT)
    assert found.answers == [pytest.approx(answer, abs=1e-6)]
    inputs = pipe.preprocess(TEXT)
    with torch.inference_mode():
        out = pipe.model(**inputs, output_hidden_states=True)
    assert torch.equal(found.logits, out.logits)
    assert torch.equal(found.scores, out.logits.softmax(-1))
    assert len(found.hidden_states) == 7
    for mine, theirs, norm in zip(found.hidden_states, out.hidden_states, found.norms, strict=True):
        assert torch.equal(mine, theirs)
        torch.testing.assert_close(norm, theirs.square().sum(-1).sqrt())


def test_tokens_say_where_they_came_from(pipe):
    (tokens,) = pipe.trace("Unbelievably good!").tokens
    assert [token.id for token in tokens] == pipe.tokenizer("Unbelievably good!")["input_ids"]
    assert tokens[0].text == "[CLS]" and tokens[0].special and tokens[0].characters is None
    assert "".join("Unbelievably good!"[slice(*t.characters)] for t in tokens if t.characters) == "Unbelievablygood!"
    assert {token.mask for token in tokens} == {1}


def test_attention_is_recorded_on_request(pipe, traced):
    assert len(traced.attentions) == 6 and traced.attentions[0].shape == (1, 12, 12, 12)
    torch.testing.assert_close(traced.attentions[3].sum(-1), torch.ones(1, 12, 12))
    mean = traced.attentions[2][0].mean(0).mean(0)
    token, share = traced.attended(2)[0]
    assert share == pytest.approx(float(mean.max())) and token == traced.tokens[0][int(mean.argmax())].text
    with pytest.raises(ValueError, match=r"attention=True"):
        _ = pipe.trace(TEXT).attentions


def test_several_inputs_are_one_padded_batch(pipe):
    found = pipe.trace(["A wonderful film.", TEXT])
    assert found.hidden_states[0].shape == (2, 12, 384)
    assert [sum(token.mask for token in row) for row in found.tokens] == [6, 12]
    alone = pipe.trace("A wonderful film.")
    torch.testing.assert_close(found.logits[:1], alone.logits, atol=1e-5, rtol=1e-5)
    assert found.spread(3).mean == pytest.approx(float(found.norms[3][found.mask].mean()))
    text = str(found)
    assert "6 tokens (6 more are padding)" in text and "input 1" in text


def test_arguments_are_those_of_a_call(pipe):
    assert pipe.trace(TEXT, top_k=None).answers[0] == [pytest.approx(a, abs=1e-6) for a in pipe(TEXT, top_k=None)]
    plain = pipe.trace(TEXT, function_to_apply="none")
    assert torch.equal(plain.scores, plain.logits)
    with pytest.raises(TypeError, match="Did you mean 'top_k'"):
        pipe.trace(TEXT, topk=2)
    pair = pipe.trace({"text": "A film.", "text_pair": "A book."})
    assert {token.kind for token in pair.tokens[0]} == {0, 1} and "type" in str(pair)
    assert '"A film."' in str(pair) and '"A book."' in str(pair)


def test_defaults_of_the_pipeline_count():
    assert len(make_pipe(top_k=2).trace("a good film").answers[0]) == 2


def test_what_cannot_be_traced(pipe):
    with pytest.raises(ValueError, match="1 to 32 inputs, got 33"):
        pipe.trace(["a"] * (MOST_INPUTS + 1))
    with pytest.raises(ValueError, match="got 0"):
        pipe.trace([])
    with pytest.raises(TypeError, match="Input 1 must be a text"):
        pipe.trace(["a", 3])
    with pytest.raises(TypeError, match="The input must be a text"):
        pipe.trace(3)


def test_a_model_in_training_stays_so():
    pipe = make_pipe()
    pipe.model.train()
    first, second = pipe.trace("a good film"), pipe.trace("a good film")
    assert pipe.model.training and torch.equal(first.logits, second.logits)


def test_a_users_model_without_hidden_states():
    class Short(type(make_model())):
        def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
            return super().forward(input_ids, attention_mask, token_type_ids)

    base = make_pipe()
    pipe = TextClassificationPipeline(Short(base.model.config), base.tokenizer)
    found = pipe.trace("a good film")
    assert found.hidden_states == () and "no hidden states" in str(found) and "<section>" in found._repr_html_()


# ---- As text


def test_the_text_shows_every_step(pipe):
    found = pipe.trace(TEXT)
    text = str(found)
    assert repr(found) == text
    (answer,) = pipe(TEXT)
    for part in (
        f'"{TEXT}"',
        "plainformers/sentiment-english, BertForSequenceClassification, 22,713,986 parameters, float32, cpu",
        "1. tokenizer: text -> ids",
        "15610",
        "2. model: ids -> hidden states -> logits",
        f"{found.spread(6).mean:.2f}",
        "[1, 12, 384]",
        f"NEGATIVE {float(found.logits[0, 0]):.4f}",
        f"{answer['score']:.4f}",
        "answer  {'label': 'NEGATIVE'",
    ):
        assert part in text
    for line in text.splitlines():
        assert line == line.rstrip()
        # the columns of tokens stand below each other
    ids = next(line for line in text.splitlines() if line.startswith("  id"))
    tokens = next(line for line in text.splitlines() if line.startswith("  token"))
    assert ids.index("15610") == tokens.index("waiter")
    assert "attention" not in text


def test_attention_in_the_text(traced):
    token, share = traced.attended(4)[0]
    assert f"attention 5     [1, 12, 12, 12]     looks most at {token} {share:.2f}" in str(traced)


@pytest.mark.parametrize("text", ["", " ", "\n", "a", "e" * 100_000, "a good film " * 8_400])
def test_any_length_is_bounded(pipe, text):
    found = pipe.trace(text, attention=len(text) < 10)
    shown, page = str(found), found._repr_html_()
    assert len(shown) < 8_000 and len(page) < 150_000
    assert max(map(len, shown.splitlines())) < 320
    assert len(found.tokens[0]) == min(512, len(found.tokens[0]))
    if len(text) == 100_800:
        assert (
            found.cut == [8_400 * 3 - 510] and "(100,800 characters)" in shown and "24,690 more were left out" in shown
        )
        assert "24,690 more were cut off" in page
    if not text.strip():
        assert [token.text for token in found.tokens[0]] == ["[CLS]", "[SEP]"]


def test_two_scripts(pipe):
    found = pipe.trace(["Далеко не худший фильм, 但是很好看。", "שלום עולם"])
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= WIDTH + 40
    assert any("\u2068ש\u2069" in line for line in lines), "right-to-left tokens are isolated"
    assert "但是很好看" in str(found) and "但是很好看" in found._repr_html_()


def test_nothing_of_an_input_reaches_the_terminal_as_control(pipe):
    text = str(pipe.trace(HOSTILE))
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31m" in text


def test_labels_are_bounded_and_escaped():
    pipe = make_pipe(num_labels=50)
    pipe.model.config.id2label = {i: f"<b>\x1b[1m{i}" for i in range(50)}
    found = pipe.trace("a good film", top_k=None)
    assert "… 40 more" in str(found) and "\x1b" not in str(found)
    page = found._repr_html_()
    assert "<b>\x1b" not in page and "… 40 more" in page


# ---- As HTML


def strip_scripts(page):
    return re.sub(r"srcdoc=\"[^\"]*\"", "", page)


def test_the_page_shows_every_step(pipe, traced):
    page = traced._repr_html_()
    (answer,) = pipe(TEXT)
    for part in (
        "waiter",
        "15610",
        "[1, 12, 384]",
        f"{answer['score']:.4f}",
        f"{traced.spread(2).mean:.2f}",
        "<iframe",
    ):
        assert part in page
    assert "<script" not in strip_scripts(page)
    assert str(traced.page()).startswith("<!doctype html>")


def test_the_page_is_self_contained_and_inert(pipe, tmp_path):
    found = pipe.trace([HOSTILE, "a"], attention=True)
    path = found.save(tmp_path / "trace.html")
    page = path.read_text(encoding="utf-8")
    views = [html.unescape(frame) for frame in re.findall(r'srcdoc="([^"]*)"', page)]
    assert len(views) == 2
    for text in (strip_scripts(page), *views):
        assert "alert(1)" in text or text is views[1]  # it is shown …
        assert "<img" not in text and "<script>alert" not in text  # … and is no element
        assert "http:" not in text.replace("http://www.w3.org/2000/svg", "") and "https:" not in text
        assert "\u202e" not in text
    assert "default-src 'none'" in page


def test_style_touches_nothing_else():
    sheet = re.sub(
        r"\{[^}]*\}", "\n", (plainformers.trace.Path(plainformers.__file__).parent / "assets/trace.css").read_text()
    )
    for selector in (part.strip() for line in sheet.splitlines() for part in line.split(",")):
        assert not selector or selector.startswith(".pf"), selector


# ---- Attention


def data_of(page):
    data = json.loads(re.search(r'id="data">(.*?)</script>', str(page), re.S)[1])
    data["weights"] = np.frombuffer(base64.b64decode(data["weights"]), "<u2").reshape(
        data["layers"], data["heads"], len(data["queries"]), len(data["keys"])
    )
    return data


def test_the_view_holds_the_models_attentions(traced):
    data = data_of(traced.attention_view())
    assert data["queries"] == data["keys"] == [token.text for token in traced.tokens[0]]
    real = torch.stack([layer[0] for layer in traced.attentions]).numpy()
    np.testing.assert_allclose(data["weights"] / 65535, real, atol=1e-5)


def test_a_view_of_any_model_that_returns_attentions():
    torch.manual_seed(0)
    model = make_model(kind=BertModel).eval()
    ids = torch.tensor([[1, 2, 3], [3, 2, 1]])
    out = model(ids, output_attentions=True)
    for given in (out, out.attentions, list(out.attentions)):
        data = data_of(attention_view(given, ["a", "b", "c"], row=1))
        np.testing.assert_allclose(data["weights"][0] / 65535, out.attentions[0][1].detach().numpy(), atol=1e-5)
    arrays = [layer[0].detach().numpy() for layer in out.attentions]  # [H, Q, K], without torch
    assert data_of(attention_view(arrays, "abc"))["keys"] == ["a", "b", "c"]


def test_cross_attention_has_tokens_of_two_kinds():
    data = data_of(attention_view([torch.full((1, 2, 2, 4), 0.25)], ["a", "b"], ["w", "x", "y", "z"]))
    assert data["weights"].shape == (1, 2, 2, 4) and data["keys"] == ["w", "x", "y", "z"]


def test_padding_is_left_out_of_a_view(pipe):
    found = pipe.trace(["A wonderful film.", TEXT], attention=True)
    assert len(data_of(found.attention_view(0))["queries"]) == 6
    left = pipe.trace(["A wonderful film.", TEXT], attention=True, padding_side="left")
    assert data_of(left.attention_view(0))["queries"][0] == "[CLS]"
    with pytest.raises(IndexError, match="row 2 is not there: this trace has 2"):
        found.attention_view(2)


def test_a_long_view_is_cut_and_says_so():
    T = 700
    page = attention_view([torch.full((1, 12, T, T), 1 / T)] * 6, ["x"] * T)
    assert len(str(page)) < 6_500_000
    shown = len(data_of(page)["queries"])
    assert 100 < shown < T and f"the first {shown} of 700 tokens are shown" in str(page)


@pytest.mark.parametrize(
    ("attentions", "tokens", "message"),
    [
        (None, ["a"], "output_attentions=True"),
        ((), ["a"], "output_attentions=True"),
        ([torch.ones(1, 1, 2, 2)], ["a"], r"shape \[1, 1, 2, 2\]; 1 tokens that look at 1 ask for \[B, H, 1, 1\]"),
        ([torch.ones(1, 1, 1, 1), torch.ones(1, 2, 1, 1)], ["a"], "same number of heads"),
        ([torch.ones(1)], ["a"], "shape"),
    ],
)
def test_what_is_no_attention(attentions, tokens, message):
    with pytest.raises(ValueError, match=message):
        attention_view(attentions, tokens)


def test_a_page_in_a_notebook_is_framed(tmp_path):
    page = Page("<title>", "<p>body</p>")
    assert "&lt;title&gt;" in page.html and str(page) == page.html
    frame = page._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts"') and html.unescape(frame).count("<p>body</p>") == 1
    assert page.save(tmp_path / "page.html").read_text(encoding="utf-8") == page.html
    assert "characters" in repr(page)


# ---- watch


def test_watch_reads_a_modules_output(pipe):
    with pipe.watch("encoder.layer.3.output") as seen:
        pipe(TEXT)
    traced = pipe.trace(TEXT)
    torch.testing.assert_close(seen["encoder.layer.3.output"], traced.hidden_states[4])


def test_names_with_and_without_the_prefix_and_a_star(pipe):
    with pipe.watch("bert.encoder.layer.0", "classifier", "encoder.layer.*.attention.self") as seen:
        pipe(TEXT)
    assert len(seen) == 8 and seen["classifier"].shape == (1, 2)
    assert seen["encoder.layer.5.attention.self"].shape == (1, 12, 384)
    with pipe.watch("encoder.layer.0.intermediate.dense") as seen:  # a prepared layer too
        pipe(TEXT)
    assert seen["encoder.layer.0.intermediate.dense"].shape == (1, 12, 1536)


def test_every_call_on_request(pipe):
    texts = ["A film.", TEXT]
    with pipe.watch("classifier", every=True) as seen:
        pipe(texts, batch_size=1)
    assert len(seen["classifier"]) == 2


def test_hooks_are_gone_after_the_block(pipe):
    with pytest.raises(RuntimeError, match="stop"), pipe.watch("encoder.layer.*"):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in pipe.model.modules())


def test_wrong_names_of_modules(pipe):
    for name, message in {"encoder.layer.9.output": "Did you mean 'encoder.layer", "": "no module ''"}.items():
        with pytest.raises(ValueError, match=message), pipe.watch(name):
            pass
    assert not any(module._forward_hooks for module in pipe.model.modules())
    with pipe.watch("classifier") as seen, pytest.raises(KeyError, match="was not called"):
        _ = seen["classifier"]


def test_watch_takes_any_torch_module_and_keeps_gradients():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    with watch(net, "0") as seen:
        net(torch.ones(1, 2)).sum().backward()
    assert seen["0"].requires_grad and seen["0"].shape == (1, 3)
