//! Latency histogram with buckets of about three percent, which processes pass to each other as text.

use std::fmt::Write;

/// Sub-buckets per power of two, as a power of two.
const PRECISION: u32 = 5;
const BUCKET_COUNT: usize = 64 << PRECISION;

/// Counts of latencies in nanoseconds.
#[derive(Clone)]
pub struct Histogram(Vec<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; BUCKET_COUNT])
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, nanoseconds: u64) {
        self.0[bucket(nanoseconds)] += 1;
    }

    /// Number of latencies.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The latency that this share of all does not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        let total = self.count();
        let mut below = 0;
        for (index, count) in self.0.iter().enumerate() {
            below += count;
            if below as f64 >= share * total as f64 && below > 0 {
                return lower_bound(index);
            }
        }
        0
    }

    /// Adds what [`Histogram::render`] wrote.
    pub fn add(&mut self, text: &str) {
        for pair in text.split_whitespace() {
            let (index, count) = pair.split_once(':').expect("index:count");
            let index: usize = index.parse().expect("an index");
            self.0[index] += count.parse::<u64>().expect("a count");
        }
    }

    /// The filled buckets as one line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (index, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(text, "{index}:{count} ").expect("strings grow");
        }
        text
    }
}

fn bucket(value: u64) -> usize {
    let exponent = value.max(1).ilog2();
    if exponent <= PRECISION {
        return value as usize;
    }
    let mantissa = value >> (exponent - PRECISION);
    (((exponent - PRECISION) as usize) << PRECISION) + mantissa as usize
}

fn lower_bound(index: usize) -> u64 {
    let exponent = (index >> PRECISION).saturating_sub(1);
    if exponent == 0 {
        return index as u64;
    }
    let mantissa = (index - (exponent << PRECISION)) as u64;
    mantissa << exponent
}
