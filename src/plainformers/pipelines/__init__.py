"""pipeline(): from a task's name, and a model's if wanted, to an object that answers raw inputs."""

import importlib
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import logging
from ..aliases import did_you_mean, resolve_keywords

if TYPE_CHECKING:
    from .base import Pipeline as Pipeline
    from .feature_extraction import FeatureExtractionPipeline as FeatureExtractionPipeline
    from .fill_mask import FillMaskPipeline as FillMaskPipeline
    from .question_answering import QuestionAnsweringPipeline as QuestionAnsweringPipeline
    from .sentence_similarity import SentenceSimilarityPipeline as SentenceSimilarityPipeline
    from .text_classification import TextClassificationPipeline as TextClassificationPipeline
    from .text_generation import TextGenerationPipeline as TextGenerationPipeline
    from .text_ranking import TextRankingPipeline as TextRankingPipeline
    from .token_classification import TokenClassificationPipeline as TokenClassificationPipeline
    from .zero_shot_classification import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline


class Task(NamedTuple):
    file: str  # in this folder
    pipeline: str  # the class in it
    head: str  # of registry.AUTO_CLASSES
    model: str | None = None  # the default; None: the caller names one


TASKS: dict[str, Task] = {
    "text-classification": Task(
        "text_classification", "TextClassificationPipeline", "sequence-classification", "plainformers/sentiment-english"
    ),
    "token-classification": Task("token_classification", "TokenClassificationPipeline", "token-classification"),
    "question-answering": Task("question_answering", "QuestionAnsweringPipeline", "question-answering"),
    "fill-mask": Task("fill_mask", "FillMaskPipeline", "masked-lm"),
    "zero-shot-classification": Task(
        "zero_shot_classification", "ZeroShotClassificationPipeline", "sequence-classification", None
    ),
    "text-generation": Task("text_generation", "TextGenerationPipeline", "causal-lm"),
    "text-ranking": Task("text_ranking", "TextRankingPipeline", "sequence-classification"),
    "feature-extraction": Task("feature_extraction", "FeatureExtractionPipeline", "base"),
    "sentence-similarity": Task("sentence_similarity", "SentenceSimilarityPipeline", "base"),
}
TASK_ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}

# tasks of Transformers that are not here
# fmt: off
ELSEWHERE = (
    "any-to-any", "audio-classification", "automatic-speech-recognition", "conversational", "depth-estimation",
    "document-question-answering", "image-classification", "image-feature-extraction", "image-segmentation",
    "image-text-to-text", "image-to-image", "image-to-text", "keypoint-matching", "mask-generation",
    "object-detection", "summarization", "table-question-answering", "text-to-audio", "text-to-speech",
    "text2text-generation", "translation", "video-classification", "visual-question-answering", "vqa",
    "zero-shot-audio-classification", "zero-shot-image-classification", "zero-shot-object-detection",
)
# fmt: on


def __getattr__(name: str) -> Any:
    files = {task.pipeline: task.file for task in TASKS.values()} | {"Pipeline": "base"}
    if name not in files:
        raise AttributeError(f"plainformers.pipelines has no {name!r}.{did_you_mean(name, files)}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{files[name]}"), name)
    return value


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    *,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    revision: str | None = None,
    token: str | bool | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    quantization: str | None = None,
    compile: bool = False,
    model_kwargs: dict[str, Any] | None = None,
    pipeline_class: "type[Pipeline] | None" = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    **arguments: Any,
) -> Any:
    """An object that answers raw inputs: `pipeline("sentiment-analysis")("A wonderful film.")`.

    task: one of TASKS or TASK_ALIASES; None is found from the model's class. model: a folder, a repository or built-in
    name, or a Model; None is the task's default. tokenizer: the same; None is the model's. config: a Config or a name.
    device: "cpu", "cuda", "cuda:1", a number of a GPU, -1 for the CPU; None is a GPU where there is one. device_map:
    another spelling of it. dtype (torch_dtype): see Model.from_pretrained. quantization: "int8" or "int4" rounds
    the weights, see Model.prepare. compile: the model goes through torch.compile, in batches that are padded; the first
    calls take long. revision, token: where files come from.
    model_kwargs: further arguments of from_pretrained. batch_size: inputs that go through the model together; None is
    by their lengths. arguments: those of a call, as its new defaults. num_workers, use_fast, framework and
    trust_remote_code change nothing.
    Raises ValueError for an unknown task and a model without the task's trained head, TypeError for a misspelt name.
    """
    from .base import Pipeline

    if task is None:
        task, config = infer_task(model, config, revision, token, model_kwargs or {})
    task = known_task(task)
    kind = pipeline_class or __getattr__(TASKS[task].pipeline)
    if not (isinstance(kind, type) and issubclass(kind, Pipeline)):
        raise TypeError(f"pipeline_class must be a subclass of Pipeline, got {kind!r}.")
    arguments = {"dtype": dtype, **arguments} if dtype is not None else arguments
    allowed = kind.call_arguments() | inspect.signature(pipeline).parameters.keys() - {"arguments"}
    arguments = resolve_keywords(arguments, allowed, "pipeline")
    dtype, token = arguments.pop("dtype", None), arguments.pop("token", token)
    if device is not None and device_map is not None:
        raise ValueError(f"device ({device!r}) and device_map ({device_map!r}) say the same; give one of them.")
    for name, part in {"feature_extractor": feature_extractor, "image_processor": image_processor}.items():
        if part is not None:
            raise ValueError(f"{task} reads text: it has no use for a {name}. Leave it out.")
    tokenizer = getattr(processor, "tokenizer", processor) if tokenizer is None else tokenizer

    device = device_map if device is None else device
    model = TASKS[task].model if model is None else model
    if model is None:
        raise ValueError(f"{task} has no default model: name one, pipeline({task!r}, model=…).")
    where = {"revision": revision, "token": token, **(model_kwargs or {})}
    if isinstance(model, (str, os.PathLike)):
        name, model = model, load_model(task, model, config, kind.as_device(device), dtype, where)
        dtype, loaded = None, True
    elif config is not None or revision is not None or model_kwargs:
        raise ValueError("config, revision and model_kwargs say how a model is loaded; this one is loaded already.")
    else:
        name, loaded = getattr(model, "name_or_path", ""), False
    make_faster = how_to_make_faster(quantization, compile, loaded)
    pipe = kind(
        model,
        load_tokenizer(tokenizer, name, model, where),
        task=task,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        **arguments,
    )
    make_faster(pipe.model)
    return pipe


def how_to_make_faster(quantization: str | None, compile: bool, loaded: bool) -> Callable[[Any], Any]:
    """What is done to a pipeline's model; to one that the caller has loaded himself, only what he asks for."""
    if quantization and compile:
        raise ValueError("torch.compile works on plain layers: give one of quantization and compile, not both.")
    if compile:
        return lambda model: model.compile(dynamic=True)
    return lambda model: model.prepare(quantization) if quantization or loaded else None


def known_task(task: Any) -> str:
    """The task under its own name."""
    if not isinstance(task, str):
        raise TypeError(f"task must be a str, not {type(task).__name__}: {task!r:.100}. To give a model, say model=….")
    found = TASK_ALIASES.get(task, task)
    if found in TASKS:
        return found
    there = sorted({*TASKS, *TASK_ALIASES})
    known = task in ELSEWHERE or task.startswith("translation_")
    what = f"The task {task!r} is not here yet." if known else f"There is no task {task!r}.{did_you_mean(task, there)}"
    raise ValueError(f"{what} There are: {', '.join(there)}.")


def infer_task(model: Any, config: Any, revision: Any, token: Any, model_kwargs: dict[str, Any]) -> tuple[str, Any]:
    """(the task that a model's class is made for, its config)."""
    from ..auto import AutoConfig
    from ..config import HUB_ARGUMENTS, Config
    from ..registry import AUTO_CLASSES

    if model is None:
        raise ValueError(f"Name a task or a model. The tasks are: {', '.join(sorted({*TASKS, *TASK_ALIASES}))}.")
    if isinstance(model, (str, os.PathLike)):
        if not isinstance(config, Config):
            where = {"revision": revision, "token": token, **model_kwargs} if config is None else {"token": token}
            where = {key: value for key, value in where.items() if key in HUB_ARGUMENTS and value is not None}
            config = AutoConfig.from_pretrained(model if config is None else config, **where)
        classes = getattr(config, "architectures", None) or []
    else:
        classes = [kind.__name__ for kind in type(model).__mro__]
    endings = {AUTO_CLASSES[task.head].removeprefix("AutoModel"): name for name, task in reversed(TASKS.items())}
    endings["Model"] = endings.pop("")  # comes last, and a base model is no other kind
    for name in classes:
        if name.endswith("LMHeadModel"):
            return "text-generation", config
        if name == "Model" or name.endswith(("PreTrainedModel", "HeadModel", "HeadsModel")):
            continue  # ends as a base model does, and is none
        for ending, task in endings.items():
            if name.removesuffix("Simple").endswith(ending):
                return task, config
    made_for = f"is a {classes[0]}" if classes else "does not say in its config.json (architectures) what it is"
    raise ValueError(
        f"No task fits the model: {model if isinstance(model, str) else 'it'} {made_for}. A task is found for classes "
        f"that end in {', '.join(endings)}. Name the task: pipeline(task, model=…); there are {', '.join(TASKS)}."
    )


def load_model(task: str, name: Any, config: Any, device: Any, dtype: Any, arguments: dict[str, Any]) -> Any:
    """The task's model, straight on its device; ValueError where the checkpoint has no trained head for the task."""
    from .. import auto

    auto_class = getattr(auto, auto.AUTO_CLASSES[TASKS[task].head])
    if isinstance(config, (str, os.PathLike)):
        config = auto.AutoConfig.from_pretrained(config)
    if name == TASKS[task].model:
        logging.once(f"{task} uses its default model, {name}.", logging.INFO)
    given = {"dtype": dtype, "device_map": device, **arguments, "output_loading_info": True}
    model, info = auto_class.from_pretrained(name, config=config, **{k: v for k, v in given.items() if v is not None})
    # hidden states need no pooler, and many checkpoints have none
    missing = [key for key in info["missing_keys"] if TASKS[task].head != "base" or "pooler." not in key]
    if lacking := ", ".join(sorted(missing)[:4]):
        raise ValueError(
            f"{name} has no trained head for {task}: its checkpoint lacks {lacking}, so the answers "
            f"would be random. Use a model that was trained for {task}, or train this one first. (A model "
            f"that {auto_class.__name__} loaded is taken as it is: pipeline({task!r}, model=model, tokenizer=…).)"
        )
    return model


def load_tokenizer(tokenizer: Any, name: Any, model: Any, where: dict[str, Any]) -> Any:
    """The tokenizer as it came, or that of a name, or else that of the model's name."""
    from ..config import HUB_ARGUMENTS
    from ..tokenizer_classes import AutoTokenizer

    if tokenizer is not None and not isinstance(tokenizer, (str, os.PathLike)):
        return tokenizer
    if tokenizer is None and not str(name):
        raise ValueError(
            "The model does not know where it was loaded from, so its tokenizer is not found: give tokenizer=…."
        )
    own = HUB_ARGUMENTS if tokenizer is None else ("token", "cache_dir", "force_download", "local_files_only")
    options = {key: where[key] for key in own if where.get(key) is not None}
    name = os.fspath(name if tokenizer is None else tokenizer)
    return AutoTokenizer.from_pretrained(name, config=model.config, **options)
