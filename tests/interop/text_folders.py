"""Proof that transformers opens the folders of texts that selfsup writes, and computes the same with them.

A person with PyTorch runs it (it is not part of CI):

    pip install torch transformers safetensors
    cargo build --release
    python tests/interop/text_folders.py

It pre-trains small models of every family for some steps (BERT, RoBERTa and ELECTRA, GPT-2, T5), fine-tunes BERT, RoBERTa and ELECTRA for
classes, tags and answers, and compares what `selfsup embed`, `fill-mask`, `generate` and `predict` say with what the Auto classes of transformers
compute from the exported folder and its tokenizer.
"""
import csv, json, os, pathlib, subprocess, sys, tempfile

import numpy as np
import torch
from transformers import (
    AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, T5EncoderModel,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SELFSUP = os.environ.get("SELFSUP", str(ROOT / "target/release/selfsup"))
WEATHER = "sun rain cloud wind snow storm".split()
METAL = "iron gold tin lead zinc copper".split()


def line(i):
    words = WEATHER if i % 2 == 0 else METAL
    return " ".join(words[(i * 5 + k * k * (1 + i % 3)) % 6] for k in range(8))


def run(*args):
    print("$ selfsup", *args)
    done = subprocess.run([SELFSUP, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"FAILED: {done.stderr}")
    return done.stdout


def report(label, ours, theirs, limit=2e-5):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)
    print(f"{label}: {ours.size} values, largest relative difference {error:.2e}")
    if not error < limit:
        sys.exit(f"FAILED: {label}")


def same(label, ours, theirs):
    print(f"{label}: {ours!r}")
    if ours != theirs:
        sys.exit(f"FAILED: {label}: transformers says {theirs!r}")


SMALL = ["encoder.dim=32", "encoder.depth=2", "encoder.heads=2", "corpus.length=24", "tokenizer.vocab_size=200", "tokenizer.min_frequency=1",
         "train.steps=20", "train.batch_size=8", "optim.lr=2e-3", "eval.online_knn=0", "data.hold_out=0", "--no-probe"]


@torch.no_grad()
def pooled(model, tokenizer, texts):
    rows = []
    for text in texts:  # `embed` reads a longer text in windows
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        inputs.pop("token_type_ids", None)
        rows.append(model(**inputs).last_hidden_state[0].mean(0))
    return torch.stack(rows).numpy()


def embedded(work, name):
    run("embed", work / name, "--out", work / f"{name}.npy")
    return np.load(work / f"{name}.npy")


@torch.no_grad()
def pre_trained(work, texts):
    data = work / "corpus.txt"
    for name, method, more in [
        ("bert", "masked-lm", []),
        ("roberta", "masked-lm", ["encoder.name=roberta", "tokenizer.kind=bpe", "tokenizer.roberta=true", "tokenizer.vocab_size=300"]),
        ("electra", "electra", ["encoder.name=electra", "encoder.embedding_dim=16", "method.generator_share=0.5"]),
    ]:
        run("pretrain", f"data.path={data}", "--method", method, "--out", work / name, *SMALL, *more)
        folder = work / name / "model"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        report(f"{name}: features", embedded(work, name), pooled(AutoModel.from_pretrained(folder).eval(), tokenizer, texts))
        if method == "masked-lm":
            text = f"sun rain {tokenizer.mask_token} wind"
            said = [l.split("\t") for l in run("fill-mask", work / name, text, "--top", 4).splitlines()]
            model = AutoModelForMaskedLM.from_pretrained(folder).eval()
            inputs = tokenizer(text, return_tensors="pt")
            place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)
            best = model(**inputs).logits[0, place].softmax(-1).topk(4)
            report(f"{name}: fill-mask", [float(s[1]) for s in said], best.values.numpy(), 1e-2)  # printed with four decimals
            same(f"{name}: words", [s[2] for s in said], [tokenizer.decode([i]).strip() for i in best.indices.tolist()])
        else:
            AutoModelForPreTraining.from_pretrained(folder)
            AutoModelForMaskedLM.from_pretrained(folder / "generator")
    run("pretrain", f"data.path={data}", "--method", "causal-lm", "--out", work / "gpt", *SMALL, "tokenizer.kind=bpe", "tokenizer.vocab_size=300")
    folder = work / "gpt/model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer("sun rain", return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
    same("gpt: greedy text", run("generate", work / "gpt", "sun rain", "--tokens", 12, "--temperature", 0).rstrip("\n"),
         tokenizer.decode(written, skip_special_tokens=True))
    run("pretrain", f"data.path={data}", "--method", "span-corruption", "--out", work / "t5",
        *(k for k in SMALL if "min_frequency" not in k), "tokenizer.kind=unigram", "corpus.length=64",
        "tokenizer.sentinels=20", "tokenizer.vocab_size=150")
    folder = work / "t5/model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    report("t5: features", embedded(work, "t5"), pooled(T5EncoderModel.from_pretrained(folder).eval(), tokenizer, texts))
    text = "sun <extra_id_0> cloud wind <extra_id_1> storm"
    written = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=10, do_sample=False)[0][1:]
    written = [i for i in written.tolist() if i != tokenizer.eos_token_id]
    ours = run("generate", work / "t5", text, "--tokens", 10, "--temperature", 0).strip()
    same("t5: greedy text", ours.split(), tokenizer.decode(written).split())


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@torch.no_grad()
def fine_tuned(work, texts, name):
    tune = ["train.epochs=2", "train.batch_size=8", "data.hold_out=0", "optim.lr=2e-4"]
    out = work / f"{name}-classes"
    run("finetune", "--run", work / name, "--labels", work / "labels.csv", "--out", out, *tune, "task.dropout=0.1")
    run("predict", out, work / "corpus.txt", "--out", work / "p.csv")
    tokenizer, model = AutoTokenizer.from_pretrained(out / "model"), AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    theirs = [model(**tokenizer(t, return_tensors="pt")).logits[0].softmax(-1).numpy() for t in texts]
    report(f"{name}: probabilities of classes", [[float(r[f"p({n})"]) for n in names] for r in rows(work / "p.csv")], theirs)

    out = work / f"{name}-tags"
    run("finetune", "--run", work / name, "--data", work / "tags.conll", "--out", out, *tune, "task.kind=token-classification")
    run("predict", out, work / "tags.conll", "--out", work / "p.csv")
    model = AutoModelForTokenClassification.from_pretrained(out / "model").eval()
    tags, confidence = [], []
    for words in [t.split() for t in texts[:20]]:
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        p = model(**inputs).logits[0].softmax(-1)
        ids = inputs.word_ids()
        first = [ids.index(w) for w in range(len(words))]
        confidence += p[first].max(-1).values.tolist()
        tags += [model.config.id2label[i] for i in p[first].argmax(-1).tolist()]
    found = rows(work / "p.csv")
    report(f"{name}: confidence of tags", [float(r["confidence"]) for r in found], confidence)
    if [r["tag"] for r in found] != tags:
        sys.exit(f"FAILED: {name}: tags")

    out = work / f"{name}-answers"
    run("finetune", "--run", work / name, "--data", work / "squad.json", "--out", out, *tune, "task.kind=question-answering")
    run("predict", out, work / "squad.json", "--out", work / "p.csv")
    model = AutoModelForQuestionAnswering.from_pretrained(out / "model").eval()
    scores = []
    for q in json.loads((work / "squad.json").read_text())["data"][0]["paragraphs"]:
        inputs = tokenizer(q["qas"][0]["question"], q["context"], return_tensors="pt")
        logits = model(**inputs)
        inside = [i for i, s in enumerate(inputs.sequence_ids()) if s == 1]
        start, end = logits.start_logits[0], logits.end_logits[0]
        scores.append(max((start[i] + end[j]).item() for i in inside for j in inside if i <= j < i + 30))
    report(f"{name}: scores of answers", [float(r["score"]) for r in rows(work / "p.csv")], scores)


def main():
    with tempfile.TemporaryDirectory() as folder:
        work, texts = pathlib.Path(folder), [line(i) for i in range(60)]
        (work / "corpus.txt").write_text("\n".join(texts) + "\n")
        labels = [f"{t},{'weather' if i % 2 == 0 else 'metal'}" for i, t in enumerate(texts)]
        (work / "labels.csv").write_text("text,label\n" + "\n".join(labels) + "\n")
        tag = lambda w, before: "O" if w in ("rain", "tin") else ("I-" if before else "B-") + ("SKY" if w in WEATHER else "ORE")
        sentences = []
        for text in texts[:20]:
            lines, before = [], False
            for word in text.split():
                t = tag(word, before)
                before = t != "O"
                lines.append(f"{word} {t}")
            sentences.append("\n".join(lines))
        (work / "tags.conll").write_text("\n\n".join(sentences) + "\n")
        qas = lambda i, t: [{"id": str(i), "question": "sun tin", "answers": [{"text": t.split()[1], "answer_start": t.index(" ") + 1}]}]
        paragraphs = [{"context": t, "qas": qas(i, t)} for i, t in enumerate(texts[:20])]
        (work / "squad.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
        pre_trained(work, texts)
        for name in ["bert", "electra"]:
            fine_tuned(work, texts, name)
        out = work / "roberta-classes"
        run("finetune", "--run", work / "roberta", "--labels", work / "labels.csv", "--out", out, "train.epochs=2", "data.hold_out=0", "optim.lr=2e-4")
        run("predict", out, work / "corpus.txt", "--out", work / "p.csv")
        tokenizer, model = AutoTokenizer.from_pretrained(out / "model"), AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
        with torch.no_grad():
            theirs = [model(**tokenizer(t, return_tensors="pt")).logits[0].softmax(-1).numpy() for t in texts]
        names = [model.config.id2label[i] for i in range(2)]
        report("roberta: probabilities of classes", [[float(r[f"p({n})"]) for n in names] for r in rows(work / "p.csv")], theirs)
    print("all the same")


if __name__ == "__main__":
    main()
