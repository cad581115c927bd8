"""text-generation: what a call returns, how it is streamed, chats, the commands, and less precision."""

import io
import sys

import pytest
import torch

from plainformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    StaticCache,
    Tokenizer,
    pipeline,
    train_tokenizer,
)
from plainformers.cli import main
from plainformers.pipelines.text_generation import TextGenerationPipeline

TEXTS = [
    "the sea is blue and the sky is grey",
    "once upon a time a cat sat on a mat",
    "ein Häuschen am Meer 🌊 und mehr",
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if not (continue_final_message and loop.last) %}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHAT = [{"role": "user", "content": "the sea"}]


@pytest.fixture(scope="module")
def tokenizer():
    named = {"pad_token": "<|pad|>", "eos_token": "<|end|>"}
    more = ["<|user|>", "<|assistant|>", "<|system|>"]
    made = train_tokenizer(TEXTS * 3, "bpe", vocab_size=340, special_tokens=named, extra_special_tokens=more)
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = LlamaConfig(vocab_size=len(tokenizer), intermediate_size=64, max_position_embeddings=128, **sizes, **ids)
    config.initializer_range = 0.5
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def pipe(model, tokenizer):
    return pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=8)


def greedy(model, tokenizer, ids, new=8):
    """The likeliest tokens, without a cache and without generate."""
    ids = list(ids)
    start = len(ids)
    while len(ids) < start + new:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return ids[start:]


def test_texts(pipe, model, tokenizer):
    want = [
        tokenizer.decode(greedy(model, tokenizer, tokenizer(t)["input_ids"]), skip_special_tokens=True) for t in TEXTS
    ]
    assert pipe(TEXTS[0], do_sample=False) == [{"generated_text": TEXTS[0] + want[0]}]
    together = pipe(TEXTS, do_sample=False)
    assert together == [[{"generated_text": text + more}] for text, more in zip(TEXTS, want, strict=True)]
    assert pipe(TEXTS, do_sample=False, batch_size=1) == together == list(pipe(iter(TEXTS), do_sample=False))
    assert pipe(TEXTS[1], do_sample=False, return_full_text=False) == [{"generated_text": want[1]}]
    ids = pipe(TEXTS[1], do_sample=False, return_tensors=True)[0]["generated_token_ids"]
    prompt = tokenizer(TEXTS[1])["input_ids"]
    assert ids == prompt + greedy(model, tokenizer, prompt)
    assert pipe("sea", prefix="the ", do_sample=False)[0]["generated_text"].startswith("sea")


def test_it_draws_unless_told_otherwise(pipe, model):
    """As in Transformers 5: temperature 0.7, 256 tokens where nobody says otherwise."""
    asked = pipe.options({})
    assert (asked["do_sample"], asked["temperature"], asked["max_new_tokens"]) == (True, 0.7, 256)
    assert "temperature" not in pipe.options({"do_sample": False})
    assert "max_new_tokens" not in pipe.options({"max_length": 30})
    torch.manual_seed(3)
    several = pipe(TEXTS[0], num_return_sequences=3, temperature=2.0)
    assert len(several) == 3 and len({one["generated_text"] for one in several}) > 1
    torch.manual_seed(3)
    assert pipe(TEXTS[0], num_return_sequences=3, temperature=2.0) == several


def test_chats(pipe, model, tokenizer):
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    said = tokenizer.decode(greedy(model, tokenizer, ids), skip_special_tokens=True)
    answer = pipe(CHAT, do_sample=False)
    assert answer == [{"generated_text": [*CHAT, {"role": "assistant", "content": said}]}]
    assert pipe([CHAT, CHAT], do_sample=False) == [answer, answer]
    assert CHAT == [{"role": "user", "content": "the sea"}], "what was given is not changed"
    begun = [*CHAT, {"role": "assistant", "content": "is"}]
    ids = tokenizer.apply_chat_template(begun, continue_final_message=True)["input_ids"]
    more = tokenizer.decode(greedy(model, tokenizer, ids), skip_special_tokens=True)
    assert pipe(begun, do_sample=False)[0]["generated_text"] == [*CHAT, {"role": "assistant", "content": "is" + more}]


def test_streamed_is_what_is_not_streamed(pipe):
    for prompt in (*TEXTS, CHAT):
        want = pipe(prompt, do_sample=False, return_full_text=False)[0]["generated_text"]
        assert "".join(pipe.stream_text(prompt, do_sample=False)) == want
    torch.manual_seed(5)
    want = pipe(TEXTS[2], return_full_text=False, temperature=3.0, max_new_tokens=40)[0]["generated_text"]
    torch.manual_seed(5)
    pieces = list(pipe.stream_text(TEXTS[2], temperature=3.0, max_new_tokens=40))
    assert "".join(pieces) == want and len(pieces) > 3


def test_a_conversation_computes_only_what_is_new(pipe, model, tokenizer, monkeypatch):
    conversation, lengths = pipe.conversation([{"role": "system", "content": "a cat"}]), []
    forward = type(model).forward

    def counted(self, input_ids=None, *args, **keywords):
        lengths.append(input_ids.shape[1])
        return forward(self, input_ids, *args, **keywords)

    list(conversation.answer("the sky", do_sample=False))
    messages = [*conversation.messages, {"role": "user", "content": "and?"}]
    want = pipe(messages, do_sample=False)[0]["generated_text"][-1]["content"]
    monkeypatch.setattr(type(model), "forward", counted)
    model._forward_names = type(model)(model.config)._forward_names
    assert "".join(conversation.answer("and?", do_sample=False)) == want
    whole = len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
    assert 1 < lengths[0] < whole - 8 and set(lengths[1:]) == {1}
    roles = [message["role"] for message in conversation.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


def test_an_interrupted_answer_stays_said(pipe):
    conversation = pipe.conversation()
    pieces = conversation.answer("the sea", do_sample=False, max_new_tokens=30)
    said = next(pieces)
    pieces.close()
    assert conversation.messages == [{"role": "user", "content": "the sea"}, {"role": "assistant", "content": said}]
    again = list(conversation.answer("and?", do_sample=False))
    fresh = pipe(conversation.messages[:3], do_sample=False)[0]["generated_text"][-1]["content"]
    assert "".join(again) == fresh
    with pytest.raises(ValueError, match="temperature"):
        list(conversation.answer("more", temperature=-1.0))
    assert len(conversation.messages) == 4, "an error leaves the chat as it was"


def test_bad_input(pipe, model, tokenizer):
    with pytest.raises(TypeError, match="must be a text .* or a chat"):
        pipe(7)
    with pytest.raises(TypeError, match="Input 1 must be a text"):
        pipe(["a", 7])
    with pytest.raises(TypeError, match="a message is"):
        pipe([{"rol": "user", "content": "x"}])
    with pytest.raises(TypeError, match="did you mean|Did you mean 'temperature'"):
        pipe("a", temprature=1.0)
    with pytest.raises(ValueError, match="max_new_tokens must be in"):
        pipe("a", max_new_tokens=0)
    with pytest.raises(ValueError, match="needs a prompt"):
        pipe("")
    with pytest.raises(ValueError, match="needs a model …ForCausalLM"):
        config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
        TextGenerationPipeline(BertModel(config), tokenizer)
    with pytest.raises(ValueError, match="no chat template"):
        plain = Tokenizer(tokenizer_object=tokenizer.backend_tokenizer)
        pipeline("text-generation", model=model, tokenizer=plain)(CHAT)


# ---- The commands


@pytest.fixture(scope="module")
def folder(model, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def test_generate_writes_on(folder, pipe, capsys, monkeypatch):
    want = pipe(TEXTS[0], do_sample=False)[0]["generated_text"]
    assert main(["generate", "-m", folder, "-t", "0", "-n", "8", "--device", "cpu", TEXTS[0]]) == 0
    assert capsys.readouterr().out == want + "\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXTS[0] + "\n"))
    assert main(["generate", "-m", folder, "-t", "0", "-n", "8", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == want + "\n"
    for _ in range(2):
        assert main(["generate", "-m", folder, "-n", "8", "-t", "2", "--seed", "4", TEXTS[0]]) == 0
    first, second = capsys.readouterr().out.rstrip("\n").split("\n" + TEXTS[0])
    assert first == TEXTS[0] + second
    assert main(["generate", TEXTS[0]]) == 1
    assert "Name a model" in capsys.readouterr().err


def test_chat_answers_turn_by_turn(folder, pipe, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the sea\n\nand?\n/reset\nthe sea\n/exit\nnever read\n"))
    assert main(["chat", folder, "-t", "0", "-n", "8", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    first = pipe(CHAT, do_sample=False)[0]["generated_text"]
    second = pipe([*first, {"role": "user", "content": "and?"}], do_sample=False)[0]["generated_text"]
    assert out == f"{first[-1]['content']}\n{second[-1]['content']}\n{first[-1]['content']}\n"


def test_ctrl_c_ends_an_answer_and_not_the_chat(folder, capsys, monkeypatch):
    from plainformers.pipelines.text_generation import Conversation

    calls = []

    def answer(self, text, **_):
        calls.append(text)
        yield "well "
        raise KeyboardInterrupt

    monkeypatch.setattr(Conversation, "answer", answer)
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    assert main(["chat", folder, "--device", "cpu"]) == 0
    assert calls == ["one", "two"] and capsys.readouterr().out == "well \nwell \n\n"


# ---- Less precision, and compiled


def built(kind, config):
    torch.manual_seed(1)
    return kind(config).eval()


WIDE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 96}
WIDE |= {"num_key_value_heads": 2, "initializer_range": 0.1, "max_position_embeddings": 64, "eos_token_id": None}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**WIDE)),
    "llama-tied": (LlamaForCausalLM, LlamaConfig(**WIDE, tie_word_embeddings=True)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=64)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_prepared_and_rounded_models_are_near(name, dtype):
    exact = built(*MODELS[name])
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        want = exact(ids).logits
        spread = want.std()
        for kind, most in ((None, 1e-5), ("int8", 0.03), ("int4", 0.25)):
            model = built(*MODELS[name]).to(dtype)
            prepared = model.prepare(kind)
            assert prepared and model.quantization == kind
            got = model(ids).logits.float()
            error = float((got - want).abs().mean() / spread)
            assert error < most + (0.02 if dtype == torch.bfloat16 else 0), (kind, error)
            assert kind is None or error > 1e-6, "nothing was rounded"
            alone = torch.cat([model(ids[:, :n], use_cache=False).logits[:, -1] for n in (1, 5, 12)]).float()
            torch.testing.assert_close(alone, got[0, [0, 4, 11]], atol=0.3 * float(spread), rtol=0.1)
            if kind:
                size = built(*MODELS[name]).to(dtype).get_memory_footprint()
                assert model.get_memory_footprint() < 0.8 * size


def test_layers_stored_turned_round_come_back():
    model = built(*MODELS["gpt2"])
    before = {n: v.clone() for n, v in model.state_dict().items()}
    model.prepare()
    assert model.transformer.h[0].attn.c_attn.weight.shape == (64, 192)
    assert {n: v.shape for n, v in model.state_dict().items()} == {n: v.shape for n, v in before.items()}
    model.unprepare()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert type(model.transformer.h[0].attn.c_attn).__name__ == "Conv1D"
    model.train()(torch.arange(3, 9)[None], labels=torch.arange(3, 9)[None]).loss.backward()


def test_a_compiled_model_makes_two_graphs():
    from torch._dynamo.testing import CompileCounter

    model, counter = built(*MODELS["llama"]), CompileCounter()
    prompts = [torch.arange(3, 3 + n)[None] for n in (7, 5)]
    want = [model.generate(ids, max_new_tokens=12) for ids in prompts]
    torch._dynamo.reset()
    model.compile(backend=counter, dynamic=True)
    for ids, expected in zip(prompts, want, strict=True):
        assert torch.equal(model.generate(ids, max_new_tokens=12), expected)
    assert counter.frame_count == 2, "one for prompts, one for tokens"


def test_a_static_cache_refuses_what_it_has_no_room_for():
    model = built(*MODELS["llama"])
    with pytest.raises(ValueError, match="needs max_cache_len"):
        StaticCache()
    with pytest.raises(ValueError, match="has room for 4 tokens: 0 were seen, 7 come"):
        model(torch.arange(3, 10)[None], past_key_values=StaticCache(max_cache_len=4))
