"""text-generation: a text, or a chat, to what a causal model writes on."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..batching import plan_batches
from ..cache import DynamicCache
from ..encoding import BatchEncoding
from ..generation import generate, stream
from ..generation_config import GenerationConfig
from ..model import Model
from .base import Pipeline, Rows, the_input

# where neither the call nor the model says otherwise; what guides sampling counts only when there is some
DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# arguments of generate that a call takes, beside the fields of GenerationConfig
OF_GENERATE = frozenset(inspect.signature(generate).parameters) - {"model", "inputs", "tokenizer", "keywords"}
ROWS, TOKENS = 8, 4096  # prompts that are written on together, and their tokens


class TextGenerationPipeline(Pipeline):
    """Text by any causal model. For a text the answer is [{"generated_text": the text and what follows}]; for a chat,
    messages [{"role", "content"}], the messages and the assistant's. num_return_sequences gives as many.

    Without other settings of the call or the model, at most 256 tokens are drawn at temperature 0.7, as in
    Transformers; do_sample=False takes the likeliest. All fields of GenerationConfig are arguments of a call.
    """

    task = "text-generation"
    model_ending = "ForCausalLM"

    @classmethod
    def takes(cls, model: Model) -> bool:
        return model.can_generate()

    # ---- The steps

    def read(self, item: Any, number: int | None = None) -> Any:
        if is_chat(item):
            for message in item:
                if "role" not in message or "content" not in message and "tool_calls" not in message:
                    raise TypeError(
                        f"{the_input(number)}: a message is {{'role': …, 'content': …}}, not {message!r:.80}."
                    )
            return item
        if not isinstance(item, str):
            raise TypeError(
                f"{the_input(number)} must be a text (str) or a chat, a list of messages {{'role': …, 'content': …}}; "
                f"not {type(item).__name__}: {item!r:.80}."
            )
        return item

    def read_all(self, inputs: Any) -> list[Any]:
        return [self.read(inputs)] if is_chat(inputs) else super().read_all(inputs)

    def preprocess(
        self,
        inputs: Any,
        *,
        prefix: str = "",
        add_special_tokens: bool = True,
        truncation: bool | str | None = None,
        continue_final_message: bool | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, str]] | None = None,
        tokenizer_encode_kwargs: dict[str, Any] | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Tokens of one prompt or a list of them, padded on the left. prefix: goes before each text. tools, documents:
        for the chat template. continue_final_message: the answer goes on with the last message, by default when that
        is the assistant's. tokenizer_encode_kwargs: further arguments of the tokenizer, or of apply_chat_template.
        """
        prompts, rows, more = self.read_all(inputs), [], dict(tokenizer_encode_kwargs or {})
        for prompt in prompts:
            if isinstance(prompt, str):
                given = {"truncation": truncation, "add_special_tokens": add_special_tokens} | more
                rows.append(self.tokenise(prefix + prompt, **given)["input_ids"])
                continue
            goes_on = prompt[-1]["role"] == "assistant" if continue_final_message is None else continue_final_message
            chat = {"tools": tools, "documents": documents, "add_generation_prompt": not goes_on}
            chat |= {"continue_final_message": goes_on} | more
            rows.append(self.tokenizer.apply_chat_template(prompt, **chat)["input_ids"])
        encoded: dict[str, Any] = {"input_ids": rows}
        if padding and return_tensors == "pt":
            longest = max(map(len, rows))
            pad = self.tokenizer.pad_token_id or 0
            encoded["input_ids"] = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
            encoded["attention_mask"] = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return Rows.of(BatchEncoding(encoded), prompts)

    def forward(self, inputs: Mapping[str, Any], **options: Any) -> torch.Tensor:
        """Ids [B times num_return_sequences, T], the prompts first. options: those of generate."""
        given = {n: v.to(self.device) for n, v in inputs.items() if isinstance(v, torch.Tensor)}
        if not given["input_ids"].shape[1]:
            given = {}  # no prompt: the token that begins texts
        found = self.model.generate(**given, tokenizer=self.tokenizer, **self.options(options))
        return found if isinstance(found, torch.Tensor) else found.sequences

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of generate, with this task's defaults where neither the call nor the model says otherwise."""
        said = self.model.generation_config.to_diff_dict() | given
        said |= given["generation_config"].to_diff_dict() if given.get("generation_config") is not None else {}
        added = {n: v for n, v in DEFAULTS.items() if said.get(n) is None}
        if said.get("max_length") is not None:
            added.pop("max_new_tokens", None)
        if not (said | added)["do_sample"]:
            added = {n: v for n, v in added.items() if n not in SAMPLING}
        if said.get("pad_token_id") is None and self.tokenizer.pad_token_id is not None:
            added["pad_token_id"] = self.tokenizer.pad_token_id
        return given | added

    def postprocess(
        self,
        outputs: torch.Tensor,
        inputs: Any = None,
        *,
        return_full_text: bool | None = None,
        return_text: bool | None = None,
        return_tensors: bool = False,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[Any]:
        """return_full_text=False: only what is new. return_tensors: {"generated_token_ids": ids} in place of text."""
        length, prompts = inputs["input_ids"].shape[1], inputs.given
        answers: list[list[dict[str, Any]]] = []
        decode = {"skip_special_tokens": skip_special_tokens}
        if clean_up_tokenization_spaces is not None:
            decode["clean_up_tokenization_spaces"] = clean_up_tokenization_spaces
        times = len(outputs) // len(prompts)
        whole = not return_text if return_full_text is None and return_text is not None else return_full_text
        for number, row in enumerate(outputs.tolist()):
            prompt = prompts[number // times]
            if number % times == 0:
                answers.append([])
            if return_tensors:
                answers[-1].append({"generated_token_ids": row})
                continue
            text = self.tokenizer.decode(row[length:], **decode)
            if whole is None or whole:
                text = prompt + text if isinstance(prompt, str) else with_answer(prompt, text)
            answers[-1].append({"generated_text": text})
        return answers

    def scores(self, outputs: Any) -> None:
        return None

    # ---- Calling

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        """The answer for one text or chat, a list for a list of them, an iterator for an iterator."""
        if not is_chat(inputs):
            return super().__call__(inputs, **arguments)
        return super().__call__([inputs], **arguments)[0]

    def stream_text(
        self, prompt: Any, *, conversation: "Conversation | None" = None, **arguments: Any
    ) -> Iterator[str]:
        """What a call would add to one text or chat, piece by piece as it is written: whole characters.

        conversation: whose cache holds the beginning.
        """
        before, after = self.steps_of(self.defaults | self.checked(arguments))
        options = before.pop("options", {})
        inputs = self.preprocess(prompt if is_chat(prompt) else self.read(prompt), **before)
        given = {"input_ids": inputs["input_ids"].to(self.device)} if inputs["input_ids"].shape[1] else {}
        skip = after.get("skip_special_tokens", True)
        options = self.options(options)
        if conversation is not None:
            given["past_key_values"] = conversation.resume(inputs["input_ids"][0].tolist())
            options["stopping_criteria"] = [conversation.remember, *options.get("stopping_criteria", ())]
        return stream(self.model, **given, tokenizer=self.tokenizer, skip_special_tokens=skip, **options)

    def conversation(self, messages: Sequence[Mapping[str, Any]] = ()) -> "Conversation":
        """A chat that remembers what was said, and computes only what is new."""
        return Conversation(self, messages)

    def answer_one(self, item: Any, before: dict[str, Any], after: dict[str, Any]) -> Any:
        ((_, answer),) = self.numbered_answers([item], before, after, 1)
        return answer

    def numbered_answers(
        self, items: Sequence[Any], before: dict[str, Any], after: dict[str, Any], batch_size: int | None
    ) -> Iterator[tuple[int, Any]]:
        before = dict(before)
        options = before.pop("options", {})
        lengths = [len(row) for row in self.encode_rows(items, before)["input_ids"]] if len(items) > 1 else [1]
        for rows in plan_batches(lengths, tokens=TOKENS, rows=ROWS, fixed=batch_size, packed=False):
            inputs = self.preprocess([items[row] for row in rows], **before)
            answers = self.postprocess(self.forward(inputs, **options), inputs, **after)
            yield from zip(rows, answers, strict=True)

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        own = super().call_arguments() | {"stop_sequence", "return_tensors"}
        return own | GenerationConfig.names() | OF_GENERATE

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        if "stop_sequence" in given:
            given["stop_strings"] = given.pop("stop_sequence")
        options = self.options(self.__dict__.get("defaults", {}) | given)
        GenerationConfig(**{n: v for n, v in options.items() if n in GenerationConfig.names()})  # before hours of work
        return given

    def steps_of(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        own = self.keywords_of("preprocess")
        before, after = super().steps_of(arguments)
        if "return_tensors" in before:  # of the answers, not of the prompts
            after["return_tensors"] = before.pop("return_tensors")
        options = {n: before.pop(n) for n in list(before) if n not in own}
        return before | {"options": options}, after


class Conversation:
    """A chat turn by turn. messages: all that was said; it may be changed between turns."""

    def __init__(self, pipe: TextGenerationPipeline, messages: Sequence[Mapping[str, Any]]):
        self.pipe, self.messages = pipe, [dict(message) for message in messages]
        self.cache, self.seen = DynamicCache(), list[int]()  # seen: the tokens whose keys the cache may hold

    def answer(self, text: str, **arguments: Any) -> Iterator[str]:
        """What the model says to it, piece by piece. Whoever stops to iterate ends the answer there.

        Raises ValueError, with the chat as it was, where it has become too long.
        """
        self.messages.append({"role": "user", "content": text})
        said = ""
        try:
            for piece in self.pipe.stream_text(self.messages, conversation=self, **arguments):
                said += piece
                yield piece
        finally:  # an error before the first piece leaves nothing, an interruption what was said
            if said:
                self.messages.append({"role": "assistant", "content": said})
            else:
                self.messages.pop()

    def remember(self, ids: torch.Tensor, scores: Any) -> bool:
        """A criterion that never stops."""
        self.seen = ids[0].tolist()
        return False

    def resume(self, ids: list[int]) -> DynamicCache:
        """The cache of the longest beginning that is the same as before; one token is left to go on with."""
        pairs = enumerate(zip(self.seen, ids, strict=False))
        same = next((i for i, (old, new) in pairs if old != new), min(len(self.seen), len(ids)))
        try:
            self.cache.crop(min(same, len(ids) - 1))
        except ValueError:  # it left the window of a layer
            self.cache.reset()
        return self.cache


def is_chat(item: Any) -> bool:
    """Whether it is a list of messages, not one of texts or chats."""
    return isinstance(item, (list, tuple)) and len(item) > 0 and all(isinstance(one, Mapping) for one in item)


def with_answer(chat: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """The chat with the assistant's answer, or with the end of its last message when that is the assistant's."""
    messages = [dict(message) for message in chat]
    if messages[-1]["role"] == "assistant":
        messages[-1]["content"] = (messages[-1].get("content") or "") + text
        return messages
    return [*messages, {"role": "assistant", "content": text}]
