//! What many stories were about: numbers that tell whether they were about anything.

use super::story::Story;

/// Sums over stories. What is counted of members is counted on each.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    steps: usize,
    answers: usize,
    succeeded: usize,
    exchanges: usize,
    updates: usize,
    commits: usize,
    leaves: usize,
    failures: usize,
    strayed: usize,
    given_way: usize,
    kept: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, story: &Story) {
        let checks = &story.checks;
        self.steps += story.script.steps.len();
        self.answers += checks.answers.answer_count;
        self.succeeded += checks.answers.success_count;
        self.exchanges += checks.counts.exchanges;
        self.updates += checks.counts.updates;
        self.commits += checks.counts.commits;
        self.leaves += checks.counts.leaves;
        self.failures += checks.counts.failures;
        self.strayed += checks.strays.stray_count;
        self.given_way += checks.lineage.given_way_count;
        self.kept += checks.kept.judged_count;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            steps,
            answers,
            succeeded,
            exchanges,
            updates,
            commits,
            leaves,
            failures,
            strayed,
            given_way,
            kept,
        } = self;
        writeln!(
            f,
            "{steps} steps, {answers} answers, {succeeded} of them successes"
        )?;
        writeln!(
            f,
            "{exchanges} ends of exchanges, {updates} updates begun, {commits} committed"
        )?;
        writeln!(
            f,
            "{leaves} times a member left, {failures} times it gave up"
        )?;
        writeln!(f, "{strayed} times a C daemon went its own way")?;
        writeln!(
            f,
            "{given_way} times a write held by a majority gave way to one that was not"
        )?;
        write!(f, "{kept} acknowledged writes had to stay, and did")
    }
}
