"""Makes gguf_blocks.safetensors: random blocks of each kind, and the values that the reference gives them.

    pip install gguf==0.19.0; python tests/data/make_gguf_blocks.py
"""

from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.numpy import save_file

# kind -> where its halves lie, which must be numbers
HALVES = {
    **dict.fromkeys(["Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS"], [0]),
    **dict.fromkeys(["Q4_1", "Q5_1", "Q4_K", "Q5_K"], [0, 2]),
    **{"Q2_K": [80, 82], "Q3_K": [108], "Q6_K": [208], "MXFP4": []},
}
random, tensors = np.random.default_rng(0), {}
for name, places in HALVES.items():
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (768 // values, size), dtype=np.uint8)
    for place in places:
        raw[:, place : place + 2] = random.normal(0, 0.05, (len(raw), 1)).astype(np.float16).view(np.uint8)
    if name == "MXFP4":
        raw[:, 0] = np.arange(0, 240, 10)  # exponents from 2 ** -128 on
    tensors[f"{name}.raw"], tensors[f"{name}.values"] = raw, dequantize(raw, kind)
save_file(tensors, Path(__file__).with_name("gguf_blocks.safetensors"))
