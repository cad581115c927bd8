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
    50256: Ranks(GPT2_SPLIT, {"<|endoftext|>": 50256}),
    50257: Ranks(GPT2_SPLIT, {"<|endoftext|>": 50257}),  # Whisper, multilingual
    100256: Ranks(
        CL100K_SPLIT,
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    128000: Ranks(  # Llama 3
        CL100K_SPLIT,
        {
            "<|begin_of_text|>": 128000,
            "<|end_of_text|>": 128001,
            "<|start_header_id|>": 128006,
            "<|end_header_id|>": 128007,
            "<|eot_id|>": 128009,
        },
    ),
    151643: Ranks(QWEN2_SPLIT, {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}),
    199998: Ranks(O200K_SPLIT, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
}

# the first special tokens of a tekken.json that does not list them
TEKKEN_SPECIAL = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
]

# tokenizer.ggml.pre of a GGUF file -> the patterns that split a text, one after the other
GGUF_SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe", "exaone4", "trillion", "gigachat", "mellum"),
        (GPT2_SPLIT,),
    ),
    **dict.fromkeys(
        ("jina-v1-en", "jina-v2-code", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "granite-docling"),
        (GPT2_SPLIT,),
    ),
    **dict.fromkeys(
        ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"), (r"\p{N}", GPT2_SPLIT)
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "dbrx", "smaug-bpe", "glm4", "chatglm-bpe"),
        (CL100K_SPLIT,),
    ),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "grok-2", "kormo"), (QWEN2_SPLIT,)),
    **dict.fromkeys(("gpt-4o", "llama4", "minimax-m2"), (O200K_SPLIT,)),
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
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_V3)),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), (_BLOOM,)),
    "viking": (_BLOOM, r"\p{N}"),
}
GGUF_NFC = ("qwen2", "stablelm2", "command-r", "mpt", "olmo")  # whose texts are composed before
GGUF_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "tekken")  # and a BOS before

_LANGUAGES = (
    "en=english,zh=chinese,de=german,es=spanish,ru=russian,ko=korean,fr=french,ja=japanese,pt=portuguese,tr=turkish,"
    "pl=polish,ca=catalan,nl=dutch,ar=arabic,sv=swedish,it=italian,id=indonesian,hi=hindi,fi=finnish,vi=vietnamese,"
    "he=hebrew,uk=ukrainian,el=greek,ms=malay,cs=czech,ro=romanian,da=danish,hu=hungarian,ta=tamil,no=norwegian,"
    "th=thai,ur=urdu,hr=croatian,bg=bulgarian,lt=lithuanian,la=latin,mi=maori,ml=malayalam,cy=welsh,sk=slovak,"
    "te=telugu,fa=persian,lv=latvian,bn=bengali,sr=serbian,az=azerbaijani,sl=slovenian,kn=kannada,et=estonian,"
    "mk=macedonian,br=breton,eu=basque,is=icelandic,hy=armenian,ne=nepali,mn=mongolian,bs=bosnian,kk=kazakh,"
    "sq=albanian,sw=swahili,gl=galician,mr=marathi,pa=punjabi,si=sinhala,km=khmer,sn=shona,yo=yoruba,so=somali,"
    "af=afrikaans,oc=occitan,ka=georgian,be=belarusian,tg=tajik,sd=sindhi,gu=gujarati,am=amharic,yi=yiddish,lo=lao,"
    "uz=uzbek,fo=faroese,ht=haitian creole,ps=pashto,tk=turkmen,nn=nynorsk,mt=maltese,sa=sanskrit,lb=luxembourgish,"
    "my=myanmar,bo=tibetan,tl=tagalog,mg=malagasy,as=assamese,tt=tatar,haw=hawaiian,ln=lingala,ha=hausa,ba=bashkir,"
    "jw=javanese,su=sundanese,yue=cantonese,my=burmese,ca=valencian,nl=flemish,ht=haitian,lb=letzeburgesch,ps=pushto,"
    "pa=panjabi,ro=moldavian,ro=moldovan,si=sinhalese,es=castilian,zh=mandarin"
)
# what a language is called -> its code in Whisper's tokens
WHISPER_LANGUAGES = {name: code for code, name in (pair.split("=") for pair in _LANGUAGES.split(","))}


# ---- The table

_VOCAB_TXT = {"vocab_file": ("vocab.txt",)}
_BERT = _tokens("unk=[UNK] sep=[SEP] pad=[PAD] cls=[CLS] mask=[MASK]")
_ROBERTA = _tokens("bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s> mask=<mask>")
_GPT2 = _tokens("bos=<|endoftext|> eos=<|endoftext|> unk=<|endoftext|>")
_BPE_FILES = {"vocab_file": ("vocab.json",), "merges_file": ("merges.txt",)}
_BPE_SETTINGS, _BOS_EOS = ("add_prefix_space", "errors"), ("add_bos_token", "add_eos_token")
_BERT_FAMILY = Family(_BERT, kind="wordpiece", files=_VOCAB_TXT)

# ---- SentencePiece: what options may be is said at convert_sentencepiece


def _spm(
    special: Mapping[str, str],
    options: Mapping[str, Any],
    *,
    inputs: tuple[str, ...] = WITHOUT_TYPES,
    padding_side: str = "right",
    file: str | tuple[str, ...] = "sentencepiece.bpe.model",
    files: Mapping[str, tuple[str, ...]] | None = None,
    settings: str = "",
) -> Family:
    files = files or {"vocab_file": (file,) if isinstance(file, str) else file}
    return Family(
        special, inputs, padding_side, "sentencepiece", files, options, ("sp_model_kwargs", *settings.split())
    )


_BERT_FRAME = ("cls $A sep", "cls $A sep $B:1 sep:1")
_ROBERTA_FRAME = ("cls $A sep", "cls $A sep sep $B sep")
_LANGUAGE_LAST, _LANGUAGE_FIRST = ("$A eos lang", "$A $B eos lang"), ("lang $A eos", "lang $A $B eos")
_EOS_FRAME = ("$A eos", "$A $B eos")
_FAIRSEQ = {"before": ("<s>", "<pad>", "</s>", "<unk>"), "skip": 3}
_ALBERT = {**_BERT, **_tokens("bos=[CLS] eos=[SEP] unk=<unk> pad=<pad>")}
_CLEANING = "do_lower_case remove_space keep_accents"
_ALBERT_CLEANING = {"remove_space": True, "quotes": True, "split_commas": True}
_LLAMA = _tokens("bos=<s> eos=</s> unk=<unk>")
_LLAMA_SETTINGS = "add_bos_token add_eos_token legacy add_prefix_space use_default_system_prompt"
_SPM_VOCAB = {"vocab_file": ("vocab.json",), "spm_file": ("sentencepiece.bpe.model",)}
_MARIAN = {"source_spm": ("source.spm",), "target_spm": ("target.spm",), "vocab": ("vocab.json",)}
_MBART = """
    ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX
    ro_RO ru_RU si_LK tr_TR vi_VN zh_CN
"""
_MBART50 = """
    af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN
    te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI
"""
_M2M100 = """
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy
    id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd
    si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu
"""
_NLLB = """
    ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab
    ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl
    bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn
    cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn
    est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn
    gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn
    ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab
    kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn
    kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
    lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn
    mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn
    nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn
    ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn
    sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn
    szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn
    tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn
    vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn
"""

FAMILIES: dict[str, Family] = {
    "BertTokenizer": _BERT_FAMILY,
    "ConvBertTokenizer": _BERT_FAMILY,
    "ElectraTokenizer": _BERT_FAMILY,
    "LayoutLMTokenizer": _BERT_FAMILY,
    "LxmertTokenizer": _BERT_FAMILY,
    "MobileBertTokenizer": _BERT_FAMILY,
    "SqueezeBertTokenizer": _BERT_FAMILY,
    "DistilBertTokenizer": Family(_BERT, WITHOUT_TYPES, kind="wordpiece", files=_VOCAB_TXT),
    "MPNetTokenizer": Family({**_ROBERTA, "unk_token": "[UNK]"}, WITHOUT_TYPES),
    # ---- Byte-level BPE, CLIP, characters and bytes
    **dict.fromkeys(
        ("RobertaTokenizer", "BartTokenizer", "LEDTokenizer", "LongformerTokenizer", "MvpTokenizer"),
        Family(
            _ROBERTA,
            WITHOUT_TYPES,
            kind="bytelevel",
            files=_BPE_FILES,
            options={"around": ("cls_token", "sep_token"), "lstrip": ("mask_token",)},
            settings=(*_BPE_SETTINGS, "trim_offsets"),
        ),
    ),
    "BlenderbotTokenizer": Family(
        _ROBERTA,
        WITHOUT_TYPES,
        kind="bytelevel",
        files=_BPE_FILES,
        options={"frame": ("$A eos", "$A eos $B:1 eos:1"), "lstrip": ("mask_token",), "add_prefix_space": True},
        settings=_BPE_SETTINGS,
    ),
    "DebertaTokenizer": Family(
        {**_BERT, **_tokens("bos=[CLS] eos=[SEP]")},
        ("input_ids", "attention_mask", "token_type_ids"),
        kind="bytelevel",
        files=_BPE_FILES,
        options={"frame": _BERT_FRAME, "lstrip": ("mask_token",)},
        settings=_BPE_SETTINGS,
    ),
    "GPT2Tokenizer": Family(
        _GPT2,
        WITHOUT_TYPES,
        kind="bytelevel",
        files={
            **_BPE_FILES,
            "vocab_file": ("vocab.json", "gpt2.tiktoken", "cl100k_base.tiktoken", "o200k_base.tiktoken"),
        },
        settings=(*_BPE_SETTINGS, *_BOS_EOS, "pat_str"),
    ),
    "CodeGenTokenizer": Family(
        _GPT2, WITHOUT_TYPES, kind="bytelevel", files=_BPE_FILES, settings=(*_BPE_SETTINGS, *_BOS_EOS)
    ),
    "GPTNeoXTokenizer": Family(
        {**_GPT2, "pad_token": "<|padding|>"},
        WITHOUT_TYPES,
        kind="bytelevel",
        files=_BPE_FILES,
        options={"nfc": True},
        settings=(*_BPE_SETTINGS, *_BOS_EOS, "trim_offsets"),
    ),
    "Qwen2Tokenizer": Family(
        _tokens("eos=<|endoftext|> unk=<|endoftext|> pad=<|endoftext|>"),
        WITHOUT_TYPES,
        kind="bytelevel",
        files={**_BPE_FILES, "vocab_file": ("vocab.json", "qwen.tiktoken")},
        options={"nfc": True, "split": (QWEN2_SPLIT,)},
        settings=(*_BPE_SETTINGS, *_BOS_EOS),
    ),
    "WhisperTokenizer": Family(
        _GPT2,
        WITHOUT_TYPES,
        kind="bytelevel",
        files={**_BPE_FILES, "vocab_file": ("vocab.json", "multilingual.tiktoken", "gpt2.tiktoken")},
        options={"whisper": True},
        settings=(*_BPE_SETTINGS, "language", "task", "predict_timestamps"),
    ),
    "CLIPTokenizer": Family(
        _tokens("bos=<|startoftext|> eos=<|endoftext|> unk=<|endoftext|> pad=<|endoftext|>"),
        WITHOUT_TYPES,
        kind="clip",
        files={**_BPE_FILES, "vocab_file": ("vocab.json", "bpe_simple_vocab_16e6.txt.gz")},
        options={"around": ("bos_token", "eos_token"), "trim_offsets": False},
        settings=("errors",),
    ),
    "OpenAIGPTTokenizer": Family(
        _tokens("unk=<unk>"), WITHOUT_TYPES, kind="wordbpe", files=_BPE_FILES, options={"lowercase": True}
    ),
    "HerbertTokenizer": Family(
        _tokens("cls=<s> unk=<unk> pad=<pad> mask=<mask> sep=</s>"),
        WITHOUT_TYPES,
        kind="wordbpe",
        files=_BPE_FILES,
        options={"frame": _BERT_FRAME},
    ),
    "ByT5Tokenizer": Family(
        _tokens("pad=<pad> eos=</s> unk=<unk>"),
        WITHOUT_TYPES,
        kind="bytes",
        options={
            "frame": ("$A eos", "$A eos $B eos"),
            "lstrip": ("pad_token", "eos_token", "unk_token"),
            "rstrip": ("pad_token", "eos_token", "unk_token"),
            "extra_ids": 125,
            "drop_damaged": True,
        },
        settings=("extra_ids",),
    ),
    "PerceiverTokenizer": Family(
        _tokens("pad=[PAD] bos=[BOS] eos=[EOS] mask=[MASK] cls=[CLS] sep=[SEP]"),
        WITHOUT_TYPES,
        kind="bytes",
        options={"frame": _BERT_FRAME},
    ),
    "CanineTokenizer": Family(
        _tokens("bos=\ue000 eos=\ue001 sep=\ue001 cls=\ue000 pad=\0 mask=\ue003"),
        ("input_ids", "attention_mask", "token_type_ids"),
        kind="codepoints",
        options={"frame": _BERT_FRAME, "lstrip": ("mask_token",)},
        settings=("add_prefix_space",),
    ),
    "EsmTokenizer": Family(
        _tokens("unk=<unk> cls=<cls> pad=<pad> mask=<mask> eos=<eos>"),
        WITHOUT_TYPES,
        kind="wordlevel",
        files=_VOCAB_TXT,
        options={"frame": ("cls $A eos", "cls $A eos $B:1 eos:1"), "anywhere": True},
    ),
    "WordLevelTokenizer": Family(
        _tokens("unk=[UNK] pad=[PAD]"),
        WITHOUT_TYPES,
        kind="wordlevel",
        files={"vocab_file": ("vocab.json", "vocab.txt")},
        settings=("do_lower_case",),
    ),
    # ---- SentencePiece
    "AlbertTokenizer": _spm(
        _ALBERT,
        {**_ALBERT_CLEANING, "do_lower_case": True, "keep_accents": False, "frame": _BERT_FRAME},
        inputs=WITH_TYPES,
        file="spiece.model",
        settings=_CLEANING,
    ),
    "BarthezTokenizer": _spm(_ROBERTA, {"after": ("<mask>",), "frame": _ROBERTA_FRAME}),
    "BertGenerationTokenizer": _spm(
        _tokens("bos=<s> eos=</s> unk=<unk> sep=<::::> pad=<pad>"), {}, file="spiece.model"
    ),
    "BigBirdTokenizer": _spm(
        {**_BERT, **_tokens("bos=<s> eos=</s> unk=<unk> pad=<pad>")}, {"frame": _BERT_FRAME}, file="spiece.model"
    ),
    "CamembertTokenizer": _spm(
        _ROBERTA,
        {
            "before": ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"),
            "skip": 1,
            "after": ("<mask>",),
            "frame": _ROBERTA_FRAME,
        },
    ),
    "CodeLlamaTokenizer": _spm(
        _LLAMA,
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "legacy": False,
            "special": ("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"),
        },
        padding_side="left",
        file=("tokenizer.model", "tekken.json"),
        settings=_LLAMA_SETTINGS,
    ),
    "DebertaV2Tokenizer": _spm(
        {**_BERT, **_tokens("bos=[CLS] eos=[SEP]")},
        {"after": ("[MASK]",), "lstrip": (), "frame": _BERT_FRAME},
        inputs=WITH_TYPES,
        file="spm.model",
        settings="do_lower_case split_by_punct",
    ),
    "FNetTokenizer": _spm(
        _tokens("unk=<unk> sep=[SEP] pad=<pad> cls=[CLS] mask=[MASK]"),
        {**_ALBERT_CLEANING, "frame": _BERT_FRAME},
        inputs=("input_ids", "token_type_ids"),
        file="spiece.model",
        settings=_CLEANING,
    ),
    "GemmaTokenizer": _spm(
        _tokens("bos=<bos> eos=<eos> unk=<unk> pad=<pad> mask=<mask>"),
        {"add_bos_token": True, "add_eos_token": False, "special": ("<start_of_turn>", "<end_of_turn>"), "lstrip": ()},
        padding_side="left",
        file="tokenizer.model",
        settings="add_bos_token add_eos_token use_default_system_prompt",
    ),
    "LlamaTokenizer": _spm(
        _LLAMA,
        {"add_bos_token": True, "add_eos_token": False, "legacy": False},
        padding_side="left",
        file=("tokenizer.model", "tekken.json"),
        settings=_LLAMA_SETTINGS,
    ),
    "M2M100Tokenizer": _spm(
        _tokens("bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad>"),
        {"languages": tuple(_M2M100.split()), "language_token": "__{}__", "src_lang": "en", "frame": _LANGUAGE_FIRST},
        files=_SPM_VOCAB,
        settings="src_lang tgt_lang language_codes num_madeup_words",
    ),
    "MBart50Tokenizer": _spm(
        {name: token for name, token in _ROBERTA.items() if name != "bos_token"},
        {
            **_FAIRSEQ,
            "languages": (*_MBART.split(), *_MBART50.split()),
            "after": ("<mask>",),
            "src_lang": "en_XX",
            "frame": _LANGUAGE_FIRST,
        },
        settings="src_lang tgt_lang",
    ),
    "MBartTokenizer": _spm(
        _ROBERTA,
        {
            **_FAIRSEQ,
            "languages": tuple(_MBART.split()),
            "after": ("<mask>",),
            "src_lang": "en_XX",
            "frame": _LANGUAGE_LAST,
        },
        settings="src_lang tgt_lang",
    ),
    "MarianTokenizer": _spm(
        _tokens("eos=</s> unk=<unk> pad=<pad>"),
        {"frame": _EOS_FRAME, "codes": True},
        files=_MARIAN,
        settings="source_lang target_lang separate_vocabs",
    ),
    "NllbTokenizer": _spm(
        _ROBERTA,
        {
            **_FAIRSEQ,
            "languages": tuple(_NLLB.split()),
            "after": ("<mask>",),
            "src_lang": "eng_Latn",
            "frame": _LANGUAGE_FIRST,
            "legacy_frame": _LANGUAGE_LAST,
        },
        settings="src_lang tgt_lang legacy_behaviour",
    ),
    "PLBartTokenizer": _spm(
        _ROBERTA,
        {
            **_FAIRSEQ,
            "languages": ("java", "python", "en_XX"),
            "language_token": "__{}__",
            "after": ("<mask>",),
            "frame": _LANGUAGE_LAST,
        },
        settings="src_lang tgt_lang language_codes",
    ),
    "PegasusTokenizer": _spm(
        _tokens("eos=</s> unk=<unk> pad=<pad> mask=<mask_2>"),
        {"offset": 103, "lstrip": (), "frame": _EOS_FRAME},
        file="spiece.model",
        settings="offset mask_token_sent",
    ),
    "ReformerTokenizer": _spm(_tokens("eos=</s> unk=<unk>"), {}, file="spiece.model"),
    "RemBertTokenizer": _spm(
        _ALBERT, {"frame": _BERT_FRAME}, inputs=WITH_TYPES, file="sentencepiece.model", settings=_CLEANING
    ),
    "SiglipTokenizer": _spm(
        _tokens("eos=</s> unk=<unk> pad=</s>"),
        {"do_lower_case": True, "remove_punctuation": True, "remove_space": True, "frame": ("$A eos", "$A eos $B eos")},
        file="spiece.model",
        settings="do_lower_case",
    ),
    "Speech2TextTokenizer": _spm(
        _tokens("bos=<s> eos=</s> unk=<unk> pad=<pad>"),
        {"frame": _EOS_FRAME},
        files=_SPM_VOCAB,
        settings="do_upper_case do_lower_case tgt_lang lang_codes",
    ),
    "T5Tokenizer": _spm(
        _tokens("eos=</s> unk=<unk> pad=<pad>"),
        {"extra_ids": 100, "frame": ("$A eos", "$A eos $B eos")},
        file="spiece.model",
        settings="extra_ids legacy",
    ),
    "XGLMTokenizer": _spm(
        {name: token for name, token in _ROBERTA.items() if name != "mask_token"},
        {
            **_FAIRSEQ,
            "after": tuple(f"<madeupword{i}>" for i in range(7)),
            "frame": ("sep $A", "sep $A sep sep $B"),
        },
    ),
    "XLMRobertaTokenizer": _spm(_ROBERTA, {**_FAIRSEQ, "after": ("<mask>",), "frame": _ROBERTA_FRAME}),
    "XLNetTokenizer": _spm(
        _tokens("bos=<s> eos=</s> unk=<unk> sep=<sep> pad=<pad> cls=<cls> mask=<mask>"),
        {
            **_ALBERT_CLEANING,
            "keep_accents": False,
            "special": ("<eop>", "<eod>"),
            "pad_token_type_id": 3,
            "frame": ("$A sep cls:2", "$A sep $B:1 sep:1 cls:2"),
        },
        inputs=WITH_TYPES,
        padding_side="left",
        file="spiece.model",
        settings=_CLEANING,
    ),
}

# every name that an original vocabulary file may have, in any family
VOCABULARY_FILES = tuple(
    dict.fromkeys(name for family in FAMILIES.values() for names in family.files.values() for name in names)
)
