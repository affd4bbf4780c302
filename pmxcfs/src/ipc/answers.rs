//! Answers about guests, kept as long as the tree does not change.
//!
//! Many programs ask for the same few properties of all guests every few seconds, and looking through ten thousand
//! configs takes milliseconds; others poll one guest while they wait for its lock to go. An answer is a function of the
//! question and of the tree, so it is kept with the version of the tree that it was made from.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

/// Different questions about all guests whose answers are kept.
const MAX_ANSWER_COUNT: usize = 16;

/// Guests whose last answer is kept; when there are more, all are forgotten.
const MAX_GUEST_COUNT: usize = 256;

/// Largest answer about one guest that is kept, in bytes.
const MAX_GUEST_ANSWER_SIZE: usize = 4096;

#[derive(Debug)]
struct Answer {
    tree_version: u64,
    names: Vec<Box<[u8]>>,
    text: Bytes,
}

impl Answer {
    fn new(tree_version: u64, names: &[&[u8]], text: &Bytes) -> Self {
        Self {
            tree_version,
            names: names.iter().map(|name| Box::from(*name)).collect(),
            text: text.clone(),
        }
    }

    fn is_about(&self, names: &[&[u8]]) -> bool {
        self.names.len() == names.len()
            && self
                .names
                .iter()
                .zip(names)
                .all(|(own, name)| **own == **name)
    }

    fn text_for(&self, tree_version: u64) -> Option<Bytes> {
        (self.tree_version == tree_version).then(|| self.text.clone())
    }
}

/// The answers given last.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// About all guests, the newest at the end. Leaf lock: nothing is rendered or called while it is held.
    kept: Mutex<Vec<Answer>>,
    /// About single guests, by their ids. Leaf lock as well.
    of_guests: Mutex<HashMap<u32, Answer>>,
}

impl Answers {
    /// The answer about all guests that is still true for this version of the tree.
    pub(super) fn find(&self, tree_version: u64, names: &[&[u8]]) -> Option<Bytes> {
        let kept = self.kept.lock();
        let answer = kept.iter().find(|answer| answer.is_about(names))?;
        answer.text_for(tree_version)
    }

    /// Keeps an answer about all guests in the place of an older one to the same question, or of the oldest of all.
    pub(super) fn keep(&self, tree_version: u64, names: &[&[u8]], text: &Bytes) {
        let answer = Answer::new(tree_version, names, text);
        let mut kept = self.kept.lock();
        kept.retain(|older| !older.is_about(names));
        if kept.len() == MAX_ANSWER_COUNT {
            kept.remove(0);
        }
        kept.push(answer);
    }

    /// The answer about one guest that is still true for this version of the tree.
    pub(super) fn find_of(&self, vmid: u32, tree_version: u64, names: &[&[u8]]) -> Option<Bytes> {
        let of_guests = self.of_guests.lock();
        let answer = of_guests.get(&vmid)?;
        answer
            .is_about(names)
            .then(|| answer.text_for(tree_version))?
    }

    /// Keeps an answer about one guest, unless it is large, in the place of its former one.
    pub(super) fn keep_of(&self, vmid: u32, tree_version: u64, names: &[&[u8]], text: &Bytes) {
        let name_size: usize = names.iter().map(|name| name.len()).sum();
        if text.len() + name_size > MAX_GUEST_ANSWER_SIZE {
            return;
        }
        let answer = Answer::new(tree_version, names, text);
        let mut of_guests = self.of_guests.lock();
        if of_guests.len() >= MAX_GUEST_COUNT && !of_guests.contains_key(&vmid) {
            of_guests.clear();
        }
        of_guests.insert(vmid, answer);
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

    #[test]
    fn answers_about_single_guests_are_told_apart_and_bounded() {
        let answers = Answers::default();
        let names: &[&[u8]] = &[b"lock"];
        for vmid in 0..1000 {
            answers.keep_of(vmid, 7, names, &Bytes::from(vmid.to_string()));
        }
        assert_eq!(answers.find_of(999, 7, names).as_deref(), Some(&b"999"[..]));
        assert_eq!(answers.find_of(999, 8, names), None, "the tree has changed");
        assert_eq!(
            answers.find_of(999, 7, &[b"name"]),
            None,
            "another question"
        );
        assert_eq!(answers.find_of(0, 7, names), None, "forgotten");
        assert!(answers.of_guests.lock().len() <= MAX_GUEST_COUNT);
        let large = Bytes::from(vec![b'x'; MAX_GUEST_ANSWER_SIZE + 1]);
        answers.keep_of(1000, 7, names, &large);
        assert_eq!(answers.find_of(1000, 7, names), None, "too large");
    }
}
