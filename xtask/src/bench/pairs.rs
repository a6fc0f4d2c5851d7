use std::time::Duration;

/// The same measured in two ways, in turns, so that what else goes on on the machine hits both alike.
#[derive(Debug, Default)]
pub struct Pairs(Vec<(f64, f64)>);

/// How some numbers lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// The least.
    pub min: f64,
    /// A tenth are below.
    pub p10: f64,
    /// Half are below.
    pub median: f64,
    /// A tenth are above.
    pub p90: f64,
    /// The most.
    pub max: f64,
}

impl Numbers {
    /// Of at least one number.
    pub fn of(numbers: impl Iterator<Item = f64>) -> Numbers {
        let mut all: Vec<f64> = numbers.collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = |tenths: usize| all[(all.len() - 1) * tenths / 10];
        Numbers { min: at(0), p10: at(1), median: at(5), p90: at(9), max: at(10) }
    }

    /// Of times, in seconds.
    pub fn of_times(times: &[Duration]) -> Numbers {
        Numbers::of(times.iter().map(Duration::as_secs_f64))
    }
}

impl Pairs {
    /// What was measured in one turn: ours, and what it is compared with.
    pub fn push(&mut self, ours: f64, other: f64) {
        self.0.push((ours, other));
    }

    /// Ours.
    pub fn ours(&self) -> Numbers {
        Numbers::of(self.0.iter().map(|(ours, _)| *ours))
    }

    /// What it is compared with.
    pub fn other(&self) -> Numbers {
        Numbers::of(self.0.iter().map(|(_, other)| *other))
    }

    /// Ours by the other, turn by turn.
    pub fn ratio(&self) -> Numbers {
        Numbers::of(self.0.iter().map(|(ours, other)| ours / other))
    }
}

/// A target and whether it is met.
pub fn verdict(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_turn_by_turn() {
        let mut pairs = Pairs::default();
        // The machine was three times slower in the second turn.
        for (ours, other) in [(11.0, 10.0), (33.0, 30.0), (10.0, 10.0)] {
            pairs.push(ours, other);
        }
        assert_eq!(pairs.ratio(), Numbers { min: 1.0, p10: 1.0, median: 1.1, p90: 1.1, max: 1.1 });
        assert_eq!((pairs.ours().min, pairs.other().max), (10.0, 30.0));
    }
}
