"""Spellings that users know from Transformers 4 and 5, and the answer to a misspelt one.

One table, so that a name that changed between versions is accepted everywhere in the same way. Nothing is imported here
but difflib, inside the one function that runs only when something is wrong.
"""

from collections.abc import Iterable
from typing import Any

# where -> {spelling that is also accepted: our name}
ALIASES: dict[str, dict[str, str]] = {
    "from_pretrained": {
        "torch_dtype": "dtype",
        "use_auth_token": "token",
        "_attn_implementation": "attn_implementation",
    },
    "from_config": {"torch_dtype": "dtype", "_attn_implementation": "attn_implementation"},
    "save_pretrained": {"use_auth_token": "token", "save_config": "is_main_process"},
    "push_to_hub": {"use_auth_token": "token", "repo_name": "repo_id", "repo_path_or_name": "repo_id"},
    "forward": {"masked_lm_labels": "labels", "lm_labels": "labels"},
    "config": {"torch_dtype": "dtype", "_attn_implementation": "attn_implementation"},
    "pipeline": {"torch_dtype": "dtype", "use_auth_token": "token"},
    # fmt: off
    "training": {
        "activation_checkpointing": "gradient_checkpointing",
        "evaluation_strategy": "eval_strategy",
        "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
        "no_cuda": "use_cpu",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "push_to_hub_model_id": "hub_model_id",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "push_to_hub_token": "hub_token",
    },
    # fmt: on
}

# where -> keywords that are accepted and change nothing here, because what they ask for is always or never done
WITHOUT_EFFECT: dict[str, frozenset[str]] = {
    # low_cpu_mem_usage: loading always maps the file. trust_remote_code: no code of a repository is ever run.
    # weights_only: pickles are always read by the restricted reader. use_fast: every tokenizer is the fast one.
    "from_pretrained": frozenset(
        ["low_cpu_mem_usage", "_fast_init", "trust_remote_code", "weights_only", "resume_download", "proxies", "mirror"]
    ),
    "from_config": frozenset({"trust_remote_code"}),
    "pipeline": frozenset(["trust_remote_code", "use_fast", "framework"]),
    # use_mps_device: it is used where it is there. include_tokens_per_second: they are always counted.
    "training": frozenset(["use_mps_device", "include_tokens_per_second"]),
}


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A sentence that starts with a blank and names the nearest allowed word, or an empty string."""
    import difflib

    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown_argument(name: str, allowed: Iterable[str], where: str) -> TypeError:
    """The error for an argument that does not exist; the caller raises it."""
    allowed = sorted(set(allowed))
    return TypeError(f"{where} has no argument {name!r}.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}.")


def rename_keywords(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The given keywords under our names, without those that change nothing; unknown ones are left as they are.

    Raises TypeError for one that is given in two spellings.
    """
    aliases, ignored = ALIASES.get(where, {}), WITHOUT_EFFECT.get(where, frozenset())
    renamed: dict[str, Any] = {}
    for keyword, value in given.items():
        ours = aliases.get(keyword, keyword)
        if ours in renamed:
            raise TypeError(f"{where} got {ours!r} twice, in two spellings.")
        if keyword not in ignored:
            renamed[ours] = value
    return renamed


def resolve_keywords(
    given: dict[str, Any], allowed: Iterable[str], where: str, name: str | None = None
) -> dict[str, Any]:
    """The given keywords under our names, without those that change nothing.

    where: a key of ALIASES; name: what the error calls it. Raises TypeError for an unknown keyword, and for one that is
    given in two spellings.
    """
    allowed, aliases, ignored = set(allowed), ALIASES.get(where, {}), WITHOUT_EFFECT.get(where, frozenset())
    resolved: dict[str, Any] = {}
    for keyword, value in given.items():
        ours = keyword if keyword in allowed else aliases.get(keyword, keyword)
        if ours in resolved:
            raise TypeError(f"{name or where} got {ours!r} twice, in two spellings.")
        if ours in allowed:
            resolved[ours] = value
        elif keyword not in ignored:
            spellings = {old for old, ours in aliases.items() if ours in allowed}
            raise unknown_argument(keyword, allowed | spellings, name or where)
    return resolved
