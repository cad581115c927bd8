"""Records what version 4 of the reference library answers to questions; version 5 has no such pipeline any more.

    .venv/bin/python tests/data/make_answers.py FOLDER      saves the tiny model of tests/test_text_pipelines.py
    .venv-4/bin/python tests/data/make_answers.py FOLDER    records expected/question_answering.json with it
"""

import json
import random
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
CASES = [{}, {"top_k": 3}, {"handle_impossible_answer": True}, {"max_answer_len": 2}, {"align_to_words": False}]
WORDS = "the film was good and anna lives in paris but goodness boringly never saw it again, very badly.".split()


def inputs() -> list[dict]:
    draw = random.Random(0)
    contexts = [" ".join(draw.choice(WORDS) for _ in range(n)) for n in (3, 8, 15, 20, 60, 150)]
    return [{"question": "who saw it?", "context": context} for context in contexts]


def main(folder: str) -> None:
    try:
        import transformers
    except ImportError:
        transformers = None
    if transformers is None or not transformers.__version__.startswith("4."):
        sys.path.insert(0, str(TESTS))
        from test_text_pipelines import BertForQuestionAnswering, make

        for part in make(BertForQuestionAnswering).values():
            part.save_pretrained(folder)
        return
    pipe = transformers.pipeline("question-answering", folder, device="cpu")
    cases = [
        {"input": one, "arguments": call, "answer": pipe(one, **call, doc_stride=10)} for one in inputs() for call in CASES
    ]
    for case in cases:
        case["arguments"] = {**case["arguments"], "doc_stride": 10}
    made = {"reference": f"transformers {transformers.__version__}", "cases": cases}
    path = TESTS / "data" / "expected" / "question_answering.json"
    path.write_text(json.dumps(made, indent=1, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
