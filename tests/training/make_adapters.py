"""Makes tests/data/adapters with PEFT (Apache-2.0): tiny adapters, and the logits that it gets with them.

python tests/training/make_adapters.py
"""

import shutil
import tempfile
from pathlib import Path

import torch
from adapter_cases import CASES, IDS, base_model, randomise

OUT = Path(__file__).parents[1] / "data" / "adapters"


def main() -> None:
    import peft
    import transformers
    from safetensors.torch import save_file

    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            base_model(case).save_pretrained(folder)
            theirs = getattr(transformers, case["kind"]).from_pretrained(folder, dtype=torch.float32)
        wrapped = peft.get_peft_model(theirs, peft.LoraConfig(**case["config"])).eval()
        randomise(wrapped)
        with torch.no_grad():
            logits = wrapped(input_ids=IDS).logits
        out = OUT / name
        shutil.rmtree(out, ignore_errors=True)
        wrapped.save_pretrained(str(out))
        (out / "README.md").unlink(missing_ok=True)
        save_file({"logits": logits}, out / "logits.safetensors")
        print(name, sum(f.stat().st_size for f in out.iterdir()), "bytes")


if __name__ == "__main__":
    main()
