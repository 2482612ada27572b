"""TS2Vec in PyTorch, written after the paper (Yue et al. 2021, arXiv 2106.10466), for turns with `selfsup`.

peer_signals.py TRAIN.ts TEST.ts [--seed 0] [--steps 200] [--threads 2] [--mode eager|compile]
    trains on the first file, prints a JSON line: accuracy by an SVM and by 1-NN on the representation of a whole
    series, milliseconds a step (median), peak memory.
peer_signals.py --features FEATURES.csv COUNT
    the same two measures on what `selfsup embed RUN --out FEATURES.csv` wrote, whose first COUNT rows are the
    training part: both are judged by one script.

A file may also be a table whose first column is the class (`Coffee_TRAIN.txt`). Needs torch, numpy, scikit-learn.
Each series is standardised, as `signal.scale = "standard"` does. The SVM (RBF) chooses C by cross-validation on the
training part, as the paper does. Weights of the last step, not their average.
"""
import argparse, json, resource, sys, time
import numpy as np


def read(path):
    series, labels = [], []
    data = not path.endswith(".ts")
    for line in open(path):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if not data:
            data = line.lower() == "@data"
            continue
        if path.endswith(".ts"):
            *channels, label = line.split(":")
            series.append([[float("nan") if v.strip() in "?NaN" else float(v) for v in c.split(",")] for c in channels])
        else:
            label, *values = line.split()
            series.append([[float(v) for v in values]])
        labels.append(label)
    x = np.array(series, dtype=np.float32)  # (N, C, T)
    x = (x - x.mean(2, keepdims=True)) / np.maximum(x.std(2, keepdims=True), 1e-6)
    return x, np.array(labels)


def judge(a, ya, b, yb):
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    classes, counts = np.unique(ya, return_counts=True)
    scale = lambda m: make_pipeline(StandardScaler(), m)
    if len(a) // len(classes) < 5 or len(a) < 50:
        svm = scale(SVC(C=np.inf, gamma="scale"))
    else:
        grid = {"svc__C": [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000, 1e4, np.inf]}
        svm = GridSearchCV(scale(SVC(gamma="scale")), grid, cv=min(5, counts.min()), n_jobs=1)
    near = scale(KNeighborsClassifier(1))
    return {"svm": round(100 * svm.fit(a, ya).score(b, yb), 1), "nearest": round(100 * near.fit(a, ya).score(b, yb), 1)}


def train(x, seed, steps, batch, mode, device="cpu"):
    import torch
    from torch import nn
    import torch.nn.functional as F

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)

    class Block(nn.Module):
        def __init__(self, i, o, dilation, last):
            super().__init__()
            self.a = nn.Conv1d(i, o, 3, padding=dilation, dilation=dilation)
            self.b = nn.Conv1d(o, o, 3, padding=dilation, dilation=dilation)
            self.shortcut = nn.Conv1d(i, o, 1) if i != o or last else nn.Identity()

        def forward(self, x):
            return self.b(F.gelu(self.a(F.gelu(x)))) + self.shortcut(x)

    class Encoder(nn.Module):
        def __init__(self, channels, hidden=64, out=320, depth=10):
            super().__init__()
            self.input = nn.Linear(channels, hidden)
            self.blocks = nn.Sequential(
                *[Block(hidden, out if i == depth else hidden, 2**i, i == depth) for i in range(depth + 1)]
            )
            self.drop = nn.Dropout(0.1)

        def forward(self, x, hide):  # (N, T, C), (N, T)
            y = self.input(x) * hide.unsqueeze(2)
            return self.drop(self.blocks(y.transpose(1, 2))).transpose(1, 2)

    def contrast(a, b):  # (G, K, D)
        z = torch.cat([a, b], 1)
        k = a.shape[1]
        s = z @ z.transpose(1, 2)
        s = s.masked_fill(torch.eye(2 * k, dtype=torch.bool), float("-inf"))
        other = (torch.arange(2 * k) + k) % (2 * k)
        return F.cross_entropy(s.flatten(0, 1), other.repeat(len(a)))

    def loss_of(a, b):
        total, levels = 0.0, 0
        while True:
            if len(a) > 1:
                total = total + 0.5 * contrast(a.transpose(0, 1), b.transpose(0, 1))
            if a.shape[1] > 1:
                total = total + 0.5 * contrast(a, b)
            levels += 1
            if a.shape[1] == 1:
                return total / levels
            a, b = [F.max_pool1d(v.transpose(1, 2), 2).transpose(1, 2) for v in (a, b)]

    net = Encoder(x.shape[1]).to(device)
    run = torch.compile(net, dynamic=True) if mode == "compile" else net
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    data = torch.from_numpy(x).transpose(1, 2)  # (N, T, C)
    length, order, times = data.shape[1], [], []
    for _ in range(steps):
        start = time.perf_counter()
        if len(order) < batch:
            order = list(rng.permutation(len(data)))
        rows = data[[order.pop() for _ in range(min(batch, len(data)))]]
        overlap = rng.integers(2, length + 1)
        left = rng.integers(0, length - overlap + 1)
        right = left + overlap
        early, late = rng.integers(0, left + 1), rng.integers(right, length + 1)
        shift = rng.integers(-early, length - late + 1, len(rows))
        cut = lambda a, b: torch.stack([r[a + s : b + s] for r, s in zip(rows, shift)])
        hide = lambda v: (torch.rand(v.shape[:2]) < 0.5).float()
        a, b = cut(early, right), cut(left, late)
        a, b = run(a, hide(a))[:, left - early :], run(b, hide(b))[:, :overlap]
        loss = loss_of(a, b)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - start)
    net.eval()

    def encode(x):
        with torch.no_grad():
            data = torch.from_numpy(x).transpose(1, 2)
            return np.concatenate([net(p, torch.ones(p.shape[:2])).amax(1).numpy() for p in data.split(32)])

    return encode, 1000 * float(np.median(times)), loss.item()


def table(path, count):
    import csv

    rows = list(csv.reader(open(path)))
    label, first = rows[0].index("label"), rows[0].index("f0")
    x, y = np.array([[float(v) for v in r[first:]] for r in rows[1:]]), np.array([r[label] for r in rows[1:]])
    return x[:count], y[:count], x[count:], y[count:]


p = argparse.ArgumentParser()
p.add_argument("train"), p.add_argument("test")
p.add_argument("--features", action="store_true")
p.add_argument("--seed", type=int, default=0), p.add_argument("--steps", type=int, default=200)
p.add_argument("--batch", type=int, default=8), p.add_argument("--threads", type=int, default=2)
p.add_argument("--mode", default="eager")
a = p.parse_args()
if a.features:
    print(json.dumps(judge(*table(a.train, int(a.test)))))
    sys.exit()
import torch

torch.set_num_threads(a.threads)
(x, y), (xt, yt) = read(a.train), read(a.test)
encode, ms, loss = train(x, a.seed, a.steps, a.batch, a.mode)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({**judge(encode(x), y, encode(xt), yt), "ms": round(ms, 1), "loss": round(loss, 3), "peak_rss_mb": round(peak), "mode": a.mode}))
