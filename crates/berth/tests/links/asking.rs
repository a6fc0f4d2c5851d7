use lab::{Engine, Host, Lab, Output};

/// A command that asks the engine.
#[derive(Clone, Copy)]
pub enum By {
    Berth,
    Docker,
}

/// The commands that are here to be judged by.
pub fn all() -> Vec<By> {
    if lab::has_docker() { vec![By::Berth, By::Docker] } else { vec![By::Berth] }
}

impl By {
    #[track_caller]
    pub fn run(self, engine: &Engine, words: &[&str]) -> Output {
        match self {
            By::Berth => engine.berth(words),
            By::Docker => engine.docker(words),
        }
    }

    /// Starts a container that sleeps.
    #[track_caller]
    pub fn sleeper(self, engine: &Engine, name: &str, flags: &[&str]) {
        self.ok(engine, &[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    }

    #[track_caller]
    pub fn ok(self, engine: &Engine, words: &[&str]) -> String {
        let out = self.run(engine, words);
        assert!(out.code == 0, "{words:?}: {out:?}");
        out.stdout
    }
}

pub fn world(lab: &Lab, flags: &[&str]) -> Engine {
    let engine = lab.engine(flags);
    engine.load_busybox();
    engine
}

pub fn addr4(engine: &Engine, name: &str) -> String {
    engine.told("{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
}

pub fn addr6(engine: &Engine, name: &str) -> String {
    engine.told("{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}", name)
}

/// Which of these can be connected to; asked side by side, for a refusal takes its time.
pub fn reached(asks: &[(&Host, String)]) -> Vec<bool> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = asks.iter().map(|(host, to)| scope.spawn(|| host.tcp(to).is_ok())).collect();
        asked.into_iter().map(|one| one.join().expect("a probe does not panic")).collect()
    })
}

/// The lines of a container's file of names in which this word is, columns parted by a blank.
pub fn hosts(engine: &Engine, name: &str, word: &str) -> Vec<String> {
    let text = engine.ok(&["exec", name, "cat", "/etc/hosts"]);
    let has = |line: &&str| line.split_whitespace().any(|have| have == word);
    text.lines().filter(has).map(|line| line.replacen('\t', " ", 1)).collect()
}
