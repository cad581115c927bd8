"""The sentiment of a few sentences, and of one of yours: TEXT="..." make demo. Then every step of the last one."""

import os

from plainformers import pipeline

SENTENCES = [
    "This library is a joy to read.",
    "The plot is thin, the jokes are old, and it never ends.",
    "Not bad at all; I would watch it again.",
    "The food was cold and the waiter was rude.",
]


def main() -> None:
    texts = [*SENTENCES, *filter(None, [os.environ.get("TEXT")])]
    classifier = pipeline("sentiment-analysis")
    print(f"{'label':<10}{'score':<8}text")
    for text, answer in zip(texts, classifier(texts), strict=True):
        print(f"{answer['label']:<10}{answer['score']:<8.3f}{text}")
    print("\nBehind the last one, step by step:\n")
    print(classifier.trace(texts[-1]))


if __name__ == "__main__":
    main()
