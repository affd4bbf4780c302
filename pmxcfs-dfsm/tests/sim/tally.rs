//! What many stories were about: numbers that tell whether they were about anything.

use super::story::Story;

/// What many stories were about.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    steps: usize,
    answers: usize,
    succeeded: usize,
    strayed: usize,
    given_way: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, story: &Story) {
        let checks = &story.checks;
        self.steps += story.script.steps.len();
        self.answers += checks.answers.answer_count;
        self.succeeded += checks.answers.success_count;
        self.strayed += checks.strays.stray_count;
        self.given_way += checks.lineage.given_way_count;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} steps, {} answers of which {} successes, {} times a C daemon strayed, {} messages of a majority gave way",
            self.steps, self.answers, self.succeeded, self.strayed, self.given_way
        )
    }
}
