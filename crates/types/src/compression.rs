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
    let result = match codec {
        Compression::None => {
            out.extend_from_slice(data);
            Ok(())
        }
        Compression::Gzip => gzip(data, out),
        Compression::Snappy => xerial(data, out),
        Compression::Lz4 => lz4(data, out),
        Compression::Zstd => zstd::stream::copy_encode(data, out, 0),
    };
    result.map_err(|source| CompressionError::Encode { codec, source })
}

fn gzip(data: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(data)?;
    encoder.finish().map(|_| ())
}

fn lz4(data: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    // Java's reader refuses dependent blocks.
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(data)?;
    encoder.finish().map(|_| ()).map_err(std::io::Error::other)
}

fn xerial(data: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK)];
    for chunk in data.chunks(XERIAL_BLOCK) {
        let length = encoder.compress(chunk, &mut block)?;
        let prefix = u32::try_from(length).map_err(std::io::Error::other)?;
        out.extend_from_slice(&prefix.to_be_bytes());
        out.extend_from_slice(&block[..length]);
    }
    Ok(())
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
    let too_large = || CompressionError::TooLarge { codec, limit };
    let malformed = |source| CompressionError::Malformed { codec, source };
    let mut out = Vec::new();
    // One byte more than allowed tells "too large" from "exactly the limit".
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match codec {
        Compression::None => out.extend_from_slice(data),
        Compression::Gzip => {
            MultiGzDecoder::new(data)
                .take(bound)
                .read_to_end(&mut out)
                .map_err(malformed)?;
        }
        Compression::Snappy => unsnap(data, limit, &mut out).map_err(malformed)?,
        Compression::Lz4 => {
            FrameDecoder::new(data)
                .take(bound)
                .read_to_end(&mut out)
                .map_err(malformed)?;
        }
        Compression::Zstd => {
            zstd::stream::read::Decoder::with_buffer(data)
                .map_err(malformed)?
                .take(bound)
                .read_to_end(&mut out)
                .map_err(malformed)?;
        }
    }
    if out.len() > limit {
        return Err(too_large());
    }
    Ok(out)
}

/// Snappy, framed or raw. Stops one block (or nothing, for raw data) after `limit` is passed: the blocks name their
/// decompressed sizes, which are checked before anything is allocated.
fn unsnap(data: &[u8], limit: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
    if !data.starts_with(&XERIAL_MAGIC) {
        return unsnap_block(data, limit, out);
    }
    let mut rest = data;
    while !rest.is_empty() {
        // A header may come again where streams were concatenated.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(cut_short)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(std::io::Error::other)?;
        let block = after.get(..length).ok_or_else(cut_short)?;
        unsnap_block(block, limit, out)?;
        if out.len() > limit {
            return Ok(());
        }
        rest = &after[length..];
    }
    Ok(())
}

fn unsnap_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
    let start = out.len();
    let length = snap::raw::decompress_len(block)?;
    if length > limit - start {
        // The caller answers "too large" for one byte too many.
        out.resize(limit + 1, 0);
        return Ok(());
    }
    // Snappy's densest element is a 3-byte copy of 64 bytes: a block that claims more than that is malformed, and is
    // refused before its output is allocated.
    if length > block.len().saturating_mul(64) {
        return Err(std::io::Error::other(
            "snappy block claims an impossible decompressed size",
        ));
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..])?;
    out.truncate(start + written);
    Ok(())
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

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

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
        for codec in ALL {
            for data in [&b""[..], b"x", b"hello hello hello hello", &long] {
                let out = decompress(codec, &packed(codec, data), 1 << 20).expect("decompresses");
                assert_eq!(out, data, "{codec:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_the_limit_itself_is_allowed() {
        let zeros = vec![0; 8 << 20];
        for codec in ALL {
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
        for codec in ALL.into_iter().skip(1) {
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
            if let Ok(out) = decompress(ALL[which], &data, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(
            data in prop::collection::vec(any::<u8>(), 0..400),
            which in 1..5_usize, at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut packed = packed(ALL[which], &data);
            let at = at.index(packed.len());
            packed[at] = to;
            if let Ok(out) = decompress(ALL[which], &packed, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }
}
