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
