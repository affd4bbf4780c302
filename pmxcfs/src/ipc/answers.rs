//! Answers about all guests, kept as long as the tree does not change.
//!
//! Many programs ask for the same few properties of all guests every few seconds, and looking through ten thousand
//! configs takes milliseconds. An answer is a function of the names asked for and of the tree, so it is kept with the
//! version of the tree that it was made from.

use bytes::Bytes;
use parking_lot::Mutex;

/// Different questions whose answers are kept.
const MAX_ANSWER_COUNT: usize = 16;

#[derive(Debug)]
struct Answer {
    tree_version: u64,
    names: Vec<Box<[u8]>>,
    text: Bytes,
}

impl Answer {
    fn is_about(&self, names: &[&[u8]]) -> bool {
        self.names.len() == names.len()
            && self
                .names
                .iter()
                .zip(names)
                .all(|(own, name)| **own == **name)
    }
}

/// The answers given last, the newest at the end.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Leaf lock: nothing is rendered or called while it is held.
    kept: Mutex<Vec<Answer>>,
}

impl Answers {
    /// The answer that is still true for this version of the tree.
    pub(super) fn find(&self, tree_version: u64, names: &[&[u8]]) -> Option<Bytes> {
        let kept = self.kept.lock();
        let answer = kept.iter().find(|answer| answer.is_about(names))?;
        (answer.tree_version == tree_version).then(|| answer.text.clone())
    }

    /// Keeps an answer in the place of an older one to the same question, or of the oldest of all.
    pub(super) fn keep(&self, tree_version: u64, names: &[&[u8]], text: &Bytes) {
        let answer = Answer {
            tree_version,
            names: names.iter().map(|name| Box::from(*name)).collect(),
            text: text.clone(),
        };
        let mut kept = self.kept.lock();
        kept.retain(|older| !older.is_about(names));
        if kept.len() == MAX_ANSWER_COUNT {
            kept.remove(0);
        }
        kept.push(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_question_and_its_tree() {
        let answers = Answers::default();
        let (lock, both): (&[&[u8]], &[&[u8]]) = (&[b"lock"], &[b"lock", b"name"]);
        answers.keep(7, lock, &Bytes::from_static(b"a"));
        assert_eq!(answers.find(7, lock).as_deref(), Some(&b"a"[..]));
        assert_eq!(answers.find(8, lock), None, "the tree has changed");
        assert_eq!(answers.find(7, both), None, "another question");
        answers.keep(8, lock, &Bytes::from_static(b"b"));
        assert_eq!(answers.find(8, lock).as_deref(), Some(&b"b"[..]));
        assert_eq!(answers.find(7, lock), None, "replaced");
    }

    #[test]
    fn strange_questions_do_not_pile_up() {
        let answers = Answers::default();
        for question in 0..100u32 {
            answers.keep(1, &[&question.to_le_bytes()], &Bytes::new());
        }
        assert_eq!(answers.kept.lock().len(), MAX_ANSWER_COUNT);
        assert!(answers.find(1, &[&99u32.to_le_bytes()]).is_some());
        assert!(answers.find(1, &[&0u32.to_le_bytes()]).is_none());
    }
}
