//! Files of `torch.save`, written here byte by byte: good ones, damaged ones and hostile ones.

use super::*;
use proptest::prelude::*;

/// A pickle in the making.
#[derive(Clone, Default)]
struct P(Vec<u8>);

impl P {
    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn s(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }
    fn i(self, v: i64) -> Self {
        self.op(&[0x8a, 8]).op(&v.to_le_bytes())
    }
    fn global(self, module: &str, name: &str) -> Self {
        self.op(b"c").op(module.as_bytes()).op(b"\n").op(name.as_bytes()).op(b"\n")
    }
    fn ints(self, v: &[i64]) -> Self {
        v.iter().fold(self.op(b"("), |p, &x| p.i(x)).op(b"t")
    }
    fn storage(self, ty: &str, key: &str, numel: i64) -> Self {
        self.op(b"(").s("storage").global("torch", ty).s(key).s("cpu").i(numel).op(b"tQ")
    }
    fn tensor(self, (ty, key, numel): (&str, &str, i64), offset: i64, size: &[i64], stride: &[i64]) -> Self {
        let p = self.global("torch._utils", "_rebuild_tensor_v2").op(b"(").storage(ty, key, numel);
        p.i(offset).ints(size).ints(stride).op(b"\x89").global("collections", "OrderedDict").op(b")RtR")
    }
    fn end(self) -> Vec<u8> {
        self.op(b".").0
    }
}

fn start() -> P {
    P::default().op(b"\x80\x02")
}

/// An archive with stored entries, their data padded as torch does; `method` and `big` are for the directory
/// of the last entry.
fn archive(entries: &[(&str, &[u8])], method: u16, zip64: bool) -> Vec<u8> {
    let (mut out, mut dir) = (Vec::new(), Vec::new());
    for (i, (name, data)) in entries.iter().enumerate() {
        let (at, size) = (out.len() as u64, data.len() as u64);
        let method = if i + 1 == entries.len() { method } else { 0 };
        out.extend(0x0403_4b50_u32.to_le_bytes());
        out.extend([0; 22]);
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(5_u16.to_le_bytes());
        out.extend(name.bytes());
        out.extend(b"FB\x01\x00Z");
        out.extend(*data);
        let extra: Vec<u8> = if zip64 {
            [&[1, 0, 24, 0][..], &size.to_le_bytes(), &size.to_le_bytes(), &at.to_le_bytes()].concat()
        } else {
            vec![]
        };
        let short = |x: u64| if zip64 { u32::MAX } else { x as u32 }.to_le_bytes();
        dir.extend(0x0201_4b50_u32.to_le_bytes());
        dir.extend([0; 6]);
        dir.extend(method.to_le_bytes());
        dir.extend([0; 8]);
        dir.extend(short(size));
        dir.extend(short(size));
        dir.extend((name.len() as u16).to_le_bytes());
        dir.extend((extra.len() as u16).to_le_bytes());
        dir.extend([0; 10]);
        dir.extend(short(at));
        dir.extend(name.bytes());
        dir.extend(extra);
    }
    let (at, size, n) = (out.len() as u64, dir.len() as u64, entries.len() as u64);
    out.extend(dir);
    if zip64 {
        let record = out.len() as u64;
        out.extend(0x0606_4b50_u32.to_le_bytes());
        out.extend([0; 28]);
        for x in [n, size, at] {
            out.extend(x.to_le_bytes());
        }
        out.extend(0x0706_4b50_u32.to_le_bytes());
        out.extend([0; 4]);
        out.extend(record.to_le_bytes());
        out.extend([0; 4]);
    }
    out.extend(0x0605_4b50_u32.to_le_bytes());
    out.extend([0; 6]);
    let ones = |x: u64| if zip64 { u32::MAX } else { x as u32 }.to_le_bytes();
    out.extend(if zip64 { u16::MAX } else { n as u16 }.to_le_bytes());
    out.extend(ones(size));
    out.extend(ones(at));
    out.extend([0; 2]);
    out
}

fn f32s(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn in_zip(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(k, _)| format!("archive/data/{k}")).collect();
    let mut entries = vec![("archive/data.pkl", pickle), ("archive/byteorder", &b"little"[..])];
    entries.extend(names.iter().map(String::as_str).zip(storages.iter().map(|s| s.1)));
    archive(&entries, 0, false)
}

fn in_stream(pickle: &[u8], storages: &[(&str, usize, &[u8])]) -> Vec<u8> {
    let mut out = start().op(&[0x8a, 10]).op(&MAGIC.to_le_bytes()[..10]).end();
    out.extend(start().i(1001).end());
    out.extend(start().op(b"}(").s("little_endian").op(b"\x88u").end());
    out.extend(pickle);
    out.extend(storages.iter().fold(start().op(b"]("), |p, (k, ..)| p.s(k)).op(b"e").end());
    for (_, n, data) in storages {
        out.extend((*n as u64).to_le_bytes());
        out.extend(*data);
    }
    out
}

fn open(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.pth");
    std::fs::write(&path, bytes).unwrap();
    crate::weights::read(&path)
}

const F: (&str, &str, i64) = ("FloatStorage", "0", 6);

/// An `OrderedDict` with its `_metadata`, a tensor, a transposed one, a parameter, a scalar, integers and
/// halves.
fn good() -> Vec<u8> {
    let p = start().global("collections", "OrderedDict").op(b")Rq\x00(");
    let p = p.s("w").tensor(F, 0, &[2, 3], &[3, 1]).s("t").tensor(F, 0, &[3, 2], &[1, 3]).s("tail").tensor(
        F,
        4,
        &[2],
        &[1],
    );
    let p =
        p.s("p").global("torch._utils", "_rebuild_parameter").op(b"(").tensor(F, 1, &[2], &[3]).op(b"\x88");
    let p = p.global("collections", "OrderedDict").op(b")RtR");
    let p = p.s("n").tensor(("LongStorage", "1", 1), 0, &[], &[]).s("h").tensor(
        ("HalfStorage", "2", 2),
        0,
        &[2],
        &[1],
    );
    let p = p
        .s("none")
        .op(b"N")
        .s("empty")
        .tensor(F, 6, &[0, 4], &[4, 1])
        .s("list")
        .op(b"](")
        .tensor(F, 5, &[1, 1], &[77, 99])
        .op(b"e");
    // SETITEMS, then BUILD with {'_metadata': {}}.
    p.op(b"u}").s("_metadata").op(b"}sb").end()
}

fn check(t: &BTreeMap<String, Tensor>) {
    assert_eq!(t.keys().collect::<Vec<_>>(), ["empty", "h", "list.0", "n", "p", "t", "tail", "w"]);
    assert_eq!(t["w"].to_vec2::<f32>().unwrap(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    assert_eq!(t["t"].to_vec2::<f32>().unwrap(), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
    assert_eq!(t["tail"].to_vec1::<f32>().unwrap(), [4.0, 5.0]);
    assert_eq!(t["p"].to_vec1::<f32>().unwrap(), [1.0, 4.0]);
    assert_eq!(t["n"].to_scalar::<i64>().unwrap(), -7);
    assert_eq!(t["h"].to_vec1::<f32>().unwrap(), [0.5, -2.0]);
    assert_eq!(t["list.0"].to_vec2::<f32>().unwrap(), [[5.0]]);
    assert_eq!(t["empty"].dims(), [0, 4]);
}

fn halves() -> Vec<u8> {
    [0.5, -2.0].iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect()
}

fn zip_file() -> Vec<u8> {
    in_zip(&good(), &[("0", &f32s(6)), ("1", &(-7_i64).to_le_bytes()), ("2", &halves())])
}

fn stream_file() -> Vec<u8> {
    in_stream(&good(), &[("0", 6, &f32s(6)), ("1", 1, &(-7_i64).to_le_bytes()), ("2", 2, &halves())])
}

#[test]
fn both_formats() {
    check(&open(&zip_file()).unwrap());
    check(&open(&stream_file()).unwrap());
    let (f, h) = (f32s(6), halves());
    let entries: [(&str, &[u8]); 4] =
        [("m/data.pkl", &good()), ("m/data/0", &f), ("m/data/1", &(-7_i64).to_le_bytes()), ("m/data/2", &h)];
    check(&open(&archive(&entries, 0, true)).unwrap());
}

#[test]
fn the_model_inside_a_training_checkpoint() {
    let t = |p: P, name: &str| p.s(name).tensor(F, 0, &[6], &[1]);
    let p = start().op(b"}(").s("epoch").i(3).s("model_state").op(b"}(");
    let p = t(p, "a.w").op(b"u").s("optimizer").op(b"}(").s("state").op(b"}(").i(0).op(b"}(");
    let bytes = in_zip(&t(p, "exp_avg").op(b"uuuu").end(), &[("0", &f32s(6))]);
    assert_eq!(open(&bytes).unwrap().keys().collect::<Vec<_>>(), ["a.w"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.pth");
    std::fs::write(&path, bytes).unwrap();
    let names = |keys: &[&str]| {
        TorchFile::open_under(&path, keys).unwrap().names().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["model_state.a.w", "optimizer.state.0.exp_avg"]);
    assert_eq!(names(&["optimizer"]), ["state.0.exp_avg"]);
}

#[test]
fn hostile_pickles() {
    let w = |p: P| start().op(b"}(").s("w").0.into_iter().chain(p.0).chain(*b"u.").collect::<Vec<u8>>();
    let tensor = |offset, size: &[i64], stride: &[i64]| w(P::default().tensor(F, offset, size, stride));
    let nested = |n: usize| start().op(&b"]".repeat(n)).op(&b"a".repeat(n - 1)).end();
    // Each level refers to the one before twice: 2^60 values in 300 bytes.
    let bomb =
        (0..60_u8).fold(start().op(b"]q\x00"), |p, i| p.op(&[b'h', i, b'h', i, 0x86, b'q', i + 1])).end();
    // A list of 100,000 pairs, and a dictionary made of it again and again.
    let pairs = start().op(b"]q\x00(").op(&b"))\x86".repeat(100_000)).op(b"e");
    let dictionaries = pairs
        .op(&[b"ccollections\nOrderedDict\nq\x01", &b"h\x01h\x00\x85R0".repeat(1000)[..]].concat())
        .end();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "os.system",
            start().global("os", "system").op(b"(").s("touch /tmp/x").op(b"tR.").0,
            "`os.system`, which is refused",
        ),
        ("by stack", start().s("posix").s("system").op(b"\x93.").0, "`posix.system`"),
        ("eval", start().global("builtins", "eval").op(b"(").s("1").op(b"tR.").0, "`builtins.eval`"),
        ("another torch", start().global("torch.hub", "load").end(), "`torch.hub.load`"),
        ("old-style class", start().op(b"(ios\nsystem\n.").0, "object of a class"),
        ("NEWOBJ", start().global("collections", "OrderedDict").op(b")\x81.").0, "object of a class"),
        ("calls a type", start().global("torch", "FloatStorage").op(b")R.").0, "not a function"),
        ("calls a text", start().s("x").op(b")R.").0, "not a function"),
        ("arguments", start().global("collections", "OrderedDict").op(b"NR.").0, "not a tuple"),
        ("nested", nested(70), "nested more than 64 deep"),
        ("deeply nested", nested(500_000), "nested more than 64 deep"),
        ("many values", nested(2_000_000), "more than 1048576 values"),
        ("marks", start().op(&b"(".repeat(1_000_000)).end(), "nested more than 64 deep"),
        ("contains itself", start().op(b"]q\x00h\x00a.").0, "nested more than 64 deep"),
        ("memo bomb", bomb, "too many"),
        ("dictionaries", dictionaries, "more than 1048576 values"),
        ("memo", start().op(b"h\x05.").0, "memo entry 5"),
        ("far memo", start().op(b"]r\xff\xff\xff\xff0j\xfe\xff\xff\xff.").0, "memo entry 4294967294"),
        (
            "no arguments",
            w(P::default().global("torch._utils", "_rebuild_tensor_v2").op(b")R")),
            "tensor `w`: 0 arguments",
        ),
        (
            "no storage",
            w(P::default().global("torch._utils", "_rebuild_tensor_v2").op(b"(NK\x00))tR")),
            "tensor `w`: its storage",
        ),
        (
            "no tensor",
            w(P::default().global("torch._utils", "_rebuild_parameter").op(b"(NtR")),
            "tensor `w`: a parameter",
        ),
        ("short id", start().op(b"(").s("storage").op(b"tQ.").0, "persistent id of 1 items"),
        (
            "other id",
            start().op(b"(").s("module").global("torch", "FloatStorage").s("0").s("cpu").i(1).op(b"tQ.").0,
            "`module`",
        ),
        ("negative", start().storage("FloatStorage", "0", -1).op(b".").0, "a storage of -1"),
        (
            "complex",
            w(P::default().tensor(("ComplexFloatStorage", "0", 2), 0, &[2], &[1])),
            "tensor `w`: its type complex64",
        ),
        (
            "two types",
            start().storage("FloatStorage", "0", 1).storage("LongStorage", "0", 1).end(),
            "of two types",
        ),
        ("too large", tensor(0, &[7], &[1]), "tensor `w`: size [7]"),
        ("offset", tensor(5, &[2], &[1]), "outside its storage"),
        ("huge offset", tensor(i64::MAX, &[2], &[1]), "outside its storage"),
        ("negative offset", tensor(-1, &[2], &[1]), "tensor `w`: offset -1"),
        ("negative size", tensor(0, &[-2], &[1]), "tensor `w`: size -2"),
        ("huge stride", tensor(0, &[2, 2], &[i64::MAX, 1]), "outside its storage"),
        ("overflowing strides", tensor(0, &[3, 3], &[i64::MAX, i64::MAX]), "outside its storage"),
        ("huge size", tensor(0, &[i64::MAX, i64::MAX], &[0, 0]), "outside its storage"),
        ("hidden size", tensor(0, &[0, i64::MAX, i64::MAX], &[0, 0, 0]), "outside its storage"),
        ("a petabyte of one number", tensor(0, &[1 << 50], &[0]), "repeats the 6 numbers"),
        ("sizes and strides", tensor(0, &[2], &[1, 1]), "1 sizes and 2 strides"),
        ("rank", tensor(0, &[1; 9], &[1; 9]), "at most 8"),
        (
            "storage is shorter",
            w(P::default().tensor(("FloatStorage", "0", 7), 0, &[7], &[1])),
            "claims 7 numbers of 4 bytes but has 24",
        ),
        (
            "storage is missing",
            w(P::default().tensor(("FloatStorage", "9", 6), 0, &[6], &[1])),
            "storage 9 is missing",
        ),
        ("string", start().op(b"X\xff\xff\xff\xff").0, "truncated"),
        ("long string", start().op(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff").0, "truncated"),
        ("long number", start().op(&[0x8a, 17]).op(&[0; 17]).end(), "a number of 17 bytes"),
        ("empty stack", start().end(), "missing on the stack"),
        ("append to nothing", start().op(b"NNa.").0, "not a list"),
        ("insert into nothing", start().op(b"NNNs.").0, "not a dictionary"),
        ("odd items", start().op(b"}(Nu.").0, "without a value"),
        ("no mark", start().op(b"}u.").0, "no mark"),
        ("attributes", start().op(b"NNb.").0, "attributes"),
        ("unknown operation", start().op(b"\xff").0, "operation 0xff"),
        ("protocol", b"\x80\x09.".to_vec(), "protocol 9"),
        ("nothing", vec![], "truncated"),
        ("strange key", start().op(b"})Ns.").0, "neither a name nor a number"),
        ("long name", start().op(b"}").s(&"x".repeat(3000)).op(b"Ns.").0, "neither a name nor a number"),
        (
            "same names",
            start()
                .op(b"}(")
                .s("a.b")
                .tensor(F, 0, &[1], &[1])
                .s("a")
                .op(b"}(")
                .s("b")
                .tensor(F, 0, &[1], &[1])
                .op(b"uu.")
                .0,
            "a.b",
        ),
    ];
    for (what, pickle, says) in cases {
        let began = std::time::Instant::now();
        for bytes in [in_zip(&pickle, &[("0", &f32s(6))]), in_stream(&pickle, &[("0", 6, &f32s(6))])] {
            let stream = bytes[0] == 0x80;
            // In a stream what follows the cut is read as well, and a storage's length stands beside it.
            if stream && (says == "truncated" || what.starts_with("storage is") || what == "nothing") {
                assert!(open(&bytes).is_err(), "{what}");
                continue;
            }
            let e = open(&bytes).expect_err(what).to_string();
            assert!(e.contains(says) && e.contains("m.pth"), "{what}: {e}");
            assert!(e.len() < 600, "{what}: {} characters", e.len());
        }
        assert!(began.elapsed().as_secs() < 10, "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn hostile_archives() {
    let (pickle, data) = (good(), f32s(6));
    let says = |bytes: &[u8], text: &str| {
        let e = open(bytes).unwrap_err().to_string();
        assert!(e.contains(text), "{text}: {e}");
    };
    says(
        &archive(&[("a/data.pkl", &pickle), ("a/data/0", &data)], 8, false),
        "a/data/0 is compressed (deflate)",
    );
    says(&archive(&[("a/data.pkl", &pickle), ("a/data/0", &data)], 12, false), "method 12");
    says(&archive(&[("a/data/0", &data)], 0, false), "0 entries */data.pkl");
    says(&archive(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)], 0, false), "2 entries */data.pkl");
    says(&archive(&[("a/data.pkl", &pickle), ("a/data.pkl", &pickle)], 0, false), "two ZIP entries");
    says(&archive(&[("a/data.pkl", &pickle), ("a/byteorder", b"big")], 0, false), "byte order `big`");
    says(b"PK\x03\x04", "end record");
    says(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "0 entries */data.pkl");
    // Many views of one storage: 6 numbers that ask for 200 times the file.
    let many = (0..40_000).fold(start().op(b"}("), |p, i| p.i(i).op(b"h\x00"));
    let shared = start()
        .tensor(("FloatStorage", "0", 600), 0, &[600], &[1])
        .op(b"q\x000")
        .op(&many.0[2..])
        .op(b"u.")
        .0;
    says(&in_zip(&shared, &[("0", &f32s(600))]), "far more than the file's");
    says(&in_stream(&good(), &[("0", 6, &f32s(6)), ("0", 6, &f32s(6))]), "two storages 0");
    says(&in_stream(&good(), &[("7", 6, &f32s(6))]), "storage 7 belongs to no tensor");
    says(&in_stream(&good(), &[("0", usize::MAX, &f32s(6))]), "truncated: storage 0");
    says(&in_stream(&good(), &[("0", usize::MAX / 4, &f32s(6))]), "truncated: storage 0");
    says(&in_stream(&good(), &[("0", 3, &f32s(3))]), "storage 0 claims 6 numbers of 4 bytes but has 12");
    says(&start().i(5).end(), "magic number");
}

#[test]
fn every_truncation_is_an_error() {
    for whole in [zip_file(), stream_file()] {
        for n in 0..whole.len() {
            assert!(open(&whole[..n]).is_err(), "{n} of {} bytes", whole.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// Damage gives an error or other numbers, never a panic.
    #[test]
    fn damage_does_not_panic(zip: bool, hits in prop::collection::vec((0_usize..5000, any::<u8>()), 1..6)) {
        let mut bytes = if zip { zip_file() } else { stream_file() };
        let n = bytes.len();
        for (at, value) in hits {
            bytes[at % n] = value;
        }
        let _ = open(&bytes);
    }

    #[test]
    fn noise_does_not_panic(ops in prop::collection::vec(prop::sample::select(b"\x80\x02(.01N]})lt\x85\x86\x87aesuqhQRbcXKJ\x8a\x94\x93\x88".to_vec()), 0..60)) {
        let _ = open(&in_zip(&ops, &[]));
    }
}
