"""Proof that timm and transformers open what selfsup writes, and that selfsup opens what they write.

A person with PyTorch runs it (it is not part of CI):

    pip install torch timm transformers safetensors
    cargo build --release
    python tests/interop/timm_roundtrip.py

It makes a timm ResNet-18 and a transformers ViT with random weights, continues each with `selfsup pretrain` for one step at learning rate 0
from that folder, exports the run, loads the export, and compares features of the same images: those of the library with the weights that went
in, those of the library with the weights that came out, and those of `selfsup embed`.
"""
import json, os, pathlib, subprocess, sys, tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
SELFSUP = os.environ.get("SELFSUP", str(ROOT / "target/release/selfsup"))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def images(folder, n=8, size=64):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        small = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((size, size), Image.BICUBIC).save(folder / f"{i:02}.png")


def batch(folder):
    x = np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("*.png"))]).astype(np.float32) / 255
    x = (x - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def run(*args):
    print("$ selfsup", *args)
    subprocess.run([SELFSUP, *map(str, args)], check=True)


def selfsup_features(work, name, weights, encoder, layout, keys):
    run("pretrain", f"data.path={work / 'images'}", f"encoder.name={encoder}", f"encoder.pretrained={weights}", "augment.size=64",
        "train.steps=1", "train.batch_size=4", "optim.lr=0", "optim.weight_decay=0", "data.hold_out=0", *keys,
        "--out", work / name, "--no-probe")
    run("embed", work / name, "--out", work / f"{name}.npy")
    run("export", work / name, "--out", work / f"{name}-export", "--layout", layout)
    return torch.from_numpy(np.load(work / f"{name}.npy"))


def report(label, a, b, limit):
    error = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{label}: largest relative difference {error:.2e}")
    if not error < limit:
        sys.exit(f"FAILED: {label}")


def main():
    import timm
    import transformers

    work = pathlib.Path(tempfile.mkdtemp(prefix="selfsup-interop-"))
    images(work / "images")
    x = batch(work / "images")
    torch.manual_seed(0)

    net = timm.create_model("resnet18", num_classes=0).eval()
    (work / "resnet").mkdir()
    save_file(net.state_dict(), work / "resnet/model.safetensors")
    (work / "resnet/config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 0}))
    ours = selfsup_features(work, "run-resnet", work / "resnet", "resnet18", "timm", ["encoder.small_images=false"])
    with torch.no_grad():
        back = timm.create_model(f"local-dir:{work / 'run-resnet-export'}", pretrained=True, num_classes=0).eval()
        report("resnet18: selfsup embed and timm with the exported weights", ours, back(x), 1e-4)
    kept = back.state_dict()["conv1.weight"]
    report("resnet18: the stem's weights went through unchanged", kept, net.state_dict()["conv1.weight"], 1e-6)

    config = transformers.ViTConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=3, intermediate_size=384, image_size=64, patch_size=8)
    vit = transformers.ViTModel(config, add_pooling_layer=False).eval()
    vit.save_pretrained(work / "vit")
    keys = ["encoder.dim=96", "encoder.depth=3", "encoder.heads=3", "encoder.patch=8"]
    ours = selfsup_features(work, "run-vit", work / "vit", "vit", "hf", keys)
    with torch.no_grad():
        first = vit(x).last_hidden_state[:, 0]
        back = transformers.AutoModel.from_pretrained(work / "run-vit-export", add_pooling_layer=False).eval()
        report("ViT: selfsup embed and transformers with the weights that went in", ours, first, 1e-3)
        report("ViT: transformers with the exported weights and with those that went in", back(x).last_hidden_state[:, 0], first, 1e-4)
    print("all passed;", work)


if __name__ == "__main__":
    main()
