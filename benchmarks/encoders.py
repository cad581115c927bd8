"""Embeddings of 1,000 English texts by a small BERT, side by side with every peer that is installed.

    python benchmarks/encoders.py --model FOLDER [--texts 1000] [--rounds 3] [--only REGEX]

FOLDER holds a checkpoint and its tokenizer (all-MiniLM-L6-v2, say). Texts have 5 to 256 tokens, most of them few. All
peers run in turns, each in a process of its own, since threads that wait busily would slow the others; medians.
The mean of a text's tokens is compared with Transformers': the greatest 1 - cosine stands in the table. Peers besides
Transformers: sentence-transformers, onnxruntime (with onnx and onnxscript), ctranslate2, openvino; what is not
installed is left out.
"""

import argparse
import importlib.util
import multiprocessing
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from pipeline import SHORT, english

import plainformers

BATCH, LONGEST = 32, 256


class Peers:
    """Each method gives a function: texts -> embeddings [N, C]."""

    def __init__(self, folder: str, threads: int):
        self.folder, self.threads = folder, threads
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.work = tempfile.TemporaryDirectory()

    def batches(self, texts: list[str], ordered: bool) -> Iterator[tuple[list[int], Any]]:
        rows = self.tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True) if ordered else range(len(rows))
        for start in range(0, len(rows), BATCH):
            some = list(order[start : start + BATCH])
            yield some, self.tokenizer.pad({"input_ids": [rows[i] for i in some]}, return_tensors="pt")

    def run(self, texts: list[str], encode: Callable[[Any], torch.Tensor], ordered: bool = True) -> np.ndarray:
        out = np.empty((len(texts), self.model.config.hidden_size), np.float32)
        for some, batch in self.batches(texts, ordered):
            x, mask = encode(batch).float(), batch["attention_mask"][..., None]
            out[some] = ((x * mask).sum(1) / mask.sum(1)).numpy()
        return out

    def transformers(self, dtype: Any = torch.float32, ordered: bool = True) -> Callable[[list[str]], np.ndarray]:
        model = self.model
        if dtype != torch.float32:
            model = transformers.AutoModel.from_pretrained(self.folder, dtype=dtype).eval()

        @torch.inference_mode()
        def encode(texts: list[str]) -> np.ndarray:
            return self.run(texts, lambda batch: model(**batch).last_hidden_state, ordered)

        return encode

    def plainformers(self, **options: Any) -> Callable[[list[str]], np.ndarray]:
        pipe = plainformers.pipeline("feature-extraction", self.folder, device="cpu", **options)
        return lambda texts: pipe(texts, pooling="mean", truncation=True, max_length=LONGEST)

    def sentence_transformers(self) -> Callable[[list[str]], np.ndarray]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(self.folder, device="cpu")
        return lambda texts: model.encode(texts, batch_size=BATCH, show_progress_bar=False)

    def onnx_file(self) -> str:
        path = Path(self.work.name, "model.onnx")
        if not path.exists():
            inner = transformers.AutoModel.from_pretrained(self.folder, attn_implementation="eager").eval()

            class Exported(torch.nn.Module):
                def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                    return inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

            sample = self.tokenizer(["a first text of some length", "a second"], padding=True, return_tensors="pt")
            rows, tokens = torch.export.Dim("rows", min=1, max=4096), torch.export.Dim("tokens", min=2, max=512)
            names = ["input_ids", "attention_mask"]
            torch.onnx.export(
                Exported().eval(), tuple(sample[name] for name in names), str(path), input_names=names,
                output_names=["x"], dynamic_shapes=({0: rows, 1: tokens},) * 2, dynamo=True, external_data=False,
            )  # fmt: skip
        return str(path)

    def onnxruntime(self, int8: bool = False) -> Callable[[list[str]], np.ndarray]:
        import onnxruntime

        path = self.onnx_file()
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            path, whole = str(Path(self.work.name, "int8.onnx")), path
            quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def encode(batch: Any) -> torch.Tensor:
            inputs = {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}
            return torch.from_numpy(session.run(None, inputs)[0])

        return lambda texts: self.run(texts, encode)

    def openvino(self, precision: str) -> Callable[[list[str]], np.ndarray]:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": self.threads}
        settings["PERFORMANCE_HINT"] = "LATENCY"
        model = openvino.Core().compile_model(self.onnx_file(), "CPU", settings)
        return lambda texts: self.run(
            texts,
            lambda batch: torch.from_numpy(model([batch[n].numpy() for n in ("input_ids", "attention_mask")])[0]),
        )

    def ctranslate2(self, kind: str) -> Callable[[list[str]], np.ndarray]:
        import ctranslate2

        path = Path(self.work.name, "ctranslate2")
        if not path.exists():
            ctranslate2.converters.TransformersConverter(self.folder).convert(str(path))
        encoder = ctranslate2.Encoder(str(path), device="cpu", compute_type=kind, intra_threads=self.threads)

        def encode(batch: Any) -> torch.Tensor:
            rows = [ids[mask.bool()].tolist() for ids, mask in zip(*batch.values(), strict=True)]
            return torch.from_numpy(np.array(encoder.forward_batch(rows).last_hidden_state)).float()

        def run(texts: list[str]) -> np.ndarray:
            out = np.empty((len(texts), self.model.config.hidden_size), np.float32)
            for some, batch in self.batches(texts, True):
                x, mask = (
                    encode({n: batch[n] for n in ("input_ids", "attention_mask")}),
                    batch["attention_mask"][..., None],
                )
                out[some] = ((x * mask).sum(1) / mask.sum(1)).numpy()
            return out

        return run


VARIANTS: dict[str, Callable[[Peers], Callable[[list[str]], np.ndarray]]] = {
    "transformers, given order": lambda peers: peers.transformers(ordered=False),
    "transformers, sorted": lambda peers: peers.transformers(),
    "transformers, sorted, bfloat16": lambda peers: peers.transformers(torch.bfloat16),
    "sentence-transformers": lambda peers: peers.sentence_transformers(),
    "onnxruntime, sorted": lambda peers: peers.onnxruntime(),
    "onnxruntime, sorted, int8": lambda peers: peers.onnxruntime(int8=True),
    "ctranslate2, sorted": lambda peers: peers.ctranslate2("float32"),
    "ctranslate2, sorted, int8": lambda peers: peers.ctranslate2("int8_float32"),
    "openvino, sorted": lambda peers: peers.openvino("f32"),
    "openvino, sorted, bfloat16": lambda peers: peers.openvino("bf16"),
    "plainformers": lambda peers: peers.plainformers(),
    "plainformers, bfloat16": lambda peers: peers.plainformers(dtype="bfloat16"),
    "plainformers, int8": lambda peers: peers.plainformers(quantization="int8"),
    "plainformers, compiled": lambda peers: peers.plainformers(compile=True),
}


def quiet(threads: int) -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    plainformers.logging.set_verbosity_error()


def serve(name: str, folder: str, threads: int, pipe: Any) -> None:
    """A process: lists of texts come in, (seconds, embeddings) go out, until the other end is gone."""
    quiet(threads)
    try:
        run = VARIANTS[name](Peers(folder, threads))
        run(["a first text", "another one"])
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error)[:100]}")
        return
    pipe.send(None)
    while True:
        try:
            texts = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        made = run(texts)
        pipe.send((time.perf_counter() - start, np.asarray(made, np.float32)))


def start_all(folder: str, threads: int, only: str) -> dict[str, Callable[[list[str]], tuple[float, np.ndarray]]]:
    """Variant -> texts to (seconds, embeddings)."""
    found, context = {}, multiprocessing.get_context("spawn")
    for name in filter(re.compile(only).search, VARIANTS):
        if importlib.util.find_spec(name.partition(",")[0].replace("-", "_")) is None:
            print(f"({name}: not installed)")
            continue
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(name, folder, threads, theirs), daemon=True).start()
        if problem := ours.recv():
            print(f"({name}: {problem})")
            continue
        found[name] = lambda texts, ours=ours: (ours.send(texts), ours.recv())[1]
    return found


def matrix_limit(width: int, dtype: torch.dtype) -> float:
    """FLOP/s of the best of oneDNN's and PyTorch's own products at the sizes of such a model."""
    x, w = torch.randn(1024, width).to(dtype), torch.randn(4 * width, width).to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(w, None)
    kinds = [
        lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""),
        lambda: torch.nn.functional.linear(x, w),
    ]
    best = 0.0
    with torch.inference_mode():
        for run in kinds:
            run()
            for _ in range(5):
                start = time.perf_counter()
                for _ in range(20):
                    run()
                best = max(best, 20 * 2 * 1024 * width * 4 * width / (time.perf_counter() - start))
    return best


def operations(peers: Peers, texts: list[str]) -> float:
    """Multiplications and additions of the real tokens, attention included."""
    config = peers.model.config
    C, wide, L = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = [len(row) for row in peers.tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]]
    return float(sum(L * (2 * n * (4 * C * C + 2 * C * wide) + 4 * n * n * C) for n in lengths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="variants whose names this finds; Transformers' are always there")
    options = parser.parse_args()
    quiet(options.threads)
    texts = english(options.texts)
    runs = start_all(options.model, options.threads, f"^transformers, (given order|sorted)$|{options.only}")
    _, want = runs["transformers, sorted"](texts[:200])
    error = {}
    for name, run in runs.items():
        _, got = run(texts[:200])  # warms up
        cosines = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
        error[name] = 1 - cosines.min()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            seconds[name].append(run(texts)[0])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    peers = Peers(options.model, options.threads)
    first, work = medians["transformers, given order"], operations(peers, texts)
    print(f"\n{len(texts)} texts, {work / 1e9:.0f} GFLOP, torch {torch.__version__}, {options.threads} threads")
    for name, median in medians.items():
        speed = f"{len(texts) / median:7.1f} texts/s {first / median:6.2f} x {work / median / 1e9:6.0f} GFLOP/s"
        print(f"  {name:32s} {speed}   1 - cosine {error[name]:.1e}")
    bfloat16 = [torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    for dtype in (torch.float32, *bfloat16):
        limit = matrix_limit(peers.model.config.hidden_size, dtype)
        print(f"  limit of matrix products, {str(dtype)[6:]}: {limit / 1e9:.0f} GFLOP/s")
    short: dict[str, list[float]] = {
        name: [] for name in runs if name.startswith(("transformers, sorted", "plainformers"))
    }
    for _ in range(200):
        for name, times in short.items():
            times.append(runs[name]([SHORT])[0])
    for name, times in short.items():
        print(f"  one short text, {name:30s} {statistics.median(times) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
