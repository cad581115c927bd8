"""HfArgumentParser: dataclasses as arguments of a command line and of files."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import pytest

from plainformers import HfArg, HfArgumentParser, TrainingArguments


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Model:
    name: str
    layers: int = 2
    rate: float | None = None
    kind: Literal["a", "b", 3] = "a"
    colour: Colour = Colour.RED
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    more: dict | None = None
    shuffle: bool = True
    quick: bool = False
    short: str = HfArg(aliases=["-s"], help="a short one", default="x")

    def __post_init__(self):
        self.colour = Colour(self.colour)


def parse(*words, **how):
    return HfArgumentParser(Model).parse_args_into_dataclasses(list(words), look_for_args_file=False, **how)[0]


def test_flags_are_fields():
    assert parse("--name", "n") == Model("n")
    flags = "--name n --layers 3 --rate 0.5 --kind 3 --colour blue --sizes 4 5 6 --no_shuffle --quick -s y"
    words = flags.split()
    found = parse(*words, "--more", '{"a": 1}')
    assert found == Model("n", 3, 0.5, 3, Colour.BLUE, [4, 5, 6], {"a": 1}, False, True, "y")
    assert parse("--name", "n", "--shuffle", "no", "--quick", "true") == Model("n", shuffle=False, quick=True)
    for words in (["--name", "n", "--quick", "maybe"], ["--name", "n", "--kind", "c"], []):
        with pytest.raises(SystemExit):
            parse(*words)
    with pytest.raises(ValueError, match="Unknown arguments: .'--layer_count'"):
        parse("--name", "n", "--layer_count", "3")


def test_several_dataclasses_and_what_is_left():
    parser = HfArgumentParser((Model, TrainingArguments))
    model, args, left = parser.parse_args_into_dataclasses(
        ["--name", "n", "--output_dir", "out", "--learning-rate", "1e-3", "--bf16", "--odd", "1"],
        return_remaining_strings=True, look_for_args_file=False,
    )  # fmt: skip
    assert (model.name, args.output_dir, args.learning_rate, args.bf16, left) == (
        "n",
        "out",
        1e-3,
        True,
        ["--odd", "1"],
    )
    with pytest.raises(TypeError, match="takes dataclasses"):
        HfArgumentParser(int)


def test_files(tmp_path):
    parser = HfArgumentParser(Model)
    (tmp_path / "a.json").write_text(json.dumps({"name": "n", "layers": 7}))
    assert parser.parse_json_file(tmp_path / "a.json")[0] == Model("n", 7)
    with pytest.raises(ValueError, match=r"Unknown keys: \['layer'\]. Did you mean 'layers'"):
        parser.parse_dict({"name": "n", "layer": 7})
    assert parser.parse_dict({"name": "n", "layer": 7}, allow_extra_keys=True)[0] == Model("n")
    (tmp_path / "b.args").write_text("--name n --layers 8")
    read = parser.parse_args_into_dataclasses
    assert read([], args_filename=str(tmp_path / "b.args"))[0] == Model("n", 8)
    assert read(["--file", str(tmp_path / "b.args"), "--layers", "9"], args_file_flag="--file")[0] == Model("n", 9)
    pytest.importorskip("yaml")
    (tmp_path / "a.yaml").write_text("name: n\nsizes: [3]\n")
    assert parser.parse_yaml_file(tmp_path / "a.yaml")[0] == Model("n", sizes=[3])
