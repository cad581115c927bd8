"""Chats to prompts: apply_chat_template, and what keeps a prompt's special tokens where its template put them.

A template writes the conversation as one text with control tokens (<|im_start|>, [INST]). That text already holds every
special token, so encoding it adds none; and a control token that stands in what somebody said stays mere text.
Functions whose first argument is a tokenizer are methods of Tokenizer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Encoding

from .aliases import did_you_mean
from .encoding import make_encoding
from .tool_schema import get_json_schema

# marks that no text has: Unicode says that these code points never stand for a character
GENERATION, PROTECTED, FINAL = ("\ufdd0", "\ufdd1"), ("\ufdd2", "\ufdd3"), "\ufdd4"
MARKS = re.compile("[\ufdd0-\ufdd4]")
Span = tuple[int, int]  # characters from … to


class RenderedChat(str):
    """A prompt that a template made. A tokenizer adds no special tokens to it, since it holds them.

    protected: where control tokens stand in what somebody said; they are encoded as text. generated: what the assistant
    says, by {% generation %} blocks. Anything made of it (a slice, a sum, str()) is a plain text again.
    """

    protected: tuple[Span, ...] = ()
    generated: tuple[Span, ...] = ()

    def __new__(cls, text: str, protected: Iterable[Span] = (), generated: Iterable[Span] = ()) -> "RenderedChat":
        made = super().__new__(cls, text)
        made.protected, made.generated = tuple(protected), tuple(generated)
        return made

    def __reduce__(self) -> Any:
        return RenderedChat, (str(self), self.protected, self.generated)

    def __str__(self) -> str:
        return "".join(self)


def get_chat_template(tokenizer: Any, chat_template: str | None = None, tools: Any = None) -> str:
    """The template that is used: the one given, or the tokenizer's; of named ones the given name, tool_use, default."""
    named = tokenizer.chat_template
    if isinstance(named, (list, tuple)):  # as older files write it
        named = {entry["name"]: entry["template"] for entry in named}
    if isinstance(named, Mapping):
        if chat_template in named:
            return named[chat_template]
        name = "tool_use" if tools is not None and "tool_use" in named else "default"
        if chat_template is None and name not in named:
            raise ValueError(f"This tokenizer has the chat templates {', '.join(named)}, and none is called 'default'. "
                             "Name one: chat_template=….")  # fmt: skip
        return named[name] if chat_template is None else chat_template
    if chat_template is not None or named is not None:
        return named if chat_template is None else chat_template
    raise ValueError(
        f"{tokenizer.name_or_path or 'This tokenizer'} has no chat template: it was not made for chats. Give one: "
        "chat_template='…', or tokenizer.chat_template = '…'."
    )


def apply_chat_template(
    tokenizer: Any,
    conversation: Any,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Mapping[str, str]] | None = None,
    chat_template: str | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tokenize: bool = True,
    sanitize_control_tokens: bool = True,
    padding: bool | str = False,
    truncation: bool = False,
    max_length: int | None = None,
    return_tensors: str | None = None,
    return_dict: bool = True,
    return_assistant_tokens_mask: bool = False,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    **values: Any,
) -> Any:
    """A conversation (or a list of them) as the tokenizer's template writes it, and as ids.

    conversation: messages {"role": …, "content": …}. tools: JSON schemas, or functions that get_json_schema reads.
    documents: for templates that retrieve. add_generation_prompt: end with the beginning of an answer;
    continue_final_message: end with the last message, unfinished. tokenize=False: the text, a RenderedChat.
    sanitize_control_tokens=False: control tokens in messages count as such. return_dict=False: ids only.
    return_assistant_tokens_mask: `assistant_masks`, 1 where {% generation %} blocks stand. values: of the template's
    own variables. Raises ValueError for a template that fails or oversteps its limits, TypeError for a misspelt value.
    """
    from .sandbox import render  # with Jinja, which only chats need

    if add_generation_prompt and continue_final_message:
        raise ValueError("add_generation_prompt begins a new message and continue_final_message stays in the last one; "
                         "give one of them.")  # fmt: skip
    if return_assistant_tokens_mask and not (tokenize and return_dict):
        raise ValueError("return_assistant_tokens_mask needs tokenize=True and return_dict=True.")
    template = get_chat_template(tokenizer, chat_template, tools)
    several, chats = read_conversations(conversation)
    schemas = [tool if isinstance(tool, Mapping) else get_json_schema(tool) for tool in tools] if tools else None
    check_values(template, values)
    given = {**tokenizer.special_tokens_map, "tools": schemas, "documents": documents, **values}
    given["add_generation_prompt"] = add_generation_prompt
    texts = []
    for chat in chats:
        messages: Any = chat
        if sanitize_control_tokens:
            messages, given["tools"], given["documents"] = (
                mark(part, control_tokens(tokenizer)) for part in (chat, schemas, documents)
            )
        if continue_final_message and messages:
            messages = with_end_marked(messages)
        text = render(template, "The chat template", GENERATION, messages=messages, **given)
        if continue_final_message:
            text = until_final_message(text)
        texts.append(without_marks(text))
    if return_assistant_tokens_mask and "{% generation" not in re.sub(r"\{%-?\s*", "{% ", template):
        raise ValueError("The template says nowhere what the assistant says: it has no {% generation %} block.")
    if not tokenize:
        return texts if several else texts[0]
    encoded = tokenizer(
        texts if several else texts[0], padding=padding, truncation=truncation, max_length=max_length,
        return_tensors=None if return_assistant_tokens_mask else return_tensors, **(tokenizer_kwargs or {}),
    )  # fmt: skip
    if return_assistant_tokens_mask:
        masks = [assistant_mask(row, text) for row, text in zip(encoded.encodings, texts, strict=True)]
        encoded["assistant_masks"] = masks if several else masks[0]
        encoded.convert_to_tensors(return_tensors, prepend_batch_axis=not several)
    return encoded if return_dict else encoded["input_ids"]


def read_conversations(conversation: Any) -> tuple[bool, list[list[Any]]]:
    """(whether there are several, the messages of each)."""
    if hasattr(conversation, "messages"):
        conversation = conversation.messages
    if isinstance(conversation, (str, bytes, Mapping)) or not isinstance(conversation, Sequence):
        raise TypeError(f"A conversation is a list of messages, [{{'role': 'user', 'content': '…'}}], not "
                        f"{type(conversation).__name__}: {conversation!r:.80}.")  # fmt: skip
    several = bool(conversation) and (
        isinstance(conversation[0], (list, tuple)) or hasattr(conversation[0], "messages")
    )
    chats = [getattr(chat, "messages", chat) for chat in conversation] if several else [conversation]
    for chat in chats:
        for number, message in enumerate(chat):
            if not isinstance(message, Mapping):
                raise TypeError(f"Message {number} must be a dictionary with 'role' and 'content', not "
                                f"{type(message).__name__}: {message!r:.80}.")  # fmt: skip
    return several, [list(chat) for chat in chats]


def check_values(template: str, values: Mapping[str, Any]) -> None:
    """Refuses what the template does not look at: it would be without effect."""
    from .sandbox import variables

    if values and (unknown := sorted(values.keys() - (known := variables(template)))):
        raise TypeError(
            f"apply_chat_template has no argument {unknown[0]!r}, and the template has no variable of that name."
            f"{did_you_mean(unknown[0], [*known, *apply_chat_template.__annotations__])} "
            f"The template's variables: {', '.join(sorted(known)) or 'none'}."
        )


# ---- Control tokens in what somebody said


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Matches every added token; the longest first, as the library does."""
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values()}
    tokens = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def mark(value: Any, control: re.Pattern[str] | None) -> Any:
    """A copy of what a template is given, with marks around control tokens in all its texts, keys left alone."""
    if isinstance(value, str):
        if MARKS.search(value):
            raise ValueError(f"A message holds U+{ord(MARKS.search(value)[0]):04X}, which is no character.")  # type: ignore[index]
        begin, end = PROTECTED
        return control.sub(lambda found: begin + found[0] + end, value) if control else value
    if isinstance(value, Mapping):
        return {key: part if key == "role" else mark(part, control) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [mark(part, control) for part in value]
    return value


def without_marks(text: str) -> RenderedChat:
    """The text without marks, and where they stood."""
    pieces, at, length = [], 0, 0
    spans: dict[str, list[Span]] = {PROTECTED[1]: [], GENERATION[1]: []}
    begun: dict[str, int] = {}
    for found in MARKS.finditer(text):
        pieces.append(text[at : found.start()])
        length, at = length + found.start() - at, found.end()
        which = found[0]
        if which in (PROTECTED[0], GENERATION[0]):
            begun[chr(ord(which) + 1)] = length
        elif which in begun:
            spans[which].append((begun.pop(which), length))
    whole = "".join([*pieces, text[at:]])
    spans = {which: [(a, b) for a, b in found if b > a] for which, found in spans.items()}
    return RenderedChat(whole, spans[PROTECTED[1]], spans[GENERATION[1]])


def with_end_marked(messages: list[Any]) -> list[Any]:
    """The messages with a mark, and a blank after it, at the end of the last content."""
    *rest, last = messages
    content = last.get("content")
    if isinstance(content, list):
        texts = [i for i, part in enumerate(content) if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
        if texts:
            content = list(content)
            content[texts[-1]] = {**content[texts[-1]], "text": content[texts[-1]]["text"] + FINAL + " "}
            return [*rest, {**last, "content": content}]
    if not isinstance(content, str):
        raise ValueError("continue_final_message needs a last message with a text as its 'content'.")
    return [*rest, {**last, "content": content + FINAL + " "}]


def until_final_message(text: str) -> str:
    """The text up to the mark. Where the template takes the blank behind it away, it would take those before it too."""
    at = text.rfind(FINAL)
    if at < 0:
        raise ValueError("continue_final_message: the template leaves the last message out, so it cannot be continued.")
    kept = text[:at].replace(FINAL, "")
    return kept if text.startswith(" ", at + 1) else kept.rstrip()


# ---- Encoding a prompt; called by Tokenizer under its lock


def encode_protected(backend: Any, text: RenderedChat) -> Encoding:
    """The encoding of a prompt in which protected control tokens are text.

    The control tokens that do count cut the prompt into parts; a part with a protected one is encoded once more, as if
    there were no special tokens.
    """
    plain = str(text)
    first = backend.encode(plain, add_special_tokens=False)
    if not text.protected:
        return first
    added = backend.get_added_tokens_decoder()
    real = [i for i, (index, span) in enumerate(zip(first.ids, first.offsets, strict=True))
            if index in added and not overlaps(span, text.protected)]  # fmt: skip
    parts, begin, at = [], 0, 0
    for i in [*real, len(first.ids)]:
        end = first.offsets[i][0] if i < len(first.ids) else len(plain)
        if any(begin <= a and b <= end for a, b in text.protected):
            parts += encode_as_text(backend, plain, begin, end, [s for s in text.protected if begin <= s[0] < end])
        else:
            parts += list(
                zip(first.ids[at:i], first.tokens[at:i], first.offsets[at:i], first.type_ids[at:i], strict=True)
            )
        if i < len(first.ids):
            parts.append((first.ids[i], first.tokens[i], first.offsets[i], 0))
            begin, at = first.offsets[i][1], i + 1
    return make_encoding(*zip(*parts, strict=True)) if parts else make_encoding([], [])


def overlaps(span: Span, others: Iterable[Span]) -> bool:
    """Whether a token's characters overlap one of the others."""
    return any(span[0] < b and a < span[1] for a, b in others)


def encode_as_text(backend: Any, plain: str, begin: int, end: int, protected: list[Span]) -> list[Any]:
    """Tokens of a part of a prompt, as (id, token, offsets, type). Added tokens that are not special are cut in two."""
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    cuts = [begin, *(a + max(1, (b - a) // 2) for a, b in protected if plain[a:b] not in special), end]
    scheme = getattr(backend.pre_tokenizer, "prepend_scheme", None)
    before, backend.encode_special_tokens = backend.encode_special_tokens, True
    found = []
    try:
        if scheme == "first" and begin > 0:
            backend.pre_tokenizer.prepend_scheme = "never"
        for a, b in zip(cuts, cuts[1:], strict=False):
            row = backend.encode(plain[a:b], add_special_tokens=False)
            offsets = [(x + a, y + a) for x, y in row.offsets]
            found += zip(row.ids, row.tokens, offsets, row.type_ids, strict=True)
    finally:
        backend.encode_special_tokens = before
        if scheme == "first":
            backend.pre_tokenizer.prepend_scheme = scheme
    return found


def assistant_mask(encoding: Encoding, text: RenderedChat) -> list[int]:
    return [int(overlaps(span, text.generated) and span[1] > span[0]) for span in encoding.offsets]
