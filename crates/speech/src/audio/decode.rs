//! Decoding by symphonia: probing, seeking, mixing to mono, and telling a damaged or cut file from a whole
//! one.

use super::content::Content;
use super::riff;
use selfsup_core::{Error, Result};
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Symphonia;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{TimeBase, Timestamp};

/// What errors about a codec without a decoder say.
const NOT_DECODED: &str = "is in a codec that is not decoded here";

/// Highest rate that is believed, in Hz: above any converter.
pub(super) const MAX_RATE: u32 = 1_536_000;
/// Packets at the start of an MPEG stream that may refer to data before it.
const LEAD: usize = 8;

/// What a recording says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// `wave`, `flac`, `mp3`, `ogg` ...
    pub format: &'static str,
    /// Samples a second of each channel.
    pub rate: u32,
    /// Channels, if the container says so.
    pub channels: Option<usize>,
    /// Samples of each channel, if the container says so; an estimate for some MPEG files.
    pub frames: Option<u64>,
}

impl Info {
    /// Its length in seconds, if known.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.frames? as f64 / f64::from(self.rate))
    }
}

/// What a recording says about itself, from its head (and, for ogg, its end): nothing is decoded.
///
/// # Errors
/// If it cannot be read or is none of the known formats.
pub fn info(content: &Content, id: &str) -> Result<Info> {
    if let Content::Wave { rate, samples } = content {
        return Ok(Info {
            format: "samples",
            rate: *rate,
            channels: Some(1),
            frames: Some(samples.len() as u64),
        });
    }
    guarded(id, || Ok(Stream::open(content, id)?.info))
}

/// The rate of a recording and the number of its samples, exactly. Where its head does not tell, or only
/// estimates as an mp3's does, the packets are walked through; nothing is decoded.
///
/// # Errors
/// If it cannot be read or is none of the known formats.
pub fn count(content: &Content, id: &str) -> Result<(u32, u64)> {
    if let Content::Wave { rate, samples } = content {
        return Ok((*rate, samples.len() as u64));
    }
    guarded(id, || {
        let mut stream = Stream::open(content, id)?;
        let rate = stream.info.rate;
        match stream.info.frames.filter(|_| !stream.mpeg) {
            Some(frames) => Ok((rate, frames)),
            None => Ok((rate, stream.walk()?)),
        }
    })
}

/// Decodes the samples that `span` asks for (given the rate: the first, and how many at most) and mixes them
/// to mono; returns the rate too. More than `limit` (given the rate) are refused, which the message calls
/// `max_seconds`.
pub(super) fn read(
    content: &Content,
    id: &str,
    span: &dyn Fn(u32) -> (u64, Option<u64>),
    limit: &dyn Fn(u32) -> u64,
    max_seconds: f64,
) -> Result<(u32, Vec<f32>)> {
    if let Content::Wave { rate, samples } = content {
        if *rate == 0 || samples.is_empty() {
            return Err(Error::input(id, format!("a wave of {} samples at {rate} Hz", samples.len())));
        }
        let (from, len) = span(*rate);
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(samples.len());
        let len = len.and_then(|l| usize::try_from(l).ok()).unwrap_or(usize::MAX).min(samples.len() - from);
        if len as u64 > limit(*rate) {
            return Err(too_long(id, len as f64 / f64::from(*rate), max_seconds));
        }
        return Ok((*rate, samples[from..from + len].to_vec()));
    }
    guarded(id, || {
        let mut stream = Stream::open(content, id)?;
        let rate = stream.info.rate;
        let ((from, len), limit) = (span(rate), limit(rate));
        if len.is_none()
            && !stream.mpeg
            && let Some(frames) = stream.info.frames
            && frames > limit
        {
            return Err(too_long(id, frames as f64 / f64::from(rate), max_seconds));
        }
        let reached = stream.seek(from)?;
        if !reached {
            stream = Stream::open(content, id)?;
        }
        Ok((rate, stream.collect(from, len, limit, max_seconds)?))
    })
}

/// Powers of the mean of the channels, and the mean of theirs, over the first `seconds`.
pub(super) fn powers(content: &Content, id: &str, seconds: u64) -> Result<(f64, f64)> {
    if matches!(content, Content::Wave { .. }) {
        return Ok((0.0, 0.0));
    }
    guarded(id, || {
        let mut stream = Stream::open(content, id)?;
        let most = seconds * u64::from(stream.info.rate);
        let (mut sums, mut seen, mut values) = ((0.0, 0.0), 0u64, Vec::new());
        while seen < most {
            let packet = match stream.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == stream.track => packet,
                Ok(Some(_)) => continue,
                _ => break,
            };
            // What is damaged is said where it is read.
            let Ok(buffer) = stream.decoder.decode(&packet) else { break };
            let (frames, channels) = (buffer.frames(), buffer.num_planes().max(1));
            if frames == 0 {
                continue;
            }
            buffer.copy_to_vec_interleaved::<f32>(&mut values);
            for frame in values.chunks_exact(channels).take(frames) {
                let mean = frame.iter().map(|v| f64::from(*v)).sum::<f64>() / channels as f64;
                sums.0 += mean * mean;
                sums.1 += frame.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / channels as f64;
            }
            seen += frames as u64;
        }
        Ok(sums)
    })
}

/// Whether the sound of a recording is in a codec that is decoded here. A known container may hold another
/// one (GSM in wav, Opus in ogg). Damaged files, and those that are no recordings, are not in another codec.
pub fn codec_is_read(content: &Content, id: &str) -> bool {
    info(content, id).err().is_none_or(|e| !e.to_string().contains(NOT_DECODED))
}

fn too_long(id: &str, seconds: f64, max: f64) -> Error {
    let hint = "read a section of it, crop, filter by length, or raise audio.max_seconds";
    Error::input(id, format!("lasts {seconds:.1} s, above audio.max_seconds = {max}: {hint}"))
}

/// Runs third-party code; a panic becomes an error.
fn guarded<R>(id: &str, f: impl FnOnce() -> Result<R>) -> Result<R> {
    selfsup_core::guard::guarded(f)
        .unwrap_or_else(|_| Err(Error::input(id, "the decoder failed on it: is the file damaged?")))
}

struct Stream<'a> {
    id: &'a str,
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    tick: Option<TimeBase>,
    /// Where the track begins on its own clock, in frames.
    origin: i64,
    mpeg: bool,
    /// Whether the container's number of frames is exact, and by how much a whole file may fall short of it.
    slack: Option<u64>,
    info: Info,
}

impl<'a> Stream<'a> {
    fn open(content: &Content, id: &'a str) -> Result<Self> {
        let (source, size): (Box<dyn MediaSource>, u64) = match content {
            Content::File(path) => {
                let file = selfsup_core::file::open(path)?;
                let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
                (riff::source(file, size, id)?, size)
            }
            Content::Bytes(bytes) => {
                let size = bytes.len() as u64;
                (riff::source(std::io::Cursor::new(bytes.clone()), size, id)?, size)
            }
            Content::Wave { .. } => return Err(Error::input(id, "is a wave, not an encoded file")),
        };
        if size == 0 {
            return Err(Error::input(id, "is empty"));
        }
        let stream = MediaSourceStream::new(source, Default::default());
        let known = "expected wav, aiff, flac, mp3, ogg vorbis, or m4a with aac or alac";
        let reader = symphonia::default::get_probe()
            .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| match e {
                Symphonia::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Error::input(
                    id,
                    format!("is cut short within its head ({size} bytes), or no audio: {known}"),
                ),
                // What the probe itself says is that it knows no such container.
                Symphonia::Unsupported(what) if !what.starts_with("core") => {
                    Error::input(id, format!("{NOT_DECODED} ({what}), {known}"))
                }
                e => Error::input(id, format!("is no audio that can be read ({e}), {known}")),
            })?;
        let format = reader.format_info().short_name;
        let track = reader
            .default_track(TrackType::Audio)
            .ok_or_else(|| Error::input(id, format!("this {format} file has no sound")))?;
        let params = track.codec_params.as_ref().and_then(|p| p.audio());
        let params = params.ok_or_else(|| {
            Error::input(id, format!("{NOT_DECODED} (the sound of this {format} file is unknown), {known}"))
        })?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map_err(|e| match e {
                Symphonia::Unsupported(what) => {
                    Error::input(id, format!("{NOT_DECODED} ({format}: {what}), {known}"))
                }
                e => Error::input(
                    id,
                    format!("the sound of this {format} file cannot be decoded ({e}), {known}"),
                ),
            })?;
        let rate = params.sample_rate.ok_or_else(|| Error::input(id, "does not tell its sampling rate"))?;
        if !(100..=MAX_RATE).contains(&rate) {
            return Err(Error::input(
                id,
                format!("a sampling rate of {rate} Hz, expected 100 to {MAX_RATE}"),
            ));
        }
        let mpeg = params.codec == CODEC_ID_MP3;
        let codec = decoder.codec_info().short_name;
        let whole = codec.starts_with("pcm") || matches!(codec, "flac" | "alac");
        // A wav file that was written to a pipe has about 4 GiB in its head, or whole blocks of 0x7FFFF000
        // (sox): it means unknown.
        let bits = params.bits_per_coded_sample.or(params.bits_per_sample).unwrap_or(16);
        let channels = params.channels.as_ref().map(|c| c.count()).filter(|&c| c > 0);
        let bytes = |frames: u64| frames.saturating_mul(channels.unwrap_or(1) as u64 * u64::from(bits)) / 8;
        let unknown = |bytes: u64| {
            bytes > size && (bytes >= 0xFFFF_0000 || (0x7FFF_E000..=0x7FFF_F000).contains(&bytes))
        };
        let frames = track.num_frames.filter(|&f| !(format.starts_with("wav") && unknown(bytes(f))));
        let info = Info { format, rate, channels, frames };
        let slack = if mpeg { None } else { Some(if whole { 0 } else { 8192 }) };
        let (id_track, tick) = (track.id, track.time_base);
        let mut out = Stream { id, track: id_track, tick, origin: 0, mpeg, slack, info, decoder, reader };
        let start = out.reader.default_track(TrackType::Audio).map_or(0, |t| t.start_ts.get());
        out.origin = out.frame(start.max(0));
        Ok(out)
    }

    /// A time of the track in frames.
    fn frame(&self, ticks: i64) -> i64 {
        let Some(base) = self.tick else { return ticks };
        let (n, d) =
            (i128::from(base.numer.get()) * i128::from(self.info.rate), i128::from(base.denom.get()));
        ((i128::from(ticks) * n + d / 2).div_euclid(d)).try_into().unwrap_or(i64::MAX)
    }

    /// Frames as a time of the track, rounded down.
    fn ticks(&self, frame: i64) -> i64 {
        let Some(base) = self.tick else { return frame };
        let (n, d) =
            (i128::from(base.numer.get()) * i128::from(self.info.rate), i128::from(base.denom.get()));
        ((i128::from(frame) * d).div_euclid(n)).try_into().unwrap_or(i64::MAX)
    }

    /// Goes to a little before frame `from`: lossy codecs need some packets before they give what the whole
    /// file gives. Says whether that was possible.
    fn seek(&mut self, from: u64) -> Result<bool> {
        let before = u64::from(self.info.rate) / 2;
        if from <= before {
            return Ok(true);
        }
        let target = self.ticks(i64::try_from(from - before).unwrap_or(i64::MAX).saturating_add(self.origin));
        let to = SeekTo::Timestamp { ts: Timestamp::new(target), track_id: self.track };
        match self.reader.seek(SeekMode::Accurate, to) {
            Ok(at) => {
                self.decoder.reset();
                // A reader that lands behind what was asked for is no use.
                Ok(self.frame(at.actual_ts.get()) - self.origin <= i64::try_from(from).unwrap_or(i64::MAX))
            }
            Err(_) => Ok(false),
        }
    }

    /// The frame after the last packet.
    fn walk(&mut self) -> Result<u64> {
        let mut end = 0i64;
        loop {
            match self.reader.next_packet() {
                Ok(Some(p)) if p.track_id == self.track => {
                    let ticks = i64::try_from(p.trim_start.get().saturating_add(p.dur.get()));
                    let last = p.pts.get().saturating_add(ticks.unwrap_or(i64::MAX));
                    end = end.max(self.frame(last) - self.origin);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Symphonia::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(e) => {
                    let seconds = end as f64 / f64::from(self.info.rate);
                    return Err(Error::input(self.id, format!("is damaged after {seconds:.2} s: {e}")));
                }
            }
        }
        Ok(u64::try_from(end).unwrap_or(0))
    }

    /// Decodes on from here and keeps frames `from..from + len`, mixed to mono.
    fn collect(&mut self, from: u64, len: Option<u64>, limit: u64, max_seconds: f64) -> Result<Vec<f32>> {
        let id = self.id;
        let end = len.map_or(u64::MAX, |l| from.saturating_add(l));
        let (mut out, mut mixed, mut lead) = (Vec::new(), Vec::new(), 0);
        // Frame that the next decoded sample is; known from the first packet that gives samples.
        let mut at: Option<u64> = None;
        let mut skip_early = 0u64;
        loop {
            let seconds = |f: u64| f as f64 / f64::from(self.info.rate);
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(Symphonia::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(e) => {
                    return Err(Error::input(
                        id,
                        format!("is damaged after {:.2} s: {e}", seconds(at.unwrap_or(0))),
                    ));
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            let buffer = match self.decoder.decode(&packet) {
                Ok(buffer) => buffer,
                // The first packets after a seek, or of an MPEG stream, may need data from before.
                Err(Symphonia::DecodeError(_))
                    if out.is_empty() && lead < LEAD && (self.mpeg || from > 0) =>
                {
                    lead += 1;
                    continue;
                }
                Err(e) => {
                    return Err(Error::input(
                        id,
                        format!("is damaged after {:.2} s: {e}", seconds(at.unwrap_or(0))),
                    ));
                }
            };
            let n = mix(&buffer, &mut mixed);
            if buffer.spec().rate() != self.info.rate {
                let (a, b) = (self.info.rate, buffer.spec().rate());
                return Err(Error::input(
                    id,
                    format!("changes its rate from {a} to {b} Hz after {:.2} s", seconds(at.unwrap_or(0))),
                ));
            }
            if n == 0 {
                continue;
            }
            let first = match at {
                Some(at) => at,
                None => {
                    let trim = i64::try_from(packet.trim_start.get()).unwrap_or(0);
                    let place = self.frame(packet.pts.get().saturating_add(trim)) - self.origin;
                    skip_early = u64::try_from(-place).unwrap_or(0);
                    u64::try_from(place).unwrap_or(0)
                }
            };
            // Samples before the beginning of the track are an encoder's delay.
            let drop = skip_early.min(n as u64);
            skip_early -= drop;
            let samples = &mixed[drop as usize..n];
            let next = first + samples.len() as u64;
            let (a, b) = (from.clamp(first, next) - first, end.clamp(first, next) - first);
            out.extend_from_slice(&samples[a as usize..b as usize]);
            at = Some(next);
            if out.len() as u64 > limit {
                return Err(too_long(
                    id,
                    self.info.seconds().filter(|_| !self.mpeg).unwrap_or(seconds(next)),
                    max_seconds,
                ));
            }
            if next >= end {
                return Ok(out);
            }
        }
        let reached = at.unwrap_or(0);
        if let (Some(slack), Some(frames)) = (self.slack, self.info.frames)
            && reached + slack < frames
        {
            return Err(Error::input(
                id,
                format!("is cut short: {reached} of its {frames} samples are there"),
            ));
        }
        if reached == 0 {
            return Err(Error::input(id, "has no samples"));
        }
        if out.is_empty() {
            let (at, lasts) =
                (from as f64 / f64::from(self.info.rate), reached as f64 / f64::from(self.info.rate));
            return Err(Error::input(
                id,
                format!("a section at {at:.2} s was asked for, but it lasts {lasts:.2} s"),
            ));
        }
        Ok(out)
    }
}

/// The mean of the channels into `mixed`; returns the number of frames.
fn mix(buffer: &GenericAudioBufferRef<'_>, mixed: &mut Vec<f32>) -> usize {
    let (frames, channels) = (buffer.frames(), buffer.num_planes());
    if frames == 0 || channels == 0 {
        return 0;
    }
    buffer.copy_to_vec_interleaved::<f32>(mixed);
    if channels > 1 {
        let scale = 1.0 / channels as f32;
        for i in 0..frames {
            mixed[i] = mixed[i * channels..(i + 1) * channels].iter().sum::<f32>() * scale;
        }
    }
    frames
}
