"""Tiny models with adapters, made alike by ours and by PEFT."""

import zlib
from typing import Any

import torch

import plainformers

IDS = torch.tensor([[7, 12, 30, 8, 5, 41]])
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GPT2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 32}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"kind": "LlamaForCausalLM", "sizes": SIZES, "config": {"r": 3, "lora_alpha": 5}},
    "llama-all": {
        "kind": "LlamaForCausalLM",
        "sizes": SIZES,
        "config": {"r": 2, "target_modules": ["q_proj", "o_proj", "down_proj"], "use_rslora": True,
                   "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"down_proj": 3}, "layers_to_transform": [1]},
    },
    "bert": {
        "kind": "BertForSequenceClassification",
        "sizes": SIZES,
        "config": {"r": 2, "task_type": "SEQ_CLS", "bias": "lora_only"},
    },
    "gpt2": {"kind": "GPT2LMHeadModel", "sizes": GPT2, "config": {"r": 2, "fan_in_fan_out": True}},
    "qwen2": {
        "kind": "Qwen2ForCausalLM",
        "sizes": {**SIZES, "num_key_value_heads": 2},
        "config": {"r": 2, "target_modules": r".*\.(up|down)_proj", "exclude_modules": ["layers.0.mlp.up_proj"]},
    },
}  # fmt: skip


def base_model(case: dict[str, Any]) -> Any:
    kind = getattr(plainformers, case["kind"])
    model = kind(kind.config_class(**case["sizes"]))
    randomise(model)
    return model.eval()


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Draws every parameter by its name's end, the same in both libraries."""
    for name, parameter in torch.nn.Module.named_parameters(model):
        plain = name.replace("base_model.model.", "").replace("base_layer.", "").replace("modules_to_save.default.", "")
        if "original_module" in plain:
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(plain.encode()))
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
