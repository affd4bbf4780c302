//! `.debug`: switches debug messages on and off while the daemon runs.

use bytes::Bytes;
use pmxcfs_api_types::{FsError, Result};

use super::plugins::GeneratedFile;
use crate::logging::LogLevel;

/// The writable plugin `.debug`: `1\n` when debug messages are on, else `0\n`.
#[derive(Debug)]
pub struct DebugSwitch(pub LogLevel);

impl GeneratedFile for DebugSwitch {
    fn render(&self) -> Bytes {
        Bytes::from_static(if self.0.is_debug() { b"1\n" } else { b"0\n" })
    }

    fn mode(&self) -> u16 {
        0o640
    }

    /// Takes the first two bytes, which must be `0\n` or `1\n`, at offset 0; returns 2 even when more was given.
    fn write(&self, offset: u64, data: &[u8]) -> Result<u32> {
        match data {
            [b'0', b'\n', ..] if offset == 0 => self.0.set_debug(false),
            [b'1', b'\n', ..] if offset == 0 => self.0.set_debug(true),
            _ => return Err(FsError::Io),
        }
        Ok(2)
    }

    fn truncate(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_two_bytes_at_the_start_only() {
        let switch = DebugSwitch(LogLevel::detached(false));
        assert_eq!(switch.render(), "0\n");
        for (offset, data) in [
            (0, &b"1"[..]),
            (1, b"1\n"),
            (0, b"x\n"),
            (0, b""),
            (0, b"10"),
            (2, b"\n"),
        ] {
            assert_eq!(switch.write(offset, data), Err(FsError::Io), "{data:?}");
        }
        assert_eq!(switch.render(), "0\n");
        assert_eq!(switch.write(0, b"1\nmore"), Ok(2));
        assert_eq!(switch.render(), "1\n");
        assert_eq!(switch.write(0, b"0\n"), Ok(2));
        assert_eq!(switch.render(), "0\n");
    }
}
