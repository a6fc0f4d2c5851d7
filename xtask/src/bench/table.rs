use super::contenders::{BERTH, Contender, FLOOR, RUNTIME};
use std::fmt::Write as _;
use std::time::Duration;

/// One run of a command.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time that it and all its helpers used.
    pub cpu: Duration,
}

/// All runs of a command.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// How the wall times lie.
    pub fn wall(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.wall))
    }

    /// How the processor times lie.
    pub fn cpu(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.cpu))
    }
}

/// How some times lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The least: what the work costs when nothing disturbs it.
    pub min: Duration,
    /// A tenth are below.
    pub p10: Duration,
    /// Half are below.
    pub median: Duration,
    /// A tenth are above.
    pub p90: Duration,
}

impl Spread {
    /// Of at least one time.
    pub fn of(times: impl Iterator<Item = Duration>) -> Spread {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let at = |tenths: usize| times[(times.len() - 1) * tenths / 10];
        Spread { min: times[0], p10: at(1), median: at(5), p90: at(9) }
    }
}

/// Milliseconds, with as many digits as mean something.
pub fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
}

/// A Markdown table of commands, with ratios of medians to the floor and to berth, or to its runtime, where they are among the rows.
pub fn of(rows: &[(&Contender, &Samples)]) -> String {
    let named = |name: &str| rows.iter().find(|(contender, _)| contender.name == name).map(|(_, samples)| *samples);
    let (floor, berth) = (named(FLOOR), named(BERTH).or_else(|| named(RUNTIME)));
    let mut text = String::from(
        "| command | wall min | median | p10–p90 | cpu min | median | p10–p90 | wall, cpu × floor | wall, cpu × berth |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (contender, samples) in rows {
        let (wall, cpu) = (samples.wall(), samples.cpu());
        let ratio = |base: Option<&Samples>| {
            base.map_or_else(
                || "–".to_owned(),
                |base| {
                    let times = |own: Spread, base: Spread| own.median.as_secs_f64() / base.median.as_secs_f64();
                    format!("{:.2}, {:.2}", times(wall, base.wall()), times(cpu, base.cpu()))
                },
            )
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}–{} | {} | {} | {}–{} | {} | {} |",
            contender.name,
            shown(wall.min),
            shown(wall.median),
            shown(wall.p10),
            shown(wall.p90),
            shown(cpu.min),
            shown(cpu.median),
            shown(cpu.p10),
            shown(cpu.p90),
            ratio(floor),
            ratio(berth),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_few_and_many() {
        let one = Spread::of([Duration::from_millis(7)].into_iter());
        assert_eq!((one.min, one.p10, one.median, one.p90), (one.min, one.min, one.min, one.min));
        let many = Spread::of((0..=100).rev().map(Duration::from_millis));
        let ms = |time: Duration| time.as_millis();
        assert_eq!((ms(many.min), ms(many.p10), ms(many.median), ms(many.p90)), (0, 10, 50, 90));
    }

    #[test]
    fn times_are_shown_in_milliseconds() {
        assert_eq!(shown(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(shown(Duration::from_millis(123)), "123.0 ms");
    }
}
