//! How are the records of a batch compressed and, with a bound on the output, decompressed?
//!
//! The formats are those of the Java clients: gzip (RFC 1952), snappy in xerial's framing (raw snappy, which
//! librdkafka writes, is read as well), the LZ4 frame format with independent 64 KiB blocks, Zstandard (RFC 8878).

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::batch::Compression;

/// First bytes of xerial's snappy framing; two big-endian version numbers follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
/// Version and lowest compatible version, as snappy-java writes them.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes of one xerial block, as snappy-java's default.
const XERIAL_BLOCK: usize = 32 * 1024;

/// Why data could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The compressed data are malformed, or end too early.
    #[error("failed to decompress {codec:?} data")]
    Malformed {
        /// The codec named by the batch.
        codec: Compression,
        /// What the codec found.
        #[source]
        source: std::io::Error,
    },
    /// The data would decompress to more than the caller allows.
    #[error("{codec:?} data decompress to more than the {limit} bytes allowed")]
    TooLarge {
        /// The codec named by the batch.
        codec: Compression,
        /// The caller's bound.
        limit: usize,
    },
    /// The data would take more than the caller allows once they are compressed.
    #[error("the data take more than the {limit} bytes allowed when compressed with {codec:?}")]
    Larger {
        /// The codec asked for.
        codec: Compression,
        /// The caller's bound.
        limit: usize,
    },
    /// The encoder failed.
    #[error("failed to compress with {codec:?}")]
    Encode {
        /// The codec asked for.
        codec: Compression,
        /// What the codec said.
        #[source]
        source: std::io::Error,
    },
}

/// Appends `data`, compressed with `codec` at its default level, to `out`.
///
/// # Errors
/// [`CompressionError::Encode`] when the codec fails (data too large for it).
pub fn compress(
    codec: Compression,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    encode(codec, data, out).map_err(|source| CompressionError::Encode { codec, source })
}

/// Appends `data`, which `from.0` compressed, to `out` as `to.0` compresses them. The data may decompress to `from.1`
/// bytes, which are never held together, and `out` may grow to `to.1` bytes.
///
/// # Errors
/// [`CompressionError::Malformed`] and [`CompressionError::TooLarge`] of the data, [`CompressionError::Larger`].
pub fn transcode(
    from: (Compression, usize),
    data: &[u8],
    to: (Compression, usize),
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let mut capped = Capped {
        out,
        most: to.1,
        is_passed: false,
    };
    let done = reader(from.0, data, from.1).and_then(|reader| encode(to.0, reader, &mut capped));
    done.map_err(|source| match capped.is_passed {
        true => CompressionError::Larger {
            codec: to.0,
            limit: to.1,
        },
        // Only the data are left to fail: memory takes what it is given.
        false => CompressionError::reading(from.0, from.1, source),
    })
}

/// Takes bytes up to a length.
struct Capped<'a> {
    out: &'a mut Vec<u8>,
    most: usize,
    is_passed: bool,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.is_passed |= self.out.len() + bytes.len() > self.most;
        if self.is_passed {
            return Err(too_large());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn encode(codec: Compression, mut data: impl Read, mut out: impl Write) -> std::io::Result<()> {
    match codec {
        Compression::None => std::io::copy(&mut data, &mut out).map(|_| ()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(out, flate2::Compression::default());
            std::io::copy(&mut data, &mut encoder)?;
            encoder.finish().map(|_| ())
        }
        Compression::Snappy => xerial(data, out),
        Compression::Lz4 => {
            // Java's reader refuses dependent blocks.
            let info = FrameInfo::new()
                .block_size(BlockSize::Max64KB)
                .block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(info, out);
            std::io::copy(&mut data, &mut encoder)?;
            encoder.finish().map(|_| ()).map_err(std::io::Error::other)
        }
        Compression::Zstd => zstd::stream::copy_encode(data, out, 0),
    }
}

fn xerial(mut data: impl Read, mut out: impl Write) -> std::io::Result<()> {
    out.write_all(&XERIAL_MAGIC)?;
    out.write_all(&XERIAL_VERSIONS)?;
    let mut encoder = snap::raw::Encoder::new();
    let mut chunk = Vec::with_capacity(XERIAL_BLOCK);
    let mut block = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK)];
    loop {
        chunk.clear();
        let most = u64::try_from(XERIAL_BLOCK).map_err(std::io::Error::other)?;
        if data.by_ref().take(most).read_to_end(&mut chunk)? == 0 {
            return Ok(());
        }
        let length = encoder.compress(&chunk, &mut block)?;
        let prefix = u32::try_from(length).map_err(std::io::Error::other)?;
        out.write_all(&prefix.to_be_bytes())?;
        out.write_all(&block[..length])?;
    }
}

impl CompressionError {
    /// What a failed read of [`reader`]'s stream means.
    pub(crate) fn reading(codec: Compression, limit: usize, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::FileTooLarge => Self::TooLarge { codec, limit },
            _ => Self::Malformed { codec, source },
        }
    }
}

/// The decompressed `data`; never more than `limit` bytes of it are produced, so a decompression bomb costs at
/// most `limit` bytes (and the codec's window).
///
/// # Errors
/// [`CompressionError::Malformed`] and [`CompressionError::TooLarge`].
pub fn decompress(
    codec: Compression,
    data: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let reading = |source| CompressionError::reading(codec, limit, source);
    let mut out = Vec::new();
    reader(codec, data, limit)
        .and_then(|mut reader| reader.read_to_end(&mut out))
        .map_err(reading)?;
    Ok(out)
}

/// `data` decompressed as a stream: whoever reads it holds what it wants of it. A read that would pass `limit` bytes
/// fails with [`std::io::ErrorKind::FileTooLarge`]; [`CompressionError::reading`] tells what an error means.
pub(crate) fn reader<'a>(
    codec: Compression,
    data: &'a [u8],
    limit: usize,
) -> std::io::Result<Limited<Box<dyn Read + 'a>>> {
    let inner: Box<dyn Read + 'a> = match codec {
        Compression::None => Box::new(data),
        Compression::Gzip => Box::new(MultiGzDecoder::new(data)),
        Compression::Snappy => Box::new(Snappy::new(data, limit)),
        Compression::Lz4 => Box::new(FrameDecoder::new(data)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(data)?),
    };
    Ok(Limited { inner, left: limit })
}

/// A stream that may give so many bytes.
pub(crate) struct Limited<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left > 0 || buffer.is_empty() {
            let most = buffer.len().min(self.left);
            let read = self.inner.read(&mut buffer[..most])?;
            self.left -= read;
            return Ok(read);
        }
        // One byte more tells "too large" from "exactly the limit".
        match self.inner.read(&mut buffer[..1])? {
            0 => Ok(0),
            _ => Err(too_large()),
        }
    }
}

/// Snappy, framed or raw, a block at a time: the blocks name their decompressed sizes, which are checked before
/// anything is allocated.
struct Snappy<'a> {
    rest: &'a [u8],
    is_framed: bool,
    /// What the blocks to come may decompress to.
    left: usize,
    block: Vec<u8>,
    at: usize,
}

impl<'a> Snappy<'a> {
    fn new(data: &'a [u8], limit: usize) -> Self {
        Self {
            rest: data,
            is_framed: data.starts_with(&XERIAL_MAGIC),
            left: limit,
            block: Vec::new(),
            at: 0,
        }
    }

    /// The next block's compressed bytes; raw data are one block, whose size an empty one lacks.
    fn compressed(&mut self) -> std::io::Result<&'a [u8]> {
        if !self.is_framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, after) = self.rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(std::io::Error::other)?;
        let block = after.get(..length).ok_or_else(cut_short)?;
        self.rest = &after[length..];
        Ok(block)
    }

    fn decompress(&mut self, block: &[u8]) -> std::io::Result<()> {
        let length = snap::raw::decompress_len(block)?;
        self.left = self.left.checked_sub(length).ok_or_else(too_large)?;
        // Snappy's densest element is a 3-byte copy of 64 bytes, a ratio below 22: a block that claims more than that is malformed, and
        // is refused before its output is allocated.
        if length > block.len().saturating_mul(22) {
            return Err(std::io::Error::other(
                "snappy block claims an impossible decompressed size",
            ));
        }
        self.block.resize(length, 0);
        let written = snap::raw::Decoder::new().decompress(block, &mut self.block)?;
        self.block.truncate(written);
        self.at = 0;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.block.len() && !self.rest.is_empty() {
            // A header may come again where streams were concatenated.
            if self.is_framed && self.rest.starts_with(&XERIAL_MAGIC) {
                self.rest = self.rest.get(XERIAL_HEADER_LEN..).ok_or_else(cut_short)?;
                continue;
            }
            let block = self.compressed()?;
            self.decompress(block)?;
        }
        let read = (&self.block[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

fn too_large() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::FileTooLarge)
}

fn cut_short() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        "snappy frame is cut short",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(codec: Compression, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, data, &mut out).expect("compresses");
        out
    }

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        let long: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 251).to_le_bytes())
            .collect();
        for codec in Compression::ALL {
            for data in [&b""[..], b"x", b"hello hello hello hello", &long] {
                let out = decompress(codec, &packed(codec, data), 1 << 20).expect("decompresses");
                assert_eq!(out, data, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_the_limit_itself_is_allowed() {
        let zeros = vec![0; 8 << 20];
        for codec in Compression::ALL {
            let bomb = packed(codec, &zeros);
            assert!(
                matches!(
                    decompress(codec, &bomb, zeros.len() - 1),
                    Err(CompressionError::TooLarge { .. })
                ),
                "{codec:?}"
            );
            assert_eq!(
                decompress(codec, &bomb, zeros.len()).expect("fits").len(),
                zeros.len(),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn what_is_compressed_anew_decompresses_to_the_same() {
        let data: Vec<u8> = (0..60_000_u32)
            .flat_map(|n| (n % 999).to_le_bytes())
            .collect();
        for from in Compression::ALL {
            let packed = packed(from, &data);
            for to in Compression::ALL {
                let mut out = Vec::new();
                transcode((from, data.len()), &packed, (to, 1 << 20), &mut out).expect("is fine");
                assert_eq!(decompress(to, &out, 1 << 20).expect("reads"), data);
                let mut short = Vec::new();
                let most = out.len() - 1;
                assert!(
                    matches!(
                        transcode((from, data.len()), &packed, (to, most), &mut short),
                        Err(CompressionError::Larger { .. })
                    ),
                    "{from:?} to {to:?}"
                );
                assert!(short.len() <= most);
                if from != Compression::None {
                    assert!(
                        matches!(
                            transcode((from, 1000), &packed, (to, 1 << 20), &mut Vec::new()),
                            Err(CompressionError::TooLarge { .. })
                        ),
                        "{from:?} to {to:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn raw_and_concatenated_snappy_are_read() {
        let raw = snap::raw::Encoder::new()
            .compress_vec(b"librdkafka writes this")
            .expect("compresses");
        assert_eq!(
            decompress(Compression::Snappy, &raw, 100).expect("raw"),
            b"librdkafka writes this"
        );
        let mut twice = packed(Compression::Snappy, b"one ");
        twice.extend(packed(Compression::Snappy, b"two"));
        assert_eq!(
            decompress(Compression::Snappy, &twice, 100).expect("framed"),
            b"one two"
        );
    }

    #[test]
    fn framed_snappy_is_laid_out_as_snappy_java_does() {
        let framed = packed(Compression::Snappy, b"abc");
        assert_eq!(&framed[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
        // Length of the block, then snappy: size 3, a literal of 3 bytes.
        assert_eq!(&framed[16..], b"\0\0\0\x05\x03\x08abc");
    }

    #[test]
    fn cut_data_are_an_error() {
        for codec in Compression::ALL.into_iter().skip(1) {
            let whole = packed(
                codec,
                b"some data that is cut short somewhere in the middle",
            );
            let cut = &whole[..whole.len() - 6];
            assert!(
                matches!(
                    decompress(codec, cut, 1 << 20),
                    Err(CompressionError::Malformed { .. })
                ),
                "{codec:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_pass_the_limit(
            data in prop::collection::vec(any::<u8>(), 0..400),
            which in 0..5_usize,
        ) {
            if let Ok(out) = decompress(Compression::ALL[which], &data, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(
            data in prop::collection::vec(any::<u8>(), 0..400),
            which in 1..5_usize, at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut packed = packed(Compression::ALL[which], &data);
            let at = at.index(packed.len());
            packed[at] = to;
            if let Ok(out) = decompress(Compression::ALL[which], &packed, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }
}
