//! What passes a stranger's chain, as far as it goes by the links that its rules name.

use plan::around::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// One rule, as much of it as matters here.
#[derive(Default)]
pub(crate) struct Rule {
    /// The links that a packet may come in from; `None`: any.
    pub from: Option<Vec<Pattern>>,
    /// The links that it may go out of; `None`: any.
    pub to: Option<Vec<Pattern>>,
    /// There are conditions of another kind.
    pub other: bool,
    /// What becomes of the packet.
    pub then: Then,
}

#[derive(Default, PartialEq)]
pub(crate) enum Then {
    /// The next rule is looked at.
    #[default]
    Nothing,
    Accept,
    /// Dropped, or answered with a refusal.
    Refuse,
    /// Another chain is looked at.
    Go(String),
}

/// A table's rules by chain, in order.
#[derive(Default)]
pub(crate) struct Chains(pub BTreeMap<String, Vec<Rule>>);

impl Rule {
    fn is_for_all(&self) -> bool {
        self.from.is_none() && self.to.is_none() && !self.other
    }
}

impl Chains {
    /// The links from and to which packets are let through by name; `None` if the chain does not refuse what it does not
    /// know, or lets everything through before it comes to that.
    pub fn sift(&self, chain: &str, drops: bool) -> Option<(Vec<Pattern>, Vec<Pattern>)> {
        let rules = self.0.get(chain).map_or(&[][..], Vec::as_slice);
        let for_all = rules.iter().find(|rule| rule.is_for_all() && matches!(rule.then, Then::Accept | Then::Refuse));
        match for_all {
            Some(rule) if rule.then == Then::Accept => return None,
            Some(_) => {}
            None if drops => {}
            None => return None,
        }
        let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![chain.to_owned()]);
        while let Some(chain) = waiting.pop() {
            for rule in self.0.get(&chain).into_iter().flatten() {
                match &rule.then {
                    Then::Go(next) if seen.insert(next.clone()) => waiting.push(next.clone()),
                    Then::Accept => {
                        // A rule that names both ends lets nothing else through than what passes between them.
                        let open = |side: &Option<Vec<Pattern>>| side.iter().flatten().all(|pattern| pattern.not);
                        from.extend(rule.from.iter().flatten().filter(|_| open(&rule.to)).cloned());
                        to.extend(rule.to.iter().flatten().filter(|_| open(&rule.from)).cloned());
                    }
                    _ => {}
                }
            }
        }
        Some((from.into_iter().collect(), to.into_iter().collect()))
    }
}
