//! Cuts a story that goes wrong down to the steps that matter.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    time::{Duration, Instant},
};

use super::{
    step::Step,
    story::{Script, Story},
};

/// Time for it.
const BUDGET: Duration = Duration::from_secs(30);

/// The first word of what went wrong: it names the check.
fn failure(script: &Script) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        Story::begin(script, false).go_on(script)
    }));
    let cause = outcome.err()?;
    let text = match (cause.downcast_ref::<String>(), cause.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (_, Some(text)) => text,
        _ => "",
    };
    Some(
        text.split([':', '\n'])
            .next()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// Takes out as many steps as can be missed, and writes down the rest with the end of the trace.
pub(crate) fn shrink(script: &Script) -> String {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let small = minimum(script);
    let mut story = Story::begin(&small, true);
    let outcome = catch_unwind(AssertUnwindSafe(|| story.go_on(&small)));
    set_hook(hook);
    let mut text = format!(
        "nodes {}, clocks ahead by {:?} s\n",
        small.node_count, small.clock_offsets_secs
    );
    text.push_str(&story.cluster.network.trace.join("\n"));
    if let Err(cause) = outcome
        && let Some(cause) = cause.downcast_ref::<String>()
    {
        write!(text, "\n{cause}").expect("a string takes all");
    }
    text
}

fn minimum(script: &Script) -> Script {
    let started = Instant::now();
    let Some(wanted) = failure(script) else {
        return script.clone();
    };
    let mut best = script.clone();
    let mut size = best.steps.len().div_ceil(2);
    while size > 0 && started.elapsed() < BUDGET {
        let mut start = 0;
        let mut is_smaller = false;
        while start < best.steps.len() && started.elapsed() < BUDGET {
            let end = (start + size).min(best.steps.len());
            let steps: Vec<Step> = [&best.steps[..start], &best.steps[end..]].concat();
            let candidate = Script {
                steps,
                ..best.clone()
            };
            if failure(&candidate).as_ref() == Some(&wanted) {
                best = candidate;
                is_smaller = true;
            } else {
                start = end;
            }
        }
        if !is_smaller || size > 1 {
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
    best
}
