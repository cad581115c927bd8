"""Makes the golden files with the reference library, which is needed here only: `make golden`.

python tests/models/make_golden.py [ROW...]; under version 4 of the library only the head-mask files, which 5 cannot
make.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from zoo import (
    GENERATED,
    GENERATIONS,
    ROWS,
    Row,
    config_for,
    draw,
    draw_weight,
    flatten_outputs,
    make_inputs,
    make_prompts,
    summarise,
    summarise_gradients,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))  # version 4's environment lacks the package
from plainformers.registry import MODELS  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def reference_class(row: Row, head: str):
    """The classes of the reference bear our names."""
    return getattr(transformers, MODELS[row.model_type].heads[head])


def build(row: Row, head: str):
    """The reference's model with our weights, loaded by it from a checkpoint in published names."""
    kind = reference_class(row, head)
    config = kind.config_class(**config_for(row, head))
    config._attn_implementation = "eager"
    with tempfile.TemporaryDirectory() as folder:
        kind(config).save_pretrained(folder)
        with safe_names(folder) as names:
            weights = {name: draw_weight(name, shape) for name, shape in names.items()}
        save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
        model, info = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
        assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval(), weights


class safe_names:
    """Names and shapes of a saved checkpoint."""

    def __init__(self, folder: str):
        from safetensors import safe_open

        with safe_open(f"{folder}/model.safetensors", "pt") as file:
            self.names = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}

    def __enter__(self):
        return self.names

    def __exit__(self, *_):
        return False


def gradients(model, weights) -> dict[str, torch.Tensor]:
    """As summarise_gradients, but in published names where the reference has others in memory."""
    if weights.keys() <= dict(model.named_parameters()).keys():
        return summarise_gradients(model)
    for parameter in model.parameters():  # saved like weights, they are renamed like weights
        parameter.data = torch.full_like(parameter, torch.nan) if parameter.grad is None else parameter.grad
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = load_file(f"{folder}/model.safetensors")
    return dict(summarise(name, value) for name, value in saved.items() if not value.isnan().any())


def golden(row: Row) -> None:
    tensors, published = {}, {}
    for head in row.heads:
        model, weights = build(row, head)
        published[head] = {name: list(value.shape) for name, value in weights.items()}
        inputs = make_inputs(row, head)
        if not row.masked:
            del inputs["attention_mask"]
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
        tensors |= {f"{head}/{name}": value for name, value in flatten_outputs(out).items()}
        if head == "causal-lm" and row in GENERATED:
            if "output_router_logits" in row.config:  # with it, its decoding fails: the mask is longer than the scores
                model.config.output_router_logits = False
            for how, options in GENERATIONS.items():
                torch.manual_seed(0)
                # a copy: dynamic rotary tables of the reference remember the longest text of earlier calls
                ids = copy.deepcopy(model).generate(**make_prompts(row), max_new_tokens=6, **options)
                tensors[f"{head}/generate.{how}"] = ids
        if "loss" in out:
            out.loss.backward()
            tensors |= {f"{head}/{name}": value for name, value in gradients(model, weights).items()}
    metadata = {"reference": f"transformers {transformers.__version__}", "published": json.dumps(published)}
    save_file(tensors, GOLDEN / f"{row.name}.safetensors", metadata=metadata)
    print(row.name, len(tensors), "tensors", (GOLDEN / f"{row.name}.safetensors").stat().st_size, "bytes")


def golden_head_mask(row: Row) -> None:
    model, _ = build(row, "base")
    inputs = make_inputs(row, "base")
    tensors = {}
    for shape in ((4,), (2, 4)):
        mask = (draw(f"head mask {shape}", shape, 1.0) > 0).float()
        mask.view(-1)[0] = 0.5
        out = model(**inputs, head_mask=mask, output_attentions=True)
        tensors |= {f"{len(shape)}/head_mask": mask}
        tensors |= {f"{len(shape)}/{name}": value for name, value in flatten_outputs(out).items()}
    save_file(
        tensors,
        GOLDEN / f"{row.name}-head-mask.safetensors",
        metadata={"reference": f"transformers {transformers.__version__}"},
    )
    print(row.name, "head mask")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for row in ROWS:
        if sys.argv[1:] and row.name not in sys.argv[1:]:
            continue
        if not transformers.__version__.startswith("4."):
            golden(row)
        elif row.head_mask:
            golden_head_mask(row)
