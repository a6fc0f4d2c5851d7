//! `process` of the OCI runtime specification: of the container's own program, and of one more in it (exec).

use super::capabilities::{Caps, granted};
use super::rights::HostRights;
use crate::container::spec::{Security, Spec};
use crate::error::Result;
use crate::users::Resolved;
use serde_json::{Value, json};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process to be.
pub struct Program<'a> {
    /// What the container is.
    pub spec: &'a Spec,
    /// Who runs it.
    pub user: &'a Resolved,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `NAME=value`, or `NAME` alone to take one away; over those of the container.
    pub env: &'a [String],
    /// The variables of legacy links, under the user's own.
    pub link_env: &'a [String],
    /// The container's hostname, for `HOSTNAME`.
    pub hostname: &'a str,
    /// Absolute; `None`: the container's.
    pub workdir: Option<&'a str>,
    /// A pseudo terminal.
    pub tty: bool,
    /// All capabilities that the engine has.
    pub privileged: bool,
    /// What the engine may do.
    pub host: &'a HostRights,
}

impl Program<'_> {
    /// In the runtime's words.
    ///
    /// # Errors
    /// A refusal for a capability or limit that there is not.
    pub fn to_oci(&self) -> Result<Value> {
        let security =
            Security { privileged: self.privileged || self.spec.security.privileged, ..self.spec.security.clone() };
        let caps = granted(&security, self.host.known, self.host.bounding)?.caps;
        let mut process = json!({
            "terminal": self.tty,
            "user": {
                "uid": self.user.uid,
                "gid": self.user.gid,
                "additionalGids": groups(self.user),
            },
            "args": self.argv,
            "env": self.environment(),
            "cwd": self.workdir.unwrap_or(&self.spec.workdir),
            "capabilities": capabilities(caps, self.user.uid),
            "oomScoreAdj": super::limits::oom_score_adj(self.spec, self.host).0,
        });
        if let (true, Some((rows, cols))) = (self.tty, self.spec.console_size) {
            process["consoleSize"] = json!({ "height": rows, "width": cols });
        }
        let rlimits = super::limits::rlimits(self.spec, self.host)?.0;
        if !rlimits.is_empty() {
            process["rlimits"] = Value::Array(rlimits);
        }
        // Left out rather than false: libcontainer takes a written false for "on" where it loads the seccomp filter.
        if self.spec.security.no_new_privileges {
            process["noNewPrivileges"] = json!(true);
        }
        Ok(process)
    }

    /// The engine's variables, then those of links, then the user's; a later one takes the earlier one's place.
    fn environment(&self) -> Vec<String> {
        let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", self.hostname)];
        if self.tty {
            env.push("TERM=xterm".into());
        }
        for variable in self.link_env.iter().chain(&self.spec.env).chain(self.env) {
            set(&mut env, variable);
        }
        if !env.iter().any(|variable| variable.starts_with("HOME=")) {
            env.push(format!("HOME={}", self.user.home));
        }
        env
    }
}

fn set(env: &mut Vec<String>, variable: &str) {
    let Some((name, _)) = variable.split_once('=') else {
        env.retain(|other| other.split_once('=').map(|(name, _)| name) != Some(variable));
        return;
    };
    match env.iter_mut().find(|other| other.split_once('=').map(|(name, _)| name) == Some(name)) {
        Some(other) => *other = variable.to_owned(),
        None => env.push(variable.to_owned()),
    }
}

/// The primary group is among the supplementary ones, so that a set-group-id program cannot shed it (CVE-2022-36109).
fn groups(user: &Resolved) -> Vec<u32> {
    let mut groups = vec![user.gid];
    for group in &user.additional {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    groups
}

/// As execve(2) would leave them: somebody who is not root starts with none, though the bounding set allows to gain them.
/// Nothing is inheritable (CVE-2022-24769), nothing ambient.
fn capabilities(caps: Caps, uid: u32) -> Value {
    let names = caps.names();
    match uid {
        0 => json!({ "bounding": names, "effective": names, "permitted": names }),
        _ => json!({ "bounding": names }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_win_in_place() {
        let mut env = vec!["PATH=/bin".to_owned(), "HOSTNAME=a".to_owned()];
        for variable in ["A=1", "PATH=/x", "A=2=3", "B=", "HOSTNAME", "C"] {
            set(&mut env, variable);
        }
        assert_eq!(env, ["PATH=/x", "A=2=3", "B="]);
    }

    #[test]
    fn the_primary_group_is_first() {
        let user = Resolved { uid: 5, gid: 7, additional: vec![9, 7], home: "/".into(), name: None };
        assert_eq!(groups(&user), [7, 9]);
        assert_eq!(capabilities(Caps::default_set(), 5).as_object().unwrap().keys().collect::<Vec<_>>(), ["bounding"]);
    }
}
