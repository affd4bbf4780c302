//! Texts as C programs keep them.

/// A text up to its first NUL, or all of it.
pub fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
