"""Tiny models and ways of generating, and what the reference library generates: `python tests/generation_cases.py`.

What version 5 of the reference took away (groups of beams, constraints, contrastive search, DoLa) is made by the last
version that had it, 4.55: each version writes its own file into tests/data.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "models"))
from zoo import GPT2, LLAMA, draw_ids, draw_weight  # noqa: E402

DATA = Path(__file__).parent / "data"
V = GPT2["vocab_size"]
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> class of the config, of the model, what it says
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT2 | {"n_positions": 64, "n_layer": 4}),
    "llama": (
        "LlamaConfig",
        "LlamaForCausalLM",
        LLAMA | {"max_position_embeddings": 64, "rope_theta": 50.0, "num_hidden_layers": 4},
    ),
}
EOS = [2, 11, 24, 30, 37]  # many, so that texts end


def make_model(name: str, library: Any, **changes: Any) -> Any:
    """The same numbers in any library; changes of the config may take layers away."""
    config_class, model_class, config = CONFIGS[name]
    model = getattr(library, model_class)(getattr(library, config_class)(**config | changes))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.copy_(draw_weight(parameter_name, tuple(parameter.shape)))
    return model.eval()


def make_prompts(batch: bool = True) -> dict[str, torch.Tensor]:
    """Three prompts of 6, 4 and 5 tokens, padded on the left, or one."""
    ids = draw_ids("input_ids", (3, 6), 3, V)
    mask = (torch.arange(6).flip(0) < torch.tensor([6, 4, 5])[:, None]).long()
    ids = ids * mask
    return {"input_ids": ids, "attention_mask": mask} if batch else {"input_ids": ids[:1]}


# the reference takes a padding token of 0 for none in beam search
BEAMS = {"num_beams": 4, "max_new_tokens": 12, "eos_token_id": EOS, "pad_token_id": 1}
GROUPS = BEAMS | {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7}
DRAFTS = {"batch": False, "assistant": True, "max_new_tokens": 30, "eos_token_id": EOS[:2]}
CONTRAST = {"penalty_alpha": 0.6, "top_k": 5, "max_new_tokens": 12, "eos_token_id": EOS}
DOLA = {"batch": False, "max_new_tokens": 12, "eos_token_id": EOS, "repetition_penalty": 1.2}
# name -> options of generate
CASES_5: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 12, "eos_token_id": EOS},
    "sample": {"max_new_tokens": 12, "eos_token_id": EOS, "do_sample": True, "top_k": 7, "num_return_sequences": 2},
    "beams": BEAMS,
    "beams, all": BEAMS | {"num_return_sequences": 4},
    "beams, early": BEAMS | {"early_stopping": True, "num_return_sequences": 3},
    "beams, never": BEAMS | {"early_stopping": "never", "num_return_sequences": 2},
    "beams, short": BEAMS | {"length_penalty": -1.0, "num_return_sequences": 2},
    "beams, never, short": BEAMS | {"early_stopping": "never", "length_penalty": -0.5},
    "beams, long": BEAMS | {"length_penalty": 2.0, "num_return_sequences": 4},
    "beams, no length": BEAMS | {"length_penalty": 0.0},
    "beams, one end": BEAMS | {"eos_token_id": 24, "early_stopping": True},
    "beams, no end": BEAMS | {"eos_token_id": None, "num_return_sequences": 4},
    "beams, rules": BEAMS | {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "min_new_tokens": 4},
    "beams, drawn": BEAMS | {"do_sample": True, "num_return_sequences": 3},
    "beams, drawn, early": BEAMS | {"do_sample": True, "early_stopping": True, "temperature": 0.7, "top_k": 9},
    "beams, drawn, rules": BEAMS | {"do_sample": True, "top_p": 0.8, "no_repeat_ngram_size": 2},
    "beams, two": BEAMS | {"num_beams": 2, "max_new_tokens": 20},
    "draft": DRAFTS,
    "draft, rules": DRAFTS | {"repetition_penalty": 1.2, "min_new_tokens": 9, "no_repeat_ngram_size": 3},
    "look up": DRAFTS | {"assistant": False, "prompt_lookup_num_tokens": 4},
    "beams, many": BEAMS | {"num_beams": 16, "num_return_sequences": 16, "eos_token_id": 24},
}
CASES_4: dict[str, dict[str, Any]] = {
    "groups": GROUPS,
    "groups, all": GROUPS | {"num_return_sequences": 6},
    "groups, early": GROUPS | {"early_stopping": True, "num_return_sequences": 6},
    "groups, never": GROUPS | {"early_stopping": "never", "num_return_sequences": 4, "length_penalty": 0.5},
    "groups, alone": GROUPS | {"num_beams": 3, "num_return_sequences": 3, "diversity_penalty": 5.0},
    "groups, short": GROUPS | {"length_penalty": -1.0, "num_return_sequences": 2},
    "groups, rules": GROUPS | {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "sequence_bias": [[[24], -3.0]]},
    "phrase": BEAMS | {"force_words_ids": [[7, 8]]},
    "phrases": BEAMS | {"force_words_ids": [[7, 8, 9], [12, 13]], "num_return_sequences": 4},
    "choice": BEAMS | {"force_words_ids": [[[7, 8], [9, 10, 11]], [40]], "early_stopping": True},
    "phrase, long": BEAMS | {"force_words_ids": [[7, 8, 9, 10]], "length_penalty": 2.0, "early_stopping": "never"},
    "contrastive": CONTRAST,
    "contrastive, alone": CONTRAST | {"batch": False, "max_new_tokens": 20, "penalty_alpha": 0.9, "top_k": 9},
    "contrastive, one after the other": CONTRAST | {"low_memory": True, "batch": False},
    "contrastive, rules": CONTRAST | {"batch": False, "repetition_penalty": 1.2, "min_new_tokens": 5},
    "low layers": DOLA | {"dola_layers": "low"},
    "high layers": DOLA | {"dola_layers": "high"},
    "some layers": DOLA | {"dola_layers": [0, 1, 3]},
    "high layers, drawn": DOLA | {"dola_layers": "high", "do_sample": True},
    "phrase, two": BEAMS | {"num_beams": 2, "force_words_ids": [[50]], "max_new_tokens": 8},
}


def generate(model: Any, case: dict[str, Any], small: Any = None) -> Any:
    """small: the model that drafts."""
    torch.manual_seed(0)
    if case.get("assistant"):
        case = case | {"assistant_model": small}
    more = {"return_dict_in_generate": True, "output_scores": True}
    options = {name: value for name, value in case.items() if name not in ("batch", "assistant")}
    return model.generate(**make_prompts(case.get("batch", True)), **options, **more)


def make_small(name: str, library: Any) -> Any:
    """The first layer of a model, which therefore drafts what is often right."""
    return make_model(name, library, **{"n_layer" if name == "gpt2" else "num_hidden_layers": 1})


if __name__ == "__main__":
    import transformers

    torch.set_num_threads(1)
    version = transformers.__version__
    found: dict[str, Any] = {"reference": f"transformers {version}"}
    for name in CONFIGS:
        for case, options in (CASES_4 if version[0] == "4" else CASES_5).items():
            out = generate(make_model(name, transformers), options, make_small(name, transformers))
            found[f"{name}, {case}"] = [out.sequences.tolist()]
            if "sequences_scores" in out:
                found[f"{name}, {case}"] += [out.sequences_scores.tolist()]
            print(name, case, out.sequences[:, 6:].tolist())
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    (DATA / f"generation-{version[0]}.json").write_text(f"{{\n{rows}\n}}\n")
