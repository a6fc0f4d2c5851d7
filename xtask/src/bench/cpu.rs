use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Reads the processor time of a cgroup and all below it, the dead included.
pub struct Meter {
    file: PathBuf,
    version: u8,
}

impl Meter {
    /// Of the cgroup `name`, into a child of which this process moves, with all that it will start. Containers must be made
    /// below `name` too.
    pub fn of(name: &str) -> Result<Meter> {
        let relative = name.trim_start_matches('/');
        let roots = lab::cgroups::hierarchies();
        // `cpu.stat` of version 2 needs no controller; on a hybrid host, version 1 counts more finely.
        let v1 = roots.iter().find(|root| root.join("cpuacct.usage").exists());
        let v2 = roots.iter().find(|root| root.join("cgroup.controllers").exists());
        let (root, file, version) = match (v1, v2) {
            (Some(root), _) => (root, "cpuacct.usage", 1),
            (None, Some(root)) => (root, "cpu.stat", 2),
            (None, None) => anyhow::bail!("no cgroup hierarchy counts processor time here: mount cgroup2 or cpuacct"),
        };
        let own = root.join(relative).join("bench");
        std::fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
        std::fs::write(own.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| own.display().to_string())?;
        Ok(Meter { file: root.join(relative).join(file), version })
    }

    /// All that was used so far.
    pub fn used(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let number = match self.version {
            1 => text.trim().parse().ok().map(Duration::from_nanos),
            _ => text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))
                .and_then(|text| text.parse().ok())
                .map(Duration::from_micros),
        };
        number.with_context(|| format!("{} holds no time: {text}", self.file.display()))
    }

    /// What is counted, in words.
    pub fn how(&self) -> String {
        let file = self.file.file_name().unwrap_or_default().display();
        format!("`{file}` of a cgroup that holds the client, the engine, shims, runtimes and containers")
    }
}
