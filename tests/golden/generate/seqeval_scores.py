"""Expected scores of entities, by seqeval 1.2.2, over random tags: tests/golden/tags/seqeval.json.

    python3 -m venv v && v/bin/pip install seqeval==1.2.2
    v/bin/python seqeval_scores.py > ../tags/seqeval.json

`default` is seqeval without a mode, `strict` its `mode="strict", scheme=IOB2`; each has micro-averaged
precision, recall and F1, and the F1 of each type. Predictions break the scheme: an I- without its B-.
"""

import json
import random
import sys
import warnings

from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

warnings.filterwarnings("ignore")


def valid(rng, length, types):
    tags, before = [], "O"
    for _ in range(length):
        choice = ["O", *(f"B-{t}" for t in types)]
        if before != "O":
            choice += [f"I-{before[2:]}"] * 2
        before = rng.choice(choice)
        tags.append(before)
    return tags


def noisy(rng, tags, types, share):
    every = ["O", *(f"{m}-{t}" for m in "BI" for t in types)]
    return [rng.choice(every) if rng.random() < share else t for t in tags]


def scores(gold, found, **mode):
    report = classification_report(gold, found, output_dict=True, zero_division=0, digits=17, **mode)
    micro = report["micro avg"]
    each = {t: float(s["f1-score"]) for t, s in report.items() if not t.endswith(" avg")}
    return {"micro": [float(micro[k]) for k in ("precision", "recall", "f1-score")], "types": each}


def main():
    rng = random.Random(16)
    cases = []
    for i in range(36):
        types = ["PER", "LOC", "ORG-X"][: 1 + i % 3]
        gold = [valid(rng, rng.randint(1, 9), types) for _ in range(1 + i % 4)]
        found = [noisy(rng, tags, types, [0.1, 0.4, 1.0][i // 12]) for tags in gold]
        if not any(t.startswith("B-") for s in gold for t in s):
            gold[0][0] = "B-PER"
        cases.append({
            "gold": [" ".join(s) for s in gold],
            "found": [" ".join(s) for s in found],
            "default": scores(gold, found),
            "strict": scores(gold, found, mode="strict", scheme=IOB2),
        })
    json.dump(cases, sys.stdout, indent=0)
    print()


main()
