"""The model card: the README.md that is saved with a pipeline. It holds what is known, and says what is not known.

Known is what config, model and tokenizer say, and what the caller states (FACTS). Nothing is taken from other cards.
"""

import math
import os
import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from . import __version__, logging
from .hub import fetch, make_repository, upload, write_file
from .model import UPLOAD
from .views import template

FACTS = ("language", "license", "base_model", "data", "metrics", "tested_on", "limits")  # what only the caller knows
SIZES = {"Layers": "num_hidden_layers", "Hidden size": "hidden_size", "Attention heads": "num_attention_heads",
         "Vocabulary": "vocab_size"}  # fmt: skip
EXAMPLES = {  # each task of pipelines.TASKS -> the arguments of a call
    "text-classification": '"A text of your own."',
    "token-classification": '"Anna lives in Paris.", aggregation_strategy="simple"',
    "question-answering": 'question="Where does Anna live?", context="Anna lives in Paris."',
    "fill-mask": 'f"A {pipe.tokenizer.mask_token} of your own."',
    "zero-shot-classification": '"A text of your own.", candidate_labels=["sport", "music"]',
    "text-generation": '"A text of your own", max_new_tokens=30',
    "text-ranking": '{"query": "Where does Anna live?", "documents": ["In Paris.", "She sings."]}',
    "feature-extraction": '"A text of your own.", pooling="mean"',
    "sentence-similarity": '{"source_sentence": "A text.", "sentences": ["A word.", "Another text."]}',
}
LABELLED = frozenset({"text-classification", "token-classification"})  # tasks whose answers are the config's labels
MOST_LABELS, MOST_LETTERS = 20, 60
NOT_STATED, SIGNATURE = "not stated", "Saved by plainformers "
REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


# ---- What is known


def check_facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are not None, texts in lists. Raises TypeError or ValueError for what a card cannot hold."""
    facts: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in facts.keys() - {"metrics"}:
        value, one = facts[name], name in ("license", "tested_on")
        texts: list[Any] = [*value] if isinstance(value, (list, tuple)) and not one else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TypeError(f"{name} must be a text{'' if one else ' or a list of texts'}, got {value!r:.80}.")
        if name not in ("data", "limits") and any(len(text.splitlines()) > 1 for text in texts):
            raise ValueError(f"{name} must stand on one line, got {value!r:.80}.")
        if name == "base_model" and not all(REPOSITORY.fullmatch(text) for text in texts):
            raise ValueError(f"base_model must name a repository, such as 'owner/name', not a path; got {value!r:.80}.")
        facts[name] = [text.strip() for text in texts]
    metrics = facts.get("metrics")
    if "metrics" in facts and not (isinstance(metrics, Mapping) and metrics):
        raise TypeError(f"metrics must map names to numbers, such as {{'accuracy': 0.91}}, got {metrics!r:.80}.")
    if metrics is None and "tested_on" in facts:
        raise ValueError("tested_on says what the metrics were measured on: give metrics too.")
    for name, value in (metrics or {}).items():
        if not isinstance(name, str) or not name.strip() or len(name.splitlines()) > 1:
            raise TypeError(f"The name of a metric must be a text on one line, got {name!r:.80}.")
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise TypeError(f"The metric {name!r:.80} must be a finite number, got {value!r:.80}.")
        facts["metrics"] = {**facts["metrics"], name: value if isinstance(value, int) else float(value)}  # numpy's
    return facts


def repository_of(name: str) -> str | None:
    """The name where it is a built-in model's, or a repository's in the hub's cache: a local path is nobody's business.

    A path may look like a repository, and its folder be gone; the cache tells.
    """
    if not REPOSITORY.fullmatch(name) or os.path.exists(name):
        return None
    try:
        fetch(name, lambda names: [], local_files_only=True)
    except (OSError, ValueError):
        return None
    return name


def describe_labels(config: Any) -> tuple[str, str, list[str]]:
    """(what an answer is, the labels with their numbers, the limits that follow)."""
    labels, count = list(config.id2label.items()), len(config.id2label)
    several = "1 label" if count == 1 else f"{count:,} labels"
    listed = ", ".join(f"{shown(label)} ({i})" for i, label in labels[:MOST_LABELS])
    listed += f", … and {count - MOST_LABELS:,} more" if count > MOST_LABELS else ""
    nameless = all(label == f"LABEL_{i}" for i, label in labels)
    limits = ["The labels have no names of their own; what they stand for is not stated."] if nameless else []
    if config.problem_type == "regression":
        return f"a number for each of {several}", listed, limits
    if config.problem_type == "multi_label_classification" or count == 1:
        return f"a score from 0 to 1 for each of {several}, independently", listed, limits
    limits.append(f"It knows {several} and no others: an input that fits none of them gets one of them all the same.")
    return f"one of {several}, with a score", listed, limits


# ---- How it is written


def shown(text: Any) -> str:
    """A text from a config, shortened, as Markdown that shows it and can neither end a table cell nor make HTML."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(text).split()))
    text = text[: MOST_LETTERS - 1] + "…" if len(text) > MOST_LETTERS else text
    if re.fullmatch(r"[\w .,:;/+()'…-]+", text):
        return f"`{text}`"
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text) or "(empty)"


def is_dataset(text: str) -> bool:
    return "/" in text and bool(REPOSITORY.fullmatch(text)) and not os.path.exists(text)


def linked(text: str) -> str:
    return f"[{text}](https://huggingface.co/datasets/{text})" if is_dataset(text) else text


def front_matter(pipe: Any, name: str, facts: dict[str, Any]) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    task, metrics = pipe.task if pipe.task in EXAMPLES else None, facts.get("metrics", {})
    single = {key: values[0] if len(values) == 1 else values for key, values in facts.items() if key != "metrics"}
    license, tested_on, results = single.get("license"), single.get("tested_on"), []
    if task and tested_on:
        kind = tested_on if is_dataset(tested_on) else re.sub(r"[^A-Za-z0-9_.-]+", "-", tested_on)  # as the Hub wants
        for metric, value in metrics.items():
            results.append(EvalResult(task, kind, tested_on, metric, value, metric_name=metric))
    return ModelCardData(
        language=single.get("language"),
        license=license and license.lower(),  # all that the Hub knows are
        library_name="plainformers",
        pipeline_tag=task,
        base_model=single.get("base_model"),
        datasets=[text for text in facts.get("data", ()) if is_dataset(text)] or None,
        metrics=list(metrics) or None,
        tags=[pipe.model.config.model_type] if pipe.model.config.model_type else None,
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def make_card(pipe: Any, name: str, facts: dict[str, Any], variant: str | None = None) -> str:
    """The text of README.md. name: of the folder or repository; facts: from check_facts; variant: of the weights."""
    model, config, longest = pipe.model, pipe.model.config, pipe.longest
    if "base_model" not in facts and (origin := repository_of(model.name_or_path or "")):
        facts = {**facts, "base_model": [origin]}
    answer, labels, limits = describe_labels(config) if pipe.task in LABELLED else ("", "", [])
    dtype, kind = str(model.dtype).removeprefix("torch."), f"model type {shown(config.model_type)}"
    sizes = {title: getattr(config, field, None) for title, field in SIZES.items()}
    rows = {
        "Architecture": f"{shown(type(model).__name__)}, {kind}",
        **{title: f"{size:,}" for title, size in sizes.items() if isinstance(size, int)},
        "Parameters": f"{model.num_parameters():,}",
        "Weights": dtype,
        "Longest input": f"{longest:,} tokens" if longest else NOT_STATED,
        **({"Labels": labels} if labels else {}),
    }
    for title, fact in {"Base model": "base_model", "Language": "language", "License": "license"}.items():
        rows[title] = ", ".join(map(shown, facts.get(fact, ()))) or NOT_STATED
    text = template("card.md", escaped=False, shown=shown, linked=linked).render(
        front_matter=front_matter(pipe, name, facts), name=name, call=EXAMPLES.get(pipe.task), variant=variant,
        answer=answer, rows=rows, facts=facts, longest=longest, limits=limits, not_stated=NOT_STATED, dtype=dtype,
        task=pipe.task, kind=type(pipe).__name__, saved_by=SIGNATURE + __version__,
    )  # fmt: skip
    return text.encode("utf-8", "replace").decode("utf-8")


# ---- Where it goes; a card that is there may be anybody's


def save(pipe: Any, save_directory: Any, given: dict[str, Any], arguments: dict[str, Any], repo_id: str | None) -> str:
    """Model, tokenizer and card into a folder; then, with a repo_id, uploaded, and the commit's address is returned.

    given: FACTS and overwrite_card; arguments: those of Model.save_pretrained and hub.upload.
    """
    overwrite = given.pop("overwrite_card", False)
    facts, folder = check_facts(given), Path(os.path.abspath(save_directory))
    options: dict[str, Any] = {name: arguments.pop(name) for name in UPLOAD if name in arguments}
    options.setdefault("commit_message", f"Upload {type(pipe).__name__}")
    name, variant = repo_id or folder.name or "model", arguments.get("variant")
    ours = overwrite or os.path.lexists(folder / "README.md")  # then the repository's goes
    make_card(pipe, name, facts, variant)  # what is wrong with it is said before anything is written
    pipe.model.save_pretrained(folder, **arguments)
    if not arguments.get("is_main_process", True):
        return ""
    pipe.tokenizer.save_pretrained(folder)
    try:
        if repo_id:
            name = make_repository(repo_id, token=options.get("token"), private=options.get("private"))
    finally:
        put_card(folder, make_card(pipe, name, facts, variant), overwrite, bool(facts))
    return upload(folder, name, keep=() if ours else ("README.md",), **options) if repo_id else ""


def put_card(folder: Path, text: str, overwrite: bool, stated: bool) -> None:
    """Writes README.md unless one is there. That is said, aloud where facts are lost or ours is out of date."""
    path = folder / "README.md"
    there = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if overwrite or not os.path.lexists(path):
        write_file(path, text)
    elif there != text:
        level = logging.WARNING if stated or SIGNATURE in there else logging.INFO
        logging.once(f"{path} is there and stays as it is; overwrite_card=True writes a new model card.", level)
