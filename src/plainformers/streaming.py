"""Text while it is written: from tokens, one after the other, to pieces of text that will not change any more.

`TextPieces` does it; the streamers hand what it gives to the terminal, to another thread or to a coroutine. All follow
one text at a time.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from queue import Queue
from typing import Any

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of an incomplete character
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token that is one byte of a character
# what taking out blanks before marks and contractions may still change, depending on what follows
UNSETTLED = re.compile(r"( ('|n|n'|'v|'r)?)+\Z")
MOST, KEPT = 24, 8  # tokens that are looked at again: their context. A character has at most 4


class TextPieces:
    """The text of tokens as they come: the pieces, joined, are what tokenizer.decode gives for all tokens at once.

    decode: arguments of tokenizer.decode. The work for a token does not grow with the length of the text.
    """

    def __init__(self, tokenizer: Any, **decode: Any):
        clean = decode.pop("clean_up_tokenization_spaces", None)
        self.clean = tokenizer.clean_up_tokenization_spaces if clean is None else clean
        self.tokenizer, self.arguments = tokenizer, decode
        added = tokenizer.added_tokens_decoder if decode.get("skip_special_tokens") else {}
        self.skipped = {index for index, token in added.items() if token.special}
        self._begin()

    def _begin(self) -> None:
        self.ids: list[int] = []  # the last tokens
        self.done = 0  # how many characters of their text are certain and were given
        self.unsettled = ""  # given neither, since cleaning up may change it

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False, **self.arguments)

    def push(self, ids: list[int]) -> str:
        """The text that is certain after these further tokens, and was not before."""
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        shown = [(i, token) for i, token in zip(ids, tokens, strict=True) if token and i not in self.skipped]
        self.ids += [i for i, _ in shown]
        # one wrong byte makes all bytes beside it unreadable, so their end must be seen
        if not shown or BYTE.fullmatch(shown[-1][1]):
            return ""
        text = self._decode(self.ids)
        end = len(text) - text.endswith(UNKNOWN)
        piece, self.done = text[self.done : end], end
        if len(self.ids) > MOST and (recent := self._decode(self.ids[-KEPT:])):
            self.ids, self.done = self.ids[-KEPT:], len(recent) - (len(text) - end)
        return self._settle(piece, last=False)

    def flush(self) -> str:
        """What is left at the end, half a character too; after that another text may begin."""
        piece = self._settle(self._decode(self.ids)[self.done :], last=True)
        self._begin()
        return piece

    def _settle(self, piece: str, last: bool) -> str:
        if not self.clean:
            return piece
        text = self.unsettled + piece
        found = None if last else UNSETTLED.search(text)
        self.unsettled = text[found.start() :] if found else ""
        return self.tokenizer.clean_up_tokenization(text[: len(text) - len(self.unsettled)])


class TextStreamer:
    """Prints the text while generate writes it.

    skip_prompt: do not print the first tokens that are put. decode: arguments of tokenizer.decode, above all
    skip_special_tokens. To do something else with the text, override on_finalized_text.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode: Any):
        self.tokenizer, self.skip_prompt = tokenizer, skip_prompt
        self.pieces = TextPieces(tokenizer, **decode)
        self.next_tokens_are_prompt = True

    def put(self, value: Any) -> None:
        """Tokens [T] or [1, T], a tensor or a list; the first ones are the prompt. ValueError for several rows."""
        ids = value.tolist() if hasattr(value, "tolist") else value
        ids = [ids] if isinstance(ids, int) else list(ids)
        if ids and isinstance(ids[0], list):
            if len(ids) > 1:
                raise ValueError(f"{type(self).__name__} follows one text; this is a batch of {len(ids)}.")
            ids = ids[0]
        skipped, self.next_tokens_are_prompt = self.skip_prompt and self.next_tokens_are_prompt, False
        if not skipped and (piece := self.pieces.push(ids)):
            self.on_finalized_text(piece)

    def end(self) -> None:
        self.next_tokens_are_prompt = True
        self.on_finalized_text(self.pieces.flush(), stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Called with each piece, and with stream_end=True for the last, which may be empty."""
        print(text, flush=True, end="\n" if stream_end else "")


class TextIteratorStreamer(TextStreamer):
    """Iterates over the pieces, while generate runs in another thread.

    timeout: seconds to wait for a piece, after which queue.Empty is raised; None waits for ever.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode: Any):
        super().__init__(tokenizer, skip_prompt, **decode)
        self.text_queue: Queue[str | None] = Queue()  # None: the end
        self.timeout = timeout

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        for item in [text] * bool(text) + [None] * stream_end:
            self.text_queue.put(item)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = self.text_queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text


class AsyncTextIteratorStreamer(TextStreamer):
    """Iterates over the pieces with `async for`, while generate runs in another thread; made inside of a running loop.

    timeout: seconds to wait for a piece, after which TimeoutError is raised; None waits for ever.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode: Any):
        super().__init__(tokenizer, skip_prompt, **decode)
        self.text_queue: asyncio.Queue[str | None] = asyncio.Queue()  # None: the end
        self.timeout, self.loop = timeout, asyncio.get_running_loop()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        for item in [text] * bool(text) + [None] * stream_end:
            self.loop.call_soon_threadsafe(self.text_queue.put_nowait, item)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        async with asyncio.timeout(self.timeout):
            text = await self.text_queue.get()
        if text is None:
            raise StopAsyncIteration
        return text
