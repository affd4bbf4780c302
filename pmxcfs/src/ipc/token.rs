//! Verifies API tokens without telling by its timing how much of one was right.

use subtle::{Choice, ConstantTimeEq};

/// Whether one whole line of the file is the token. All lines of the token's length are compared to their end.
pub(super) fn is_listed(token: &[u8], file: &[u8]) -> bool {
    let lines = file.split(|byte| *byte == b'\n');
    let found = lines.fold(Choice::from(0), |found, line| found | line.ct_eq(token));
    found.into()
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn a_token_is_one_whole_line() {
        let file = b"user@pve!tok 1234\n\nlast abcd";
        let table: [(&[u8], bool); 7] = [
            (b"user@pve!tok 1234", true),
            (b"last abcd", true),
            (b"last abc", false),
            (b"last abcde", false),
            (b"user@pve!tok 1235", false),
            (b"xser@pve!tok 1234", false),
            (b"4", false),
        ];
        for (token, expected) in table {
            assert_eq!(is_listed(token, file), expected, "{}", token.escape_ascii());
        }
        assert!(!is_listed(b"a", b""));
    }
}
