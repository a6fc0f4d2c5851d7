//! What a link says besides names: what its source waits for before it starts, and what becomes of the source when the
//! target goes away. The words of `--link TARGET:ALIAS,WORD,WORD…`.

use super::spec::Spec;
use crate::error::{Error, Result};
use crate::time;
use plan::world::Proto;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// How long a start waits that does not say how long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that it may say. Whoever starts a container waits with it.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// How many ports one link may wait for: each is asked for again and again.
const PORTS_MAX: usize = 64;
/// All words, for whoever writes another.
const WORDS: &str =
    "wait=tcp:PORT[+PORT…], wait=exposed, wait=healthy, timeout=DURATION, required=true and on-loss=stop|pause";

/// What a link says besides names; without a word it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What the source waits for before its program runs.
    pub wait: Option<Wait>,
    /// How long, where the link says that.
    pub timeout: Option<Duration>,
    /// The source cannot do without its target: what becomes of it when the target goes away. `None`: nothing, it is told.
    pub required: Option<OnLoss>,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// These ports of the target accept connections.
    Tcp(BTreeSet<u16>),
    /// All that it exposes do.
    Exposed,
    /// Its health check says so.
    Healthy,
}

/// What becomes of a source whose target goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnLoss {
    /// It is stopped.
    Stop,
    /// It is frozen until the target is back.
    Pause,
}

/// Parts a link's text: the names, and the words behind them.
pub fn parted(text: &str) -> (&str, Option<&str>) {
    text.split_once(',').map_or((text, None), |(names, words)| (names, Some(words)))
}

impl Dependency {
    /// Reads the words of a link; `text` is all of it, for refusals.
    ///
    /// # Errors
    /// A word that is none, or comes twice, or says nothing together with the others.
    pub fn read(text: &str, words: Option<&str>) -> Result<Dependency> {
        let mut read = Words::default();
        for word in words.into_iter().flat_map(|words| words.split(',')) {
            read.take(word).map_err(|why| refused(text, &why))?;
        }
        read.together().map_err(|why| refused(text, &why))
    }

    /// Whether it says anything.
    pub fn is_said(&self) -> bool {
        *self != Dependency::default()
    }

    /// How long a start waits.
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// The TCP ports of a target that count: those that are waited for, or all that it exposes.
    pub fn ports(&self, target: &Spec) -> BTreeSet<u16> {
        match &self.wait {
            Some(Wait::Tcp(ports)) => ports.clone(),
            _ => exposed(target).collect(),
        }
    }

    /// Whether a target can ever be what is waited for.
    ///
    /// # Errors
    /// It has no health check, or exposes nothing.
    pub fn suits(&self, text: &str, name: &str, target: &Spec) -> Result<()> {
        let why = match &self.wait {
            Some(Wait::Healthy) if target.health.is_none() => format!(
                "{name} has no health check: give it one (--health-cmd), or wait for its ports (wait=tcp:PORT, wait=exposed)"
            ),
            Some(Wait::Exposed) if exposed(target).next().is_none() => format!(
                "{name} exposes no TCP port: expose one (--expose PORT), or name what to wait for (wait=tcp:PORT, wait=healthy)"
            ),
            _ => return Ok(()),
        };
        Err(refused(text, &why))
    }
}

fn exposed(target: &Spec) -> impl Iterator<Item = u16> {
    target.network.exposed.iter().filter(|(_, proto)| *proto == Proto::Tcp).map(|(port, _)| *port)
}

fn refused(text: &str, why: &str) -> Error {
    Error::Invalid(format!("bad format for links: {text}: {why}"))
}

/// Words as they are read.
#[derive(Default)]
struct Words {
    wait: Option<Wait>,
    timeout: Option<Duration>,
    required: Option<bool>,
    on_loss: Option<OnLoss>,
}

impl Words {
    fn take(&mut self, word: &str) -> std::result::Result<(), String> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let again = |taken: bool| if taken { Err(format!("`{key}` is said twice")) } else { Ok(()) };
        match key {
            "wait" => {
                again(self.wait.is_some())?;
                self.wait = Some(wait(value)?);
            }
            "timeout" => {
                again(self.timeout.is_some())?;
                let length = time::parse_duration(value).filter(|length| !length.is_zero() && *length <= TIMEOUT_MAX);
                let why = || format!("timeout={value}: a duration of more than 0 and at most 24h, as in timeout=30s");
                self.timeout = Some(length.ok_or_else(why)?);
            }
            "required" => {
                again(self.required.is_some())?;
                self.required = match value {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => return Err(format!("required={value}: it is true or false")),
                };
            }
            "on-loss" => {
                again(self.on_loss.is_some())?;
                self.on_loss = match value {
                    "stop" => Some(OnLoss::Stop),
                    "pause" => Some(OnLoss::Pause),
                    _ => return Err(format!("on-loss={value}: it is stop or pause")),
                };
            }
            _ => return Err(format!("{word:?} is no word of a link; there are {WORDS}")),
        }
        Ok(())
    }

    fn together(self) -> std::result::Result<Dependency, String> {
        if self.timeout.is_some() && self.wait.is_none() {
            return Err("timeout is how long a start waits, and this link does not say for what: add wait=".into());
        }
        let required = match (self.required, self.on_loss) {
            (Some(true), on_loss) => Some(on_loss.unwrap_or(OnLoss::Stop)),
            (_, None) => None,
            (_, Some(_)) => {
                return Err(
                    "on-loss says what becomes of a source that cannot do without its target: add required=true".into(),
                );
            }
        };
        Ok(Dependency { wait: self.wait, timeout: self.timeout, required })
    }
}

/// `tcp:3306+3307`, `exposed`, `healthy`. As Docker's command takes one colon in a link and no more, `tcp/3306` is the same.
fn wait(value: &str) -> std::result::Result<Wait, String> {
    match value {
        "exposed" => return Ok(Wait::Exposed),
        "healthy" => return Ok(Wait::Healthy),
        _ => {}
    }
    let Some(list) = value.strip_prefix("tcp:").or_else(|| value.strip_prefix("tcp/")) else {
        return Err(format!("wait={value}: it is tcp:PORT[+PORT…], exposed or healthy"));
    };
    let mut ports = BTreeSet::new();
    for port in list.split('+') {
        let number = port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()));
        ports.insert(number.ok_or_else(|| {
            format!("wait={value}: {port:?} is no port; a port is a number from 1 to 65535, as in wait=tcp:3306+3307")
        })?);
    }
    if ports.len() > PORTS_MAX {
        return Err(format!("wait={value}: {} ports, and a link waits for {PORTS_MAX} at most", ports.len()));
    }
    Ok(Wait::Tcp(ports))
}

impl Display for Wait {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Exposed => f.write_str("exposed"),
            Wait::Healthy => f.write_str("healthy"),
            Wait::Tcp(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "tcp:{}", ports.join("+"))
            }
        }
    }
}

impl OnLoss {
    /// The user's word.
    pub fn word(self) -> &'static str {
        match self {
            OnLoss::Stop => "stop",
            OnLoss::Pause => "pause",
        }
    }
}

/// The words again, in one form.
impl Display for Dependency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let wait = self.wait.iter().map(|wait| format!("wait={wait}"));
        let timeout = self.timeout.iter().map(|timeout| format!("timeout={}", time::go_duration(*timeout)));
        let required = self.required.iter().map(|loss| format!("required=true,on-loss={}", loss.word()));
        f.write_str(&wait.chain(timeout).chain(required).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a link's text says, in one form, or the refusal.
    fn said(text: &str) -> String {
        let (_, words) = parted(text);
        Dependency::read(text, words).map_or_else(|error| error.to_string(), |dependency| dependency.to_string())
    }

    #[test]
    fn words_are_read() {
        for (text, want) in [
            ("db:sql", ""),
            ("db,wait=healthy", "wait=healthy"),
            ("db:sql,wait=tcp:3307+3306+3307", "wait=tcp:3306+3307"),
            ("db:sql,wait=tcp/3306,timeout=90s", "wait=tcp:3306,timeout=1m30s"),
            ("db:sql,required=true", "required=true,on-loss=stop"),
            ("db:sql,on-loss=pause,required=true,wait=exposed", "wait=exposed,required=true,on-loss=pause"),
            ("db:sql,required=false", ""),
        ] {
            assert_eq!(said(text), want, "{text}");
        }
        assert_eq!(Dependency::default().patience(), Duration::from_secs(30));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_rule() {
        for (words, want) in [
            ("", "\"\" is no word of a link; there are wait=tcp:PORT"),
            ("wait", "wait=: it is tcp:PORT[+PORT…], exposed or healthy"),
            ("wait=udp:53", "wait=udp:53: it is tcp:PORT[+PORT…], exposed or healthy"),
            ("wait=tcp:", "wait=tcp:: \"\" is no port; a port is a number from 1 to 65535"),
            ("wait=tcp:0", "\"0\" is no port"),
            ("wait=tcp:80+65536", "\"65536\" is no port"),
            ("wait=tcp:++5", "\"\" is no port"),
            ("wait=healthy,wait=exposed", "`wait` is said twice"),
            ("timeout=3s", "timeout is how long a start waits, and this link does not say for what: add wait="),
            ("wait=exposed,timeout=30", "timeout=30: a duration of more than 0 and at most 24h, as in timeout=30s"),
            ("wait=exposed,timeout=0s", "timeout=0s: a duration of more than 0"),
            ("wait=exposed,timeout=25h", "timeout=25h: a duration of more than 0 and at most 24h"),
            ("wait=exposed,timeout=1s,timeout=2s", "`timeout` is said twice"),
            ("required", "required=: it is true or false"),
            ("required=yes", "required=yes: it is true or false"),
            ("required=true,on-loss=kill", "on-loss=kill: it is stop or pause"),
            ("on-loss=stop", "add required=true"),
            ("required=false,on-loss=pause", "add required=true"),
            ("Wait=exposed", "\"Wait=exposed\" is no word of a link"),
            ("wait=exposed,", "\"\" is no word of a link"),
        ] {
            let text = format!("db:sql,{words}");
            let said = said(&text);
            assert!(said.starts_with(&format!("bad format for links: {text}: ")) && said.contains(want), "{said}");
        }
        let many: Vec<String> = (1..=65).map(|port: u16| port.to_string()).collect();
        assert!(
            said(&format!("db,wait=tcp:{}", many.join("+"))).ends_with("65 ports, and a link waits for 64 at most")
        );
    }
}
