"""GGUF's names of settings and tensors -> those of published checkpoints, as a table, a row per architecture.

What llama.cpp changed when it wrote a file is undone: rows in another order, norms with 1 added, experts in stacks.
"""

import math
import re
from typing import Any, NamedTuple

import numpy as np

from .gguf import GGUF, MOST_OBJECTS, TensorInfo


class Source(NamedTuple):
    """What one published tensor is made from: one stored tensor, or two whose rows take turns."""

    stored: tuple[TensorInfo, ...]
    shape: tuple[int, ...]  # as published
    expert: int | None = None  # which one of a stack
    rows: tuple[tuple[int, int, int], tuple[int, int]] | None = None  # a grid of rows, two sides of which change places
    change: str = ""  # of the values: "less one" or "transposed"


class Architecture(NamedTuple):
    kind: str  # model_type, and the class that published configs name
    fields: str  # key of the metadata (with a "?" where files may lack it) = field of config.json
    names: str  # of tensors, without .weight and .bias, or whole; {} is the number of an expert
    layers: str = "model.layers"
    less_one: str = "(?!)"  # of which tensors 1 is to be subtracted
    transposed: str = "(?!)"
    fixed: dict[str, Any] = {}


_SIZES = """context_length=max_position_embeddings embedding_length=hidden_size block_count=num_hidden_layers
    feed_forward_length=intermediate_size attention.head_count=num_attention_heads """
_NO_HEAD_DIM = f"""{_SIZES} attention.head_count_kv?=num_key_value_heads rope.freq_base?=rope_theta
    attention.layer_norm_rms_epsilon=rms_norm_eps """
_LLAMA = _NO_HEAD_DIM + "attention.key_length?=head_dim "
_EXPERTS = _LLAMA + "feed_forward_length?=intermediate_size expert_used_count=num_experts_per_tok "
_WINDOW = "attention.sliding_window?=sliding_window "
_NAMES = """token_embd=model.embed_tokens output_norm=model.norm output=lm_head attn_norm=input_layernorm
    attn_q=self_attn.q_proj attn_k=self_attn.k_proj attn_v=self_attn.v_proj attn_output=self_attn.o_proj
    attn_q_norm=self_attn.q_norm attn_k_norm=self_attn.k_norm ffn_norm=post_attention_layernorm ffn_gate=mlp.gate_proj
    ffn_up=mlp.up_proj ffn_down=mlp.down_proj post_attention_norm=post_attention_layernorm """
_GEMMA = _NAMES + "ffn_norm=pre_feedforward_layernorm post_ffw_norm=post_feedforward_layernorm"
_GELU = {"hidden_activation": "gelu_pytorch_tanh"}
_UNUSED = re.compile(r"rope_freqs|rope_factors_|attn_rot_embd|attn\.(masked_)?bias")  # these follow from the config

ARCHITECTURES = {
    "llama": Architecture("llama LlamaForCausalLM", _LLAMA, _NAMES),
    "mixtral": Architecture(  # written as llama, with experts
        "mixtral MixtralForCausalLM", _EXPERTS + "expert_count=num_local_experts",
        _NAMES + """ffn_gate_inp=block_sparse_moe.gate ffn_gate_exps=block_sparse_moe.experts.{}.w1
        ffn_down_exps=block_sparse_moe.experts.{}.w2 ffn_up_exps=block_sparse_moe.experts.{}.w3"""),
    "qwen2": Architecture("qwen2 Qwen2ForCausalLM", _NO_HEAD_DIM, _NAMES),
    "qwen3": Architecture("qwen3 Qwen3ForCausalLM", _LLAMA, _NAMES),
    "qwen3moe": Architecture(
        "qwen3_moe Qwen3MoeForCausalLM",
        _EXPERTS + "expert_count=num_experts expert_feed_forward_length=moe_intermediate_size",
        _NAMES + """ffn_gate_inp=mlp.gate ffn_gate_exps=mlp.experts.{}.gate_proj
        ffn_down_exps=mlp.experts.{}.down_proj ffn_up_exps=mlp.experts.{}.up_proj""", fixed={"norm_topk_prob": True}),
    "gemma2": Architecture(
        "gemma2 Gemma2ForCausalLM", _LLAMA + _WINDOW + """attn_logit_softcapping?=attn_logit_softcapping
        final_logit_softcapping?=final_logit_softcapping""", _GEMMA, less_one="norm", fixed=_GELU),
    "gemma3": Architecture(
        "gemma3_text Gemma3ForCausalLM", _LLAMA + _WINDOW + "rope.freq_base_swa?=rope_local_base_freq",
        _GEMMA, less_one="norm", fixed=_GELU),
    "phi3": Architecture(
        "phi3 Phi3ForCausalLM",
        _NO_HEAD_DIM + _WINDOW + "rope.scaling.original_context_length?=original_max_position_embeddings",
        _NAMES + "attn_qkv=self_attn.qkv_proj ffn_up=mlp.gate_up_proj"),
    "gpt2": Architecture(
        "gpt2 GPT2LMHeadModel", """context_length=n_positions embedding_length=n_embd block_count=n_layer
        attention.head_count=n_head feed_forward_length?=n_inner attention.layer_norm_epsilon=layer_norm_epsilon""",
        """token_embd=transformer.wte position_embd=transformer.wpe output_norm=transformer.ln_f output=lm_head
        attn_norm=ln_1 attn_qkv=attn.c_attn attn_output=attn.c_proj ffn_norm=ln_2 ffn_up=mlp.c_fc
        ffn_down=mlp.c_proj""", "transformer.h", transposed=r"(qkv|attn_output|ffn_up|ffn_down)\.weight"),
    "gptneox": Architecture(
        "gpt_neox GPTNeoXForCausalLM", _SIZES + """attention.layer_norm_epsilon=layer_norm_eps
        use_parallel_residual?=use_parallel_residual rope.freq_base?=rotary_emb_base""",
        """token_embd=gpt_neox.embed_in output_norm=gpt_neox.final_layer_norm output=embed_out
        attn_norm=input_layernorm attn_qkv=attention.query_key_value attn_output=attention.dense
        ffn_norm=post_attention_layernorm ffn_up=mlp.dense_h_to_4h ffn_down=mlp.dense_4h_to_h""", "gpt_neox.layers"),
    "gpt-oss": Architecture(
        "gpt_oss GptOssForCausalLM",
        _EXPERTS + _WINDOW + "expert_count=num_local_experts expert_feed_forward_length=intermediate_size",
        _NAMES + """attn_sinks.weight=self_attn.sinks ffn_gate_inp=mlp.router
        ffn_gate_exps.weight=mlp.experts.gate_up_proj ffn_gate_exps.bias=mlp.experts.gate_up_proj_bias
        ffn_up_exps.weight=mlp.experts.gate_up_proj ffn_up_exps.bias=mlp.experts.gate_up_proj_bias
        ffn_down_exps.weight=mlp.experts.down_proj ffn_down_exps.bias=mlp.experts.down_proj_bias""",
        transposed=r"exps\.weight"),
}  # fmt: skip


def _architecture(file: GGUF) -> tuple[Architecture, str]:
    """The row of a file, and what its keys begin with."""
    name = str(file.metadata.get("general.architecture"))
    row = "mixtral" if name == "llama" and number_of(file, "llama.expert_count", 0) else name
    if row not in ARCHITECTURES or name == "mixtral":
        raise ValueError(f"{file.path}: general.architecture is {name!r:.80}; known are {', '.join(ARCHITECTURES)}.")
    if number_of(file, "split.count", 1) != 1:
        raise ValueError(f"{file.path} is a part, says split.count; join the parts (llama-gguf-split --merge).")
    return ARCHITECTURES[row], f"{name}."


def number_of(file: GGUF, key: str, default: Any = ..., least: float = -math.inf) -> Any:
    """A number or a bool of the metadata; of a list, one for each layer, what all of them are."""
    if (value := file.metadata.get(key, default)) is ...:
        raise ValueError(f"{file.path}: {key} is missing.")
    if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
        value = value[0].item()
    if value is not default and not (isinstance(value, int | float) and least <= value < math.inf):
        raise ValueError(f"{file.path}: {key} must be one number for all layers, from {least}, not {value!r:.80}.")
    short = isinstance(value, float) and abs(value) < 1e38 and np.float32(value) == value
    return float(str(np.float32(value))) if short else value  # 1e-05, not 9.999999747378752e-06


def gguf_config(file: GGUF) -> dict[str, Any]:
    """What a config.json would say of the model in a file. Raises ValueError, naming the key, for what is not known."""
    (row, ours), tensors = _architecture(file), file.tensors
    model_type, head = row.kind.split()
    config: dict[str, Any] = {"model_type": model_type, "architectures": [head], **row.fixed}
    pairs = dict(pair.split("=") for pair in row.fields.split())
    found = {name: number_of(file, ours + key.rstrip("?"), None if "?" in key else ...) for key, name in pairs.items()}
    ids = {name: number_of(file, f"tokenizer.ggml.{name}_token_id", None) for name in ("bos", "eos", "padding", "eot")}
    if ids["eot"] not in (None, ids["eos"]):  # the end of a turn ends an answer, too
        ids["eos"] = [one for one in (ids["eos"], ids["eot"]) if one is not None]
    found |= {f"{name[:3]}_token_id": ids[name] for name in ("bos", "eos", "padding")}
    config |= {name: value for name, value in found.items() if value is not None}
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    config["vocab_size"] = len(tokens) if isinstance(tokens, list) else number_of(file, f"{ours}vocab_size")
    kinds = {info.kind for info in tensors.values()} - {"F32"}
    config["dtype"] = {("F16",): "float16", ("BF16",): "bfloat16"}.get(tuple(kinds), "float32")
    config["tie_word_embeddings"] = "output.weight" not in tensors
    heads, hidden = (number_of(file, ours + key, least=1) for key in ("attention.head_count", "embedding_length"))
    rotated = number_of(file, f"{ours}rope.dimension_count", hidden // heads)
    size = number_of(file, f"{ours}attention.key_length", rotated if ours == "llama." else hidden // heads, least=1)
    if "rms_norm_eps" in config:
        config = {"num_key_value_heads": heads, "rope_theta": 10000.0} | config
        config["rope_scaling"] = _rope_scaling(file, ours, config["rope_theta"], size)
    if "head_dim" in found:
        config["head_dim"] = size
    if model_type == "llama":
        config |= {"attention_bias": "blk.0.attn_q.bias" in tensors, "mlp_bias": "blk.0.ffn_up.bias" in tensors}
    elif row.fixed is _GELU:  # the largest Gemma of either generation divides as if heads were wider
        largest = config["num_hidden_layers"] == (46 if model_type == "gemma2" else 62)
        config["query_pre_attn_scalar"] = hidden // heads if largest else size
    elif model_type == "phi3":
        config |= {"partial_rotary_factor": rotated / size, "sliding_window": config.get("sliding_window") or None}
    elif model_type == "gpt_neox":
        config["rotary_pct"] = rotated / size
    return config


def _rope_scaling(file: GGUF, ours: str, theta: float, size: int) -> dict[str, Any] | None:
    kind = file.metadata.get(f"{ours}rope.scaling.type", "none")
    stored = {name: info for name, info in file.tensors.items() if re.match("rope_f(reqs|actors)", name)}
    factors = {name: file.stored(name).view("<f4") for name, info in stored.items() if info.kind == "F32"}
    if (freqs := factors.get("rope_freqs.weight")) is not None:  # what Llama 3.1's rule in its config comes to
        with np.errstate(all="ignore"):
            wave = 2 * math.pi * np.float64(theta) ** (np.arange(0, 2 * len(freqs), 2) / size)
            high = np.clip((8192 / wave - 1) / 3, 0, 1)  # 1 where waves are short, 0 where they are longer than 8192
            expected = 1 / ((1 - high) / (factor := float(freqs.max(initial=0))) + high)
        if len(freqs) != size // 2 or not np.allclose(freqs, expected, rtol=1e-3):
            raise ValueError(f"{file.path}: rope_freqs.weight does not follow Llama 3.1; no other rule is known.")
        scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        return scaling | {"original_max_position_embeddings": 8192}
    if len(factors) == 2:
        scaling = {f"{name[13:-7]}_factor": [float(str(one)) for one in found] for name, found in factors.items()}
        return {"type": "longrope", **scaling}
    if kind not in ("none", "linear", "yarn"):
        raise ValueError(f"{file.path}: {ours}rope.scaling.type is {kind!r:.40}; known are none, linear, yarn.")
    if kind == "none":
        return None
    keys = ("rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow")
    names = ("original_max_position_embeddings", "beta_fast", "beta_slow") if kind == "yarn" else ()
    found = {name: number_of(file, ours + key, None) for key, name in zip(keys, names, strict=False)}
    scaling = {name: value for name, value in found.items() if value is not None}
    scaling |= {"truncate": False} if ours == "gpt-oss." else {}
    return {"rope_type": kind, "factor": number_of(file, f"{ours}rope.scaling.factor"), **scaling}


def gguf_sources(file: GGUF) -> dict[str, Source]:
    """{published name: what it is made from}; names that are not known stay as they are, and are unexpected."""
    (row, ours), sources = _architecture(file), {}
    names = dict(pair.split("=") for pair in row.names.split())
    heads = int(number_of(file, f"{ours}attention.head_count", least=1))
    groups = int(number_of(file, f"{ours}attention.head_count_kv", heads, least=1))
    rows = {"attn_q": ((heads, -1, 2), (1, 2)), "attn_k": ((groups, -1, 2), (1, 2))}  # the halves of a head alternate
    if ours != "llama.":
        rows = {"attn_qkv": ((3, heads, -1), (0, 1))} if ours == "gptneox." else {}  # all queries, keys, values
    for name, info in file.tensors.items():
        if _UNUSED.search(name):
            continue
        parts = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+?)(?:\.(\d+))?\.(weight|bias)", name)
        layer, stem, number, ending = parts.groups() if parts else ("", "", "", "")
        stem += "_exps" if number else ""
        new = names.get(f"{stem}.{ending}") or (f"{names[stem]}.{ending}" if stem in names else "")
        new = (f"{row.layers}.{layer}." if layer and new else "") + (new or name)
        turned = re.search(row.transposed, name)
        change = "transposed" if turned else "less one" if re.search(row.less_one, name) else ""
        shape = (*info.shape[:-2], *info.shape[:-3:-1]) if turned else info.shape
        source = Source((info,), shape, None, rows.get(stem), change)
        stack = range(shape[0] if "{}" in new and not number else 0)
        if len(sources) + len(stack) > MOST_OBJECTS:
            raise ValueError(f"{file.path}: {name} stacks {shape[0]:,} experts, more than are read.")
        made = {new.replace("{}", str(i)): source._replace(expert=i, shape=shape[1:]) for i in stack}
        made = made or {new.replace("{}", number or ""): source}
        twice = sources.keys() & made
        if twice and "gate_up" in new and sources[new].shape == shape and len(sources[new].stored) == 1:
            both = sorted((*sources[new].stored, info), key=lambda info: "_up_" in info.name)
            made = {new: source._replace(stored=tuple(both), shape=(*shape[:-1], 2 * shape[-1]))}
        elif twice:
            raise ValueError(f"{file.path}: {name} is not the only tensor for {next(iter(twice))}.")
        sources |= made
    return sources
