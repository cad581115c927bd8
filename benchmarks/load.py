"""Loading a sharded checkpoint, side by side with Transformers: seconds and peak memory, each in a fresh process.

    python benchmarks/load.py --model FOLDER --make --size 1.5     once: a random BERT of 1.5 GB in shards
    python benchmarks/load.py --model FOLDER

"whole process" counts from the start of Python; "without imports" from when the library's class is there; memory is the
highest resident size (VmHWM), what is mapped from the files included. "all read" sums every weight, so that what is
mapped is really read.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYER_MB = 12 * 1280 * 1280 * 4 / 1e6  # weights of one layer in float32
TOP_MB = (30522 + 512 + 2 + 1280) * 1280 * 4 / 1e6  # embeddings and pooler
PROGRAM = """
import json, sys, time
import torch
from {lib} import AutoModel, BertModel
start = time.perf_counter()
model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.{dtype})
seconds = time.perf_counter() - start
total = sum(float(p.sum()) for p in model.parameters()) if {touch} else 0.0
read = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("RESULT", json.dumps([seconds, read, int(peak) / 1024, total]))
"""
VARIANTS = {
    "float32": ("float32", False),
    "float32, all read": ("float32", True),
    "cast to bfloat16": ("bfloat16", True),
}


def make(folder: Path, gigabytes: float) -> None:
    import torch

    from plainformers import BertConfig, BertModel

    layers = max(1, round((gigabytes * 1000 - TOP_MB) / LAYER_MB))
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=1280, num_hidden_layers=layers, num_attention_heads=20, intermediate_size=5120, vocab_size=30522
    )
    BertModel(config).save_pretrained(folder, max_shard_size="400MB")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{folder}: {layers} layers, {size / 1e9:.2f} GB in {len(list(folder.glob('*.safetensors')))} files")


def run(code: str, folder: Path, environment: dict[str, str]) -> tuple[float, float, float, float, float]:
    """(seconds of the process, of from_pretrained, of it and reading all, peak in MiB, sum of the weights)"""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return (whole, *json.loads(done.stdout.split("RESULT")[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(tempfile.gettempdir(), "plainformers-bench-load"))
    parser.add_argument("--make", action="store_true", help="make the checkpoint, and stop")
    parser.add_argument("--size", type=float, default=1.5, help="gigabytes of the checkpoint to make")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = options.model.expanduser()
    if options.make:
        return make(folder, options.size)
    if not (folder / "config.json").is_file():
        sys.exit(f"{folder} holds no checkpoint; make one first with --make.")
    results: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": cache, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        for number in range(options.rounds + 1):
            for name, (dtype, touch) in VARIANTS.items():
                sums = []
                for lib in ("transformers", "plainformers"):
                    result = run(PROGRAM.format(lib=lib, dtype=dtype, touch=touch), folder, environment)
                    sums.append(result[-1])
                    if number:  # the first compiles, and brings the files into memory
                        results.setdefault((name, lib), []).append(result)
                assert sums[0] == sums[1], f"{name}: the weights differ, {sums}"

    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"{folder}: {size / 1e9:.2f} GB; medians of {options.rounds} fresh processes, files in the page cache")
    print(f"{'':20s} {'':13s} {'whole process':>14s} {'without imports':>16s} {'and all read':>13s} {'peak MiB':>9s}")
    medians = {key: [statistics.median(column) for column in zip(*rows, strict=True)] for key, rows in results.items()}
    for (name, lib), (whole, loading, read, peak, _) in medians.items():
        print(f"{name:20s} {lib:13s} {whole:12.3f} s {loading:14.3f} s {read:11.3f} s {peak:9.0f}")
    for name in VARIANTS:
        ours, theirs = medians[name, "plainformers"], medians[name, "transformers"]
        ratios = " ".join(f"{a / b:.2f}" for a, b in zip(ours[:4], theirs[:4], strict=True))
        print(f"{name:20s} ratios to Transformers: {ratios}")


if __name__ == "__main__":
    main()
