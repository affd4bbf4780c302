//! Figures that the daemon reports, declared where they are counted.
//!
//! A report goes over the control socket as JSON. A reader takes what it knows and fills in the rest with nothing, so that
//! programs and daemons of different versions understand each other: fields are added and never change their meaning.
//! A field that has a name behind it is a metric of that name as well, and its documentation is the metric's help.
//! Durations are counted by the daemon's monotonic clock, in the unit that the field's name ends with.

#[doc(hidden)]
pub use serde;

/// A figure of a part of the report, as monitoring gets it.
#[derive(Debug)]
pub struct Metric {
    /// Name, without the prefix of all. That of a counter ends with `_total`.
    pub name: &'static str,
    /// Meaning, in a sentence.
    pub help: &'static str,
    /// Name of the field, which ends with the unit. A flag counts as 0 or 1, a list as its length.
    pub field: &'static str,
}

/// Declares parts of the report. The documentation of a field is one line.
#[macro_export]
macro_rules! figures {
    ($(
        $(#[$meta:meta])*
        $part:ident { $(#[doc = $doc:literal] $field:ident: $type:ty $(= $metric:literal)?,)+ }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Default, PartialEq, Eq)]
            #[derive($crate::figures::serde::Serialize, $crate::figures::serde::Deserialize)]
            #[serde(crate = "pmxcfs_api_types::figures::serde", default)]
            pub struct $part {
                $(#[doc = $doc] pub $field: $type,)+
            }

            impl $part {
                /// Its figures that are metrics.
                pub const METRICS: &[$crate::figures::Metric] = &[$($($crate::figures::Metric {
                    name: $metric,
                    help: $doc,
                    field: stringify!($field),
                },)?)+];
            }
        )+
    };
}
