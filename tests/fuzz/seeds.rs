//! Good files of every kind, small, which the harness damages: made here, or taken from the tree.

use super::seal;
use image::{DynamicImage, ImageFormat};
use selfsup::medical::{Grid, ReadConfig, Volume};
use selfsup::text::tokenizer::{TokenizerConfig, TokenizerKind, train};
use selfsup::{core, medical, speech};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// How files are sealed again after the damage: see [`seal`].
pub type Seal = fn(&mut Vec<u8>);

/// The files of a reader, and how they are sealed.
pub fn of(name: &str, work: &Path) -> (Vec<Vec<u8>>, Option<Seal>) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = made(name, work);
    for path in in_tree(name).iter().map(|p| tree.join(p)) {
        found.push(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }
    let seal: Option<Seal> = match name {
        "png" | "mask" => Some(seal::png),
        "ogg" => Some(seal::ogg),
        "tar" => Some(seal::tar),
        "tar-gzip" => Some(seal::tar_gzip),
        "nifti-gzip" | "texts-gzip" | "idx-gzip" => Some(seal::gzip),
        "nrrd-bzip2" => Some(seal::nrrd_bzip2),
        "metaimage-zlib" => Some(seal::metaimage_zlib),
        "blocks" => Some(seal::blocks),
        "safetensors" => Some(seal::safetensors),
        _ => None,
    };
    (found, seal)
}

/// Files that were found to be bad once: read as they are first, then damaged further.
pub fn bad(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name);
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

fn in_tree(name: &str) -> &'static [&'static str] {
    match name {
        "tiff" => &[
            "tests/data/images/35_float01.tif",
            "tests/data/images/37_floatneg.tif",
            "tests/data/images/39_bigtiff.tif",
            "tests/data/images/42_palette.tif",
            "tests/data/images/49_zstd.tif",
            "tests/data/images/50_int32.tif",
        ],
        "parquet" => &[
            "tests/data/parquet/lists.parquet",
            "tests/data/parquet/bare_lists.parquet",
            "tests/data/parquet/nulls.parquet",
            "tests/data/parquet/gzip.parquet",
            "tests/data/parquet/lz4.parquet",
            "tests/data/parquet/brotli.parquet",
            "tests/data/parquet/pyarrow.parquet",
        ],
        "parquet-texts" => &["tests/data/parquet/pyarrow.parquet", "tests/data/parquet/polars.parquet"],
        "table-csv" => &["tests/data/tables/leak.csv", "tests/data/tables/idandpath.csv"],
        "texts-tsv" => &["tests/data/text/rawquote.tsv"],
        "sentencepiece" => &[
            "tests/golden/tokenizers/t5/spiece.model",
            "tests/golden/tokenizers/bpe/tokenizer.model",
            "tests/golden/tokenizers/xlmr/sentencepiece.bpe.model",
        ],
        "bpe-vocabulary" => {
            &["tests/golden/tokenizers/gpt2/vocab.json", "tests/golden/tokenizers/roberta/vocab.json"]
        }
        "bpe-merges" => &["tests/golden/tokenizers/gpt2/merges.txt"],
        "flac" => &["crates/speech/tests/audio/chirp.flac"],
        "mp3" => &["crates/speech/tests/audio/chirp.mp3"],
        "ogg" => &["crates/speech/tests/audio/chirp.ogg"],
        "aiff" => &["crates/speech/tests/audio/chirp.aiff"],
        "m4a" => &["crates/speech/tests/audio/chirp.m4a"],
        "wfdb-header" => &["tests/golden/signal/files/rec212.hea"],
        "wfdb-samples" => &["tests/golden/signal/files/rec212.dat"],
        "wfdb-annotations" => &["tests/golden/signal/files/rec212.atr"],
        "edf" => &["tests/golden/signal/files/edf.edf", "tests/golden/signal/files/edf_plus.edf"],
        "series" => {
            &["tests/golden/signal/files/ts_univariate.ts", "tests/golden/signal/files/ts_multivariate.ts"]
        }
        "alignment-lab" => &["datasets/samples/festvox-ru/lab/ru_0018.lab"],
        "dicom" => &[
            "tests/golden/medical/ct_shuffled/img000.dcm",
            "crates/medical/tests/data/hostile/dcmj-dda479c5.dcm",
            "crates/medical/tests/data/hostile/dicom-rle-30000x30000.dcm",
        ],
        _ => &[],
    }
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap_or_else(|e| panic!("{format:?}: {e}"));
    out.into_inner()
}

/// Masks of 8 and 16 bits of grey.
fn masks() -> Vec<Vec<u8>> {
    let of = |image: DynamicImage| {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, ImageFormat::Png).unwrap();
        out.into_inner()
    };
    let narrow = image::GrayImage::from_fn(9, 5, |x, y| image::Luma([(x * y) as u8]));
    let wide = image::ImageBuffer::from_fn(4, 3, |x, _| image::Luma([x as u16 * 900]));
    vec![of(DynamicImage::ImageLuma8(narrow)), of(DynamicImage::ImageLuma16(wide))]
}

fn pictures(format: ImageFormat) -> Vec<Vec<u8>> {
    let colour =
        image::RgbImage::from_fn(13, 9, |x, y| image::Rgb([(x * 19) as u8, (y * 27) as u8, (x * y) as u8]));
    let colour = DynamicImage::ImageRgb8(colour);
    let others: Vec<DynamicImage> = match format {
        ImageFormat::Png | ImageFormat::Tiff => vec![
            DynamicImage::ImageLuma16(colour.to_luma16()),
            DynamicImage::ImageRgba8(colour.to_rgba8()),
            DynamicImage::ImageLuma8(colour.to_luma8()),
        ],
        ImageFormat::Gif => return vec![encoded(&DynamicImage::ImageRgba8(colour.to_rgba8()), format)],
        ImageFormat::WebP => vec![DynamicImage::ImageRgba8(colour.to_rgba8())],
        _ => vec![DynamicImage::ImageLuma8(colour.to_luma8())],
    };
    std::iter::once(&colour).chain(&others).map(|image| encoded(image, format)).collect()
}

/// A TIFF of 4 x 4 floats of which some are no numbers.
fn float_tiff() -> Vec<u8> {
    let mut out = b"II*\0".to_vec();
    let entries: [(u16, u16, u32); 9] = [
        (256, 3, 4),
        (257, 3, 4),
        (258, 3, 32),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (278, 3, 4),
        (279, 4, 64),
        (339, 3, 3),
    ];
    out.extend(8u32.to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, value) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    let value = |i: usize| [f32::NAN, 0.5, f32::INFINITY, -3.0e38][i % 4];
    out.extend((0..16).flat_map(|i| value(i).to_le_bytes()));
    out
}

fn idx_images() -> Vec<u8> {
    [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4][..], &[7; 24]].concat()
}

/// A tar of two pictures and their labels.
fn shard() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in
        [("a.png", &[1; 700][..]), ("a.cls", b"3"), ("b.jpg", b"x"), ("b.json", b"{\"label\": 1}")]
    {
        let mut head = [0u8; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..108].copy_from_slice(b"0000644\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[156] = b'0';
        head[257..265].copy_from_slice(b"ustar\x0000");
        out.extend(head);
        out.extend(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    seal::tar(&mut out);
    out
}

fn wave(work: &Path) -> Vec<Vec<u8>> {
    let samples: Vec<f32> = (0..800).map(|i| (i as f32 * 0.1).sin() * 0.5).collect();
    let path = work.join("seed.wav");
    let read = |made: core::Result<()>| {
        made.and_then(|()| core::file::read(&path)).unwrap_or_else(|e| panic!("{e}"))
    };
    let whole = read(speech::audio::write_wav(&path, &samples, 8000));
    let float = read(speech::audio::write_wav_f32(&path, &samples, 16_000));
    // As RF64: sizes in a chunk of their own.
    let mut rf64 = [&b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0"[..], &[0; 28]].concat();
    rf64.extend(&whole[12..]);
    vec![whole, float, rf64]
}

/// Sony's Wave64: chunks of 16 bytes of name and 8 of length.
fn wave64(work: &Path) -> Vec<u8> {
    let wav = &wave(work)[0];
    let tail = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a";
    let chunk = |name: &[u8], content: &[u8]| {
        let mut out = [name, tail, &(content.len() as u64 + 24).to_le_bytes(), content].concat();
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let at = wav.windows(4).position(|w| w == b"data").unwrap_or(36);
    let inner = [chunk(b"fmt ", &wav[20..36]), chunk(b"data", &wav[at + 8..])].concat();
    let riff = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0";
    [riff, &(inner.len() as u64 + 40).to_le_bytes()[..], b"wave", tail, &inner].concat()
}

fn nifti(work: &Path) -> Vec<u8> {
    let path = work.join("seed.nii");
    let grid = Grid::with_spacing([5, 4, 6], [2.0, 1.0, 1.5]);
    grid.and_then(|grid| Volume::new("seed", grid, (0..120).map(|i| i as f32).collect()))
        .and_then(|volume| medical::write::volume(&path, &volume))
        .and_then(|()| core::file::read(&path))
        .unwrap_or_else(|e| panic!("{e}"))
}

fn blocks(work: &Path) -> Vec<u8> {
    let (source, path) = (work.join("seed.nii"), work.join("seed.blocks"));
    let grid = Grid::with_spacing([3, 3, 40], [1.0; 3]);
    grid.and_then(|grid| Volume::new("seed", grid, (0..360).map(|i| i as f32 / 7.0).collect()))
        .and_then(|volume| medical::write::volume(&source, &volume))
        .and_then(|()| {
            let slices = medical::read::open(&source, &ReadConfig::default())?;
            medical::blocks::convert(slices, &path, &ReadConfig::default())
        })
        .and_then(|()| core::file::read(&path))
        .unwrap_or_else(|e| panic!("{e}"))
}

fn checkpoint(work: &Path) -> Vec<u8> {
    use candle_core::Device;
    use core::{Init, Params, Scope};
    let path = work.join("seed.safetensors");
    let params = Params::new();
    let made = Scope::root(&params, 0, &Device::Cpu).get("weight", (2, 3), Init::Const(0.5));
    made.and_then(|_| {
        core::checkpoint::Checkpoint::new(&params, Vec::new(), Default::default(), Default::default())
            .save(&path)
    })
    .and_then(|()| core::file::read(&path))
    .unwrap_or_else(|e| panic!("{e}"))
}

fn safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"c":{"dtype":"U8","shape":[],"data_offsets":[22,23]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[1; 23]].concat()
}

fn tokenizers(work: &Path) -> Vec<Vec<u8>> {
    let kinds =
        [TokenizerKind::Wordpiece, TokenizerKind::Bpe, TokenizerKind::Unigram, TokenizerKind::Characters];
    let words = "the sun is not 12 of naive words and the rain was in the cold wind of the north sea";
    let mut found = Vec::new();
    for kind in kinds {
        let config = TokenizerConfig { vocab_size: 300, min_frequency: 1, ..TokenizerConfig::of(kind) };
        let made = train(&config, (0..20).map(|i| Ok(format!("{words} {i}"))));
        let folder = work.join("tokenizer");
        let bytes = made
            .and_then(|t| t.save(&folder, None))
            .and_then(|()| core::file::read(folder.join("tokenizer.json")));
        found.push(bytes.unwrap_or_else(|e| panic!("{kind:?}: {e}")));
    }
    found
}

/// A slice in DICOM whose pixels are a JPEG of 12 bits, explicit little endian (PS3.5).
fn jpeg12() -> Vec<u8> {
    let stream = include_bytes!("../../crates/medical/tests/data/twelve.jpg");
    let long = |vr: &str| matches!(vr, "OB" | "OW" | "SQ" | "UN");
    let element = |group: u16, number: u16, vr: &str, value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        let length = value.len() as u32;
        let mut out = [&group.to_le_bytes()[..], &number.to_le_bytes(), vr.as_bytes()].concat();
        if long(vr) {
            out.extend([0, 0]);
            out.extend(length.to_le_bytes());
        } else {
            out.extend((length as u16).to_le_bytes());
        }
        [out, value].concat()
    };
    let meta = [
        element(2, 1, "OB", &[0, 1]),
        element(2, 2, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
        element(2, 3, "UI", b"1.2.999.4711.1"),
        element(2, 0x10, "UI", b"1.2.840.10008.1.2.4.51"),
        element(2, 0x12, "UI", b"1.2.999"),
    ]
    .concat();
    let number = |n: u16| n.to_le_bytes();
    let body = [
        element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
        element(8, 0x18, "UI", b"1.2.999.4711.1"),
        element(8, 0x60, "CS", b"CT"),
        element(0x18, 0x50, "DS", b"2.5"),
        element(0x20, 0xE, "UI", b"1.2.999.4711.2"),
        element(0x20, 0x32, "DS", b"-10\\20\\0"),
        element(0x20, 0x37, "DS", b"1\\0\\0\\0\\1\\0"),
        element(0x28, 2, "US", &number(1)),
        element(0x28, 4, "CS", b"MONOCHROME2"),
        element(0x28, 0x10, "US", &number(21)),
        element(0x28, 0x11, "US", &number(27)),
        element(0x28, 0x30, "DS", b"0.5\\0.75"),
        element(0x28, 0x100, "US", &number(16)),
        element(0x28, 0x101, "US", &number(12)),
        element(0x28, 0x102, "US", &number(11)),
        element(0x28, 0x103, "US", &number(0)),
        element(0x28, 0x1052, "DS", b"-1024"),
        element(0x28, 0x1053, "DS", b"2"),
    ]
    .concat();
    let item = |content: &[u8]| {
        let length = content.len() as u32;
        [b"\xFE\xFF\x00\xE0", &length.to_le_bytes()[..], content].concat()
    };
    let length = element(2, 0, "UL", &(meta.len() as u32).to_le_bytes());
    let pixels = [b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF".to_vec(), item(&[]), item(stream)].concat();
    let end = b"\xFE\xFF\xDD\xE0\0\0\0\0".to_vec();
    [vec![0; 128], b"DICM".to_vec(), length, meta, body, pixels, end].concat()
}

const NRRD: &str = "NRRD0004\n# a note\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 2 2\n\
    space directions: (1,0,0) (0,1,0) (0,0,2)\nkinds: domain domain domain\nendian: little\nencoding: raw\n\
    space origin: (0,0,0)\n\n";

const METAIMAGE: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n\
    CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n\
    AnatomicalOrientation = RAI\nElementSpacing = 1 1 2\nDimSize = 3 2 2\nElementType = MET_SHORT\n\
    ElementDataFile = LOCAL\n";

const CONFIG: &str = "[data]\npath = \"photos\"\nhold_out = 0.1\nmax_pixels = 1000000\n\n[encoder]\n\
    name = \"resnet\"\ndepths = [1, 1]\nwidths = [8, 16]\n\n[method]\nname = \"simclr\"\ntemperature = 0.2\n\n\
    [augment]\nsize = 32\ncrop_scale = [0.2, 1.0]\n\n[train]\nepochs = 3\nbatch_size = 8\n\n[optim]\nlr = 1e-3\n";

const SPEECH_CONFIG: &str = r#"{"model_type": "wav2vec2", "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32, 32], "conv_kernel": [10, 3],
    "conv_stride": [5, 2], "feat_extract_norm": "group", "num_conv_pos_embeddings": 16}"#;

/// A file as its reader takes it, and as it is damaged before it is sealed.
/// An array of two rows of three floats.
fn npy() -> Vec<u8> {
    let mut bytes =
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
    bytes.resize(10 + 0x46, b' ');
    bytes.extend([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn sealed(plain: Vec<u8>, seal: Seal) -> Vec<Vec<u8>> {
    let mut whole = plain.clone();
    seal(&mut whole);
    vec![whole, plain]
}

fn made(name: &str, work: &Path) -> Vec<Vec<u8>> {
    let text = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    match name {
        "png" => pictures(ImageFormat::Png),
        "mask" => masks(),
        "coco" => {
            text(&[r#"{"images": [{"id": 1, "file_name": "input.folder/a.png", "width": 64, "height": 64}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 30, 40.5], "iscrowd": 1}],
            "categories": [{"id": 7, "name": "dog"}]}"#])
        }
        "yolo" => text(&["0 0.5 0.5 0.25 0.5\n3 0.1 0.1 0.5 0.1 0.5 0.5\n", ""]),
        "voc" => {
            text(&["<?xml version=\"1.0\"?><annotation><size><width>64</width><height>64</height></size>\
            <object><name>a &amp; b</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>\
            <xmax>30</xmax><ymax>40</ymax></bndbox></object><!-- x --></annotation>"])
        }
        "jpeg" => pictures(ImageFormat::Jpeg),
        "webp" => pictures(ImageFormat::WebP),
        "tiff" => [pictures(ImageFormat::Tiff), vec![float_tiff()]].concat(),
        "bmp" => pictures(ImageFormat::Bmp),
        "gif" => pictures(ImageFormat::Gif),
        "pnm" => [pictures(ImageFormat::Pnm), text(&["P2\n3 2\n255\n1 2 3\n4 5 6\n", "P1\n3 2\n101 010\n"])]
            .concat(),
        "idx" | "idx-gzip" => vec![idx_images()],
        "cifar" => vec![vec![3; 2 * 3073]],
        "tar" => vec![shard()],
        "tar-gzip" => sealed(shard(), seal::gzip),
        "table-csv" => text(&["path,label,group\na.png,1,x\nb.png,2,y\n", "a;b\n\"one; two\";3\n"]),
        "table-tsv" => text(&["text\tlabel\nthe \"sun\"\t1\nrain\t2\n"]),
        "table-jsonl" => {
            text(&["{\"path\": \"a.png\", \"label\": 1}\n{\"path\": \"b.png\", \"label\": \"x\"}\n"])
        }
        "table-json" => {
            text(&["[{\"path\": \"a.png\", \"label\": 1, \"split\": \"train\"}, {\"path\": \"b.png\"}]"])
        }
        "texts-txt" | "texts-gzip" => text(&["the sun\n\nand the rain\r\nnaïve 漢\n", "\u{feff}one\n"]),
        "texts-csv" => text(&["text,label\n\"a, b\nc\",1\nd,2\n", "id;text\n1;sun\n"]),
        "texts-tsv" => text(&["text\tlabel\nsun\t1\n"]),
        "texts-jsonl" => text(&["{\"text\": \"sun\"}\n{\"text\": \"rain\", \"more\": {\"a\": [1, 2]}}\n"]),
        "texts-json" => {
            text(&["[{\"text\": \"sun\"}, {\"text\": \"rain\"}]", "{\"data\": [{\"text\": \"sun\"}]}"])
        }
        "conll" => text(&["The DT O\nAvon NP B-LOC\n\nHe PRP O\nNewton NP B-PER\nJr NP I-PER\n"]),
        "squad" => text(&[r#"{"data": [{"title": "t", "paragraphs": [{"context": "The sun is warm.",
            "qas": [{"id": "a", "question": "What?", "answers": [{"text": "sun", "answer_start": 4}]}]}]}]}"#]),
        "tokenizer" => tokenizers(work),
        "safetensors" => vec![safetensors()],
        "torch-stream" => {
            text(&["\u{1}"]).into_iter().chain([b"\x80\x02}q\0.\x80\x02M\xe9\x03.".to_vec()]).collect()
        }
        "weights-index" => {
            text(&[r#"{"metadata": {"total_size": 8}, "weight_map": {"a.b": "input-1.safetensors"}}"#])
        }
        "checkpoint" => vec![checkpoint(work)],
        "wav" => wave(work),
        "w64" => vec![wave64(work)],
        "signal-csv" => text(&[
            "time (ms),ABP [mmHg],SpO2\n0,80.5,97\n10,81.25,\n20,82,95\n50,85,94\n",
            "1\t2\n3\t4\n5\t6\n",
        ]),
        "npy" => vec![npy()],
        "alignment-phn" => text(&["0 1600 h#\n1600 3200 sh\n3200 4000 ix\n"]),
        "vocabulary" => text(&["{\"<pad>\": 0, \"|\": 1, \"a\": 2, \"b\": 3}"]),
        "speech-config" => text(&[SPEECH_CONFIG]),
        "nifti" | "nifti-gzip" => vec![nifti(work)],
        "wordpiece" => text(&["[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nsun\n##s\nw\n##o\n##r\n##d\n.\n"]),
        "metaimage" => vec![[METAIMAGE.as_bytes(), &[5; 24]].concat()],
        "metaimage-header" => text(&[&METAIMAGE.replace("LOCAL", "input.raw")]),
        "metaimage-zlib" => {
            let header = METAIMAGE.replace("CompressedData = False", "CompressedData = True");
            sealed([header.as_bytes(), &[5; 24]].concat(), seal::metaimage_zlib)
        }
        "nrrd" => vec![[NRRD.as_bytes(), &[5; 24]].concat()],
        "nrrd-bzip2" => {
            let header = NRRD.replace("encoding: raw", "encoding: bzip2");
            sealed([header.as_bytes(), &[5; 24]].concat(), seal::nrrd_bzip2)
        }
        "nrrd-header" => text(&[&NRRD.replace("encoding: raw", "encoding: raw\ndata file: input.raw")]),
        "nifti-header" => vec![super::readers::nifti_header()],
        "nifti-image" => vec![vec![7; 120]],
        "dicom-jpeg12" => vec![jpeg12()],
        "blocks" => vec![blocks(work)],
        "config" => text(&[CONFIG]),
        "hub" => text(&[r#"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings":
            [{"rfilename": "config.json", "size": 1}, {"rfilename": "model.safetensors", "size": 1, "lfs":
            {"sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", "size": 1}}]}"#]),
        _ => Vec::new(),
    }
}
