"""Pieces of text are what decoding all tokens at once gives, cut where nothing can change any more."""

import asyncio
import threading
from queue import Empty

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tokenizers import AddedToken, Tokenizer as Backend, decoders, models, pre_tokenizers

from plainformers import AsyncTextIteratorStreamer, TextIteratorStreamer, TextStreamer, Tokenizer
from plainformers.streaming import TextPieces

WORDS = ["a", "n", "t", "s", "'", ".", ",", "the", "cat", "on", "�", "日本", "。"]


def byte_level() -> Tokenizer:
    """Every byte is a token, as are some pairs that are no whole characters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("ð", "Ł"), ("Ġ", "c"), ("ç", "Į"), ("Ġ", "'"), ("Ġ", ".")]
    vocab = {token: i for i, token in enumerate([*letters, *map("".join, merges)])}
    backend = Backend(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return finish(backend)


def byte_fallback() -> Tokenizer:
    """As Llama's: blanks are ▁, unknown characters bytes, and the first blank is taken away."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁▁", *WORDS, *(f"▁{word}" for word in WORDS)]
    letters = sorted({letter for token in tokens[257:] for letter in token} - set(tokens))
    vocab = {token: i for i, token in enumerate([*tokens, *letters])}
    backend = Backend(models.BPE(vocab=vocab, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True))
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(strip)
    return finish(backend)


def metaspace() -> Tokenizer:
    tokens = ["<unk>", "▁", "▁▁", *WORDS, *(f"▁{word}" for word in WORDS)]
    backend = Backend(models.Unigram([(token, -float(i)) for i, token in enumerate(tokens)], unk_id=0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return finish(backend)


def word_piece() -> Tokenizer:
    tokens = ["[UNK]", *WORDS, *(f"##{word}" for word in WORDS), "do", "n't", "'m"]
    backend = Backend(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return finish(backend)


def word_ends() -> Tokenizer:
    """As CLIP's and GPT's: words end with </w>."""
    tokens = ["<unk>", *WORDS, *(f"{word}</w>" for word in WORDS)]
    backend = Backend(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[], unk_token="<unk>"))
    backend.decoder = decoders.BPEDecoder("</w>")
    return finish(backend)


def finish(backend: Backend) -> Tokenizer:
    backend.add_special_tokens(["<s>", "</s>"])
    backend.add_tokens([AddedToken("<tool>", special=False), AddedToken(" ' ", special=False)])
    return Tokenizer(backend, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {f.__name__: f() for f in (byte_level, byte_fallback, metaspace, word_piece, word_ends)}
ALL = pytest.mark.parametrize("name", TOKENIZERS)


def pieces_of(pieces: TextPieces, ids: list[int], step: int = 1) -> list[str]:
    return [*(pieces.push(ids[i : i + step]) for i in range(0, len(ids), step)), pieces.flush()]


@ALL
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("clean", [False, True])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_pieces_of_any_tokens_are_their_text(name, skip, clean, data):
    """Nonsense, too: half characters, bytes that are none, special tokens anywhere, ids that no token has."""
    tokenizer = TOKENIZERS[name]
    options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) + 1), max_size=60))
    given_so_far, pieces, text = "", TextPieces(tokenizer, **options), tokenizer.decode(ids, **options)
    for i in range(0, len(ids), step := data.draw(st.integers(1, 3))):
        given_so_far += pieces.push(ids[i : i + step])
        assert text.startswith(given_so_far)
    assert given_so_far + pieces.flush() == text
    assert pieces.flush() == ""


@ALL
def test_special_tokens_in_a_row_lose_no_blank(name):
    tokenizer = TOKENIZERS[name]
    for fill in (["</s>"] * 40, ["<s>"]):
        ids = tokenizer.convert_tokens_to_ids(["a", *fill]) + tokenizer.encode("the cat", add_special_tokens=False)
        want = tokenizer.decode(ids, skip_special_tokens=True)
        assert "".join(pieces_of(TextPieces(tokenizer, skip_special_tokens=True), ids)) == want


TEXT = "naïve 日本語。😀😂 “the cat” 👩‍👩‍👧 x"


@pytest.mark.parametrize("name", ["byte_level", "byte_fallback"])
def test_no_piece_holds_half_a_character(name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    assert len(ids) > len(TEXT)
    pieces = pieces_of(TextPieces(tokenizer), ids)
    assert "".join(pieces) == tokenizer.decode(ids) and not any("�" in piece for piece in pieces)
    # alone the tokens are no characters
    assert any("�" in tokenizer.decode([index]) for index in ids)


def test_a_character_comes_with_its_last_byte():
    tokenizer = TOKENIZERS["byte_level"]
    pieces, ids = TextPieces(tokenizer), tokenizer.encode("a日b", add_special_tokens=False)
    assert [pieces.push([index]) for index in ids] == ["a", "", "", "日", "b"]
    tokenizer = TOKENIZERS["metaspace"]
    pieces, ids = TextPieces(tokenizer), tokenizer.convert_tokens_to_ids(["▁the", "日本", "。", "cat"])
    assert [pieces.push([index]) for index in ids] == ["the", "日本", "。", "cat"]


def test_what_cleaning_up_may_change_waits():
    tokenizer = TOKENIZERS["byte_level"]
    pieces = TextPieces(tokenizer, clean_up_tokenization_spaces=True)
    got = [pieces.push([index]) for index in tokenizer.encode("a . b n't", add_special_tokens=False)]
    assert got == ["a", ".", "", " b", "", "", "", "n't"]


@ALL
@pytest.mark.parametrize("token", [0, 3, 150])
def test_the_work_for_a_token_is_bounded(name, token):
    """However long the text, and when a model repeats one byte for ever."""
    tokenizer, decoded = TOKENIZERS[name], 0
    pieces, ids = TextPieces(tokenizer), [token % len(tokenizer)] * 2000
    original = pieces._decode

    def counting(ids):
        nonlocal decoded
        decoded += len(ids)
        return original(ids)

    pieces._decode = counting
    assert "".join(pieces_of(pieces, ids)) == tokenizer.decode(ids)
    assert decoded < 40 * len(ids)


# ---- Streamers


def test_the_streamer_prints(capsys):
    tokenizer = TOKENIZERS["byte_level"]
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    for _ in range(2):  # may be used again
        prompt, answer = (tokenizer.encode(text, add_special_tokens=False) for text in ("prompt", "日本 a</s>"))
        streamer.put(torch.tensor([prompt]))
        for index in answer:
            streamer.put(torch.tensor([index]))
        streamer.end()
        assert capsys.readouterr().out == "日本 a\n"
    streamer.skip_prompt = False
    streamer.put(prompt)
    streamer.put(97 - 33)
    streamer.end()
    assert capsys.readouterr().out == "prompta\n"


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match="TextStreamer follows one text; this is a batch of 2"):
        TextStreamer(TOKENIZERS["metaspace"]).put(torch.ones(2, 3, dtype=torch.long))


def test_text_may_go_anywhere():
    heard = []

    class Listener(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            heard.append((text, stream_end))

    streamer = Listener(TOKENIZERS["metaspace"])
    streamer.put([[4, 4]])
    streamer.end()
    assert heard == [("nn", False), ("", True)]


def feed(streamer, tokenizer) -> None:
    streamer.put(torch.tensor([tokenizer.encode("prompt", add_special_tokens=False)]))
    for index in tokenizer.encode("日本 cat", add_special_tokens=False):
        streamer.put(torch.tensor([index]))
    streamer.end()


def test_the_iterator_gives_pieces_from_another_thread():
    tokenizer = TOKENIZERS["byte_level"]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=20)
    thread = threading.Thread(target=feed, args=(streamer, tokenizer))
    thread.start()
    assert list(streamer) == ["日", "本", " c", "a", "t"]
    thread.join()
    with pytest.raises(Empty):
        next(TextIteratorStreamer(tokenizer, timeout=0.01))


def test_the_iterator_of_a_coroutine():
    tokenizer = TOKENIZERS["byte_level"]

    async def listen():
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, timeout=20)
        thread = threading.Thread(target=feed, args=(streamer, tokenizer))
        thread.start()
        pieces = [piece async for piece in streamer]
        thread.join()
        streamer.timeout = 0.01
        with pytest.raises(TimeoutError):
            await anext(streamer)
        return pieces

    assert asyncio.run(listen()) == ["日", "本", " c", "a", "t"]
