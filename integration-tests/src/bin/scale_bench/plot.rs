//! How each row grows, on logarithmic axes.

use crate::row::Row;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 600.0;
/// Left, top and bottom margin, and room for the names on the right.
const MARGIN: f64 = 60.0;
const NAMES: f64 = 220.0;

const COLORS: [&str; 10] = [
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
    "#bcbd22", "#17becf",
];

/// Each row in parts of its first value. The dashed line grows as the number of entries does.
pub(crate) fn svg(sizes: &[usize], rows: &[Row]) -> String {
    let first = sizes.first().copied().unwrap_or(1) as f64;
    let last = sizes.last().copied().unwrap_or(1) as f64;
    let most = (last / first).max(10.0);
    let least = 0.3;
    let x = |size: f64| {
        MARGIN + (WIDTH - MARGIN - NAMES) * (size / first).ln() / (last / first).max(1.1).ln()
    };
    let y = |growth: f64| {
        let share = (growth.clamp(least, most * 2.0) / least).ln() / (most * 2.0 / least).ln();
        HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * share
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\">growth over the number of entries, in parts of the value with {first} entries</text>\n"
    );
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for size in sizes {
        let at = x(*size as f64);
        add(format!(
            "<text x=\"{at:.0}\" y=\"{}\" text-anchor=\"middle\">{size}</text>",
            HEIGHT - MARGIN / 2.0
        ));
    }
    for growth in [1.0, 10.0, 100.0] {
        let at = y(growth);
        add(format!(
            "<text x=\"10\" y=\"{at:.0}\">{growth}</text><path d=\"M{MARGIN} {at:.0}H{}\" stroke=\"#ddd\"/>",
            WIDTH - NAMES
        ));
    }
    add(format!(
        "<path d=\"M{:.0} {:.0}L{:.0} {:.0}\" stroke=\"black\" stroke-dasharray=\"6\"/>",
        x(first),
        y(1.0),
        x(last),
        y(last / first)
    ));
    for (number, (row, color)) in rows.iter().zip(COLORS.iter().cycle()).enumerate() {
        let start = row.values.first().copied().unwrap_or(1.0);
        let points = sizes.iter().zip(&row.values);
        let points =
            points.map(|(size, value)| format!("{:.0},{:.0}", x(*size as f64), y(value / start)));
        let points: Vec<String> = points.collect();
        add(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        add(format!(
            "<text x=\"{}\" y=\"{}\" fill=\"{color}\">{}</text>",
            WIDTH - NAMES + 10.0,
            MARGIN + 20.0 * number as f64,
            row.name
        ));
    }
    text + "</svg>\n"
}
