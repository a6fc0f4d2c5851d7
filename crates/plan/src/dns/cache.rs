//! Answers that are kept until they are too old.

use super::wire::Age;
use std::collections::{HashMap, VecDeque};

/// For how long after its time an answer is still better than none (RFC 8767 §5), in seconds.
const STALE: u64 = 86_400;
/// What is then left of it, in seconds.
const STALE_LEFT: u32 = 30;

struct Kept {
    answer: Box<[u8]>,
    ttls: Box<[u16]>,
    /// In seconds of the caller's clock.
    since: u64,
    until: u64,
    /// Asked for since it was last looked at for removal.
    used: bool,
}

/// Answers by question, as many as fit.
pub struct Cache {
    kept: HashMap<Box<[u8]>, Kept>,
    /// In the order in which they are looked at for removal; each question once.
    order: VecDeque<Box<[u8]>>,
    bytes: usize,
    most: usize,
}

/// What a kept answer costs beside its bytes and its question's, roughly.
const OVERHEAD: usize = 200;

impl Cache {
    /// One that takes so many bytes at most.
    pub fn new(most: usize) -> Cache {
        Cache { kept: HashMap::new(), order: VecDeque::new(), bytes: 0, most }
    }

    /// The answer to a question, where in it lifetimes are, and how old it is.
    pub fn get(&mut self, question: &[u8], now: u64) -> Option<(&[u8], &[u16], Age)> {
        let kept = self.kept.get_mut(question).filter(|kept| now < kept.until)?;
        kept.used = true;
        // Kept for a day at most.
        let age = u32::try_from(now.saturating_sub(kept.since)).unwrap_or(u32::MAX);
        Some((&kept.answer, &kept.ttls, Age::Seconds(age)))
    }

    /// The same, when nobody answers: even one whose time is over.
    pub fn get_stale(&mut self, question: &[u8], now: u64) -> Option<(&[u8], &[u16], Age)> {
        let kept = self.kept.get(question).filter(|kept| now < kept.until + STALE)?;
        Some((&kept.answer, &kept.ttls, Age::Stale(STALE_LEFT)))
    }

    /// Keeps an answer for so many seconds.
    pub fn put(&mut self, question: &[u8], answer: &[u8], ttls: &[u16], lifetime: u32, now: u64) {
        let size =
            |question: &[u8], kept: &Kept| OVERHEAD + 2 * question.len() + kept.answer.len() + 2 * kept.ttls.len();
        let until = now + u64::from(lifetime);
        let new = Kept { answer: answer.into(), ttls: ttls.into(), since: now, until, used: false };
        self.bytes += size(question, &new);
        match self.kept.insert(question.into(), new) {
            Some(old) => self.bytes -= size(question, &old),
            None => self.order.push_back(question.into()),
        }
        while self.bytes > self.most
            && let Some(question) = self.order.pop_front()
        {
            match self.kept.get_mut(&question) {
                // Once more around.
                Some(kept) if kept.used => {
                    kept.used = false;
                    self.order.push_back(question);
                }
                Some(kept) => {
                    self.bytes -= size(&question, kept);
                    self.kept.remove(&question);
                }
                None => {}
            }
        }
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// None is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> [u8; 4] {
        n.to_be_bytes()
    }

    #[test]
    fn answers_age_and_go() {
        let mut cache = Cache::new(10_000);
        cache.put(&key(1), b"one", &[7], 60, 100);
        assert_eq!(cache.get(&key(1), 130), Some((&b"one"[..], &[7][..], Age::Seconds(30))));
        assert_eq!(cache.get(&key(2), 130), None);
        assert_eq!(cache.get(&key(1), 160), None);
        assert_eq!(cache.get_stale(&key(1), 160), Some((&b"one"[..], &[7][..], Age::Stale(30))));
        assert_eq!(cache.get_stale(&key(1), 160 + STALE), None);
        // In place of the old one.
        cache.put(&key(1), b"other", &[], 60, 200);
        assert_eq!(cache.get(&key(1), 200), Some((&b"other"[..], &[][..], Age::Seconds(0))));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn it_never_grows_too_large_and_keeps_what_is_asked_for() {
        let mut cache = Cache::new(20_000);
        cache.put(&key(0), b"wanted", &[], 600, 0);
        for n in 1..10_000 {
            assert!(cache.get(&key(0), 1).is_some(), "{n}");
            cache.put(&key(n), &[0; 50], &[1, 2, 3], 600, 0);
            cache.put(&key(n), &[0; 60], &[1, 2, 3], 600, 1);
            assert!(cache.bytes <= 20_000 && cache.order.len() == cache.len());
        }
        assert!(cache.len() > 50, "{}", cache.len());
        // One that is larger than all of it is not kept.
        cache.put(&key(1), &[0; 30_000], &[], 600, 0);
        assert!(cache.get(&key(1), 0).is_none());
        assert!(cache.bytes <= 20_000);
    }
}
