//! What text models are fine-tuned for, a look at what they have learnt, and corpora that are not held in
//! memory, through the real command.

use crate::common::{SMALL_TEXT as SMALL, WORDS, Work, ended, good, line, refused, selfsup};
use std::fmt::Write;
use std::path::{Path, PathBuf};

impl Work {
    /// A run of `method` on lines about the weather and about metals, in the folder `name`.
    fn pretrained_texts(&self, name: &str, method: &str, more: &[&str]) -> String {
        let all: Vec<String> = (0..120).map(line).collect();
        let (data, run) = (self.file("corpus.txt", &all.join("\n")), self.text(name));
        let base = ["pretrain", "--data", &data, "--method", method, "--out", &run, "--no-probe"];
        // Unigram counts nothing, and nothing is accepted that is not read.
        let unigram = more.contains(&"tokenizer.kind=unigram");
        let small: Vec<&str> = SMALL
            .iter()
            .copied()
            .filter(|s| !(unigram && s.starts_with("tokenizer.min_frequency")))
            .collect();
        good(&selfsup(&[&base[..], &small, more].concat()));
        run
    }
}

const TUNE: &[&str] =
    &["train.epochs=25", "train.batch_size=8", "optim.lr=0.01", "optim.layer_decay=1.0", "train.patience=0"];

/// Names of the tensors that a run exports.
fn tensors(w: &Work, run: &str) -> Vec<String> {
    let file = w.path(run).join("model/model.safetensors");
    let mut names: Vec<String> =
        candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap().into_keys().collect();
    names.sort();
    names
}

/// The exported folder is that of transformers' class, with the head of the family; new pooling is trained
/// even with the head alone.
#[test]
fn classes_have_the_head_of_the_family() {
    let w = Work::new();
    let mut table = "text,label\n".to_string();
    (0..60).for_each(|i| {
        writeln!(table, "{},{}", line(i), if i % 2 == 0 { "weather" } else { "metal" }).unwrap()
    });
    let labels = w.file("labels.csv", &table);
    let roberta =
        ["encoder.name=roberta", "tokenizer.kind=bpe", "tokenizer.roberta=true", "tokenizer.vocab_size=300"];
    for (name, method, more, class, head) in [
        (
            "bert",
            "masked-lm",
            &[][..],
            "BertForSequenceClassification",
            &["bert.pooler.dense.weight", "classifier.weight"][..],
        ),
        (
            "roberta",
            "masked-lm",
            &roberta,
            "RobertaForSequenceClassification",
            &["classifier.dense.weight", "classifier.out_proj.bias"],
        ),
        (
            "electra",
            "electra",
            &["encoder.name=electra", "method.generator_share=0.5"],
            "ElectraForSequenceClassification",
            &["classifier.dense.bias", "classifier.out_proj.weight"],
        ),
    ] {
        let run = w.pretrained_texts(name, method, more);
        let tuned = format!("{name}-tuned");
        let out = w.text(&tuned);
        good(&selfsup(
            &[&["finetune", "--run", &run, "--labels", &labels, "--out", &out, "task.dropout=0.1"][..], TUNE]
                .concat(),
        ));
        let config = w.json(&format!("{tuned}/model/config.json"));
        assert_eq!(config["architectures"][0], class);
        assert_eq!((&config["id2label"]["0"], &config["label2id"]["weather"]), (&"metal".into(), &1.into()));
        let names = tensors(&w, &tuned);
        assert!(head.iter().all(|h| names.iter().any(|n| n == h)), "{name}: {names:?}");
        let accuracy = w.json(&format!("{tuned}/result.json"))["validation"]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 90.0, "{name}: {accuracy}");
        let said = good(&selfsup(&[
            "predict",
            &out,
            &w.file("new.txt", "sun rain cloud wind\ntin zinc lead iron\n"),
        ]));
        let labels: Vec<&str> = said.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
        assert_eq!(labels, ["weather", "metal"], "{name}: {said}");
    }
    // The head alone: the encoder stays, and the pooler, which masked language modelling has not trained,
    // learns.
    let run = w.text("bert");
    let args = [
        "finetune",
        "--run",
        &run,
        "--labels",
        &labels,
        "--out",
        &w.text("head"),
        "task.train_blocks=0",
        "train.epochs=2",
    ];
    good(&selfsup(&args));
    let load = |run: &str| {
        candle_core::safetensors::load(w.path(run).join("model/model.safetensors"), &candle_core::Device::Cpu)
            .unwrap()
    };
    let (before, after) = (load("bert"), load("head"));
    let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (name, tensor) in
        after.iter().filter(|(n, _)| n.starts_with("bert.encoder.") || n.starts_with("bert.embeddings."))
    {
        assert_eq!(values(tensor), values(&before[name]), "{name} changed");
    }
    let fresh = values(&after["bert.pooler.dense.bias"]);
    assert!(fresh.iter().any(|v| *v != 0.0), "the pooler's bias starts at 0 and is trained");
    // Another pooling is our own head: the folder is that of the encoder.
    good(&selfsup(&[
        "finetune",
        "--run",
        &run,
        "--labels",
        &labels,
        "--out",
        &w.text("mean"),
        "encoder.pool=mean",
        "train.epochs=1",
    ]));
    assert_eq!(w.json("mean/model/config.json")["architectures"][0], "BertModel");
}

/// `B-SKY I-SKY` where two words of the weather stand together, `B-ORE` likewise, `O` for rain and tin.
fn tagged(i: usize) -> String {
    let mut before = false;
    let tags = line(i)
        .split(' ')
        .map(|word| {
            let outside = matches!(word, "rain" | "tin");
            let kind = if WORDS[..6].contains(&word) { "SKY" } else { "ORE" };
            let tag =
                if outside { "O".to_string() } else { format!("{}-{kind}", if before { "I" } else { "B" }) };
            before = !outside;
            format!("{word}\tXX\t{tag}")
        })
        .collect::<Vec<_>>();
    tags.join("\n") + "\n\n"
}

#[test]
fn words_are_tagged() {
    let w = Work::new();
    let run = w.pretrained_texts("bert", "masked-lm", &[]);
    let train = w.file("train.conll", &(0..60).map(tagged).collect::<String>());
    let test = w.file("test.conll", &(60..80).map(tagged).collect::<String>());
    let tuned = w.text("tuned");
    let args = [
        "finetune",
        "--run",
        &run,
        "--data",
        &train,
        "--test",
        &test,
        "--out",
        &tuned,
        "task.kind=token-classification",
    ];
    let out = good(&selfsup(&[&args[..], TUNE].concat()));
    assert!(out.contains("5 classes"), "{out}");
    let found = w.json("tuned/result.json");
    let f1 = found["test"]["f1"].as_f64().unwrap();
    assert!(f1 > 90.0 && found["test"]["f1_SKY"].as_f64().unwrap() > 90.0, "{found}");
    // Strict F1 counts no entity that begins with I-.
    assert!(found["test"]["strict_f1"].as_f64().unwrap() <= f1 + 1e-9, "{found}");
    assert!(found["test"]["strict_f1_SKY"].as_f64().unwrap() > 90.0, "{found}");
    let config = w.json("tuned/model/config.json");
    assert_eq!(config["architectures"][0], "BertForTokenClassification");
    assert_eq!((&config["id2label"]["0"], &config["id2label"]["2"]), (&"O".into(), &"B-SKY".into()));
    assert!(tensors(&w, "tuned").contains(&"classifier.weight".to_string()));
    // Words without tags, in lines of one column.
    let bare = w.file("bare.txt", "sun\nwind\nrain\ngold\n");
    let said = good(&selfsup(&["predict", &tuned, &bare]));
    let tags: Vec<&str> = said.lines().skip(1).map(|l| l.split(',').nth(2).unwrap()).collect();
    assert_eq!(said.lines().next().unwrap(), "sentence,word,tag,confidence");
    assert_eq!((tags[0], tags[2]), ("B-SKY", "O"), "{said}");

    let tune = |data: &str, more: &[&str]| {
        let args = [
            "finetune",
            "--run",
            &run,
            "--data",
            data,
            "--out",
            &w.text("none"),
            "task.kind=token-classification",
        ];
        selfsup(&[&args[..], more].concat())
    };
    refused(
        &tune(&w.file("a.conll", "sun B-SKY\nwind\n"), &[]),
        &["a.conll", "line 2: 1 columns, expected 2"],
    );
    refused(
        &tune(&w.file("b.conll", "sun O\nwind I-SKY\ntin B-ORE\n"), &[]),
        &["line 2: I-SKY goes on with no SKY"],
    );
    refused(
        &tune(&w.file("c.jsonl", "{\"tokens\": [\"sun\", \"wind\"], \"tags\": [\"O\"]}\n"), &[]),
        &["line 1: 2 words and 1 tags"],
    );
    let more = w.file("d.conll", "sun O\nwind B-AIR\n");
    refused(&tune(&train, &["--test", &more]), &["tag B-AIR", "no training sentence"]);
    refused(
        &tune(&train, &["task.class_weights=balanced"]),
        &["`task.class_weights` is not read by token-classification"],
    );
    refused(&tune(&train, &["--labels", &train]), &["data.labels is not read for token-classification"]);
    refused(&tune(&train, &["task.kind=segmentation"]), &["task.kind", "question-answering"]);
    assert!(!w.path("none").exists(), "what is refused makes no folder");
}

/// The same sentences in IOB1, BIOES and with underscores are scored as in B-I-O: each file becomes the same
/// tags, and says how.
#[test]
fn other_schemes_of_tags_are_converted() {
    let w = Work::new();
    let run = w.pretrained_texts("bert", "masked-lm", &[]);
    let plain = |range: std::ops::Range<usize>| range.map(tagged).collect::<String>();
    // B- and I- of the made sentences, with the mark of the end where the next line goes on with no I-.
    let ends = |text: &str| {
        let lines: Vec<&str> = text.lines().chain([""]).collect();
        lines
            .windows(2)
            .map(|l| {
                let goes_on = l[1].contains("\tI-");
                let (begin, inside) = if goes_on { ("\tB-", "\tI-") } else { ("\tS-", "\tE-") };
                l[0].replace("\tI-", inside).replace("\tB-", begin) + "\n"
            })
            .collect::<String>()
    };
    let train = w.file("train.conll", &plain(0..60));
    let tests = [
        ("iob2.conll", plain(60..80), ""),
        ("iob1.conll", plain(60..80).replace("B-", "I-"), "IOB1"),
        ("bioes.conll", ends(&plain(60..80)), "BIOES"),
        ("under.conll", plain(60..80).replace("B-", "B_").replace("I-", "I_"), "is read as B-"),
    ];
    let mut scores = Vec::new();
    for (name, text, note) in tests {
        let out = selfsup(
            &[
                &["finetune", "--run", &run, "--data", &train, "--test", &w.file(name, &text), "--out"],
                &[
                    w.text(&name.replace('.', "-")).as_str(),
                    "task.kind=token-classification",
                    "train.epochs=3",
                ][..],
            ]
            .concat(),
        );
        ended(&out, 0, &[note]);
        scores.push(w.json(&format!("{}/result.json", name.replace('.', "-")))["test"].clone());
    }
    assert!(scores[0]["f1"].as_f64().is_some() && scores.iter().all(|s| *s == scores[0]), "{scores:?}");
}

/// Questions whose answer is the metal in a text about the weather; each text is another one.
fn questions(range: std::ops::Range<usize>) -> String {
    let mut paragraphs = Vec::new();
    for i in range {
        // The number in base 6 stands in the text.
        let mut words: Vec<&str> = (0..8).map(|k| WORDS[i / 6_usize.pow(k % 4) % 6]).collect();
        words[i % 7 + 1] = WORDS[6 + i % 6];
        let context = words.join(" ");
        let answer = WORDS[6 + i % 6];
        let start = context.find(answer).unwrap();
        let qas = serde_json::json!([{"id": i.to_string(), "question": "lead copper", "answers": [{"text": answer, "answer_start": start}]}]);
        paragraphs.push(serde_json::json!({"context": context, "qas": qas}));
    }
    serde_json::json!({"data": [{"title": "t", "paragraphs": paragraphs}]}).to_string()
}

#[test]
fn questions_are_answered() {
    let w = Work::new();
    let run = w.pretrained_texts("bert", "masked-lm", &[]);
    let (train, test) = (w.file("train.json", &questions(0..80)), w.file("test.json", &questions(80..100)));
    let tuned = w.text("tuned");
    let args = [
        "finetune",
        "--run",
        &run,
        "--data",
        &train,
        "--test",
        &test,
        "--out",
        &tuned,
        "task.kind=question-answering",
    ];
    good(&selfsup(&[&args[..], TUNE].concat()));
    let found = w.json("tuned/result.json");
    let (f1, exact) = (found["test"]["f1"].as_f64().unwrap(), found["test"]["exact_match"].as_f64().unwrap());
    assert!(exact > 80.0 && f1 >= exact, "{found}");
    assert_eq!(w.json("tuned/model/config.json")["architectures"][0], "BertForQuestionAnswering");
    assert!(tensors(&w, "tuned").contains(&"qa_outputs.weight".to_string()));
    // Asked without an answer; a text that is longer than the model is read in windows.
    let long = format!("{} zinc {}", "rain wind snow ".repeat(9), "storm cloud sun ".repeat(9));
    let asked = serde_json::json!({"data": [{"paragraphs": [{"context": long, "qas": [{"id": "x", "question": "lead copper"}]}]}]});
    let said = good(&selfsup(&["predict", &tuned, &w.file("asked.json", &asked.to_string())]));
    let row: Vec<&str> = said.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((row[0], row[2]), ("x", "zinc"), "{said}");

    let tune = |data: &str, more: &[&str]| {
        let args = [
            "finetune",
            "--run",
            &run,
            "--data",
            data,
            "--out",
            &w.text("none"),
            "task.kind=question-answering",
        ];
        selfsup(&[&args[..], more].concat())
    };
    let moved = questions(0..3).replace("\"answer_start\":", "\"answer_start\":1");
    refused(
        &tune(&w.file("moved.json", &moved), &[]),
        &["moved.json", "question 0", "does not stand at `answer_start`"],
    );
    refused(&tune(&w.file("unanswered.json", &asked.to_string()), &[]), &["question x", "no list `answers`"]);
    refused(&tune(&w.file("empty.json", "{\"data\": []}"), &[]), &["empty.json", "no question"]);
    refused(&tune(&w.file("broken.json", "{"), &[]), &["broken.json", "not JSON"]);
    refused(&tune(&train, &["corpus.length=6"]), &["question", "leave"]);
    refused(
        &tune(&train, &["task.dropout=0.1"]),
        &["`task.dropout` is not read by question-answering, which reads none of these keys"],
    );
    let copy = w.file("copy.json", &questions(10..12));
    refused(&tune(&train, &["--test", &copy]), &["leak"]);
    let gpt = w.pretrained_texts("gpt", "causal-lm", &[]);
    let args = [
        "finetune",
        "--run",
        &gpt,
        "--data",
        &train,
        "--out",
        &w.text("none"),
        "task.kind=question-answering",
    ];
    refused(&selfsup(&args), &["gpt2", "bert, roberta and electra"]);
}

#[test]
fn models_are_looked_at() {
    let w = Work::new();
    let gpt = w.pretrained_texts("gpt", "causal-lm", &[]);
    let write = |more: &[&str]| {
        good(&selfsup(&[&["generate", &gpt, "sun rain", "--tokens", "9"][..], more].concat()))
    };
    let before = w.listing("gpt");
    let greedy = write(&["--temperature", "0"]);
    assert!(before == w.listing("gpt"), "the run was written");
    assert!(greedy.starts_with("sun rain ") && greedy.split_whitespace().count() > 3, "{greedy}");
    assert_eq!(greedy, write(&["--temperature", "0", "--no-cache", "--seed", "7"]));
    let drawn = write(&["--samples", "3", "--seed", "1", "--top-k", "20", "--top-p", "0.95"]);
    assert_eq!(
        (drawn.lines().count(), &drawn),
        (3, &write(&["--samples", "3", "--seed", "1", "--top-k", "20", "--top-p", "0.95"]))
    );
    assert_ne!(drawn, write(&["--samples", "3", "--seed", "2", "--top-k", "20", "--top-p", "0.95"]));
    refused(&selfsup(&["generate", &gpt, "sun", "--top-p", "0"]), &["top_p"]);
    refused(&selfsup(&["fill-mask", &gpt, "sun [MASK]"]), &["causal-lm", "masked-lm"]);

    let t5 =
        w.pretrained_texts("t5", "span-corruption", &["tokenizer.kind=unigram", "tokenizer.sentinels=10"]);
    let filled =
        good(&selfsup(&["generate", &t5, "sun <extra_id_0> wind", "--tokens", "6", "--temperature", "0"]));
    assert!(!filled.trim().is_empty(), "{filled}");

    let bert = w.pretrained_texts("bert", "masked-lm", &["train.steps=60", "optim.lr=5e-3"]);
    let before = w.listing("bert");
    let guesses = good(&selfsup(&["fill-mask", &bert, "sun rain [MASK] wind snow [MASK]", "--top", "3"]));
    assert!(before == w.listing("bert"), "the run was written");
    let rows: Vec<Vec<&str>> = guesses.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows.iter().map(|r| r[0]).collect::<Vec<_>>(), ["1", "1", "1", "2", "2", "2"], "{guesses}");
    assert!(rows.iter().all(|r| r[1].parse::<f32>().is_ok_and(|p| (0.0..=1.0).contains(&p))));
    refused(&selfsup(&["fill-mask", &bert, "sun rain"]), &["[MASK]"]);
    let far = "sun [MASK] ".to_string() + &"rain ".repeat(600) + "[MASK]";
    refused(
        &selfsup(&["fill-mask", &bert, &far]),
        &["1 of 2 [MASK] stand behind the", "tokens that the model reads"],
    );
    refused(&selfsup(&["generate", &bert, "sun"]), &["masked-lm, which writes no text"]);
    refused(&selfsup(&["generate", &w.text("absent"), "sun"]), &["absent"]);
}

/// Texts as other programs write them: a table whose ids look like paths, JSON as an array, on lines, in
/// nested objects, and a folder with an empty file. All hold the same 80 texts.
#[test]
fn texts_of_any_form_are_the_same() {
    let w = Work::new();
    let texts: Vec<String> = (0..80).map(line).collect();
    let objects = |make: &dyn Fn(&String) -> serde_json::Value| texts.iter().map(make).collect::<Vec<_>>();
    let flat = objects(&|t| serde_json::json!({"text": t, "other": 1}));
    let deep = objects(&|t| serde_json::json!({"meta": {"body": {"en": t}}}));
    let lines = |all: &[serde_json::Value]| all.iter().map(|v| format!("{v}\n")).collect::<String>();
    let array = w.file("array.json", &serde_json::Value::from(flat.clone()).to_string());
    let in_lines = w.file("lines.json", &lines(&flat));
    let nested = w.file("nested.jsonl", &lines(&deep));
    w.file("folder/a.txt", &(texts.join("\n") + "\n"));
    w.file("folder/b.txt", "");
    let row = |(i, t): (usize, &String)| format!("{i}.txt,{t},{}\n", ["weather", "metal"][i % 2]);
    let table = |from: usize, to: usize| {
        let rows: String = texts.iter().enumerate().skip(from).take(to - from).map(row).collect();
        format!("id,text,label\n{rows}")
    };
    let (train, test) = (w.file("train.csv", &table(0, 60)), w.file("test.csv", &table(60, 80)));
    let all = w.file("all.csv", &table(0, 80));
    let mut bytes = Vec::new();
    for (i, data) in [array, in_lines, nested, w.text("folder"), all].iter().enumerate() {
        let run = w.text(&format!("run{i}"));
        let key = if i == 2 { "corpus.column=meta.body.en" } else { "corpus.column=text" };
        let args = [
            "pretrain",
            "--data",
            data,
            "--method",
            "masked-lm",
            "--out",
            &run,
            "--no-probe",
            "data.hold_out=0",
            key,
        ];
        let out = selfsup(&[&args[..], SMALL].concat());
        good(&out);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(said.contains("1 files hold no text"), i == 3, "{said}");
        bytes.push(std::fs::read(w.path(&format!("run{i}/model/model.safetensors"))).unwrap());
    }
    assert!(bytes.iter().all(|b| *b == bytes[0]), "the same texts, the same weights");
    let args = [
        "finetune",
        "--run",
        &w.text("run4"),
        "--labels",
        &train,
        "--test",
        &test,
        "--out",
        &w.text("tuned"),
    ];
    good(&selfsup(&[&args[..], TUNE].concat()));
    let accuracy = w.json("tuned/result.json")["test"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 90.0, "{accuracy}");
}

/// Vocabularies as released folders have them, codes between white space, and sentinels for a vocabulary
/// that has none.
#[test]
fn vocabularies_of_any_kind_are_trained_with() {
    let w = Work::new();
    let texts = w.file("texts.txt", &(0..80).map(|i| line(i) + "\n").collect::<String>());
    let pretrain = |name: &str, method: &str, keys: &[&str]| {
        let run = w.text(name);
        let given = keys.iter().any(|k| k.starts_with("tokenizer.path"));
        let small = SMALL.iter().filter(|k| !(given && k.starts_with("tokenizer.")));
        let args = ["pretrain", "--data", &texts, "--method", method, "--out", &run, "--no-probe"];
        selfsup(&[&args[..], keys, &small.copied().collect::<Vec<_>>()].concat())
    };
    let golden = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers").join(name);
        format!("tokenizer.path={}", folder.display())
    };
    for (name, method, keys, note) in [
        ("bert", "masked-lm", vec![golden("bert")], "read as BERT's WordPiece, lower case"),
        (
            "roberta",
            "masked-lm",
            vec![golden("roberta"), "encoder.name=roberta".into()],
            "RoBERTa's byte-level BPE",
        ),
        ("gpt", "causal-lm", vec![golden("gpt2/vocab.json")], "GPT-2's byte-level BPE"),
        ("spm", "span-corruption", vec![golden("bpe/tokenizer.model")], "100 are added"),
        ("t5", "span-corruption", vec![golden("t5")], "a Unigram model of sentencepiece"),
        ("pieces", "span-corruption", vec![], "100 are added"),
        ("codes", "masked-lm", vec!["tokenizer.kind=whitespace".into()], ""),
    ] {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        ended(&pretrain(name, method, &keys), 0, &[note]);
        let again = selfsup(&["embed", &w.text(name), "--data", &texts, "--out", &w.text("e.npy")]);
        good(&again);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(!said.contains("read as") && !said.contains("are added"), "the run has its own: {said}");
    }
    // Weights with a vocab.txt alone, and with nothing.
    let model = w.path("bert/model");
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    let start = format!("encoder.pretrained={}", model.display());
    let go_on = |out: &str| {
        let keys = ["train.steps=2", "train.batch_size=8", "corpus.length=12", "eval.online_knn=0", &start];
        let args = ["pretrain", "--data", &texts, "--method", "masked-lm", "--no-probe", "--out", out];
        selfsup(&[&args[..], &keys].concat())
    };
    let out = go_on(&w.text("on"));
    ended(&out, 0, &["read as BERT's WordPiece"]);
    assert!(good(&out).contains("pretrained weights:"));
    std::fs::remove_file(model.join("vocab.txt")).unwrap();
    refused(&go_on(&w.text("none")), &["no tokenizer beside these weights", "tokenizer.path"]);
    let codes = w.json("codes/tokenizer/tokenizer.json");
    assert_eq!(
        codes["model"]["vocab"].as_object().unwrap().len(),
        5 + 10,
        "the lines have ten words: {codes}"
    );
    let spm = w.json("spm/tokenizer/tokenizer_config.json");
    assert_eq!(spm["extra_special_tokens"].as_array().unwrap().len(), 100);
}

/// A corpus that is not held in memory gives the same bytes as one that is, is written once, and a stopped
/// run goes on from it.
#[test]
fn a_large_corpus_streams() {
    let w = Work::new();
    let held = w.pretrained_texts("held", "masked-lm", &[]);
    let cache = format!("corpus.cache={}", w.text("cache"));
    let run = w.pretrained_texts(
        "streamed",
        "masked-lm",
        &["corpus.in_memory=0", &cache, "train.checkpoint_every=1", "train.keep_last=0"],
    );
    let last = |run: &str| {
        let all = candle_core::safetensors::load(
            Path::new(run).join("model/model.safetensors"),
            &candle_core::Device::Cpu,
        )
        .unwrap();
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        all.iter().map(|(n, t)| (n.clone(), values(t))).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert!(last(&held) == last(&run), "where the corpus lies changes nothing");
    let folders: Vec<PathBuf> =
        std::fs::read_dir(w.path("cache")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(folders.len(), 1);
    let parts: Vec<String> = std::fs::read_dir(&folders[0])
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        parts.iter().filter(|p| p.starts_with("tokens-")).count(),
        2,
        "those trained on and those held out: {parts:?}"
    );

    // Stopped after step 6: nothing is tokenised again, and the run ends with the same checkpoint.
    let written = |name: &str| std::fs::metadata(folders[0].join(name)).unwrap().modified().unwrap();
    let times: Vec<_> = parts.iter().map(|p| written(p)).collect();
    let whole = std::fs::read(w.path("streamed/checkpoints/step-000000010.safetensors")).unwrap();
    for step in 7..=10 {
        std::fs::remove_file(w.path(&format!("streamed/checkpoints/step-{step:09}.safetensors"))).unwrap();
    }
    let _ = std::fs::remove_file(w.path("streamed/checkpoints/best.safetensors"));
    good(&selfsup(&["pretrain", "--out", &run, "--resume", "--no-probe"]));
    assert!(whole == std::fs::read(w.path("streamed/checkpoints/step-000000010.safetensors")).unwrap());
    assert_eq!(times, parts.iter().map(|p| written(p)).collect::<Vec<_>>());

    // Another text, another corpus: what was written for the first is not taken for it.
    let more: Vec<String> = (0..160).map(line).collect();
    w.file("corpus.txt", &more.join("\n"));
    let data = w.text("corpus.txt");
    let args =
        ["pretrain", "--data", &data, "--out", &w.text("other"), "--no-probe", "corpus.in_memory=0", &cache];
    let out = good(&selfsup(&[&args[..], SMALL].concat()));
    let count =
        out.split(" on ").nth(1).and_then(|t| t.split(' ').next()).and_then(|n| n.parse::<usize>().ok());
    assert!(count.is_some_and(|n| n > 120), "about nine tenths of 160 lines: {out}");
    assert_eq!(std::fs::read_dir(w.path("cache")).unwrap().count(), 2);
}

/// Texts that are the same for longer than `corpus.length` and differ behind it: measured whole, they
/// differ; and fine-tuning says that it trains on their beginning.
#[test]
fn long_texts_are_measured_whole() {
    let w = Work::new();
    let run = w.pretrained_texts("run", "masked-lm", &[]);
    let start = "rain snow wind storm ".repeat(20);
    let ends = ["gold tin lead ".repeat(12), "sun cloud sun ".repeat(12), "gold tin lead ".repeat(12)];
    let lines: Vec<String> = ends.iter().map(|end| format!("{start}{end}")).collect();
    let (data, out) = (w.file("long.txt", &lines.join("\n")), w.text("rows.safetensors"));
    good(&selfsup(&["embed", &run, "--data", &data, "--out", &out]));
    let read = candle_core::safetensors::load(&out, &candle_core::Device::Cpu).unwrap();
    let rows: Vec<Vec<f32>> = read["embeddings"].to_vec2().unwrap();
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(rows.len(), 3);
    assert!(apart(&rows[0], &rows[1]) > 1e-3, "{:?}", apart(&rows[0], &rows[1]));
    assert_eq!(apart(&rows[0], &rows[2]), 0.0);

    let table: String =
        (0..12).map(|i| format!("{},{}\n", lines[i % 2], ["metal", "weather"][i % 2])).collect();
    let labels = w.file("labels.csv", &format!("text,label\n{table}"));
    let tuned = w.text("tuned");
    let args = ["finetune", "--run", &run, "--labels", &labels, "--out", &tuned, "data.hold_out=0"];
    let output = selfsup(&[&args[..], &["train.steps=2", "train.batch_size=4"]].concat());
    good(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("12 of 12 texts are longer than 32 tokens (corpus.length)"), "{said}");
}
