//! Answers about guests, kept as long as the tree does not change.
//!
//! Many programs ask for the same few properties of all guests every few seconds, and looking through ten thousand
//! configs takes milliseconds; others poll one guest while they wait for its lock to go. An answer is a function of the
//! question, which is the request as the client sent it, and of the tree, so it is kept with the version of the tree that
//! it was made from.

use std::collections::HashMap;

use bytes::Bytes;
use pmxcfs_api_types::sync::{Mutex, Rank};

/// Questions whose answers are kept, and bytes of both together. Above either all are forgotten.
const MAX_COUNT: usize = 256;
const MAX_SIZE: usize = 16 << 20;

/// The last answer to each of the latest questions.
#[derive(Debug)]
pub(super) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Box<[u8]>, (u64, Bytes)>,
    size: usize,
}

impl Default for Answers {
    fn default() -> Self {
        Self(Mutex::new(Rank::IpcAnswers, Kept::default()))
    }
}

impl Answers {
    /// The answer that is still true for this version of the tree.
    pub(super) fn find(&self, tree_version: u64, question: &[u8]) -> Option<Bytes> {
        let kept = self.0.lock();
        let (version, text) = kept.answers.get(question)?;
        (*version == tree_version).then(|| text.clone())
    }

    /// Keeps an answer in the place of an older one to the same question.
    pub(super) fn keep(&self, tree_version: u64, question: &[u8], text: &Bytes) {
        let mut kept = self.0.lock();
        if let Some((_version, older)) = kept.answers.remove(question) {
            kept.size -= question.len() + older.len();
        }
        kept.size += question.len() + text.len();
        if kept.answers.len() >= MAX_COUNT || kept.size > MAX_SIZE {
            kept.answers.clear();
            kept.size = question.len() + text.len();
        }
        kept.answers
            .insert(question.into(), (tree_version, text.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_question_and_its_tree() {
        let answers = Answers::default();
        answers.keep(7, b"lock", &Bytes::from_static(b"a"));
        assert_eq!(answers.find(7, b"lock").as_deref(), Some(&b"a"[..]));
        assert_eq!(answers.find(8, b"lock"), None, "the tree has changed");
        assert_eq!(answers.find(7, b"name"), None, "another question");
        answers.keep(8, b"lock", &Bytes::from_static(b"b"));
        assert_eq!(answers.find(8, b"lock").as_deref(), Some(&b"b"[..]));
        assert_eq!(answers.find(7, b"lock"), None, "replaced");
    }

    #[test]
    fn strange_questions_and_large_answers_do_not_pile_up() {
        let answers = Answers::default();
        for size in [0, 100_000, 2_000_000] {
            let text = Bytes::from(vec![b'x'; size]);
            for question in 0..1000u32 {
                let question = question.to_le_bytes();
                answers.keep(1, &question, &text);
                assert_eq!(answers.find(1, &question).as_ref(), Some(&text));
                let kept = answers.0.lock();
                assert!(kept.answers.len() <= MAX_COUNT && kept.size <= MAX_SIZE);
                let size: usize = kept
                    .answers
                    .iter()
                    .map(|(q, (_, t))| q.len() + t.len())
                    .sum();
                assert_eq!(kept.size, size);
            }
        }
    }
}
