"""One row per model type or config switch: a tiny config, the heads to check, and what the reference library is asked.

Weights are drawn from the name of each parameter, so no golden file stores them: the reference gets them as a
checkpoint.
"""

import copy
import math
import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

# base_model_prefix of every family
PREFIXES = (
    "bert",
    "distilbert",
    "roberta",
    "albert",
    "electra",
    "mpnet",
    "deberta",
    "model",
    "nomic_bert",
    r"transformer(?!\.layer\.\d+\.(attention|sa_layer_norm|ffn|output_layer_norm)\.)",  # not DistilBERT's
)
NORMS = r"(LayerNorm|[Ll]ayer_norm|norm\d?|emb_ln|ln_\w+)\.weight$"
SECOND = {"bert": "next_sentence_label", "albert": "sentence_order_label"}  # beside labels, in pre-training
STD = 0.15  # large enough that a missing bias, a wrong epsilon or a swapped norm shows
BERT_HEADS = (
    "base",
    "pretraining",
    "causal-lm",
    "masked-lm",
    "next-sentence",
    "sequence-classification",
    "multiple-choice",
    "token-classification",
    "question-answering",
)
DISTILBERT_HEADS = tuple(h for h in BERT_HEADS if h not in ("pretraining", "causal-lm", "next-sentence"))
BERT = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-3,
}
DISTILBERT = {
    "vocab_size": 61,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 24,
    "max_position_embeddings": 12,
}


@dataclass(frozen=True)
class Row:
    name: str
    model_type: str
    config: dict[str, Any]
    heads: tuple[str, ...]
    reference: str  # a published repository of this kind
    decoder: bool = False
    cross: bool = False  # reads an encoder's output
    head_mask: bool = False  # compared under a head mask too, with the last version that honoured one
    unpadded: tuple[str, ...] = ()  # heads whose numbers hang on padding in the reference, and are compared without
    # names of linear layers -> deviation of their weights at an initializer_range of 0.5, where that is another
    drawn: tuple[tuple[str, float], ...] = ()
    padding_side: str = "right"  # "left" where the reference reads the last column, padding or not
    extra: tuple[str, ...] = ()  # further inputs; see make_extra
    masked: bool = True  # False: the reference fails with a mask; padding is behind all that a real token sees
    cached: bool = True  # False: what is in a cache hangs on how long the text was by then, in the reference too
    generates: bool = True  # False: what it writes on is not compared, since the reference is wrong
    labelled: bool = True  # False: compared without targets, where a head then gives something else


ROBERTA_HEADS = tuple(h for h in BERT_HEADS if h not in ("pretraining", "next-sentence"))
ROBERTA = BERT | {"max_position_embeddings": 14, "type_vocab_size": 1, "pad_token_id": 1, "num_labels": 3}

ALBERT = BERT | {"embedding_size": 10, "num_labels": 3}
ELECTRA = BERT | {"embedding_size": 10, "num_labels": 3}
ELECTRA_HEADS = tuple(h for h in BERT_HEADS if h not in ("causal-lm", "next-sentence"))
MPNET = {k: v for k, v in BERT.items() if k != "type_vocab_size"}
MPNET |= {"max_position_embeddings": 14, "pad_token_id": 1, "num_labels": 3}
XLNET = {"vocab_size": 61, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24, "layer_norm_eps": 1e-3}
XLNET |= {"pad_token_id": 5, "num_labels": 3, "start_n_top": 2, "end_n_top": 4}
XLNET_HEADS = tuple(h for h in BERT_HEADS if h not in ("masked-lm", "next-sentence")) + ("beam-question-answering",)
ALBERT_HEADS = tuple(h for h in BERT_HEADS if h not in ("causal-lm", "next-sentence"))
# few buckets, so that distances within 6 tokens share some
DEBERTA = BERT | {"relative_attention": True, "position_biased_input": False, "type_vocab_size": 0, "num_labels": 3}
DEBERTA_V3 = DEBERTA | {"pos_att_type": "p2c|c2p", "share_att_key": True, "norm_rel_ebd": "layer_norm"}
DEBERTA_V3 |= {"position_buckets": 4, "max_relative_positions": -1}

MODERNBERT = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "pad_token_id": 0,
    "num_labels": 3,
    "norm_eps": 1e-3,
    "local_attention": 4,  # two tokens to each side, of inputs of six
}
# drawn within two deviations, and less where they are summed up
MODERNBERT_DRAWN = ((r"(Wo|dense)$", 0.44 / 8**0.5), (r"classifier$", 0.22), ("", 0.44))
NOMIC = {k: v for k, v in BERT.items() if k != "max_position_embeddings"} | {"num_labels": 3, "hidden_act": "silu"}
NOMIC_HEADS = ("base", "masked-lm", "sequence-classification", "token-classification")

DECODER_HEADS = ("base", "causal-lm", "sequence-classification", "token-classification", "question-answering")
GPT2 = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 12, "layer_norm_epsilon": 1e-3}
GPT2 |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 3}
GPT2_HEADS = (*DECODER_HEADS, "double-heads")
# summed up in the residual stream
GPT2_DRAWN = ((r"c_proj$", 0.5 / 4**0.5),)
LLAMA = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "rms_norm_eps": 1e-3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 3,
}


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 50.0} | more}


# in the spelling of 2024; two frequencies for four dimensions that are turned
LONGROPE = {
    "rope_theta": 50.0,
    "rope_scaling": {"type": "longrope", "short_factor": [1.1, 1.4], "long_factor": [1.5, 6.0]},
}
# windows are smaller than the inputs of six tokens
GEMMA3 = LLAMA | {"num_hidden_layers": 4, "head_dim": 6, "sliding_window": 3, "sliding_window_pattern": 3}
GEMMA3 |= {"query_pre_attn_scalar": 5}
# small bounds, so that they bend what they bound
GEMMA2 = LLAMA | {"head_dim": 6, "sliding_window": 3, "query_pre_attn_scalar": 5, "final_logit_softcapping": 2.0}
GEMMA2 |= {"attn_logit_softcapping": 1.5}
EXPERTS = LLAMA | rope("default") | {"num_experts_per_tok": 2}
MIXTRAL = EXPERTS | {"num_local_experts": 4}
QWEN3_MOE = EXPERTS | {"num_experts": 4, "moe_intermediate_size": 12, "head_dim": 6, "norm_topk_prob": True}
GPT_OSS = LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 6, "sliding_window": 3}
GPT_OSS |= rope("yarn", factor=4.0, original_max_position_embeddings=4, beta_fast=2.0, beta_slow=1.0, truncate=False)
ROUTED = {"output_router_logits": True, "router_aux_loss_coef": 0.5}

ROWS = (
    Row(
        "gpt_oss",
        "gpt_oss",
        GPT_OSS | {"swiglu_limit": 1.0},  # some of the inputs are larger
        ("base", "causal-lm", "sequence-classification", "token-classification"),
        "openai/gpt-oss-20b",
        decoder=True,
    ),
    Row(
        "gpt_oss-routed",
        "gpt_oss",
        GPT_OSS
        | ROUTED
        | {"num_hidden_layers": 3, "attention_bias": False, "swiglu_alpha": 1.0, "tie_word_embeddings": True}
        | {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        ("base", "causal-lm"),
        "none: the switches of the reference code",
        decoder=True,
    ),
    Row("mixtral", "mixtral", MIXTRAL, DECODER_HEADS, "mistralai/Mixtral-8x7B-Instruct-v0.1", decoder=True),
    Row(
        "mixtral-routed-window",
        "mixtral",
        MIXTRAL
        | ROUTED
        | {"sliding_window": 3, "num_local_experts": 3, "router_jitter_noise": 0.1, "head_dim": 6}
        | {"tie_word_embeddings": True},
        ("base", "causal-lm"),
        "none: the switches of the reference code",
        decoder=True,
    ),
    Row("qwen3_moe", "qwen3_moe", QWEN3_MOE, DECODER_HEADS, "Qwen/Qwen3-30B-A3B", decoder=True),
    Row(
        "qwen3_moe-routed-some-layers",
        "qwen3_moe",
        QWEN3_MOE
        | ROUTED
        | {"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3], "norm_topk_prob": False}
        | {"attention_bias": True, "use_sliding_window": True, "sliding_window": 3},
        ("base", "causal-lm"),
        "none: the switches of the reference code",
        decoder=True,
    ),
    Row(
        "gemma2",
        "gemma2",
        GEMMA2 | rope("default"),
        ("base", "causal-lm", "sequence-classification", "token-classification"),
        "google/gemma-2-2b-it",
        decoder=True,
    ),
    Row(
        "gemma2-no-caps",
        "gemma2",
        GEMMA2
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False}
        | {"num_hidden_layers": 3, "attention_bias": True, "hidden_activation": "gelu", "rope_theta": 50.0},
        ("causal-lm",),
        "none: the switches of the reference code",
        decoder=True,
    ),
    Row(
        "gemma3_text",
        "gemma3_text",
        GEMMA3 | {"rope_theta": 50.0, "rope_local_base_freq": 10.0},
        ("base", "causal-lm", "sequence-classification"),
        "google/gemma-3-1b-it",
        decoder=True,
    ),
    Row(
        "gemma3_text-scaled",
        "gemma3_text",
        GEMMA3
        | {"final_logit_softcapping": 2.0, "tie_word_embeddings": False, "attention_bias": True}
        | {"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]}
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
            }
        },
        ("causal-lm",),
        "google/gemma-3-4b-it",  # its text model
        decoder=True,
    ),
    Row(
        "gemma3_text-both-directions",
        "gemma3_text",
        GEMMA3 | {"use_bidirectional_attention": True, "sliding_window": 4},
        ("base", "sequence-classification"),
        "google/embeddinggemma-300m",
    ),
    Row(
        "gpt2",
        "gpt2",
        GPT2,
        GPT2_HEADS,
        "openai-community/gpt2",
        decoder=True,
        drawn=GPT2_DRAWN,
        unpadded=("double-heads",),
    ),
    Row(
        "gpt2-scaled-inner",
        "gpt2",
        GPT2
        | {"n_inner": 24, "activation_function": "relu", "scale_attn_by_inverse_layer_idx": True}
        | {"reorder_and_upcast_attn": True, "tie_word_embeddings": False, "summary_activation": "tanh"},
        ("causal-lm", "double-heads"),
        "stanford-crfm/alias-gpt2-small-x21",
        unpadded=("double-heads",),
        decoder=True,
        drawn=GPT2_DRAWN,
    ),
    Row(
        "gpt2-cross-attention",
        "gpt2",
        GPT2 | {"add_cross_attention": True, "scale_attn_weights": False},
        ("base", "causal-lm"),
        "nlpconnect/vit-gpt2-image-captioning",
        decoder=True,
        cross=True,
        drawn=GPT2_DRAWN,
    ),
    Row("llama", "llama", LLAMA | rope("default"), DECODER_HEADS, "meta-llama/Llama-2-7b-hf", decoder=True),
    Row(
        "llama-3-tied",
        "llama",
        LLAMA
        | {"tie_word_embeddings": True, "head_dim": 8, "attention_bias": True, "mlp_bias": True}
        | rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0, original_max_position_embeddings=8),
        DECODER_HEADS,
        "meta-llama/Llama-3.2-1B",
        decoder=True,
    ),
    Row(
        "llama-linear-one-key",
        "llama",
        LLAMA | {"num_key_value_heads": 1, "hidden_act": "gelu"} | rope("linear", factor=2.0),
        ("causal-lm",),
        "lmsys/vicuna-7b-v1.5-16k",
        decoder=True,
    ),
    Row(
        "llama-yarn",
        "llama",
        LLAMA
        | {"num_key_value_heads": 4}
        | rope("yarn", factor=4.0, original_max_position_embeddings=4, beta_fast=2.0),
        ("causal-lm",),
        "NousResearch/Yarn-Llama-2-7b-64k",
        decoder=True,
    ),
    Row(
        "llama-dynamic",
        "llama",
        LLAMA | {"max_position_embeddings": 4} | rope("dynamic", factor=2.0),
        ("causal-lm",),
        "openchat/openchat_8192",
        decoder=True,
        cached=False,
        unpadded=("base", "causal-lm", "generate"),
    ),
    Row(
        "mistral",
        "mistral",
        LLAMA | rope("default") | {"sliding_window": 3},
        DECODER_HEADS,
        "mistralai/Mistral-7B-v0.1",
        decoder=True,
    ),
    Row(
        "mistral-no-window",
        "mistral",
        LLAMA | rope("default") | {"sliding_window": None, "head_dim": 6, "num_key_value_heads": 1},
        ("base", "causal-lm"),
        "mistralai/Mistral-Nemo-Instruct-2407",
        decoder=True,
    ),
    Row("qwen2", "qwen2", LLAMA | rope("default"), DECODER_HEADS, "Qwen/Qwen2.5-7B-Instruct", decoder=True),
    Row(
        "qwen2-tied",
        "qwen2",
        LLAMA | rope("default") | {"tie_word_embeddings": True, "sliding_window": 3, "max_window_layers": 0},
        ("causal-lm",),
        "Qwen/Qwen2.5-0.5B-Instruct",  # whose window is switched off
        decoder=True,
    ),
    Row(
        "qwen2-window",
        "qwen2",
        LLAMA | rope("default") | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
        ("base", "causal-lm"),
        "nvidia/Nemotron-Research-Reasoning-Qwen-1.5B",
        decoder=True,
    ),
    Row(
        "qwen2-yarn",
        "qwen2",
        LLAMA | rope("yarn", factor=4.0, original_max_position_embeddings=4),
        ("causal-lm",),
        "Qwen/Qwen2.5-7B-Instruct-1M",
        decoder=True,
    ),
    Row(
        "qwen3",
        "qwen3",
        LLAMA | rope("default") | {"head_dim": 8},
        DECODER_HEADS,
        "Qwen/Qwen3-8B",
        decoder=True,
    ),
    Row(
        "qwen3-tied-biases",
        "qwen3",
        LLAMA | rope("default") | {"head_dim": 6, "tie_word_embeddings": True, "attention_bias": True},
        ("causal-lm",),
        "Qwen/Qwen3-0.6B",  # tied; biases are of models of one's own
        decoder=True,
    ),
    Row(
        "qwen3-window",
        "qwen3",
        LLAMA
        | rope("default")
        | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 3, "num_hidden_layers": 3}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        ("base", "causal-lm"),
        "none: the kinds of layers of the reference code",
        decoder=True,
    ),
    Row(
        "phi3",
        "phi3",
        LLAMA | rope("default") | {"num_key_value_heads": 4, "sliding_window": 3},
        DECODER_HEADS[:-1],
        "microsoft/Phi-3-mini-4k-instruct",
        decoder=True,
    ),
    Row(
        "phi3-longrope-short",
        "phi3",
        LLAMA | LONGROPE | {"max_position_embeddings": 48, "original_max_position_embeddings": 12},
        ("base", "causal-lm"),
        "microsoft/Phi-3-mini-128k-instruct",
        decoder=True,
    ),
    Row(
        "phi3-longrope-long",
        "phi3",
        LLAMA | LONGROPE | {"max_position_embeddings": 48, "original_max_position_embeddings": 4},
        ("base", "causal-lm"),
        "microsoft/Phi-3.5-mini-instruct",
        decoder=True,
        cached=False,  # keys of the first tokens were turned by the short factors
        unpadded=("base", "causal-lm", "generate"),  # the reference goes by the longest of a batch
    ),
    Row(
        "phi3-partial-tied",
        "phi3",
        LLAMA
        | LONGROPE
        | {"hidden_size": 32, "partial_rotary_factor": 0.5, "tie_word_embeddings": True}
        | {"max_position_embeddings": 48, "original_max_position_embeddings": 12, "sliding_window": 262_144},
        ("causal-lm",),
        "microsoft/Phi-4-mini-instruct",
        decoder=True,
    ),
    Row("bert", "bert", BERT | {"num_labels": 3}, BERT_HEADS, "google-bert/bert-base-uncased", head_mask=True),
    Row(
        "bert-decoder",
        "bert",
        BERT | {"is_decoder": True},
        ("base", "causal-lm"),
        "google/bert_for_seq_generation_L-24_bbc_encoder",
        decoder=True,
    ),
    Row(
        "bert-cross-attention",
        "bert",
        BERT | {"is_decoder": True, "add_cross_attention": True},
        ("base", "causal-lm"),
        "patrickvonplaten/bert2bert_cnn_daily_mail",
        decoder=True,
        cross=True,
    ),
    Row(
        "bert-gelu-new-one-type",
        "bert",
        BERT | {"hidden_act": "gelu_new", "type_vocab_size": 1, "classifier_dropout": 0.3, "num_labels": 4},
        ("masked-lm", "sequence-classification"),
        "google/bert_uncased_L-2_H-128_A-2",
    ),
    Row(
        "bert-relu-untied",
        "bert",
        BERT | {"hidden_act": "relu", "tie_word_embeddings": False},
        ("masked-lm", "pretraining"),
        "google/bert_uncased_L-4_H-256_A-4",
    ),
    Row(
        "bert-regression",
        "bert",
        BERT | {"num_labels": 1},
        ("sequence-classification",),
        "cross-encoder/stsb-TinyBERT-L-4",
    ),
    Row(
        "bert-multi-label",
        "bert",
        BERT | {"num_labels": 5, "problem_type": "multi_label_classification"},
        ("sequence-classification",),
        "unitary/toxic-bert",
    ),
    Row("roberta", "roberta", ROBERTA, ROBERTA_HEADS, "FacebookAI/roberta-base"),
    Row("xlm-roberta", "xlm-roberta", ROBERTA, ROBERTA_HEADS, "FacebookAI/xlm-roberta-base"),
    Row("camembert", "camembert", ROBERTA | {"pad_token_id": 2}, ROBERTA_HEADS, "almanach/camembert-base"),
    Row(
        "roberta-decoder-cross-attention",
        "roberta",
        ROBERTA | {"is_decoder": True, "add_cross_attention": True, "tie_word_embeddings": False},
        ("base", "causal-lm"),
        "patrickvonplaten/roberta2roberta-share-cnn_dailymail-fp16",
        decoder=True,
        cross=True,
    ),
    Row(
        "roberta-decoder-types",
        "roberta",
        ROBERTA | {"is_decoder": True, "type_vocab_size": 2, "hidden_act": "gelu_new", "classifier_dropout": 0.2},
        ("causal-lm", "sequence-classification"),
        "FacebookAI/roberta-base-openai-detector",
        decoder=True,
        generates=False,  # the reference counts positions from 0 then, not from pad_token_id + 1
    ),
    Row("albert", "albert", ALBERT, ALBERT_HEADS, "albert/albert-base-v2"),
    Row(
        "albert-groups",
        "albert",
        ALBERT
        | {"num_hidden_groups": 2, "inner_group_num": 2, "hidden_act": "gelu"}
        | {"tie_word_embeddings": False, "type_vocab_size": 1},
        ("base", "masked-lm", "sequence-classification"),
        "rxnmapper",
    ),
    Row("electra", "electra", ELECTRA, ELECTRA_HEADS, "google/electra-small-discriminator"),
    Row(
        "electra-base",
        "electra",
        ELECTRA
        | {"embedding_size": 16, "tie_word_embeddings": False, "hidden_act": "relu", "classifier_dropout": 0.2}
        | {"summary_use_proj": False, "summary_activation": "relu"},
        ("base", "pretraining", "masked-lm", "multiple-choice"),
        "google/electra-base-discriminator",
    ),
    Row(
        "electra-decoder",
        "electra",
        ELECTRA | {"is_decoder": True},
        ("causal-lm",),
        "google/electra-small-generator",
        decoder=True,
    ),
    Row(
        "modernbert",
        "modernbert",
        MODERNBERT | {"global_attn_every_n_layers": 3, "global_rope_theta": 1000.0, "local_rope_theta": 50.0},
        DISTILBERT_HEADS,
        "Alibaba-NLP/gte-modernbert-base",
        drawn=MODERNBERT_DRAWN,
    ),
    Row(
        "modernbert-mean-biases",
        "modernbert",
        MODERNBERT
        | dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)
        | {"hidden_activation": "gelu_new", "classifier_activation": "relu", "classifier_pooling": "mean"}
        | {"layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]}
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            }
        },
        ("base", "masked-lm", "sequence-classification", "multiple-choice", "token-classification"),
        "answerdotai/ModernBERT-base",  # the pooling; biases and the other spelling are of models of one's own
        drawn=MODERNBERT_DRAWN,
    ),
    Row(
        "modernbert-sparse-untied",
        "modernbert",
        MODERNBERT
        | {"sparse_prediction": True, "decoder_bias": False, "tie_word_embeddings": False, "local_attention": 3}
        | {"global_attn_every_n_layers": 2},
        ("masked-lm",),
        "answerdotai/ModernBERT-large",
        drawn=((r"decoder$", 0.44 / 8**0.5), *MODERNBERT_DRAWN),
    ),
    Row(
        "nomic_bert",
        "nomic_bert",
        NOMIC | {"max_position_embeddings": 12},
        NOMIC_HEADS,
        "nomic-ai/nomic-bert-2048",
    ),
    Row(  # both spellings in one file, as published since Transformers 5
        "nomic_bert-published",
        "nomic_bert",
        NOMIC
        | {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 24, "layer_norm_epsilon": 1e-3}
        | {"n_positions": 48, "max_position_embeddings": 12, "max_trained_positions": 12}
        | {"activation_function": "swiglu", "rotary_emb_base": 50, "rotary_emb_fraction": 1.0, "prenorm": False}
        | {"rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_scaling_factor": None}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "classifier_dropout": 0.2},
        NOMIC_HEADS,
        "nomic-ai/nomic-embed-text-v1.5",
    ),
    Row(
        "nomic_bert-gelu-untied",
        "nomic_bert",
        NOMIC | {"hidden_act": "gelu", "head_dim": 6, "type_vocab_size": 3, "tie_word_embeddings": False},
        ("base", "masked-lm"),
        "nomic-ai/nomic-bert-2048",
    ),
    Row("mpnet", "mpnet", MPNET, DISTILBERT_HEADS, "sentence-transformers/all-mpnet-base-v2"),
    Row(
        "deberta-v2",
        "deberta-v2",
        DEBERTA_V3,
        DISTILBERT_HEADS,
        "microsoft/deberta-v3-base",
        unpadded=("question-answering",),
    ),
    Row(
        "deberta-v2-convolution",
        "deberta-v2",
        DEBERTA_V3 | {"conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": 4},
        ("base", "masked-lm", "sequence-classification", "multiple-choice"),
        "microsoft/deberta-v2-xlarge",
    ),
    Row(
        "deberta-v2-own-projections",
        "deberta-v2",
        DEBERTA
        | {"pos_att_type": ["c2p", "p2c"], "max_relative_positions": 3, "legacy": False, "hidden_act": "relu"}
        | {"conv_kernel_size": 5, "conv_groups": 2, "pooler_hidden_act": "tanh", "cls_dropout": 0.2},
        ("base", "masked-lm", "sequence-classification"),
        "hf-internal-testing/tiny-random-DebertaV2Model",
    ),
    Row(
        "deberta-v2-one-term",
        "deberta-v2",
        DEBERTA_V3
        | {"pos_att_type": ["p2c"], "share_att_key": False, "position_biased_input": True}
        | {"num_labels": 1, "problem_type": "regression"},
        ("base", "sequence-classification"),
        "cross-encoder/nli-deberta-v3-base",
    ),
    Row(
        "deberta-v2-absolute",
        "deberta-v2",
        DEBERTA
        | {"relative_attention": False, "position_biased_input": True, "pos_att_type": ["c2p"], "type_vocab_size": 2}
        | {"embedding_size": 10, "tie_word_embeddings": False, "norm_rel_ebd": "none"},
        ("base", "masked-lm", "token-classification", "question-answering"),
        "hf-internal-testing/tiny-random-DebertaV2ForMaskedLM",
        unpadded=("question-answering",),
    ),
    Row(
        "xlnet",
        "xlnet",
        XLNET,
        XLNET_HEADS,
        "xlnet/xlnet-base-cased",
        head_mask=True,
        padding_side="left",
        extra=("token_type_ids",),
    ),
    Row(
        "xlnet-beams",
        "xlnet",
        XLNET,
        ("beam-question-answering",),
        "xlnet/xlnet-large-cased",
        padding_side="left",
        extra=("token_type_ids",),
        labelled=False,
    ),
    Row(
        "xlnet-two-streams",
        "xlnet",
        XLNET,
        ("base", "causal-lm"),
        "xlnet/xlnet-large-cased",
        extra=("token_type_ids", "perm_mask", "target_mapping"),
    ),
    Row(
        "xlnet-two-streams-memory",
        "xlnet",
        XLNET | {"mem_len": 5, "reuse_len": 3},
        ("causal-lm",),
        "xlnet/xlnet-large-cased",
        extra=("mems", "perm_mask", "target_mapping"),
    ),
    Row(
        "xlnet-uni-memory",
        "xlnet",
        XLNET
        | {"attn_type": "uni", "same_length": True, "clamp_len": 2, "mem_len": 4, "reuse_len": 3, "untie_r": False},
        ("base", "causal-lm"),
        "none: attn_type, same_length and clamp_len of the reference code",
        extra=("token_type_ids", "mems"),
        masked=False,
    ),
    Row(
        "xlnet-both-directions",
        "xlnet",
        XLNET | {"bi_data": True, "clamp_len": 3, "summary_type": "first", "summary_activation": "relu"},
        ("multiple-choice",),  # a batch of an even number of sequences
        "none: bi_data of the reference code",
        extra=("token_type_ids",),
    ),
    Row(
        "xlnet-relu-first",
        "xlnet",
        XLNET | {"ff_activation": "relu", "summary_type": "first", "summary_use_proj": False},
        ("sequence-classification", "multiple-choice"),
        "none: summary_type and ff_activation of the reference code",
    ),
    Row(
        "distilbert",
        "distilbert",
        DISTILBERT | {"num_labels": 2},
        DISTILBERT_HEADS,
        "distilbert-base-uncased",
        head_mask=True,
    ),
    Row(
        "distilbert-relu-sines",
        "distilbert",
        DISTILBERT
        | {"activation": "relu", "sinusoidal_pos_embds": True, "num_labels": 3, "tie_word_embeddings": False},
        ("base", "masked-lm", "sequence-classification"),
        "distilbert-base-multilingual-cased",
    ),
    Row(
        "distilbert-regression",
        "distilbert",
        DISTILBERT | {"problem_type": "regression", "num_labels": 2},
        ("sequence-classification",),
        "distilbert-base-cased",
    ),
)


def config_for(row: Row, head: str) -> dict[str, Any]:
    """An answer has a first and a last token, sentences are in order or not; the reference wants it said."""
    return copy.deepcopy(row.config) | ({"num_labels": 2} if head in ("question-answering", "pretraining") else {})


CASES = [(row, head) for row in ROWS for head in row.heads]


def draw(name: str, shape: tuple[int, ...], std: float = STD) -> torch.Tensor:
    """Uniform values of the given deviation, the same for the same name on every machine and in every version."""
    return drawn_once(name, tuple(shape), std).clone()


@cache
def drawn_once(name: str, shape: tuple[int, ...], std: float) -> torch.Tensor:
    """Kept, since most weights are those of several heads and checks; whoever changes values takes a copy."""
    bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(math.prod(shape))
    values = ((bits >> np.uint64(11)) * 2.0**-53 * 2 - 1) * math.sqrt(3) * std
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def draw_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A parameter for its published name, the same under every head: norms lie around 1."""
    base, mean = parse_name(name)
    return drawn_once(base, tuple(shape), STD) + mean


@cache
def parse_name(name: str) -> tuple[str, float]:
    """A published name without its family's prefix, and around what the values of such a parameter lie."""
    return re.sub(rf"^({'|'.join(PREFIXES)})\.", "", name), 1.0 if re.search(NORMS, name) else 0.0


def draw_ids(name: str, shape: tuple[int, ...], low: int, high: int) -> torch.Tensor:
    bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(math.prod(shape))
    return torch.from_numpy((bits % np.uint64(high - low)).astype(np.int64) + low).reshape(shape)


CHOICES = ("multiple-choice", "double-heads")  # heads that read several sequences at once
LENGTHS = (6, 4, 5)  # tokens of the sequences of a batch
PER_TOKEN = {"input_ids", "attention_mask", "token_type_ids", "p_mask"}  # [..., T]
BY_PLACE = PER_TOKEN | {"perm_mask", "target_mapping"}  # [B, T, T], [B, P, T]


def make_inputs(row: Row, head: str) -> dict[str, torch.Tensor]:
    """A batch, padded on the row's side, and labels."""
    choices = 2 if head in CHOICES else 1
    lengths = LENGTHS * choices
    if head in row.unpadded:
        lengths = (max(lengths),) * len(lengths)
    B, T, V = len(lengths), max(lengths), row.config["vocab_size"]
    mask = (torch.arange(T)[None] < torch.tensor(lengths)[:, None]).long()
    padding = row.config.get("pad_token_id", 0)
    ids = torch.where(mask == 1, draw_ids("input_ids", (B, T), 3, V), padding)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if row.config.get("type_vocab_size", 1) > 1:
        inputs["token_type_ids"] = draw_ids("token_type_ids", (B, T), 0, 2) * mask
    if row.cross:
        C = row.config.get("hidden_size") or row.config["n_embd"]
        inputs["encoder_hidden_states"] = draw("encoder", (B, 5, C), 1.0)
        inputs["encoder_attention_mask"] = (torch.arange(5)[None] < torch.tensor([5, 3, 4])[:, None]).long()
    inputs |= {name: make_extra(row, name, mask) for name in row.extra}
    if head == "beam-question-answering":
        inputs["p_mask"] = make_extra(row, "p_mask", mask)
    if row.padding_side == "left":
        inputs = turn(inputs)
        mask = inputs["attention_mask"]
    if choices > 1:
        inputs = {name: value.view(len(LENGTHS), choices, T) for name, value in inputs.items()}
    if "target_mapping" in row.extra:  # targets are the predictions
        mask = torch.ones(inputs["target_mapping"].shape[:2], dtype=torch.long)
    return inputs | (make_labels(row, head, mask) if row.labelled else {})


def make_extra(row: Row, name: str, mask: torch.Tensor) -> torch.Tensor:
    """An input that few models take, for a batch padded on the right. Two words of each sequence are predicted."""
    (B, T), lengths = mask.shape, mask.sum(-1)
    if name == "token_type_ids":
        return torch.where(mask == 1, draw_ids(name, (B, T), 0, 3), 3)
    if name == "mems":
        return draw(name, (row.config["n_layer"], 3, B, row.config["d_model"]), 1.0)
    if name == "p_mask":  # of padding, and of the first token where enough are left
        first = torch.arange(T) == 0
        return ((mask == 0) | first & (lengths > 4)[:, None]).float()
    made = torch.zeros(B, 2 if name == "target_mapping" else T, T)
    for one, last in zip(made, (lengths - 1).tolist(), strict=True):
        if name == "target_mapping":
            one[0, 1] = one[1, last] = 1
        if name == "perm_mask":  # nobody sees the two, but the second sees the first
            one[:, [1, last]] = 1
            one[last, 1] = 0
    return made


def turn(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same batch, with its padding on the other side."""
    masks = inputs["attention_mask"].flatten(0, -2)
    steps = [int((one == 0).sum()) * (1 if one[0] else -1) for one in masks]
    turned = dict(inputs)
    for name in BY_PLACE & inputs.keys():
        value = inputs[name].flatten(0, -2) if name in PER_TOKEN else inputs[name]
        dims = (0, 1) if name == "perm_mask" else (-1,)
        rows = [one.roll([step] * len(dims), dims) for one, step in zip(value, steps, strict=True)]
        turned[name] = torch.stack(rows).view(inputs[name].shape)
    return turned


def take_row(inputs: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    """One sequence of a batch alone, without its padding and its mask."""
    real, alone = inputs["attention_mask"][i].bool(), {}
    for name, value in inputs.items():
        if name == "mems":
            alone[name] = value[:, :, i : i + 1]
        elif name != "attention_mask":
            value = value[i : i + 1, real] if name == "perm_mask" else value[i : i + 1]
            alone[name] = value[..., real] if name in BY_PLACE else value
    return alone


def make_labels(row: Row, head: str, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    B, T = mask.shape
    N, V = row.config.get("num_labels", 2), row.config["vocab_size"]
    words = torch.where((mask == 1) & (draw_ids("where", (B, T), 0, 3) > 0), draw_ids("words", (B, T), 0, V), -100)
    if head in ("masked-lm", "causal-lm"):
        return {"labels": words}
    if head == "pretraining" and row.model_type == "electra":  # tokens that another model put in
        return {"labels": draw_ids("replaced", (B, T), 0, 2)}
    if head == "pretraining":
        return {"labels": words} | (
            {SECOND[row.model_type]: draw_ids("next", (B,), 0, 2)} if row.model_type in SECOND else {}
        )
    if head == "next-sentence":
        return {"labels": draw_ids("next", (B,), 0, 2)}
    if head == "multiple-choice":
        return {"labels": draw_ids("choice", (len(LENGTHS),), 0, 2)}
    if head == "double-heads":
        return {"labels": words.view(len(LENGTHS), 2, T), "mc_labels": draw_ids("choice", (len(LENGTHS),), 0, 2)}
    if head == "token-classification":
        return {"labels": torch.where(mask == 1, draw_ids("tags", (B, T), 0, N), -100)}
    if head == "beam-question-answering":
        last = T - 1 - mask.flip(1).argmax(1)
        made = {"start_positions": torch.tensor([1, 3, 3]), "end_positions": torch.tensor([3, 4, 4])}
        return made | {"cls_index": last, "is_impossible": torch.tensor([0.0, 1.0, 0.0])}
    if head == "question-answering":
        return {"start_positions": torch.tensor([1, 0, 99]), "end_positions": torch.tensor([3, 2, 99])}
    if head == "sequence-classification":
        if row.config.get("problem_type") == "multi_label_classification":
            return {"labels": draw_ids("labels", (B, N), 0, 2).float()}
        if row.config.get("problem_type") == "regression":
            return {"labels": draw("values", (B, N), 1.0)}
        return {"labels": draw("values", (B,), 1.0) if N == 1 else draw_ids("labels", (B,), 0, N)}
    return {}


# what a causal model is asked to write on: greedily, drawn, with beams
GENERATIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sample": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9},
    "beams": {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
}
GENERATED = [row for row in ROWS if row.decoder and "causal-lm" in row.heads and row.generates and not row.cross]


def make_prompts(row: Row) -> dict[str, torch.Tensor]:
    """A batch of prompts, padded on the left."""
    inputs = turn(make_inputs(row, "generate"))
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def flatten_outputs(out: Any) -> dict[str, torch.Tensor]:
    """The tensors of a model's output under flat names."""
    flat = {}
    for name, value in out.items():
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif name in ("hidden_states", "attentions", "cross_attentions", "mems"):
            for i, one in enumerate(value):
                pair = isinstance(one, tuple)
                flat |= {f"{name}.{i}.{j}": x for j, x in enumerate(one)} if pair else {f"{name}.{i}": one}
        elif name == "router_logits":  # [B T, E]
            first = out[0] if out[0].dim() == 3 else out.logits
            flat |= {f"{name}.{i}": one.view(*first.shape[:2], -1) for i, one in enumerate(value)}
    flat = {name: x.transpose(0, 1) if name.startswith("mems") else x for name, x in flat.items()}  # [B, M, C]
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in flat.items()}


def summarise_gradients(model: torch.nn.Module, every: bool = False) -> dict[str, torch.Tensor]:
    """Per parameter with a gradient: its norm and its product with a drawn direction.

    every: under each of its names; the libraries need not agree on which of them is the first.
    """
    named = model.named_parameters(remove_duplicate=not every)
    return dict(summarise(name, p.grad) for name, p in named if p.grad is not None)


def summarise(name: str, gradient: torch.Tensor) -> tuple[str, torch.Tensor]:
    direction = drawn_once(f"direction {name}", tuple(gradient.shape), 1.0)
    return f"gradient.{name}", torch.stack([gradient.norm(), (gradient * direction).sum()])
