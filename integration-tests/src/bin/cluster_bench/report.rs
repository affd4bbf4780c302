//! The lines that the parts print.

/// Prints a measured value beside its bar.
pub(crate) fn line(what: &str, value: &str, bar: &str, is_reached: bool) -> bool {
    let mark = if is_reached { "ok" } else { "MISSED" };
    say(&format!("{what:<52} {value:>22}   bar {bar:<16} {mark}"));
    is_reached
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn say(text: &str) {
    println!("{text}");
}
