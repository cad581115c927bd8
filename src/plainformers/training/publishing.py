"""What a Trainer puts on the Hub: the model after each checkpoint or at the end, and its card."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from .. import logging
from ..aliases import resolve_keywords
from ..hub import upload
from ..model import UPLOAD
from . import checkpoints


def repository(trainer: Any) -> str:
    return trainer.args.hub_model_id or Path(trainer.args.output_dir).absolute().name


def options_of(trainer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an upload: those given, else those of the TrainingArguments."""
    args = trainer.args
    given = resolve_keywords(given, UPLOAD, "push_to_hub", "Trainer.push_to_hub")
    known = {"token": args.hub_token, "private": args.hub_private_repo, "revision": args.hub_revision}
    return {**{k: v for k, v in known.items() if v is not None}, **given}


def push(trainer: Any, message: str, given: dict[str, Any]) -> str:
    """Uploads the model that lies in output_dir, with a card, without checkpoints and logs."""
    options = options_of(trainer, given)
    write_card(trainer, {})
    return upload_files(Path(trainer.args.output_dir), repository(trainer), {**options, "commit_message": message})


def push_checkpoint(trainer: Any, path: Path) -> None:
    """Uploads a checkpoint that was just written, as hub_strategy says; a failure is said and stops nothing."""
    strategy, step = trainer.args.hub_strategy, checkpoints.step_of(path)
    options = {**options_of(trainer, {}), "commit_message": f"Training in progress, step {step}"}
    inside = {"checkpoint": "last-checkpoint", "all_checkpoints": path.name}.get(strategy)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ours = {checkpoints.MANIFEST, checkpoints.STATE, "training_state.json", "optimizer.safetensors"}
            for file in path.iterdir():
                if file.is_file() and file.name not in ours:
                    shutil.copyfile(file, Path(folder) / file.name)
            if inside:
                shutil.copytree(path, Path(folder) / inside)
            upload(folder, repository(trainer), **options)
    except OSError as error:
        logging.get_logger().warning(f"The checkpoint of step {step} was not uploaded: {error}")


def upload_files(folder: Path, name: str, options: dict[str, Any]) -> str:
    """Uploads the files of a folder that lie in it directly."""
    with tempfile.TemporaryDirectory() as beside:
        for file in folder.iterdir():
            if file.is_file():
                shutil.copyfile(file, Path(beside) / file.name)
        return upload(beside, name, **options)


def write_card(trainer: Any, facts: dict[str, Any]) -> None:
    """README.md of the model in output_dir, unless one is there; a model that no pipeline runs gets none."""
    from ..card import check_facts, make_card, put_card
    from ..pipelines import pipeline

    facts, folder = check_facts(facts), Path(trainer.args.output_dir)
    try:
        pipe = pipeline(model=trainer.model, tokenizer=trainer.processing_class, device=trainer.args.device)
    except (ValueError, TypeError) as error:
        logging.get_logger().info(f"No card was written, for no pipeline runs the model: {error}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    put_card(folder, make_card(pipe, repository(trainer), facts), False, bool(facts))
