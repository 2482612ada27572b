"""Proof that transformers opens the speech folders that selfsup writes, and computes the same.

A person with PyTorch runs it (it is not part of CI):

    pip install torch transformers safetensors
    cargo build --release
    python tests/interop/speech_folders.py

On waves that it makes up it pre-trains a wav2vec 2.0, a HuBERT and a data2vec for some steps, exports them, opens the folders with
AutoModel (Wav2Vec2Model, HubertModel, Data2VecAudioModel) behind the feature extractor that lies in them, and compares the means of the last
hidden states with `selfsup embed`. Then it fine-tunes the first two with CTC, opens them with AutoModelForCTC and their vocabulary, and
compares what is read off with `selfsup transcribe`.
"""
import csv, io, json, os, pathlib, subprocess, sys, tempfile, wave

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
SELFSUP = os.environ.get("SELFSUP", str(ROOT / "target/release/selfsup"))
SMALL = ["encoder.dim=48", "encoder.depth=3", "encoder.heads=4", "encoder.front_dim=24", "encoder.position_groups=4", "train.batch_size=4",
         "eval.online_knn=0", "data.hold_out=0", "optim.lr=1e-3"]
METHODS = {
    "wav2vec2": ["train.steps=6", "method.codes=16", "method.code_dim=16", "method.out_dim=16", "encoder.position_kernel=16"],
    "hubert": ["method.code_dim=16", "encoder.position_kernel=16", "encoder.front_norm=layer", "encoder.stable_layer_norm=true",
               'method.iterations=[{features="mfcc", clusters=8, steps=6}]'],
    "data2vec": ["train.steps=6", "method.top_layers=2", "encoder.position_kernel=5"],
}


def sounds(folder, n=10):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        # Of one length: a padded wave is another to group norm, there as here.
        t = np.arange(16000) / 16000
        # A low and a high tone, in either order: group norm divides by the loudness of a whole wave, so one tone alone would say little.
        order = [[200, 2500], [2500, 200]][i % 2]
        pitch = np.where(t < 0.5, order[0], order[1]) + 10 * i
        x = 0.3 * np.sin(2 * np.pi * pitch * t) + 0.02 * rng.standard_normal(len(t))
        with wave.open(str(folder / f"{i:02}.wav"), "wb") as f:
            f.setparams((1, 2, 16000, 0, "NONE", ""))
            f.writeframes((x * 32767).astype(np.int16).tobytes())
        (folder / f"{i:02}.txt").write_text(["ab", "ba"][i % 2])


def read(path):
    with wave.open(str(path)) as f:
        return np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float32) / 32768


def run(*args):
    print("$ selfsup", *args, flush=True)
    return subprocess.run([SELFSUP, *map(str, args)], check=True, capture_output=True, text=True).stdout


def report(label, a, b, limit):
    error = (np.abs(a - b).max() / np.abs(b).max()).item()
    print(f"{label}: largest relative difference {error:.2e}", flush=True)
    if not error < limit:
        sys.exit(f"FAILED: {label}")


def main():
    import transformers

    work = pathlib.Path(tempfile.mkdtemp(prefix="selfsup-speech-"))
    sounds(work / "waves")
    files = sorted((work / "waves").glob("*.wav"))
    for method, keys in METHODS.items():
        run("pretrain", "--data", work / "waves", "--method", method, "--out", work / method, "--no-probe", *SMALL, *keys)
        run("embed", work / method, "--out", work / f"{method}.npy")
        run("export", work / method, "--out", work / f"{method}-hf")
        ours = np.load(work / f"{method}.npy")
        model = transformers.AutoModel.from_pretrained(work / f"{method}-hf").eval()
        extract = transformers.AutoFeatureExtractor.from_pretrained(work / f"{method}-hf")
        x = extract([read(f) for f in files], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            theirs = model(x.input_values).last_hidden_state.mean(1).numpy()
        report(f"{type(model).__name__}: `selfsup embed` and the exported folder", ours, theirs, 1e-4)
    for method in ("wav2vec2", "hubert"):
        tuned = work / f"{method}-ctc"
        run("finetune", "--run", work / method, "--out", tuned, "task.kind=ctc", "task.train_blocks=0", "train.steps=1200", "train.batch_size=5",
            "data.hold_out=0", "optim.lr=3e-2", "task.dropout=0")
        said = {pathlib.Path(r["path"]).name: r["transcript"] for r in csv.DictReader(io.StringIO(run("transcribe", tuned, work / "waves")))}
        model = transformers.AutoModelForCTC.from_pretrained(tuned / "model").eval()
        extract = transformers.AutoFeatureExtractor.from_pretrained(tuned / "model")
        tokens = {i: t for t, i in json.loads((tuned / "model/vocab.json").read_text()).items()}
        right = 0
        for f in files:
            x = extract(read(f), sampling_rate=16000, return_tensors="pt")
            with torch.no_grad():
                best = model(x.input_values).logits[0].argmax(-1).tolist()
            kept = [t for t, before in zip(best, [None, *best]) if t != before and t != 0]
            theirs = " ".join("".join(tokens[t] for t in kept).replace("|", " ").split())
            right += theirs == said[f.name]
            if theirs != said[f.name]:
                print(f"{f.name}: transformers {theirs!r}, selfsup {said[f.name]!r}")
        print(f"{type(model).__name__}: {right} of {len(files)} transcripts are the same, for example {max(said.values(), key=len)!r}", flush=True)
        if right < len(files) or not any(said.values()):
            sys.exit(f"FAILED: {method} with CTC")
    print("all passed;", work)


if __name__ == "__main__":
    main()
