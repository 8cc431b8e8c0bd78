//! What a client does with a gzip stream: everything is decoded as soon as it is there, and at the end the sums are right.

use flate2::{Crc, Decompress, FlushDecompress, Status};

const HEADER_BYTES: usize = 10;

pub struct Gunzip {
    inflate: Decompress,
    crc: Crc,
    header: Vec<u8>,
    trailer: Vec<u8>,
    /// The last block has been seen.
    ended: bool,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
            header: Vec::new(),
            trailer: Vec::new(),
            ended: false,
        }
    }
}

impl Gunzip {
    /// All that these bytes give.
    #[track_caller]
    pub fn decode(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let missing = HEADER_BYTES - self.header.len();
        if missing > 0 {
            let (header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header.extend_from_slice(header);
            bytes = rest;
            if self.header.len() < HEADER_BYTES {
                return Vec::new();
            }
            assert_eq!(self.header[..4], [0x1F, 0x8B, 8, 0], "no gzip header");
        }
        let mut out = Vec::with_capacity(bytes.len() * 4 + 64);
        while !self.ended {
            let (taken, had) = (self.inflate.total_in(), out.len());
            let status = self
                .inflate
                .decompress_vec(bytes, &mut out, FlushDecompress::Sync)
                .expect("valid deflate blocks");
            let taken = (self.inflate.total_in() - taken) as usize;
            bytes = &bytes[taken..];
            self.ended = status == Status::StreamEnd;
            if taken == 0 && out.len() == had {
                break;
            }
            out.reserve(1024);
        }
        self.crc.update(&out);
        if self.ended {
            self.trailer.extend_from_slice(bytes);
        } else {
            assert!(bytes.is_empty(), "undecoded bytes: {bytes:?}");
        }
        out
    }

    /// A stream that ended on purpose says what it was.
    #[track_caller]
    pub fn finish(&self) {
        assert!(self.ended, "the last block is missing");
        let (sum, len) = self.trailer.split_at(4);
        assert_eq!(sum, self.crc.sum().to_le_bytes(), "the checksum");
        assert_eq!(len, self.crc.amount().to_le_bytes(), "the length");
    }
}

/// A body that is there in one piece.
#[track_caller]
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain)
        .expect("gzip with the right sums");
    plain
}
