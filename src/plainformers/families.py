"""The table of tokenizer classes: what each adds to its files, and how original files become a tokenizer. Data only."""

from collections.abc import Mapping
from typing import Any, NamedTuple

WITH_TYPES = ("input_ids", "token_type_ids", "attention_mask")
WITHOUT_TYPES = ("input_ids", "attention_mask")


class Family(NamedTuple):
    """What a tokenizer class adds to its files: special tokens and inputs that the files may leave unsaid."""

    special: Mapping[str, str] = {}
    inputs: tuple[str, ...] = WITH_TYPES
    padding_side: str = "right"
    kind: str = ""  # how its original files are converted: a key of conversion.CONVERTERS; "": no way is known
    files: Mapping[str, tuple[str, ...]] = {}  # argument -> the names that its file may have: {"vocab_file": (…)}
    options: Mapping[str, Any] = {}  # what the converter needs to know beyond the files
    settings: tuple[str, ...] = ()  # arguments of the class that the converter reads, beside those of every tokenizer


def _tokens(tokens: str) -> dict[str, str]:
    return {f"{name}_token": token for name, token in (pair.split("=") for pair in tokens.split())}


_VOCAB_TXT = {"vocab_file": ("vocab.txt",)}
_BERT = _tokens("unk=[UNK] sep=[SEP] pad=[PAD] cls=[CLS] mask=[MASK]")
_ROBERTA = _tokens("bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s> mask=<mask>")
_GPT2 = _tokens("bos=<|endoftext|> eos=<|endoftext|> unk=<|endoftext|>")
_BERT_FAMILY = Family(_BERT, kind="wordpiece", files=_VOCAB_TXT)
FAMILIES: dict[str, Family] = {
    "BertTokenizer": _BERT_FAMILY,
    "ConvBertTokenizer": _BERT_FAMILY,
    "ElectraTokenizer": _BERT_FAMILY,
    "LayoutLMTokenizer": _BERT_FAMILY,
    "LxmertTokenizer": _BERT_FAMILY,
    "MobileBertTokenizer": _BERT_FAMILY,
    "SqueezeBertTokenizer": _BERT_FAMILY,
    "DistilBertTokenizer": Family(_BERT, WITHOUT_TYPES, kind="wordpiece", files=_VOCAB_TXT),
    "RobertaTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "BartTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "CamembertTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "MPNetTokenizer": Family({**_ROBERTA, "unk_token": "[UNK]"}, WITHOUT_TYPES),
    "XLMRobertaTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "AlbertTokenizer": Family({**_BERT, **_tokens("bos=[CLS] eos=[SEP] unk=<unk> pad=<pad>")}),
    "GPT2Tokenizer": Family(_GPT2, WITHOUT_TYPES),
    "WhisperTokenizer": Family(_GPT2, WITHOUT_TYPES),
    "T5Tokenizer": Family(_tokens("eos=</s> unk=<unk> pad=<pad>"), WITHOUT_TYPES),
    "LlamaTokenizer": Family(_tokens("bos=<s> eos=</s> unk=<unk>"), WITHOUT_TYPES, "left"),
}

# every name that an original vocabulary file may have, in any family
VOCABULARY_FILES = tuple(
    dict.fromkeys(name for family in FAMILIES.values() for names in family.files.values() for name in names)
)
