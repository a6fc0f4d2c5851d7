/// How tests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// These held.
    pub passed: u64,
    /// These did not.
    pub failed: u64,
    /// These were not run.
    pub skipped: u64,
}

impl Tally {
    /// Adds what a line of a runner's output says, if it is a closing line of cargo test or cargo nextest.
    pub fn read(&mut self, line: &str) {
        let line = line.trim();
        let counts = if let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        {
            counts
        } else if let Some((_, counts)) = line.strip_prefix("Summary [").and_then(|rest| rest.split_once(" run: ")) {
            counts
        } else {
            return;
        };
        for count in counts.split([',', ';']) {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" | "timed" | "exec" => self.failed += number,
                "ignored" | "skipped" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Labs that were skipped by themselves count as passed with the runner: they move over.
    pub fn really_skipped(&mut self, number: u64) {
        self.passed = self.passed.saturating_sub(number);
        self.skipped += number;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn closing_lines_of_both_runners_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; finished in 2.86s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "     Summary [   0.665s] 10/17 tests run: 9 passed (1 slow, 1 leaky), 1 failed, 1 timed out, 3 skipped",
            "     Summary [   0.665s] 1 test run: 1 passed, 0 skipped",
            "the words 5 passed, 5 failed in another line",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 23, failed: 4, skipped: 6 });
        tally.really_skipped(3);
        assert_eq!(tally.to_string(), "20 passed, 4 failed, 9 skipped");
    }
}
