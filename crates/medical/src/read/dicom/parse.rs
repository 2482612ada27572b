//! The elements of a DICOM file that are wanted, and where its pixels lie.
//!
//! Everything else is passed over and not taken into memory, so what a file announces costs nothing: a length
//! must lie inside the file before it is followed, and sequences that nobody asks for are walked without
//! recursion, however deep they are nested. Files without the 128 bytes of preamble, without file meta
//! information, and single elements of implicit VR in a file of explicit VR are read, as other readers do.
//!
//! DICOM PS3.5 7 (elements, sequences), A.4 (fragments), PS3.10 7 (preamble and file meta information).

use super::tags::{PIXEL_DATA, wanted};
use dicom_core::value::{C, DataSetSequence};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use selfsup_core::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Most bytes of a value: the longest list of numbers that is wanted has some dozens.
const LONGEST: u64 = 1 << 16;
/// Most items of one sequence: frames have a group each.
const ITEMS: usize = 1 << 20;
/// Wanted elements lie in the items of three sequences at most: groups of frames, their macros.
const DEPTH: usize = 3;
/// Most bytes that a deflated data set may become.
const INFLATED: u64 = 512 << 20;
const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const SYNTAX: Tag = Tag(0x0002, 0x0010);

pub(super) const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// What is wrong with the bytes, in words that hold no value of the file.
type Problem = String;
type Parsing<T> = std::result::Result<T, Problem>;

/// The bytes of a data set.
enum Bytes {
    File(BufReader<File>),
    Inflated(Cursor<Vec<u8>>),
}

/// A data set that is read from front to back.
pub(super) struct Input {
    bytes: Bytes,
    at: u64,
    length: u64,
}

/// How elements are written.
#[derive(Clone, Copy)]
struct Coding {
    explicit: bool,
    big: bool,
}

/// The head of an element.
struct Head {
    tag: Tag,
    /// Where it is written out.
    vr: Option<VR>,
    length: u32,
}

/// Where the pixels lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// First byte of the value.
    pub(super) start: u64,
    /// Its bytes; none where it is made of fragments.
    pub(super) length: Option<u64>,
    /// Whether numbers are written big endian, and the bytes of a word at least: 1 or 2.
    pub(super) big: Option<usize>,
}

/// A file that was read up to its pixels.
pub(super) struct Parsed {
    /// Elements that are wanted.
    pub(super) object: InMemDicomObject,
    /// The UID of the transfer syntax.
    pub(super) syntax: String,
    pub(super) place: Option<Place>,
    /// To read the pixels from.
    pub(super) input: Input,
}

/// Whether these first bytes are those of a DICOM file: with the preamble, or with the first element of file
/// meta information or of a data set at the very beginning.
pub(crate) fn is_dicom(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM") || begins_data_set(head)
}

/// Whether the bytes begin with file meta information, or with one of the first elements of an image.
fn begins_data_set(head: &[u8]) -> bool {
    let Some(first) = head.first_chunk::<8>() else { return false };
    let (group, element) = ([first[0], first[1]], u16::from_le_bytes([first[2], first[3]]));
    match group {
        [2, 0] => element <= 0x0002 && (&first[4..6] == b"UL" || &first[4..6] == b"OB"),
        // Group length, character set, type of image, dates of creation, class.
        [8, 0] if [0x0000, 0x0005, 0x0008, 0x0012, 0x0013, 0x0016, 0x0018].contains(&element) => {
            let short = u32::from_le_bytes([first[4], first[5], first[6], first[7]]) <= 128;
            short || [b"UL", b"CS", b"UI", b"DA", b"TM"].iter().any(|vr| &first[4..6] == *vr)
        }
        _ => false,
    }
}

/// Reads `path` up to its pixels.
///
/// # Errors
/// If it cannot be opened, is no DICOM file, or is damaged.
pub(super) fn parse(path: &Path) -> Result<Parsed> {
    if !std::fs::metadata(path).map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::file(path, "is no file"));
    }
    let file = selfsup_core::file::open(path)?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut input = Input { bytes: Bytes::File(BufReader::new(file)), at: 0, length };
    input.whole().map_err(|problem| Error::file(path, problem)).map(|(object, syntax, place)| Parsed {
        object,
        syntax,
        place,
        input,
    })
}

impl Input {
    fn read(&mut self, out: &mut [u8]) -> Parsing<()> {
        let read = match &mut self.bytes {
            Bytes::File(f) => f.read_exact(out),
            Bytes::Inflated(b) => b.read_exact(out),
        };
        self.at += out.len() as u64;
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => "ends early; cut short?".to_string(),
            _ => format!("cannot be read: {e}"),
        })
    }

    fn array<const N: usize>(&mut self) -> Parsing<[u8; N]> {
        let mut out = [0; N];
        self.read(&mut out)?;
        Ok(out)
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }

    /// To `at`, near by in the usual case.
    fn go(&mut self, at: u64) -> Parsing<()> {
        let went = match &mut self.bytes {
            Bytes::File(f) => f.seek_relative(at.wrapping_sub(self.at) as i64),
            Bytes::Inflated(b) => b.seek(SeekFrom::Start(at)).map(|_| ()),
        };
        self.at = at;
        went.map_err(|e| format!("cannot be read: {e}"))
    }

    /// `length` bytes at `start`, which must lie in the file.
    pub(super) fn part(&mut self, start: u64, length: u64) -> Parsing<Vec<u8>> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Err("ends within its pixels; cut short?".to_string());
        }
        self.go(start)?;
        let mut out = vec![0; length as usize];
        self.read(&mut out)?;
        Ok(out)
    }

    /// Bytes of the whole.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The fragments from `start` on, each as its first byte and its length; the first one is the table of
    /// where frames begin.
    pub(super) fn fragments(&mut self, start: u64) -> Parsing<Vec<(u64, u64)>> {
        self.go(start)?;
        let mut found = Vec::new();
        while self.left() >= 8 {
            let item = self.head(Coding { explicit: false, big: false })?;
            match item.tag {
                ITEM => found.push((self.at, u64::from(item.length))),
                SEQUENCE_END => break,
                other => return Err(format!("{other} stands among its compressed pixels; damaged?")),
            }
            if u64::from(item.length) > self.left() {
                return Err("ends within its compressed pixels; cut short?".to_string());
            }
            self.go(self.at + u64::from(item.length))?;
        }
        Ok(found)
    }

    /// Passes over the value of an element.
    fn skip(&mut self, tag: Tag, length: u32) -> Parsing<()> {
        if u64::from(length) > self.left() {
            let left = self.left();
            return Err(format!(
                "element {tag} announces {length} bytes, and {left} are left; damaged or cut short?"
            ));
        }
        self.go(self.at + u64::from(length))
    }

    fn tag(&mut self, coding: Coding) -> Parsing<Tag> {
        let [a, b, c, d] = self.array()?;
        let word = |bytes| if coding.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
        Ok(Tag(word([a, b]), word([c, d])))
    }

    fn head(&mut self, coding: Coding) -> Parsing<Head> {
        let tag = self.tag(coding)?;
        let four: [u8; 4] = self.array()?;
        let long = |bytes| if coding.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let named = four[..2].iter().all(u8::is_ascii_uppercase);
        if !coding.explicit || tag.0 == 0xFFFE || !named {
            return Ok(Head { tag, vr: None, length: long(four) });
        }
        let vr = VR::from_binary([four[0], four[1]]);
        let two = [four[2], four[3]];
        let length = match vr {
            Some(
                VR::OB
                | VR::OD
                | VR::OF
                | VR::OL
                | VR::OV
                | VR::OW
                | VR::SQ
                | VR::SV
                | VR::UC
                | VR::UN
                | VR::UR
                | VR::UT
                | VR::UV,
            )
            | None => long(self.array()?),
            Some(_) if coding.big => u16::from_be_bytes(two).into(),
            Some(_) => u16::from_le_bytes(two).into(),
        };
        Ok(Head { tag, vr, length })
    }

    /// Preamble, file meta information and data set.
    fn whole(&mut self) -> Parsing<(InMemDicomObject, String, Option<Place>)> {
        let mut first = vec![0; self.length.min(132) as usize];
        self.read(&mut first)?;
        if first.get(128..132) != Some(b"DICM") {
            if !begins_data_set(&first) {
                return Err("is no DICOM file: neither DICM at byte 128 nor a data set at its beginning; \
                            damaged or cut short?"
                    .to_string());
            }
            self.go(0)?;
        }
        let stated = self.meta()?;
        let syntax = match stated {
            Some(syntax) => syntax,
            None => self.guessed()?.to_string(),
        };
        let coding = Coding { explicit: syntax != IMPLICIT, big: syntax == BIG_ENDIAN };
        if syntax == DEFLATED {
            self.inflate()?;
        }
        let mut object = InMemDicomObject::new_empty();
        let place = self.elements(coding, None, 0, &mut object)?;
        Ok((object, syntax, place))
    }

    /// Reads file meta information, if there is any, for the transfer syntax.
    fn meta(&mut self) -> Parsing<Option<String>> {
        let mut syntax = None;
        while self.left() >= 8 {
            let begin = self.at;
            // Always explicit and little endian.
            let head = self.head(Coding { explicit: true, big: false })?;
            if head.tag.0 != 2 {
                self.go(begin)?;
                break;
            }
            if head.tag == SYNTAX && head.length <= 64 {
                let mut value = vec![0; head.length as usize];
                self.read(&mut value)?;
                let text = String::from_utf8_lossy(&value).trim_matches(['\0', ' ']).to_string();
                // Those of the standard; a maker's may write its data set in an order of its own.
                if !text.starts_with(IMPLICIT) || !text.chars().all(|c| c.is_ascii_digit() || c == '.') {
                    return Err("has a transfer syntax that is unknown; damaged?".to_string());
                }
                syntax = Some(text);
            } else {
                self.skip(head.tag, head.length)?;
            }
        }
        Ok(syntax)
    }

    /// The transfer syntax of a data set that does not state one.
    fn guessed(&mut self) -> Parsing<&'static str> {
        let begin = self.at;
        let [a, _, _, _, e, f] = self.array()?;
        self.go(begin)?;
        let explicit = [e, f].iter().all(u8::is_ascii_uppercase);
        Ok(match (explicit, a == 0) {
            (false, _) => IMPLICIT,
            (true, true) => BIG_ENDIAN,
            (true, false) => EXPLICIT,
        })
    }

    fn inflate(&mut self) -> Parsing<()> {
        let mut inflated = Vec::new();
        let damaged = |e| format!("its deflated data set is damaged: {e}");
        if let Bytes::File(f) = &mut self.bytes {
            let mut decoder = flate2::read::DeflateDecoder::new(f).take(INFLATED + 1);
            decoder.read_to_end(&mut inflated).map_err(damaged)?;
        }
        if inflated.len() as u64 > INFLATED {
            return Err(format!("its deflated data set becomes more than {} MB", INFLATED >> 20));
        }
        *self = Input { at: 0, length: inflated.len() as u64, bytes: Bytes::Inflated(Cursor::new(inflated)) };
        Ok(())
    }

    /// Reads elements into `object`, up to the pixels, to `end`, or to the mark of an item's end.
    fn elements(
        &mut self,
        coding: Coding,
        end: Option<u64>,
        depth: usize,
        object: &mut InMemDicomObject,
    ) -> Parsing<Option<Place>> {
        let end = end.unwrap_or(self.length);
        while self.at < end {
            // A byte or two of padding at the end of a file.
            if depth == 0 && self.left() < 8 {
                break;
            }
            let head = self.head(coding)?;
            if head.tag == ITEM_END {
                break;
            }
            if head.tag == PIXEL_DATA && depth == 0 {
                let length = (head.length != UNDEFINED).then_some(u64::from(head.length));
                let big = coding.big.then_some(if head.vr == Some(VR::OW) { 2 } else { 1 });
                return Ok(Some(Place { start: self.at, length, big }));
            }
            match wanted(head.tag) {
                Some(VR::SQ) if depth < DEPTH => {
                    let items = self.items(&head, coding, depth)?;
                    object.put(DataElement::new(head.tag, VR::SQ, DataSetSequence::from(items)));
                }
                Some(vr) if vr != VR::SQ && head.length != UNDEFINED && u64::from(head.length) <= LONGEST => {
                    if u64::from(head.length) > self.left() {
                        self.skip(head.tag, head.length)?;
                    }
                    let mut bytes = vec![0; head.length as usize];
                    self.read(&mut bytes)?;
                    let vr = head.vr.filter(|vr| *vr != VR::UN).unwrap_or(vr);
                    if let Some(value) = value(vr, &bytes, coding.big) {
                        object.put(DataElement::new(head.tag, vr, value));
                    }
                }
                _ => self.pass(&head, coding)?,
            }
        }
        Ok(None)
    }

    /// Reads the items of a sequence.
    fn items(&mut self, head: &Head, coding: Coding, depth: usize) -> Parsing<Vec<InMemDicomObject>> {
        let coding = inside(head, coding);
        let end = match head.length {
            UNDEFINED => self.length,
            length if u64::from(length) > self.left() => {
                self.skip(head.tag, length)?;
                self.at
            }
            length => self.at + u64::from(length),
        };
        let mut items = Vec::new();
        while self.at < end {
            let item = self.head(coding)?;
            match item.tag {
                SEQUENCE_END => break,
                ITEM if items.len() < ITEMS => {
                    let end = match item.length {
                        UNDEFINED => None,
                        length if u64::from(length) > end - self.at => {
                            return Err(format!(
                                "an item of {} is longer than the sequence; damaged?",
                                head.tag
                            ));
                        }
                        length => Some(self.at + u64::from(length)),
                    };
                    let mut object = InMemDicomObject::new_empty();
                    self.elements(coding, end, depth + 1, &mut object)?;
                    items.push(object);
                }
                ITEM => return Err(format!("sequence {} has more than {ITEMS} items; damaged?", head.tag)),
                other => return Err(format!("{other} stands in sequence {}, expected an item", head.tag)),
            }
        }
        Ok(items)
    }

    /// Passes over an element with all that is nested in it.
    fn pass(&mut self, head: &Head, coding: Coding) -> Parsing<()> {
        if head.length != UNDEFINED {
            return self.skip(head.tag, head.length);
        }
        // What is open: whether it is a sequence (else an item), and how the elements in it are written.
        let mut open = vec![(true, inside(head, coding))];
        while let Some(&(sequence, coding)) = open.last() {
            let head = self.head(coding)?;
            match head.tag {
                SEQUENCE_END if sequence => drop(open.pop()),
                ITEM_END if !sequence => drop(open.pop()),
                ITEM if sequence && head.length == UNDEFINED => open.push((false, coding)),
                ITEM if sequence => self.skip(head.tag, head.length)?,
                tag if sequence => return Err(format!("{tag} stands in a sequence, expected an item")),
                _ if head.length == UNDEFINED => open.push((true, inside(&head, coding))),
                tag => self.skip(tag, head.length)?,
            }
        }
        Ok(())
    }
}

/// How the items of an element are written: those of unknown VR are implicit and little endian.
fn inside(head: &Head, coding: Coding) -> Coding {
    if head.vr == Some(VR::UN) { Coding { explicit: false, big: false } } else { coding }
}

/// A value of a wanted element; none where its bytes are not of this kind.
fn value(vr: VR, bytes: &[u8], big: bool) -> Option<PrimitiveValue> {
    macro_rules! numbers {
        ($type:ty, $kind:ident) => {{
            let (chunks, rest) = bytes.as_chunks::<{ size_of::<$type>() }>();
            if !rest.is_empty() {
                return None;
            }
            let number = |b: &[u8; size_of::<$type>()]| {
                if big { <$type>::from_be_bytes(*b) } else { <$type>::from_le_bytes(*b) }
            };
            PrimitiveValue::$kind(chunks.iter().map(number).collect())
        }};
    }
    Some(match vr {
        VR::US => numbers!(u16, U16),
        VR::SS => numbers!(i16, I16),
        VR::UL => numbers!(u32, U32),
        VR::SL => numbers!(i32, I32),
        VR::FL => numbers!(f32, F32),
        VR::FD => numbers!(f64, F64),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let parts = text.split('\\').map(|s| s.trim_matches(['\0', ' ']).to_string());
            PrimitiveValue::Strs(parts.collect::<C<String>>())
        }
    })
}
