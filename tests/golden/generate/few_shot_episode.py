"""Expected classes of one few-shot episode, by scikit-learn 1.9.1: tests/golden/eval/episode.safetensors.

    python3 -m venv v && v/bin/pip install scikit-learn==1.9.1 numpy==2.4.6 safetensors
    v/bin/python few_shot_episode.py ../eval/episode.safetensors

Support and query rows are L2-normalised. `nearest`: the class with the nearest mean (NearestCentroid). `logistic`:
multinomial logistic regression with C = 1 and an intercept that is not penalised. `half`: half of the 95% interval
of the mean of `accuracies`, 1.96 s / sqrt(n) with the sample's standard deviation.
"""

import sys

import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

WAYS, SHOTS, QUERIES, D = 5, 5, 12, 16
rng = np.random.default_rng(20)
centres = rng.normal(size=(WAYS, D)) * 0.6 + 1.0


def draw(each):
    labels = np.repeat(np.arange(WAYS), each)
    rows = centres[labels] + rng.normal(size=(len(labels), D))
    # Lengths differ, so that the normalisation counts.
    return (rows * rng.uniform(0.2, 5.0, size=(len(labels), 1))).astype(np.float32), labels


support, support_labels = draw(SHOTS)
query, query_labels = draw(QUERIES)
unit = lambda x: normalize(x.astype(np.float64))
nearest = NearestCentroid().fit(unit(support), support_labels).predict(unit(query))
model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(unit(support), support_labels)
logistic = model.predict(unit(query))
assert (nearest != logistic).any(), "the two classifiers should differ somewhere"
accuracies = rng.uniform(40.0, 90.0, size=37)
save_file(
    {
        "input.support": support,
        "input.labels": support_labels.astype(np.int64),
        "input.query": query,
        "input.accuracies": accuracies,
        "expected.nearest": nearest.astype(np.int64),
        "expected.logistic": logistic.astype(np.int64),
        "expected.mean": np.array([accuracies.mean()]),
        "expected.half": np.array([1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies))]),
    },
    sys.argv[1],
)
print("right:", (nearest == query_labels).mean(), (logistic == query_labels).mean(), "differ:", (nearest != logistic).sum())
