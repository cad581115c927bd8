"""Import and first answer, side by side with Transformers: seconds and modules beyond `import torch`.

    python benchmarks/imports.py --model FOLDER

Every measurement is a fresh process; the processes take turns. FOLDER holds a text classifier that both libraries read.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

NAMES = "AutoModelForSequenceClassification, AutoTokenizer, pipeline"
CODE = {
    "import torch": "import torch",
    "import {lib}": "import {lib}",
    "torch, then the three names": "import torch; from {lib} import " + NAMES,
    "… and the pipeline is built": "import torch; from {lib} import " + NAMES + "; {build}",
    "… and one answer is given": "from {lib} import pipeline; {build}('A wonderful film.')",
}
BUILD = "pipeline('text-classification', model={model!r}, device='cpu')"
COUNT = "; import sys; print('MODULES', len(sys.modules))"


def run(code: str, environment: dict[str, str]) -> tuple[float, int]:
    """(seconds from the start of the process to its end, modules)"""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code + COUNT], env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{code}\n{done.stderr[-2000:]}")
    return seconds, int(done.stdout.split("MODULES")[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    model = os.path.abspath(os.path.expanduser(options.model))
    programs = {}
    for name, code in CODE.items():
        for lib in ("transformers", "plainformers") if "{lib}" in code else ("",):
            build = BUILD.format(model=model)
            programs[name.format(lib="the library"), lib] = code.format(lib=lib, build=build)
    measured: dict[tuple[str, str], list[tuple[float, int]]] = {key: [] for key in programs}
    with tempfile.TemporaryDirectory() as cache:  # compiled files are there for both, wherever they are installed
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": cache, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        for number in range(options.rounds + 1):
            for key, code in programs.items():
                result = run(code, environment)
                if number:  # the first compiles
                    measured[key].append(result)

    medians = {key: statistics.median(seconds for seconds, _ in results) for key, results in measured.items()}
    modules = {key: results[0][1] for key, results in measured.items()}
    torch_seconds, torch_modules = medians["import torch", ""], modules["import torch", ""]
    print(f"Python {sys.version.split()[0]}; medians of {options.rounds} fresh processes, whole process")
    print(f"{'':30s} {'':14s} {'seconds':>8s} {'beyond torch':>13s} {'modules':>8s} {'beyond torch':>13s}")
    for (name, lib), seconds in medians.items():
        count = modules[name, lib]
        beyond = f"{seconds - torch_seconds:13.3f} {count:8d} {count - torch_modules:13d}"
        print(f"{name:30s} {lib:14s} {seconds:8.3f} {beyond}")
    for name in dict.fromkeys(name for name, lib in programs if lib):
        ratio = medians[name, "plainformers"] / medians[name, "transformers"]
        print(f"{name:30s} {ratio:.2f} of Transformers' time")


if __name__ == "__main__":
    main()
