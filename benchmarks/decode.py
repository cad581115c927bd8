"""Tokens a second of a small Llama, side by side with Transformers, and with llama.cpp where it is installed.

    python benchmarks/decode.py --model FILE.gguf [--new 128] [--rounds 3] [--only REGEX]

FILE.gguf (SmolLM2-135M-Instruct, say) is dequantised once and saved as safetensors, which all read; llama.cpp reads the
file itself, at the bits that it has. All run in turns, each in a process of its own, greedily; medians. Beside the
tokens: the bytes of weights that are read for a token, times tokens a second, as a share of the bandwidth measured in
the same run, and how many tokens are those of Transformers in float32. "prefill" writes one token after 512.
"""

import argparse
import importlib.util
import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from encoders import quiet

import plainformers

PROMPT, LONG = 32, 512
TEXT = Path(__file__).parents[1] / "tests" / "data" / "wikitext2_head.txt"
BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 5}


def prompts(folder: str, rows: int, length: int) -> torch.Tensor:
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXT.read_text(encoding="utf-8"))["input_ids"]
    return torch.tensor([ids[:length]]).repeat(rows, 1)


def reference(dtype: str) -> Callable[[str], Callable[[torch.Tensor, int], Any]]:
    def load(folder: str) -> Callable[[torch.Tensor, int], Any]:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        options = {"do_sample": False, "pad_token_id": 0}
        return lambda ids, new: model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, **options
        )

    return load


def ours(dtype: str, quantization: str | None = None, **options: Any) -> Callable[[str], Callable]:
    def load(folder: str) -> Callable[[torch.Tensor, int], Any]:
        given = {"dtype": dtype, "quantization": quantization, "device": "cpu", **options}
        pipe = plainformers.pipeline("text-generation", folder, **given)
        return lambda ids, new: pipe.model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)

    return load


VARIANTS: dict[str, Callable[[str], Callable[[torch.Tensor, int], Any]]] = {
    "transformers, float32": reference("float32"),
    "transformers, bfloat16": reference("bfloat16"),
    "plainformers, float32": ours("float32"),
    "plainformers, bfloat16": ours("bfloat16"),
    "plainformers, int8": ours("float32", "int8"),
    "plainformers, int4": ours("float32", "int4"),
    "plainformers, bfloat16, int8": ours("bfloat16", "int8"),
    "plainformers, bfloat16, int4": ours("bfloat16", "int4"),
}
CASES = {"one": (1, PROMPT), "eight": (8, PROMPT), "prefill": (1, LONG)}


def serve(name: str, folder: str, threads: int, pipe: Any) -> None:
    """A process: (ids, new tokens) come in, (seconds, new ids) go out, until the other end is gone."""
    quiet(threads)
    run = VARIANTS[name](folder)
    run(prompts(folder, 1, 8), 2)
    pipe.send(None)
    while True:
        try:
            ids, new = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        made = run(ids, new)
        pipe.send((time.perf_counter() - start, made[:, ids.shape[1] :]))


def bandwidth(threads: int) -> float:
    """Bytes a second that are read, of 256 MB."""
    torch.set_num_threads(threads)
    data, best = torch.ones(2**26), 1e9
    for _ in range(5):
        start = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - start)
    return data.nbytes / best


def llama_cpp(file: str, threads: int, new: int) -> None:
    from llama_cpp import Llama

    model = Llama(file, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    ids = list(range(100, 100 + LONG))
    start = time.perf_counter()
    model.eval(ids)
    middle = time.perf_counter()
    for token in range(new):
        model.eval([200 + token])
    end = time.perf_counter()
    print(f"llama.cpp, the file's own bits: {new / (end - middle):.1f} tokens/s, prefill {LONG / (middle - start):.0f}")


def loading(file: str, folder: str) -> None:
    """Seconds to a model and its tokenizer, of the file and of the folder."""
    for what, name in (("GGUF", file), ("safetensors", folder)):
        start = time.perf_counter()
        plainformers.AutoTokenizer.from_pretrained(name)
        plainformers.AutoModelForCausalLM.from_pretrained(name)
        print(f"plainformers loads {what} with its tokenizer in {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    transformers.AutoTokenizer.from_pretrained(folder)
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    print(f"transformers loads safetensors with its tokenizer in {time.perf_counter() - start:.2f} s")


def overhead(new: int = 200, rounds: int = 9) -> None:
    """Of `generate` over the barest loop around the model's forward, for a model so small that little else is seen."""
    sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    model = plainformers.LlamaForCausalLM(plainformers.LlamaConfig(num_hidden_layers=1, **sizes)).eval()
    prompt, seconds = torch.arange(3, 11)[None], {"generate": [], "a bare loop": []}

    @torch.no_grad()
    def loop() -> torch.Tensor:
        cache, made, last = plainformers.DynamicCache(), [prompt], prompt
        for _ in range(new):
            last = model(last, past_key_values=cache, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
            made.append(last)
        return torch.cat(made, 1)

    ways = {"generate": lambda: model.generate(prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False)}
    ways["a bare loop"] = loop
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    each = {name: statistics.median(taken) / new * 1e6 for name, taken in seconds.items()}
    print(f"a toy of one layer: {', '.join(f'{name} {one:.0f} us a token' for name, one in each.items())}", end="")
    print(f" ({each['generate'] / each['a bare loop']:.2f} times)")


def convert(file: str, folder: str) -> int:
    """Saves the file's model and tokenizer; returns the numbers in its weights."""
    model = plainformers.AutoModelForCausalLM.from_pretrained(file)
    model.save_pretrained(folder)
    plainformers.AutoTokenizer.from_pretrained(file).save_pretrained(folder)
    return model.num_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="a .gguf file")
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="variants whose names match")
    parser.add_argument("--cases", default="one,eight,prefill")
    options = parser.parse_args()
    quiet(options.threads)
    context, times, first = multiprocessing.get_context("spawn"), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        size, read = convert(options.model, folder), bandwidth(options.threads)
        print(f"{size / 1e6:.0f} M weights, {options.threads} threads, reading {read / 1e9:.1f} GB/s")
        loading(options.model, folder)
        overhead()
        servers = {}
        for name in filter(re.compile(options.only).search, VARIANTS):
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(name, folder, options.threads, there), daemon=True)
            process.start()
            there.close()
            here.recv()
            servers[name] = here
        for _ in range(options.rounds):
            for case in options.cases.split(","):
                rows, length = CASES[case]
                ids, new = prompts(folder, rows, length), 1 if case == "prefill" else options.new
                for name, server in servers.items():
                    server.send((ids, new))
                    seconds, made = server.recv()
                    times.setdefault((case, name), []).append(seconds)
                    first.setdefault((case, name), made[0])
        for case in options.cases.split(","):
            rows, length = CASES[case]
            print(f"\n| {case}: {rows} x {length} | tokens/s | spread | of the bandwidth | tokens as in float32 |")
            print("|---|---|---|---|---|")
            work = length if case == "prefill" else rows * options.new
            exact = first.get((case, "transformers, float32"))
            for name in servers:
                taken = times[case, name]
                speed = work / statistics.median(taken)
                spread = (max(taken) - min(taken)) / statistics.median(taken)
                bits = BITS[name.split(", ")[-1]]
                share = "" if case == "prefill" else f"{100 * speed / rows * size * bits / 8 / read:.0f} %"
                same = "" if exact is None else int((first[case, name] == exact).long().cumprod(0).sum())
                print(f"| {name} | {speed:.1f} | {100 * spread:.0f} % | {share} | {same} |")
        if importlib.util.find_spec("llama_cpp"):
            llama_cpp(options.model, options.threads, options.new)


if __name__ == "__main__":
    main()
