//! Identifiers that must not be confused with other numbers.

use std::fmt;

/// Node id as corosync assigns it. 0 stands for "no node": local mode and the first import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a guest, unique in the whole cluster. The tree has no lower bound other than 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vmid(pub u32);

impl Vmid {
    /// Parses the decimal part of a guest config's name: first character `1`..=`9`, value at most 4294967295.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        if !matches!(digits.first(), Some(b'1'..=b'9')) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Vmid;

    #[test]
    fn vmid_accepts_what_the_c_daemon_accepts() {
        let table: [(&[u8], Option<u32>); 9] = [
            (b"1", Some(1)),
            (b"100", Some(100)),
            (b"4294967295", Some(u32::MAX)),
            (b"4294967296", None),
            (b"10000000000", None),
            (b"0100", None),
            (b"0", None),
            (b"", None),
            (b"1a", None),
        ];
        for (text, id) in table {
            assert_eq!(Vmid::parse(text), id.map(Vmid));
        }
    }
}
