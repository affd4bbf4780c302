//! A strict reader of the text format of Prometheus, written from its specification.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// Limits and counts.
type Buckets = Vec<(f64, f64)>;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// Samples of one name, with what stands above them.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// A page that keeps all rules.
#[derive(Debug)]
pub(crate) struct Page(pub(crate) BTreeMap<String, Family>);

impl Page {
    /// Reads a page. What breaks a rule ends the test.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut page = Self(BTreeMap::new());
        let mut present = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty(), "{line}");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
                let (typed, kind) = kind.and_then(|rest| rest.split_once(' ')).unwrap();
                assert_eq!(typed, name, "type and help belong together");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                name.clone_into(&mut present);
                let family = Family {
                    kind: kind.to_owned(),
                    samples: Vec::new(),
                };
                let former = page.0.insert(present.clone(), family);
                assert!(former.is_none(), "{name} stands in one place");
            } else {
                let sample = sample(line);
                let family = page.0.get_mut(&present).unwrap();
                assert!(
                    belongs(&sample.name, &present, &family.kind),
                    "{line} below {present}"
                );
                family.samples.push(sample);
            }
        }
        page.check();
        page
    }

    /// The sample of a family without labels, or with just these.
    pub(crate) fn value(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(family, labels)
            .unwrap_or_else(|| panic!("{family} with {labels:?}"))
    }

    /// As [`Self::value`], of any name in any family.
    pub(crate) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut samples = self.0.values().flat_map(|family| &family.samples);
        let found = samples.find(|sample| sample.name == name && sample.labels == labels);
        found.map(|sample| sample.value)
    }

    fn check(&self) {
        let mut series = BTreeSet::new();
        for (name, family) in &self.0 {
            assert_eq!(
                family.kind == "counter",
                name.ends_with("_total"),
                "{name} is a {}",
                family.kind
            );
            for sample in &family.samples {
                assert!(
                    series.insert((&sample.name, &sample.labels)),
                    "twice: {sample:?}"
                );
                assert!(sample.value >= 0.0, "{sample:?}");
            }
            if family.kind == "histogram" {
                check_histogram(name, &family.samples);
            }
        }
    }
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    match sample.strip_prefix(family) {
        Some("") => kind != "histogram",
        Some("_bucket" | "_sum" | "_count") => kind == "histogram",
        _ => false,
    }
}

/// Buckets ascend up to one without a limit, which is the count.
fn check_histogram(name: &str, samples: &[Sample]) {
    let mut rows: BTreeMap<Labels, (Buckets, Vec<f64>)> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let limit = labels.remove("le");
        let (buckets, rest) = rows.entry(labels).or_default();
        match limit {
            Some(limit) => {
                assert_eq!(sample.name, format!("{name}_bucket"));
                buckets.push((limit.parse().unwrap(), sample.value));
            }
            None => rest.push(sample.value),
        }
    }
    for (labels, (buckets, rest)) in rows {
        assert!(
            buckets
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1),
            "{name} {labels:?}: {buckets:?}"
        );
        let (limit, count) = *buckets.last().unwrap();
        assert!(limit.is_infinite(), "{name} {labels:?}");
        // The sum, then the count.
        assert_eq!((rest.len(), rest[1]), (2, count), "{name} {labels:?}");
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label, false), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "no time stamp: {line}");
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().unwrap(),
    }
}

fn is_name(text: &str, may_have_colons: bool) -> bool {
    let allowed = |character: char| {
        character.is_ascii_alphanumeric() || character == '_' || may_have_colons && character == ':'
    };
    !text.is_empty()
        && text.chars().all(allowed)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// The value up to its closing quote, and what follows that.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().unwrap() {
            '"' => return (value, characters.as_str()),
            '\\' => value.push(match characters.next().unwrap() {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => panic!("\\{other} is no escape"),
            }),
            other => value.push(other),
        }
    }
}
