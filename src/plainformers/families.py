"""The table of tokenizer classes: what each adds to its files, and how original files become a tokenizer. Data only."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

WITH_TYPES = ("input_ids", "token_type_ids", "attention_mask")
WITHOUT_TYPES = ("input_ids", "attention_mask")
Words = Mapping[str, str] | str  # words by their names, or the text that _family reads


class Family(NamedTuple):
    """What a tokenizer class adds to its files: special tokens and inputs that the files may leave unsaid."""

    special: Mapping[str, str] = {}
    inputs: tuple[str, ...] = WITH_TYPES
    padding_side: str = "right"
    kind: str = ""  # how its original files are converted: a key of conversion.CONVERTERS; "": no way is known
    files: Mapping[str, tuple[str, ...]] = {}  # argument -> the names that its file may have: {"vocab_file": (…)}
    options: Mapping[str, Any] = {}  # what the converter needs to know beyond the files
    settings: tuple[str, ...] = ()  # arguments of the class that the converter reads, beside those of every tokenizer


class Original(NamedTuple):
    """What a tokenizer is made of: its original files, and what is said about it."""

    family: Family
    special: Mapping[str, str] = {}  # special tokens by name: {"unk_token": "<unk>"}
    settings: Mapping[str, Any] = {}  # those of tokenizer_config.json
    sources: Mapping[str, Any] = {}  # argument of the class -> file, or what it holds

    def said(self, name: str, default: Any = None) -> Any:
        """A setting; what is not set, or null, is as the family's option of that name says."""
        value = self.settings.get(name)
        return self.family.options.get(name, default) if value is None else value


def _pairs(text: str) -> Iterator[list[str]]:
    """(left, right) of each left=right."""
    return (pair.split("=") for pair in text.split())


def _tokens(pairs: str) -> dict[str, str]:
    return {f"{name}_token": token for name, token in _pairs(pairs)}


def _ids(pairs: str) -> dict[str, int]:
    return {token: int(index) for index, token in _pairs(pairs)}


# ---- Byte-level BPE, CLIP, characters and bytes: how texts are split before merging

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # ByteLevel's own
_LATER = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
CL100K_SPLIT = _WORD + r"\p{N}{1,3}" + _LATER  # Llama 3's too
QWEN2_SPLIT = _WORD + r"\p{N}" + _LATER
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|"
_AFTER = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K_SPLIT = _CASED.replace("%s", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r"\p{N}{1,3}" + _AFTER
TEKKEN_SPLIT = _CASED.replace("%s", "") + r"\p{N}" + _AFTER
CLIP_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# cased letters, in hexadecimal: written as characters, some would turn into others that look the same
_DEEPSEEK_LETTERS = (
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C "
    "38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B "
    "1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 "
    "1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 "
    "2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B "
    "2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 "
    "FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF "
    "1E900-1E943"
)
_DEEPSEEK_CLASS = "".join("-".join(rf"\x{{{end}}}" for end in part.split("-")) for part in _DEEPSEEK_LETTERS.split())
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


class Ranks(NamedTuple):
    """What a rank file of tiktoken does not say."""

    split: str
    special: Mapping[str, int]


# how many ranks a file has -> which one it is
RANK_FILES: dict[int, Ranks] = {
    50256: Ranks(GPT2_SPLIT, _ids("50256=<|endoftext|>")),
    50257: Ranks(GPT2_SPLIT, _ids("50257=<|endoftext|>")),  # Whisper, multilingual
    100256: Ranks(
        CL100K_SPLIT,
        _ids(
            "100257=<|endoftext|> 100258=<|fim_prefix|> 100259=<|fim_middle|> 100260=<|fim_suffix|> "
            "100276=<|endofprompt|>"
        ),
    ),
    128000: Ranks(  # Llama 3
        CL100K_SPLIT,
        _ids(
            "128000=<|begin_of_text|> 128001=<|end_of_text|> 128006=<|start_header_id|> 128007=<|end_header_id|> "
            "128009=<|eot_id|>"
        ),
    ),
    151643: Ranks(QWEN2_SPLIT, _ids("151643=<|endoftext|> 151644=<|im_start|> 151645=<|im_end|>")),
    199998: Ranks(O200K_SPLIT, _ids("199999=<|endoftext|> 200018=<|endofprompt|>")),
}

# the first special tokens of a tekken.json that does not list them
_TEKKEN = """
    <unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS]
    [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]
"""
TEKKEN_SPECIAL = _TEKKEN.split()


def _each(names: str, *splits: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names.split(), splits)


# tokenizer.ggml.pre of a GGUF file -> the patterns that split a text, one after the other
GGUF_SPLITS: dict[str, tuple[str, ...]] = {
    **_each("gpt-2 phi-2 mpt olmo jais roberta-bpe exaone4 trillion gigachat mellum", GPT2_SPLIT),
    **_each("jina-v1-en jina-v2-code jina-es jina-de jina-v2-es jina-v2-de granite-docling", GPT2_SPLIT),
    **_each("starcoder refact command-r smollm codeshell exaone minerva-7b", r"\p{N}", GPT2_SPLIT),
    **_each("llama-bpe llama3 llama-v3 falcon3 falcon-h1 lfm2 dbrx smaug-bpe glm4 chatglm-bpe", CL100K_SPLIT),
    **_each("qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan grok-2 kormo", QWEN2_SPLIT),
    **_each("gpt-4o llama4 minimax-m2", O200K_SPLIT),
    "tekken": (TEKKEN_SPLIT,),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", GPT2_SPLIT, "[0-9][0-9][0-9]"),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{_DEEPSEEK_CLASS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"(?<!\s)\s++$",  # what \s+$ finds, which takes the square of the time
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}",
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
    **_each("deepseek-v3 hunyuan-dense", r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_V3),
    **_each("bloom poro-chat gpt3-finnish", _BLOOM),
    "viking": (_BLOOM, r"\p{N}"),
}
GGUF_NFC = ("qwen2", "stablelm2", "command-r", "mpt", "olmo")  # whose texts are composed before
GGUF_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "tekken")  # and a BOS before

# codes of languages, as the tokens of a class name them
_LANGUAGES: dict[str, Any] = json.loads((Path(__file__).parent / "assets" / "languages.json").read_bytes())
WHISPER_LANGUAGES: dict[str, str] = _LANGUAGES["whisper"]  # what a language is called -> its code in Whisper's tokens


# ---- The table


def _family(
    kind: str,
    special: Words,
    files: Words,
    settings: str = "",
    /,
    *,
    inputs: tuple[str, ...] = WITHOUT_TYPES,
    padding_side: str = "right",
    **options: Any,
) -> Family:
    """A row in short: special may be "bos=<s> eos=</s>", files the names of the vocab_file; blanks part all names."""
    special = _tokens(special) if isinstance(special, str) else special
    files = {"vocab_file": files} if isinstance(files, str) else files
    names = {argument: tuple(choices.split()) for argument, choices in files.items()}
    return Family(special, inputs, padding_side, kind, names, options, tuple(settings.split()))


def _bpe(special: Words, settings: str = "", /, vocab_file: str = "vocab.json", **more: Any) -> Family:
    files = {**_BPE_FILES, "vocab_file": vocab_file}
    return _family("bytelevel", special, files, f"add_prefix_space errors {settings}", **more)


def _spm(special: Words, files: Words, settings: str = "", /, **more: Any) -> Family:
    """What the options may be is said at convert_sentencepiece."""
    return _family("sentencepiece", special, files, f"sp_model_kwargs {settings}", **more)


def _mbart(settings: str = "", /, *, special: Words | None = None, frame: tuple[str, str], **more: Any) -> Family:
    """Fairseq's vocabulary with the codes of languages behind it, of which one stands around every text."""
    special = _ROBERTA if special is None else special
    return _spm(special, _BPE_MODEL, f"src_lang tgt_lang {settings}", **_FAIRSEQ_MASK, frame=frame, **more)


_BPE_FILES = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
_SPM_VOCAB = {"vocab_file": "vocab.json", "spm_file": "sentencepiece.bpe.model"}
_MARIAN = {"source_spm": "source.spm", "target_spm": "target.spm", "vocab": "vocab.json"}
_BERT = _tokens("unk=[UNK] sep=[SEP] pad=[PAD] cls=[CLS] mask=[MASK]")
_DEBERTA = {**_BERT, **_tokens("bos=[CLS] eos=[SEP]")}
_ALBERT = {**_DEBERTA, **_tokens("unk=<unk> pad=<pad>")}
_ROBERTA = _tokens("bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s> mask=<mask>")
_GPT2 = _tokens("bos=<|endoftext|> eos=<|endoftext|> unk=<|endoftext|>")
_LLAMA = _tokens("bos=<s> eos=</s> unk=<unk>")
BERT_FRAME = ("cls $A sep", "cls $A sep $B:1 sep:1")
_ROBERTA_FRAME = ("cls $A sep", "cls $A sep sep $B sep")
_LANGUAGE_LAST, _LANGUAGE_FIRST = ("$A eos lang", "$A $B eos lang"), ("lang $A eos", "lang $A $B eos")
_EOS_FRAME, _EOS_TWICE = ("$A eos", "$A $B eos"), ("$A eos", "$A eos $B eos")
_TYPES_LAST = ("input_ids", "attention_mask", "token_type_ids")
_CLEANING = "do_lower_case remove_space keep_accents"
_ALBERT_CLEANING: dict[str, Any] = {"remove_space": True, "quotes": True, "split_commas": True}
_BOS_EOS = "add_bos_token add_eos_token"
_BOS_ONLY: dict[str, Any] = {"padding_side": "left", "add_bos_token": True, "add_eos_token": False}
_LLAMA_SETTINGS = f"{_BOS_EOS} legacy add_prefix_space use_default_system_prompt"
_LLAMA_MODEL, _BPE_MODEL = "tokenizer.model tekken.json", "sentencepiece.bpe.model"
_FAIRSEQ: dict[str, Any] = {"before": ("<s>", "<pad>", "</s>", "<unk>"), "skip": 3}
_FAIRSEQ_MASK = {**_FAIRSEQ, "after": ("<mask>",)}
_BYT5_FLAGGED = ("pad_token", "eos_token", "unk_token")

_BERT_FAMILY = _family("wordpiece", _BERT, "vocab.txt", inputs=WITH_TYPES)
_ROBERTA_FAMILY = _bpe(_ROBERTA, "trim_offsets", around=("cls_token", "sep_token"), lstrip=("mask_token",))
_LLAMA_FAMILY = _spm(_LLAMA, _LLAMA_MODEL, _LLAMA_SETTINGS, **_BOS_ONLY, legacy=False)

FAMILIES: dict[str, Family] = {
    "BertTokenizer": _BERT_FAMILY,
    "ConvBertTokenizer": _BERT_FAMILY,
    "ElectraTokenizer": _BERT_FAMILY,
    "LayoutLMTokenizer": _BERT_FAMILY,
    "LxmertTokenizer": _BERT_FAMILY,
    "MobileBertTokenizer": _BERT_FAMILY,
    "SqueezeBertTokenizer": _BERT_FAMILY,
    "DistilBertTokenizer": _BERT_FAMILY._replace(inputs=WITHOUT_TYPES),
    "MPNetTokenizer": Family({**_ROBERTA, "unk_token": "[UNK]"}, WITHOUT_TYPES),
    # ---- Byte-level BPE, CLIP, characters and bytes
    "RobertaTokenizer": _ROBERTA_FAMILY,
    "BartTokenizer": _ROBERTA_FAMILY,
    "LEDTokenizer": _ROBERTA_FAMILY,
    "LongformerTokenizer": _ROBERTA_FAMILY,
    "MvpTokenizer": _ROBERTA_FAMILY,
    "BlenderbotTokenizer": _bpe(
        _ROBERTA, frame=("$A eos", "$A eos $B:1 eos:1"), lstrip=("mask_token",), add_prefix_space=True
    ),
    "DebertaTokenizer": _bpe(_DEBERTA, inputs=_TYPES_LAST, frame=BERT_FRAME, lstrip=("mask_token",)),
    "GPT2Tokenizer": _bpe(
        _GPT2, f"{_BOS_EOS} pat_str", "vocab.json gpt2.tiktoken cl100k_base.tiktoken o200k_base.tiktoken"
    ),
    "CodeGenTokenizer": _bpe(_GPT2, _BOS_EOS),
    "GPTNeoXTokenizer": _bpe({**_GPT2, "pad_token": "<|padding|>"}, f"{_BOS_EOS} trim_offsets", nfc=True),
    "Qwen2Tokenizer": _bpe(
        "eos=<|endoftext|> unk=<|endoftext|> pad=<|endoftext|>",
        _BOS_EOS,
        "vocab.json qwen.tiktoken",
        nfc=True,
        split=(QWEN2_SPLIT,),
    ),
    "WhisperTokenizer": _bpe(
        _GPT2, "language task predict_timestamps", "vocab.json multilingual.tiktoken gpt2.tiktoken", whisper=True
    ),
    "CLIPTokenizer": _family(
        "clip",
        "bos=<|startoftext|> eos=<|endoftext|> unk=<|endoftext|> pad=<|endoftext|>",
        {**_BPE_FILES, "vocab_file": "vocab.json bpe_simple_vocab_16e6.txt.gz"},
        "errors",
        around=("bos_token", "eos_token"),
        trim_offsets=False,
    ),
    "OpenAIGPTTokenizer": _family("wordbpe", "unk=<unk>", _BPE_FILES, lowercase=True),
    "HerbertTokenizer": _family(
        "wordbpe", "cls=<s> unk=<unk> pad=<pad> mask=<mask> sep=</s>", _BPE_FILES, frame=BERT_FRAME
    ),
    "ByT5Tokenizer": _family(
        "bytes",
        "pad=<pad> eos=</s> unk=<unk>",
        {},
        "extra_ids",
        frame=_EOS_TWICE,
        lstrip=_BYT5_FLAGGED,
        rstrip=_BYT5_FLAGGED,
        extra_ids=125,
        drop_damaged=True,
    ),
    "PerceiverTokenizer": _family(
        "bytes", "pad=[PAD] bos=[BOS] eos=[EOS] mask=[MASK] cls=[CLS] sep=[SEP]", {}, frame=BERT_FRAME
    ),
    "CanineTokenizer": _family(
        "codepoints",
        "bos=\ue000 eos=\ue001 sep=\ue001 cls=\ue000 pad=\0 mask=\ue003",
        {},
        "add_prefix_space",
        inputs=_TYPES_LAST,
        frame=BERT_FRAME,
        lstrip=("mask_token",),
    ),
    "EsmTokenizer": _family(
        "wordlevel",
        "unk=<unk> cls=<cls> pad=<pad> mask=<mask> eos=<eos>",
        "vocab.txt",
        frame=("cls $A eos", "cls $A eos $B:1 eos:1"),
        anywhere=True,
    ),
    "WordLevelTokenizer": _family("wordlevel", "unk=[UNK] pad=[PAD]", "vocab.json vocab.txt", "do_lower_case"),
    # ---- SentencePiece
    "AlbertTokenizer": _spm(
        _ALBERT,
        "spiece.model",
        _CLEANING,
        inputs=WITH_TYPES,
        **_ALBERT_CLEANING,
        do_lower_case=True,
        keep_accents=False,
        frame=BERT_FRAME,
    ),
    "BarthezTokenizer": _spm(_ROBERTA, _BPE_MODEL, after=("<mask>",), frame=_ROBERTA_FRAME),
    "BertGenerationTokenizer": _spm("bos=<s> eos=</s> unk=<unk> sep=<::::> pad=<pad>", "spiece.model"),
    "BigBirdTokenizer": _spm({**_BERT, **_LLAMA, "pad_token": "<pad>"}, "spiece.model", frame=BERT_FRAME),
    "CamembertTokenizer": _spm(
        _ROBERTA,
        _BPE_MODEL,
        before=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"),
        skip=1,
        after=("<mask>",),
        frame=_ROBERTA_FRAME,
    ),
    "CodeLlamaTokenizer": _LLAMA_FAMILY._replace(
        options={**_LLAMA_FAMILY.options, "special": ("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>")}
    ),
    "DebertaV2Tokenizer": _spm(
        _DEBERTA,
        "spm.model",
        "do_lower_case split_by_punct",
        inputs=WITH_TYPES,
        after=("[MASK]",),
        lstrip=(),
        frame=BERT_FRAME,
    ),
    "FNetTokenizer": _spm(
        "unk=<unk> sep=[SEP] pad=<pad> cls=[CLS] mask=[MASK]",
        "spiece.model",
        _CLEANING,
        inputs=("input_ids", "token_type_ids"),
        **_ALBERT_CLEANING,
        frame=BERT_FRAME,
    ),
    "GemmaTokenizer": _spm(
        "bos=<bos> eos=<eos> unk=<unk> pad=<pad> mask=<mask>",
        "tokenizer.model",
        f"{_BOS_EOS} use_default_system_prompt",
        **_BOS_ONLY,
        special=("<start_of_turn>", "<end_of_turn>"),
        lstrip=(),
    ),
    "LlamaTokenizer": _LLAMA_FAMILY,
    "M2M100Tokenizer": _spm(
        "bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad>",
        _SPM_VOCAB,
        "src_lang tgt_lang language_codes num_madeup_words",
        languages=_LANGUAGES["m2m100"],
        language_token="__{}__",
        src_lang="en",
        frame=_LANGUAGE_FIRST,
    ),
    "MBart50Tokenizer": _mbart(
        special="eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s> mask=<mask>",
        languages=[*_LANGUAGES["mbart"], *_LANGUAGES["mbart50"]],
        src_lang="en_XX",
        frame=_LANGUAGE_FIRST,
    ),
    "MBartTokenizer": _mbart(languages=_LANGUAGES["mbart"], src_lang="en_XX", frame=_LANGUAGE_LAST),
    "MarianTokenizer": _spm(
        "eos=</s> unk=<unk> pad=<pad>", _MARIAN, "source_lang target_lang separate_vocabs", frame=_EOS_FRAME, codes=True
    ),
    "NllbTokenizer": _mbart(
        "legacy_behaviour",
        languages=_LANGUAGES["nllb"],
        src_lang="eng_Latn",
        frame=_LANGUAGE_FIRST,
        legacy_frame=_LANGUAGE_LAST,
    ),
    "PLBartTokenizer": _mbart(
        "language_codes", languages=["java", "python", "en_XX"], language_token="__{}__", frame=_LANGUAGE_LAST
    ),
    "PegasusTokenizer": _spm(
        "eos=</s> unk=<unk> pad=<pad> mask=<mask_2>",
        "spiece.model",
        "offset mask_token_sent",
        offset=103,
        lstrip=(),
        frame=_EOS_FRAME,
    ),
    "ReformerTokenizer": _spm("eos=</s> unk=<unk>", "spiece.model"),
    "RemBertTokenizer": _spm(_ALBERT, "sentencepiece.model", _CLEANING, inputs=WITH_TYPES, frame=BERT_FRAME),
    "SiglipTokenizer": _spm(
        "eos=</s> unk=<unk> pad=</s>",
        "spiece.model",
        "do_lower_case",
        do_lower_case=True,
        remove_punctuation=True,
        remove_space=True,
        frame=_EOS_TWICE,
    ),
    "Speech2TextTokenizer": _spm(
        "bos=<s> eos=</s> unk=<unk> pad=<pad>",
        _SPM_VOCAB,
        "do_upper_case do_lower_case tgt_lang lang_codes",
        frame=_EOS_FRAME,
    ),
    "T5Tokenizer": _spm(
        "eos=</s> unk=<unk> pad=<pad>", "spiece.model", "extra_ids legacy", extra_ids=100, frame=_EOS_TWICE
    ),
    "XGLMTokenizer": _spm(
        "bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s>",
        _BPE_MODEL,
        **_FAIRSEQ,
        after=tuple(f"<madeupword{i}>" for i in range(7)),
        frame=("sep $A", "sep $A sep sep $B"),
    ),
    "XLMRobertaTokenizer": _spm(_ROBERTA, _BPE_MODEL, **_FAIRSEQ_MASK, frame=_ROBERTA_FRAME),
    "XLNetTokenizer": _spm(
        "bos=<s> eos=</s> unk=<unk> sep=<sep> pad=<pad> cls=<cls> mask=<mask>",
        "spiece.model",
        _CLEANING,
        inputs=WITH_TYPES,
        padding_side="left",
        **_ALBERT_CLEANING,
        keep_accents=False,
        special=("<eop>", "<eod>"),
        pad_token_type_id=3,
        frame=("$A sep cls:2", "$A sep $B:1 sep:1 cls:2"),
    ),
}

# every name that an original vocabulary file may have, in any family
VOCABULARY_FILES = tuple(
    dict.fromkeys(name for family in FAMILIES.values() for names in family.files.values() for name in names)
)
