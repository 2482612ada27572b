"""Small released tokenizers without a tokenizer.json, and the ids that their libraries give, in
tests/golden/tokenizers.

    python3 -m venv v && v/bin/pip install transformers==5.24.0 sentencepiece==0.2.3 tokenizers
    v/bin/python small_tokenizers.py ../tokenizers

Ids of BERT, GPT-2 and RoBERTa are those of transformers, ids of .model files those of sentencepiece itself
(with what T5 and XLM-RoBERTa put around them). Vocabularies of WordPiece
differ from run to run, and so do their ids.
"""

import io
import json
import shutil
import sys
from pathlib import Path

import sentencepiece as spm
import tokenizers as tk
from transformers import BertTokenizer, GPT2Tokenizer, RobertaTokenizer

OUT = Path(sys.argv[1])

CORPUS = """A beech is a tree of the temperate forests; its nuts are food for the jays.
The jay hides thousands of nuts, and forgets some of them.
Der Buchfink hüpft über große Wurzeln; Äste knacken im Wind.
In 2019 the river rose by 3.5 m, in 2021 by 12 m!
Rain, rain and more rain: the brook's banks gave way (again).
café naïve résumé über Straße
The quick brown fox jumps over the lazy dog.
He said: "It isn't there", and they're not wrong.
""".splitlines()

TEXTS = [
    "The jay hides nuts.",
    "  two  spaces and a tab\there \n",
    "Äste über große Straße, café naïve",
    "ＦＵＬＬ ｗｉｄｔｈ ½ ﬁne",
    "unknown: 漢字 and кот",
    "isn't they're 3.5m, 2019!",
    "",
    " ",
    "A",
    "rain\u00a0rain\u200bthe \u00e9 e\u0301",
    "🙂 smile",
]


def bert(folder, **config):
    lower = config.get("do_lower_case", True)
    trained = tk.BertWordPieceTokenizer(lowercase=lower)
    trained.train_from_iterator(CORPUS * 3, vocab_size=260, min_frequency=2, show_progress=False)
    folder.mkdir(parents=True)
    vocabulary = trained.get_vocab()
    lines = sorted(vocabulary, key=vocabulary.get)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = BertTokenizer(vocab=str(folder / "vocab.txt"), **config)
    return cases(theirs, [*TEXTS, "the [MASK] hides"])


def byte_level(folder, cls, specials, **config):
    trained = tk.ByteLevelBPETokenizer()
    size = dict(vocab_size=330, min_frequency=2, special_tokens=specials)
    trained.train_from_iterator(CORPUS * 3, show_progress=False, **size)
    folder.mkdir(parents=True)
    trained.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": cls.__name__, **config}))
    theirs = cls(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), **config)
    return cases(theirs, [*TEXTS, "the <mask> hides", "end<|endoftext|>begin"])


def cases(theirs, texts):
    pair = theirs("the jay", "hides nuts")
    return {
        "texts": {t: theirs(t)["input_ids"] for t in texts},
        "pair": pair["input_ids"],
        "types": pair.get("token_type_ids"),
    }


def sentences(file, kind, around=lambda ids, sp: ids, config=None, **more):
    file.parent.mkdir(parents=True)
    made = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=made, model_type=kind, minloglevel=2,
        hard_vocab_limit=False, **more
    )
    file.write_bytes(made.getvalue())
    for name, value in (config or {}).items():
        (file.parent / name).write_text(json.dumps(value))
    sp = spm.SentencePieceProcessor(model_file=str(file))
    return {"texts": {t: around(sp.encode(t), sp) for t in TEXTS}}


def xlmr(ids, sp):
    return [0] + [i + 1 if i else 3 for i in ids] + [2]


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    # A few rules instead of the 300 kB of nmt_nfkc.
    rules = OUT.parent / "rules.tsv"
    # Full width letters, a tab and a line end, a ligature, a composed letter: from, to (code points).
    pairs = [(f"{0xFF21 + i:X}", f"{0x41 + i:X}") for i in range(26)]
    pairs += [("9", "20"), ("A", "20"), ("A0", "20"), ("FB01", "66 69")]
    pairs += [("65 301", "E9"), ("BD", "31 2044 32")]
    rules.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    end = lambda ids, sp: [*ids, sp.eos_id()]
    t5 = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    expected = {
        "bert": bert(OUT / "bert"),
        "bert-cased": bert(OUT / "bert-cased", do_lower_case=False, tokenize_chinese_chars=False),
        "gpt2": byte_level(OUT / "gpt2", GPT2Tokenizer, ["<|endoftext|>"]),
        "roberta": byte_level(OUT / "roberta", RobertaTokenizer, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]),
        "t5": sentences(OUT / "t5/spiece.model", "unigram", end, {"config.json": {"model_type": "t5"}},
                        vocab_size=150, normalization_rule_tsv=str(rules), **t5),
        "xlmr": sentences(OUT / "xlmr/sentencepiece.bpe.model", "unigram", xlmr,
                          {"config.json": {"model_type": "xlm-roberta"}},
                          vocab_size=140, normalization_rule_name="identity"),
        "bpe": sentences(OUT / "bpe/tokenizer.model", "bpe", end, vocab_size=160,
                         normalization_rule_name="identity"),
        "bpe-bytes": sentences(OUT / "bpe-bytes/tokenizer.model", "bpe", end, vocab_size=400, normalization_rule_name="identity",
                               byte_fallback=True),
        "spaces": sentences(OUT / "spaces/m.model", "unigram", end, vocab_size=120,
                            normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False),
    }
    rules.unlink()
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=0) + "\n")


main()
