//! One block of a file as deflate data that can stand beside other blocks: packed, or stored when packing would not pay.

use flate2::{Compress, Compression, FlushCompress};
use warden_platform::background_io;

/// What a worker takes at a time. Larger ones pack no better and cost memory; smaller ones forget more text.
pub const BLOCK_BYTES: usize = 1 << 20;
/// Packed before it is looked whether somebody else waits for the core: some 40 µs.
const AT_ONCE: usize = 4096;
/// Of zlib's levels: measured in benches/archive.rs.
pub const LEVEL: u32 = 4;
/// Most bytes of a stored block, by its 16-bit length (RFC 1951, 3.2.4).
const STORED_BYTES: usize = 65_535;
/// Where a block is tried before it is packed: enough to tell text from ciphertext, little to pay for nothing.
const SAMPLE_BYTES: usize = 4096;
const SAMPLES: usize = 3;
/// A sample that keeps more than this share of its size is not worth packing its block, in 1/100.
const NOT_WORTH: usize = 96;
/// What deflate may add to bytes that it cannot pack (zlib's own bound, rounded up), and the flush behind them.
const SLACK: usize = 1024;

/// Ends the deflate data of a member: an empty block that says it is the last one.
pub const END: [u8; 2] = [0x03, 0x00];

/// Packs blocks, one after another, each without memory of those before.
pub struct Packer {
    packer: Compress,
    sampler: Compress,
    sampled: Vec<u8>,
}

impl Packer {
    pub fn new() -> Packer {
        Packer {
            packer: Compress::new(Compression::new(LEVEL), false),
            sampler: Compress::new(Compression::new(1), false),
            sampled: Vec::with_capacity(SAMPLE_BYTES + SLACK),
        }
    }

    /// Packs `block` into `packed`, to be followed by another block or by [`END`]. `false` when that does not pay:
    /// then it is to be stored.
    pub fn pack(&mut self, block: &[u8], packed: &mut Vec<u8>) -> bool {
        packed.clear();
        if block.is_empty() {
            return true;
        }
        if !self.is_worth_packing(block) {
            return false;
        }
        packed.reserve(block.len() + block.len() / 16 + SLACK);
        self.packer.reset();
        let mut chunks = block.chunks(AT_ONCE).peekable();
        let mut done = true;
        while let Some(chunk) = chunks.next() {
            background_io::make_way();
            let flush = if chunks.peek().is_some() { FlushCompress::None } else { FlushCompress::Sync };
            // An error is unknown to deflate of plain bytes; stored is right in any case.
            done &= self.packer.compress_vec(chunk, packed, flush).is_ok();
        }
        done && self.packer.total_in() == block.len() as u64 && packed.len() < block.len()
    }

    fn is_worth_packing(&mut self, block: &[u8]) -> bool {
        if block.len() < SAMPLES * SAMPLE_BYTES {
            return true;
        }
        let apart = (block.len() - SAMPLE_BYTES) / (SAMPLES - 1);
        let (mut taken, mut kept) = (0, 0);
        for sample in (0..SAMPLES).map(|number| &block[number * apart..][..SAMPLE_BYTES]) {
            self.sampler.reset();
            self.sampled.clear();
            let done = self.sampler.compress_vec(sample, &mut self.sampled, FlushCompress::Sync);
            taken += sample.len();
            kept += if done.is_ok() { self.sampled.len() } else { sample.len() };
        }
        kept * 100 < taken * NOT_WORTH
    }
}

/// The parts of `block` as stored blocks: a header, and the bytes it stands for.
pub fn stored(block: &[u8]) -> impl Iterator<Item = ([u8; 5], &[u8])> {
    block.chunks(STORED_BYTES).map(|part| {
        let [low, high] = (part.len() as u16).to_le_bytes();
        ([0x00, low, high, !low, !high], part)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that no compressor can make smaller, the same every time (xorshift64*).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
        };
        (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
    }

    #[test]
    fn blocks_of_both_kinds_make_one_stream() {
        let text = "2026-11-21T10:30:53Z INFO shard-0 server: polled\n".repeat(9000).into_bytes();
        let mixed = [&noise(300_000)[..], &text[..200_000]].concat();
        let mut packer = Packer::new();
        let (mut stream, mut kinds) = (Vec::new(), Vec::new());
        let mut whole: Vec<u8> = Vec::new();
        for block in [&text[..], &noise(200_000), b"", b"x", &mixed, &noise(70)] {
            let mut packed = Vec::new();
            let worth = packer.pack(block, &mut packed);
            kinds.push(worth);
            if worth {
                stream.extend(packed);
            } else {
                for (header, part) in stored(block) {
                    stream.extend(header);
                    stream.extend(part);
                }
            }
            whole.extend(block);
        }
        stream.extend(END);
        let mut read = Vec::new();
        flate2::read::DeflateDecoder::new(&stream[..]).read_to_end(&mut read).unwrap();
        assert!(read == whole);
        assert_eq!(kinds, [true, false, true, false, true, false]);
        assert!(stream.len() < 515_000 + 20_000, "{}", stream.len());
    }

    #[test]
    fn a_block_does_not_depend_on_the_blocks_before() {
        let text = "abc def ghi\n".repeat(5000).into_bytes();
        let (mut fresh, mut used) = (Packer::new(), Packer::new());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        used.pack(&noise(100_000), &mut second);
        used.pack(b"abc def", &mut second);
        assert!(fresh.pack(&text, &mut first) && used.pack(&text, &mut second));
        assert_eq!(first, second);
    }
}
