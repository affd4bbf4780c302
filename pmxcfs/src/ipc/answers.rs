//! Answers about guests, kept as long as the tree does not change.
//!
//! Many programs ask for the same few properties of all guests every few seconds, and looking through ten thousand
//! configs takes milliseconds; others poll one guest while they wait for its lock to go. An answer is a function of the
//! question, which is the request as the client sent it, and of the tree, so it is kept until there is one of another
//! version of the tree.

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
    /// The tree that all of them are about.
    tree_version: u64,
    answers: HashMap<Box<[u8]>, Bytes>,
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
        let is_true = kept.tree_version == tree_version;
        kept.answers.get(question).filter(|_| is_true).cloned()
    }

    /// Keeps an answer. Those about another tree go.
    pub(super) fn keep(&self, tree_version: u64, question: &[u8], text: &Bytes) {
        let mut kept = self.0.lock();
        let size = question.len() + text.len();
        let is_full = kept.answers.len() >= MAX_COUNT || kept.size + size > MAX_SIZE;
        if kept.tree_version != tree_version || is_full {
            *kept = Kept::default();
            kept.tree_version = tree_version;
        }
        // The same question about the same tree has the same answer.
        if kept.answers.insert(question.into(), text.clone()).is_none() {
            kept.size += size;
        }
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
                let size: usize = kept.answers.iter().map(|(q, t)| q.len() + t.len()).sum();
                assert_eq!(kept.size, size);
            }
        }
    }
}
