//! The last RRD value of each key, from the whole cluster, for those who join graphs with current values.
//!
//! A value is shown until 300 seconds after it arrived. The text is made at most every 2 seconds: its readers ask all
//! at once, and it is the largest of the documents.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmxcfs_api_types::text::until_nul;

/// Takes one value on its way to RRD files, with the key as it was set, without `rrd/`. The value ends with a NUL. Must not
/// block: it is called by whoever sets or receives a value.
pub type RrdSink = Box<dyn Fn(&[u8], &[u8]) + Send + Sync>;

/// Prefix of the status keys that belong here.
pub(crate) const RRD_PREFIX: &[u8] = b"rrd/";

/// Largest value in bytes, NUL included.
pub(crate) const MAX_SAMPLE_SIZE: usize = 4095;

/// Age in seconds that a value may have when it is shown.
const MAX_AGE_SECS: u64 = 300;

/// Age in seconds at which the text is made anew.
const TEXT_AGE_SECS: u64 = 2;

/// Keys of the whole cluster.
const MAX_SAMPLE_COUNT: usize = 65_536;

/// Bytes of keys and values of the whole cluster.
const MAX_TABLE_SIZE: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
struct Sample {
    value: Bytes,
    arrival_secs: u64,
}

/// The last values.
#[derive(Debug, Clone, Default)]
pub struct SampleTable {
    samples: BTreeMap<Bytes, Sample>,
    size: usize,
    text: Option<(u64, Bytes)>,
    /// When old values were dropped last.
    expiry_secs: Option<u64>,
}

impl SampleTable {
    /// Whether a value is one that is stored: 1 to 4095 bytes, the last one NUL.
    pub fn is_valid(value: &[u8]) -> bool {
        (1..=MAX_SAMPLE_SIZE).contains(&value.len()) && value.ends_with(b"\0")
    }

    /// Stores a valid value under its key, without `rrd/`. Says whether there was room.
    pub fn set(&mut self, key: &[u8], value: &Bytes, now_secs: u64) -> bool {
        if !self.has_room(key, value) {
            // Looking through a full table for each refused value would be work that a peer can cause.
            if self.expiry_secs != Some(now_secs) {
                self.expire(now_secs);
            }
            if !self.has_room(key, value) {
                return false;
            }
        }
        let sample = Sample {
            value: value.clone(),
            arrival_secs: now_secs,
        };
        self.size += value.len();
        match self.samples.get_mut(key) {
            Some(former) => {
                self.size -= former.value.len();
                *former = sample;
            }
            None => {
                self.size += key.len();
                self.samples.insert(Bytes::copy_from_slice(key), sample);
            }
        }
        true
    }

    /// Whether the bounds hold when the key has this value.
    fn has_room(&self, key: &[u8], value: &[u8]) -> bool {
        match self.samples.get(key) {
            Some(former) => self.size - former.value.len() + value.len() <= MAX_TABLE_SIZE,
            None => {
                self.samples.len() < MAX_SAMPLE_COUNT
                    && self.size + key.len() + value.len() <= MAX_TABLE_SIZE
            }
        }
    }

    /// Drops values that are too old to be shown.
    pub fn expire(&mut self, now_secs: u64) {
        let mut size = 0;
        self.samples.retain(|key, sample| {
            let is_current = now_secs.saturating_sub(sample.arrival_secs) <= MAX_AGE_SECS;
            if is_current {
                size += key.len() + sample.value.len();
            }
            is_current
        });
        self.size = size;
        self.expiry_secs = Some(now_secs);
    }

    /// A line `KEY:VALUE` for each value, then one NUL byte.
    pub fn text(&mut self, now_secs: u64) -> Bytes {
        match &self.text {
            Some((made_secs, text)) if now_secs.saturating_sub(*made_secs) < TEXT_AGE_SECS => {
                text.clone()
            }
            _ => {
                self.expire(now_secs);
                let text = Bytes::from(self.render());
                self.text = Some((now_secs, text.clone()));
                text
            }
        }
    }

    fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size + 2 * self.samples.len() + 1);
        for (key, sample) in &self.samples {
            out.extend_from_slice(key);
            out.push(b':');
            out.extend_from_slice(until_nul(&sample.value));
            out.push(b'\n');
        }
        out.push(0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(table: &mut SampleTable, key: &str, value: &'static [u8], now: u64) {
        assert!(table.set(key.as_bytes(), &Bytes::from_static(value), now));
    }

    #[test]
    fn values_are_shown_for_300_seconds_after_they_arrived() {
        let mut table = SampleTable::default();
        set(&mut table, "b", b"2\0", 1000);
        set(&mut table, "a", b"1\0ignored\0", 1010);
        assert_eq!(table.text(1010), "a:1\nb:2\n\0");
        assert_eq!(table.text(1300), "a:1\nb:2\n\0");
        set(&mut table, "c", b"3\0", 1301);
        assert_eq!(table.text(1301), "a:1\nb:2\n\0", "less than 2 s old");
        assert_eq!(table.text(1302), "a:1\nc:3\n\0");
        assert_eq!(table.text(9999), "\0");
        assert_eq!(table.size, 0);
    }

    #[test]
    fn known_keys_do_not_outgrow_the_table() {
        let mut table = SampleTable::default();
        let (small, large) = (
            Bytes::from_static(b"\0"),
            Bytes::from(vec![0; MAX_SAMPLE_SIZE]),
        );
        for number in 0..MAX_SAMPLE_COUNT {
            assert!(table.set(number.to_string().as_bytes(), &small, 0));
        }
        let grown = (0..MAX_SAMPLE_COUNT)
            .take_while(|number| table.set(number.to_string().as_bytes(), &large, 0))
            .count();
        assert!(grown < MAX_SAMPLE_COUNT && table.size <= MAX_TABLE_SIZE);
        assert!(table.set(b"0", &small, 0), "smaller ones are welcome");
        assert!(
            table.set(b"new", &large, MAX_AGE_SECS + 1),
            "all others are old"
        );
        assert_eq!(table.samples.len(), 1);
    }

    #[test]
    fn values_must_end_with_nul_and_have_4095_bytes_at_most() {
        assert!(!SampleTable::is_valid(b""));
        assert!(SampleTable::is_valid(b"\0"));
        assert!(!SampleTable::is_valid(b"1"));
        let mut value = vec![b'1'; 4095];
        assert!(!SampleTable::is_valid(&value));
        value[4094] = 0;
        assert!(SampleTable::is_valid(&value));
        value.insert(0, b'1');
        assert!(!SampleTable::is_valid(&value));
    }

    #[test]
    fn a_full_table_takes_new_keys_once_old_ones_have_expired() {
        let mut table = SampleTable::default();
        for number in 0..MAX_SAMPLE_COUNT {
            set(&mut table, &number.to_string(), b"1\0", 0);
        }
        assert!(!table.set(b"new", &Bytes::from_static(b"1\0"), 300));
        assert!(
            table.set(b"0", &Bytes::from_static(b"2\0"), 300),
            "a known key"
        );
        assert!(table.set(b"new", &Bytes::from_static(b"1\0"), 301));
        assert_eq!(table.samples.len(), 2);
        assert_eq!(table.text(301), "0:2\nnew:1\n\0");
    }
}
