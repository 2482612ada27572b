//! Every reader of files that come from elsewhere, by name: what is done with a damaged file. The stable
//! harness and the targets of cargo-fuzz share this table.

use selfsup::core::{Result, checkpoint, file, hub, weights};
use selfsup::datasets::{LabelFile, Records, cifar, idx, open_objects, parquet, tar};
use selfsup::{medical, signals, speech, text, vision};
use std::path::{Path, PathBuf};

/// A reader.
pub struct Reader {
    pub name: &'static str,
    /// The ending of its files.
    pub ending: &'static str,
    /// Reads a file to its end. An error must name it.
    pub read: fn(&Path) -> Result<()>,
}

const fn reader(name: &'static str, ending: &'static str, read: fn(&Path) -> Result<()>) -> Reader {
    Reader { name, ending, read }
}

pub const READERS: &[Reader] = &[
    reader("png", "png", image),
    reader("jpeg", "jpg", image),
    reader("webp", "webp", image),
    reader("tiff", "tif", image),
    reader("bmp", "bmp", image),
    reader("gif", "gif", image),
    reader("pnm", "ppm", image),
    reader("mask", "png", |path| vision::dense::Mask::open(path, 1 << 20).map(drop)),
    reader("coco", "json", |path| boxes(path, &folder(path, "a.png", &[])?.with_extension("json"))),
    reader("yolo", "txt", |path| boxes(path, &folder(path, "a.txt", &[("a.png", b"")])?)),
    reader("voc", "xml", |path| boxes(path, &folder(path, "a.xml", &[("a.png", b"")])?)),
    reader("idx", "idx3-ubyte", |path| idx::Idx::open(path, None)?.get(0).map(drop)),
    reader("idx-gzip", "gz", |path| idx::Idx::open(path, None)?.get(0).map(drop)),
    reader("cifar", "bin", |path| cifar::Cifar::files(&[path.into()], cifar::Kind::Ten)?.get(0).map(drop)),
    reader("tar", "tar", |path| records(&tar::Tar::open(&[path.into()])?)),
    reader("tar-gzip", "tar.gz", |path| {
        // Not into the user's cache.
        let cache = path.with_extension("cache");
        let read = tar::Tar::open_in(&[path.into()], &cache).and_then(|tar| records(&tar));
        let _ = std::fs::remove_dir_all(&cache);
        read
    }),
    reader("parquet", "parquet", |path| records(&parquet::Parquet::open(&[path.into()])?)),
    reader("parquet-texts", "parquet", |path| {
        records(&parquet::Parquet::open_texts(&[path.into()], "text")?)
    }),
    reader("table-csv", "csv", table),
    reader("table-tsv", "tsv", table),
    reader("table-jsonl", "jsonl", table),
    reader("table-json", "json", table),
    reader("texts-txt", "txt", texts),
    reader("texts-gzip", "txt.gz", texts),
    reader("texts-csv", "csv", texts),
    reader("texts-tsv", "tsv", texts),
    reader("texts-jsonl", "jsonl", texts),
    reader("texts-json", "json", texts),
    reader("conll", "conll", |path| text::conll::read(path, true).map(drop)),
    reader("squad", "json", |path| text::squad::read(path).map(drop)),
    reader("tokenizer", "json", tokenizer),
    reader("sentencepiece", "model", tokenizer),
    reader("wordpiece", "txt", |path| tokenizer(&folder(path, "vocab.txt", &[])?)),
    reader("bpe-vocabulary", "json", |path| {
        // RoBERTa's vocabulary has this token, and merges of its own.
        let roberta = file::read(path)?.windows(4).any(|w| w == b"</s>");
        let merges = if roberta { ROBERTA_MERGES } else { GPT2_MERGES };
        tokenizer(&folder(path, "vocab.json", &[("merges.txt", merges)])?)
    }),
    reader("bpe-merges", "txt", |path| {
        tokenizer(&folder(path, "merges.txt", &[("vocab.json", GPT2_VOCABULARY)])?)
    }),
    reader("safetensors", "safetensors", |path| weights::read(path).map(drop)),
    reader("torch", "pth", |path| weights::read(path).map(drop)),
    reader("torch-stream", "pth", |path| weights::read(path).map(drop)),
    reader("weights-index", "safetensors.index.json", |path| {
        // The shard that a good index names: a tensor of two bytes.
        let header = r#"{"a.b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        let shard = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"xx"].concat();
        let io = |e| selfsup::Error::io(path, e);
        std::fs::write(path.with_file_name("input-1.safetensors"), shard).map_err(io)?;
        weights::read(path).map(drop)
    }),
    reader("checkpoint", "safetensors", |path| {
        checkpoint::Checkpoint::load(path, &candle_core::Device::Cpu).map(drop)
    }),
    reader("wav", "wav", recording),
    reader("w64", "w64", recording),
    reader("flac", "flac", recording),
    reader("mp3", "mp3", recording),
    reader("ogg", "ogg", recording),
    reader("aiff", "aiff", recording),
    reader("m4a", "m4a", recording),
    reader("alignment-lab", "lab", |path| speech::labels::Alignment::read(path).map(drop)),
    reader("alignment-phn", "phn", |path| speech::labels::Alignment::read(path).map(drop)),
    reader("vocabulary", "json", |path| {
        speech::finetune::Vocabulary::read(path, speech::finetune::Units::Characters).map(drop)
    }),
    reader("speech-config", "json", |path| {
        speech::names::read_config(&folder(path, "config.json", &[])?).map(drop)
    }),
    reader("dicom", "dcm", volume),
    reader("dicom-jpeg12", "dcm", volume),
    reader("nifti", "nii", volume),
    reader("nifti-gzip", "nii.gz", volume),
    reader("nifti-header", "hdr", |path| beside(path, "img", &[9; 600])),
    reader("nifti-image", "img", |path| {
        // The voxels of a header of 5 x 4 x 6 in bytes.
        volume(&folder(path, "input.img", &[("input.hdr", &nifti_header())])?.join("input.hdr"))
    }),
    reader("nrrd", "nrrd", volume),
    reader("nrrd-bzip2", "nrrd", volume),
    reader("nrrd-header", "nhdr", |path| beside(path, "raw", &[9; 24])),
    reader("metaimage", "mha", volume),
    reader("metaimage-zlib", "mha", volume),
    reader("metaimage-header", "mhd", |path| beside(path, "raw", &[9; 24])),
    reader("blocks", "blocks", |path| {
        let file = medical::blocks::BlockFile::open(path, medical::BlockCache::new(1 << 20))?;
        file.read([-1; 3], [9; 3], 0.0).map(drop)
    }),
    reader("wfdb-header", "hea", |path| {
        let beside = [("rec212.dat", WFDB_SAMPLES), ("a.atr", WFDB_MARKS)];
        signal(&folder(path, "a.hea", &beside)?.join("a.hea"))
    }),
    reader("wfdb-samples", "dat", |path| {
        signal(&folder(path, "rec212.dat", &[("a.hea", WFDB_HEADER)])?.join("a.hea"))
    }),
    reader("wfdb-annotations", "atr", |path| signals::read::wfdb::annotations(path, 360.0).map(drop)),
    reader("edf", "edf", signal),
    reader("series", "ts", |path| signals::read::ts::read(path).map(drop)),
    reader("signal-csv", "csv", signal),
    reader("npy", "npy", signal),
    reader("config", "toml", config),
    reader("hub", "json", listing),
];

/// The reader of this name.
pub fn of(name: &str) -> Option<&'static Reader> {
    READERS.iter().find(|r| r.name == name)
}

fn image(path: &Path) -> Result<()> {
    use vision::transform::ops::{Filter, center_crop, resize_shorter};
    let image = vision::image::Image::open(path, 1 << 20)?;
    center_crop(&resize_shorter(&image, 32, Filter::Bilinear)?, 32).map(drop)
}

fn records(set: &dyn Records) -> Result<()> {
    (0..set.len().min(20)).try_for_each(|i| set.get(i).map(drop))
}

/// Images with boxes; what is wrong with one image is the error of its objects.
fn boxes(path: &Path, what: &Path) -> Result<()> {
    let set = open_objects(&what.display().to_string(), &Default::default())?;
    for i in 0..set.len().min(20) {
        if let Some(objects) = set.objects(i)? {
            objects.in_pixels(64, 64).map_err(|e| selfsup::Error::file(path, e))?;
        }
    }
    Ok(())
}

fn table(path: &Path) -> Result<()> {
    LabelFile::read(path).map(|table| drop(table.classes()))
}

fn texts(path: &Path) -> Result<()> {
    text::corpus::CorpusConfig::default().documents(path)?.take(100_000).try_for_each(|text| text.map(drop))
}

fn tokenizer(path: &Path) -> Result<()> {
    let tokenizer = text::tokenizer::Tokenizer::load(path)?;
    let ids = tokenizer.ids("The sun is not 12 of naïve 漢 words.\n")?;
    tokenizer.decode(&ids)?;
    tokenizer.word_starts();
    tokenizer.vocabulary();
    // Special tokens that are more than the room are a fault of the configuration.
    let room = tokenizer.around() + 16;
    tokenizer.example("one two", Some("three"), room.max(64)).map(drop)
}

const GPT2_VOCABULARY: &[u8] = include_bytes!("../golden/tokenizers/gpt2/vocab.json");
const GPT2_MERGES: &[u8] = include_bytes!("../golden/tokenizers/gpt2/merges.txt");
const ROBERTA_MERGES: &[u8] = include_bytes!("../golden/tokenizers/roberta/merges.txt");

const WFDB_HEADER: &[u8] = include_bytes!("../golden/signal/files/rec212.hea");
const WFDB_SAMPLES: &[u8] = include_bytes!("../golden/signal/files/rec212.dat");
const WFDB_MARKS: &[u8] = include_bytes!("../golden/signal/files/rec212.atr");

/// Reads a recording and makes a window of it.
fn signal(path: &Path) -> Result<()> {
    let recording = signals::read::read(path, &Default::default())?;
    signals::prepare::SignalConfig::default().prepare(&recording, &path.display().to_string()).map(drop)
}

/// A folder with the input under the name that its format asks for, and good files beside it.
fn folder(path: &Path, name: &str, others: &[(&str, &[u8])]) -> Result<PathBuf> {
    let folder = path.with_extension("folder");
    let io = |e| selfsup::Error::io(path, e);
    std::fs::create_dir_all(&folder).map_err(io)?;
    std::fs::copy(path, folder.join(name)).map_err(io)?;
    for (other, content) in others {
        std::fs::write(folder.join(other), content).map_err(io)?;
    }
    Ok(folder)
}

/// Reads the volume of a header; its voxels lie beside it in a file of this ending.
fn beside(path: &Path, ending: &str, voxels: &[u8]) -> Result<()> {
    std::fs::write(path.with_extension(ending), voxels).map_err(|e| selfsup::Error::io(path, e))?;
    volume(path)
}

/// A header of NIfTI-1 of 5 x 4 x 6 bytes, whose voxels lie in another file.
pub fn nifti_header() -> Vec<u8> {
    let mut header = vec![0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    [3i16, 5, 4, 6, 1, 1, 1, 1].iter().enumerate().for_each(|(i, n)| put(40 + 2 * i, &n.to_le_bytes()));
    put(70, &2i16.to_le_bytes());
    put(72, &8i16.to_le_bytes());
    (0..4).for_each(|i| put(76 + 4 * i, &1.5f32.to_le_bytes()));
    put(112, &2f32.to_le_bytes());
    put(254, &1i16.to_le_bytes());
    (0..3).for_each(|r| put(280 + 20 * r, &1.5f32.to_le_bytes()));
    put(344, b"ni1\0");
    header
}

fn recording(path: &Path) -> Result<()> {
    use speech::audio::{AudioConfig, Content, cancels, count, info, load};
    let (content, id) = (Content::File(path.into()), path.display().to_string());
    info(&content, &id)?;
    count(&content, &id)?;
    cancels(&content, &id)?;
    load(&content, &id, None, &AudioConfig { max_seconds: 20.0, ..AudioConfig::default() }).map(drop)
}

fn volume(path: &Path) -> Result<()> {
    use medical::read::{NotFinite, ReadConfig};
    let config =
        ReadConfig { max_voxels: 1 << 20, not_finite: NotFinite::Replace(0.0), ..ReadConfig::default() };
    medical::read::volumes(&[path.into()])?;
    medical::read::volume(path, &config).map(drop)
}

fn config(path: &Path) -> Result<()> {
    use selfsup::config::PretrainConfig;
    use selfsup::modality::{medical, speech, text, vision};
    let (text, name) = (file::text(path)?, path.display().to_string());
    PretrainConfig::<vision::Keys>::load(&text, &name, &[])?;
    PretrainConfig::<text::Keys>::load(&text, &name, &[])?;
    PretrainConfig::<speech::Keys>::load(&text, &name, &[])?;
    PretrainConfig::<medical::Keys>::load(&text, &name, &[]).map(drop)
}

/// What the Hub says of a model is the content of the file.
fn listing(path: &Path) -> Result<()> {
    use std::io::{BufRead, BufReader, Write};
    use std::sync::{Mutex, OnceLock, PoisonError};
    static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static SERVER: OnceLock<Option<std::net::SocketAddr>> = OnceLock::new();
    let serve = || {
        let server = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        let address = server.local_addr().ok()?;
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                let mut first = String::new();
                let mut lines = BufReader::new(&stream);
                let _ = lines.read_line(&mut first);
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let (head, body) = if first.contains("/api/models/") {
                    ("200 OK", SAID.lock().unwrap_or_else(PoisonError::into_inner).clone())
                } else {
                    ("206 Partial Content\r\nETag: \"tag\"\r\nContent-Range: bytes 0-0/1", b"x".to_vec())
                };
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {head}\r\nX-Repo-Commit: 0123456789abcdef0123456789abcdef01234567\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&body);
            }
        });
        Some(address)
    };
    let Some(address) = SERVER.get_or_init(serve) else { return Ok(()) };
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = file::read(path)?;
    let cache = path.with_extension("cache");
    let _ = std::fs::remove_dir_all(&cache);
    let options = hub::HubOptions {
        endpoint: Some(format!("http://{address}")),
        token: Some("none".into()),
        cache: Some(cache),
        ..hub::HubOptions::default()
    };
    hub::pull("org/input", &["config.json", "*.safetensors"], &options).map(drop)
}
