//! The figures.

/// What was measured, for each size.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What it returns grows with the number of entries.
    pub(crate) is_linear: bool,
    pub(crate) values: Vec<f64>,
}

impl Row {
    /// Growth from one size to the next, in parts of what it may be.
    pub(crate) fn excess(&self, sizes: &[usize]) -> f64 {
        let values = self.values.windows(2).map(|pair| pair[1] / pair[0]);
        let counts = sizes.windows(2).map(|pair| pair[1] as f64 / pair[0] as f64);
        let growths = values.zip(counts).map(|(value, count)| {
            let allowed = if self.is_linear { count } else { 1.0 };
            value / allowed
        });
        growths.fold(0.0, f64::max)
    }
}

/// One figure of one size.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) is_linear: bool,
    pub(crate) value: f64,
}

impl Figure {
    /// What it returns is always the same.
    pub(crate) fn constant(name: &'static str, unit: &'static str, value: f64) -> Self {
        let is_linear = false;
        Self {
            name,
            unit,
            is_linear,
            value,
        }
    }

    /// What it returns grows with the number of entries.
    pub(crate) fn linear(name: &'static str, unit: &'static str, value: f64) -> Self {
        let is_linear = true;
        Self {
            name,
            unit,
            is_linear,
            value,
        }
    }
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
