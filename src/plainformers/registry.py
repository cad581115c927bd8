"""The table of everything: model_type -> file, class names; public name -> module. Data only; imports nothing.

A third party adds a model by writing into the table: `MODELS["mine"] = Entry("package.module", "MyConfig", {"base":
"MyModel"})` (a file name with a dot is a full module path) and `TOKENIZERS["mine"]` with the name of a tokenizer class.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    file: str  # in models/, or a module path with a dot
    config: str  # name of the config class
    heads: dict[str, str]  # head -> class name


# head -> the Auto class that makes it
AUTO_CLASSES: dict[str, str] = {
    "base": "AutoModel",
    "pretraining": "AutoModelForPreTraining",
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "next-sentence": "AutoModelForNextSentencePrediction",
    "sequence-classification": "AutoModelForSequenceClassification",
    "multiple-choice": "AutoModelForMultipleChoice",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


def _entry(file: str, name: str, heads: str, **others: str) -> Entry:
    """name: how the classes begin, whose ends are those of the Auto classes. others: heads of other names."""
    classes = {head: name + (AUTO_CLASSES[head].removeprefix("AutoModel") or "Model") for head in heads.split()}
    return Entry(file, f"{name}Config", classes | {head.replace("_", "-"): kind for head, kind in others.items()})


_COMMON = "sequence-classification multiple-choice token-classification question-answering"
_HEADS = "sequence-classification token-classification question-answering"
_ROBERTA = f"base causal-lm masked-lm {_COMMON}"
_XLNET = {"pretraining": "XLNetLMHeadModel", "causal_lm": "XLNetLMHeadModel"}
_XLNET["question_answering"] = "XLNetForQuestionAnsweringSimple"
_XLNET["beam_question_answering"] = "XLNetForQuestionAnswering"

MODELS: dict[str, Entry] = {
    "albert": _entry("albert", "Albert", f"base pretraining masked-lm {_COMMON}"),
    "bert": _entry("bert", "Bert", f"base pretraining masked-lm next-sentence {_COMMON}", causal_lm="BertLMHeadModel"),
    "deberta-v2": _entry("deberta_v2", "DebertaV2", f"base masked-lm {_COMMON}", pretraining="DebertaV2ForMaskedLM"),
    "distilbert": _entry("distilbert", "DistilBert", f"base masked-lm {_COMMON}", pretraining="DistilBertForMaskedLM"),
    "gemma2": _entry("gemma2", "Gemma2", "base causal-lm sequence-classification token-classification"),
    "gemma3_text": _entry("gemma3_text", "Gemma3Text", "base sequence-classification", causal_lm="Gemma3ForCausalLM"),
    "gpt2": _entry("gpt2", "GPT2", f"base {_HEADS}", causal_lm="GPT2LMHeadModel", double_heads="GPT2DoubleHeadsModel"),
    "gpt_oss": _entry("gpt_oss", "GptOss", "base causal-lm sequence-classification token-classification"),
    "gpt_neox": _entry("gpt_neox", "GPTNeoX", f"base causal-lm {_HEADS}"),
    "llama": _entry("llama", "Llama", f"base causal-lm {_HEADS}"),
    "mistral": _entry("mistral", "Mistral", f"base causal-lm {_HEADS}"),
    "mixtral": _entry("mixtral", "Mixtral", f"base causal-lm {_HEADS}"),
    "electra": _entry("electra", "Electra", f"base pretraining causal-lm masked-lm {_COMMON}"),
    "modernbert": _entry("modernbert", "ModernBert", f"base masked-lm {_COMMON}"),
    "mpnet": _entry("mpnet", "MPNet", f"base masked-lm {_COMMON}"),
    "nomic_bert": _entry("nomic_bert", "NomicBert", "base masked-lm sequence-classification token-classification"),
    "opt": _entry("opt", "OPT", "base causal-lm sequence-classification question-answering"),
    "phi3": _entry("phi3", "Phi3", "base causal-lm sequence-classification token-classification"),
    "qwen2": _entry("qwen2", "Qwen2", f"base causal-lm {_HEADS}"),
    "qwen3": _entry("qwen3", "Qwen3", f"base causal-lm {_HEADS}"),
    "qwen3_moe": _entry("qwen3_moe", "Qwen3Moe", f"base causal-lm {_HEADS}"),
    "roberta": _entry("roberta", "Roberta", _ROBERTA),
    "xlm-roberta": _entry("roberta", "XLMRoberta", _ROBERTA),
    "camembert": _entry("roberta", "Camembert", _ROBERTA),
    "xlnet": _entry("xlnet", "XLNet", f"base {_COMMON}", **_XLNET),
}

# model_type -> the tokenizer class for folders whose tokenizer files name none
_TOKENIZERS = """
albert=Albert bart=Bart bert=Bert camembert=Camembert convbert=ConvBert deberta-v2=DebertaV2 distilbert=DistilBert
electra=Electra gemma2=Gemma gemma3_text=Gemma gpt2=GPT2 gpt_neox=GPTNeoX layoutlm=LayoutLM llama=Llama lxmert=Lxmert
mistral=Llama mixtral=Llama mobilebert=MobileBert mpnet=MPNet nomic_bert=Bert opt=GPT2 phi3=Llama qwen2=Qwen2
qwen3=Qwen2 qwen3_moe=Qwen2 roberta=Roberta squeezebert=SqueezeBert t5=T5 whisper=Whisper xlm-roberta=XLMRoberta
xlnet=XLNet
"""
TOKENIZERS = {pair.partition("=")[0]: f"{pair.partition('=')[2]}Tokenizer" for pair in _TOKENIZERS.split()}

# classes of families.py; each is also known with "Fast" at its end
TOKENIZER_NAMES = """
Albert Bart Barthez Bert BertGeneration BigBird Blenderbot ByT5 CLIP Camembert Canine CodeGen CodeLlama
ConvBert Deberta DebertaV2 DistilBert Electra Esm FNet GPT2 GPTNeoX Gemma Herbert LED LayoutLM Llama
Longformer Lxmert M2M100 MBart MBart50 MPNet Marian MobileBert Mvp Nllb OpenAIGPT PLBart Pegasus Perceiver
Qwen2 Reformer RemBert Roberta Siglip Speech2Text SqueezeBert T5 Whisper XGLM XLMRoberta XLNet
"""

# module -> public names that stand in it
_PUBLIC: dict[str, str] = {
    "auto": "AutoConfig " + " ".join(AUTO_CLASSES.values()),
    "encoding": "BatchEncoding",
    "tokenizer": "PreTrainedTokenizer PreTrainedTokenizerBase PreTrainedTokenizerFast Tokenizer",
    "tokenizer_classes": "AutoTokenizer "
    + " ".join(f"{name}Tokenizer {name}TokenizerFast" for name in TOKENIZER_NAMES.split()),
    "config": "Config PretrainedConfig PreTrainedConfig",
    "model": "Model PreTrainedModel",
    "tokenizer_training": "train_tokenizer",
    "pipelines": "FeatureExtractionPipeline FillMaskPipeline Pipeline QuestionAnsweringPipeline "
    "SentenceSimilarityPipeline TextClassificationPipeline TextGenerationPipeline TextRankingPipeline "
    "TokenClassificationPipeline ZeroShotClassificationPipeline pipeline",
    "sequences": "Packed",
    "cache": "Cache DynamicCache QuantizedCache StaticCache",
    "streaming": "AsyncTextIteratorStreamer TextIteratorStreamer TextStreamer",
    "generation_config": "GenerationConfig",
    "constraints": "Constraint DisjunctiveConstraint PhrasalConstraint",
    "lora": "LoraConfig PeftModel get_peft_model",
    "logits": "LogitsProcessor LogitsProcessorList StoppingCriteria StoppingCriteriaList",
    "outputs": "ModelOutput",
    "trace": "Trace watch",
    "training.arguments": "TrainingArguments",
    "training.argument_parser": "HfArg HfArgumentParser",
    "training.callbacks": "DefaultFlowCallback EarlyStoppingCallback PrinterCallback ProgressCallback TrainerCallback "
    "TrainerControl TrainerState",
    "training.data": "DataCollatorForLanguageModeling DataCollatorForMultipleChoice "
    "DataCollatorForPermutationLanguageModeling DataCollatorForSeq2Seq DataCollatorForTokenClassification "
    "DataCollatorForWholeWordMask DataCollatorWithFlattening DataCollatorWithPadding DefaultDataCollator "
    "default_data_collator",
    "training.evaluation": "EvalPrediction",
    "training.optim": "Adafactor AdafactorSchedule SchedulerType get_adafactor_schedule get_constant_schedule "
    "get_constant_schedule_with_warmup get_cosine_schedule_with_warmup "
    "get_cosine_with_hard_restarts_schedule_with_warmup "
    "get_cosine_with_min_lr_schedule_with_warmup get_cosine_with_min_lr_schedule_with_warmup_lr_rate "
    "get_inverse_sqrt_schedule get_linear_schedule_with_warmup get_polynomial_decay_schedule_with_warmup "
    "get_reduce_on_plateau_schedule get_scheduler get_wsd_schedule",
    "training.seeding": "enable_full_determinism set_seed",
    "training.seq2seq": "Seq2SeqTrainer Seq2SeqTrainingArguments",
    "training.trainer": "Trainer",
    "views": "attention_view",
}

# public name -> (module, its name there)
RENAMED = {"PretrainedConfig": "Config", "PreTrainedConfig": "Config", "PreTrainedModel": "Model"}


def module_path(file: str) -> str:
    return file if "." in file else f"plainformers.models.{file}"


def public_names() -> dict[str, tuple[str, str]]:
    """Every public name -> (module, name in that module)."""
    names = {
        name: (f"plainformers.{module}", RENAMED.get(name, name))
        for module, line in _PUBLIC.items()
        for name in line.split()
    }
    for entry in MODELS.values():
        ours = () if "." in entry.file else (entry.config.replace("Config", "PreTrainedModel"),)
        for name in (entry.config, *entry.heads.values(), *ours):
            names[name] = (module_path(entry.file), name)
    return names
