//! Things by number. A number is never given to a second thing, so that word which comes late finds nobody.

/// Which thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub index: u32,
    pub generation: u32,
}

/// As many as there are.
pub struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

/// Generations have 28 bits, so that an id and four bits more fit into what epoll keeps.
const GENERATIONS: u32 = 1 << 28;

impl<T> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }

    pub fn add(&mut self, thing: T) -> Id {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            // Each holds a descriptor or stands for one: there are never so many.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(thing);
        Id { index, generation: slot.0 }
    }

    pub fn get(&self, id: Id) -> Option<&T> {
        self.slots.get(id.index as usize).filter(|slot| slot.0 == id.generation)?.1.as_ref()
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.0 == id.generation)?.1.as_mut()
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.0 == id.generation)?;
        let thing = slot.1.take()?;
        slot.0 = (slot.0 + 1) % GENERATIONS;
        self.free.push(id.index);
        Some(thing)
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All that there are.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let all = self.slots.iter().enumerate();
        all.filter_map(|(at, (generation, thing))| {
            Some((Id { index: at as u32, generation: *generation }, thing.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_given_twice() {
        let mut slots = Slots::new();
        let (a, b) = (slots.add('a'), slots.add('b'));
        assert_eq!(slots.remove(a), Some('a'));
        let c = slots.add('c');
        assert_eq!((c.index, slots.len()), (a.index, 2));
        assert_eq!((slots.get(a), slots.get(b), slots.get(c)), (None, Some(&'b'), Some(&'c')));
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.iter().map(|(id, _)| id).collect::<Vec<_>>(), [c, b]);
    }
}
