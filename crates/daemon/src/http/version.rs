//! Which version of the Engine API a client speaks.

use crate::error::{Error, Result};
use api::{NEWEST, OLDEST};

/// Major and minor number.
pub type Version = (u32, u32);

/// `1.53`
pub fn text(version: Version) -> String {
    format!("{}.{}", version.0, version.1)
}

/// Splits `/v1.44/containers/json` into the version and the rest. A path without a version is of the newest.
///
/// # Errors
/// Too old or too new, in Docker's words.
pub fn split(path: &str) -> Result<(Version, &str)> {
    let Some((word, rest)) = path.strip_prefix("/v").map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())))
    else {
        return Ok((NEWEST, path));
    };
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // No version, but a path such as `/volumes`.
        return Ok((NEWEST, path));
    }
    let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
    let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
        return Err(Error::Invalid(format!("client version {word} is not of the form MAJOR.MINOR")));
    };
    let version = (major, minor);
    if version > NEWEST {
        let newest = text(NEWEST);
        return Err(Error::Invalid(format!(
            "client version {word} is too new. Maximum supported API version is {newest}"
        )));
    }
    if version < OLDEST {
        let oldest = text(OLDEST);
        return Err(Error::Invalid(format!(
            "client version {word} is too old. Minimum supported API version is {oldest}, please upgrade your client to a \
             newer version"
        )));
    }
    Ok((version, rest))
}

/// The version that a client means who asked for `asked`, by what it calls itself. The first docker-compose takes the newest
/// version that an engine has, whatever that is, and was written when 1.41 was: it dies of fields that went away with 1.45 (images,
/// short ids among aliases) and 1.52 (events), and looks for those that went with 1.44 (sizes of images).
pub fn meant(asked: Version, user_agent: &str) -> Version {
    if user_agent.starts_with("docker-compose/1.") { asked.min((1, 43)) } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_a_version_or_none() {
        assert_eq!(split("/v1.24/_ping").unwrap(), ((1, 24), "/_ping"));
        assert_eq!(split("/v1.53/containers/v1/json").unwrap(), ((1, 53), "/containers/v1/json"));
        assert_eq!(split("/_ping").unwrap(), (NEWEST, "/_ping"));
        assert_eq!(split("/volumes/v1.1").unwrap(), (NEWEST, "/volumes/v1.1"));
        assert_eq!(split("/version").unwrap(), (NEWEST, "/version"));
        assert_eq!(split("/v1.44").unwrap(), ((1, 44), ""));
    }

    #[test]
    fn an_old_client_is_spoken_to_as_it_understands() {
        assert_eq!(meant(NEWEST, "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1"), (1, 43));
        assert_eq!(meant((1, 30), "docker-compose/1.29.2"), (1, 30));
        assert_eq!(meant(NEWEST, "compose/v2.40.0"), NEWEST);
        assert_eq!(meant(NEWEST, ""), NEWEST);
    }

    #[test]
    fn too_new_and_too_old_are_told_apart() {
        let refused = |path| split(path).unwrap_err().to_string();
        let new = "client version 9.9 is too new. Maximum supported API version is 1.53";
        assert_eq!(refused("/v9.9/_ping"), new);
        assert_eq!(refused("/v1.54/x"), new.replace("9.9", "1.54"));
        assert_eq!(refused("/v1.100/x"), new.replace("9.9", "1.100"), "100 is more than 53");
        assert!(
            refused("/v1.10/x").starts_with("client version 1.10 is too old. Minimum supported API version is 1.24")
        );
        assert!(refused("/v1.2.3/x").contains("1.2.3"));
        assert!(refused("/v1./x").contains("1."));
    }
}
