use anyhow::bail;
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

/// Where to look when the environment has no PATH, as Docker sets it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program's file: a name with a slash is one already, others are looked for in the PATH of `env`. To be asked inside
/// the container with the program's own rights. The words are runc's, for engines tell exit code 127 from 126 by them.
pub fn program(name: &str, env: &[String]) -> anyhow::Result<String> {
    if name.contains('/') {
        return match check(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::NOENT | Errno::NOTDIR) => bail!("exec: {name:?}: stat {name}: no such file or directory"),
            Err(errno) => bail!("exec: {name:?}: {}", words(errno)),
        };
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH);
    let mut found = None;
    // An empty name is found nowhere; it would otherwise name the directories themselves.
    for dir in path.split(':').filter(|_| !name.is_empty()) {
        let file = format!("{}/{name}", if dir.is_empty() { "." } else { dir });
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(Errno::ACCESS) => found = Some(Errno::ACCESS),
            Err(_) => {}
        }
    }
    match found {
        Some(errno) => bail!("exec: {name:?}: {}", words(errno)),
        None => bail!("exec: {name:?}: executable file not found in $PATH"),
    }
}

fn check(file: &str) -> Result<(), Errno> {
    let stat = rustix::fs::stat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        // Root may "execute" a file of which nobody may, says access(2) for effective ids, until exec(2) says otherwise.
        _ if stat.st_mode & 0o111 == 0 => Err(Errno::ACCESS),
        _ => rustix::fs::accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS),
    }
}

/// A system error in Go's spelling.
pub fn words(errno: Errno) -> String {
    match errno {
        Errno::ACCESS => "permission denied".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::NOENT => "no such file or directory".into(),
        Errno::NOEXEC => "exec format error".into(),
        errno => {
            let text = std::io::Error::from(errno).to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_missed_in_runcs_words() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        std::fs::write(&good, "").unwrap();
        std::fs::write(&bad, "").unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&good, mode(0o755)).unwrap();
        std::fs::set_permissions(&bad, mode(0o644)).unwrap();
        let env = [format!("PATH=/nowhere:{}", dir.path().display())];
        let told = |name: &str| program(name, &env).map_err(|error| error.to_string());
        assert_eq!(told("good").unwrap(), good.to_str().unwrap());
        assert_eq!(told("bad").unwrap_err(), "exec: \"bad\": permission denied");
        assert_eq!(told("none").unwrap_err(), "exec: \"none\": executable file not found in $PATH");
        assert_eq!(told("").unwrap_err(), "exec: \"\": executable file not found in $PATH");
        assert_eq!(told("/none").unwrap_err(), "exec: \"/none\": stat /none: no such file or directory");
        assert_eq!(told("/tmp").unwrap_err(), "exec: \"/tmp\": is a directory");
        assert!(program("sh", &[]).is_ok(), "without PATH the usual places are searched");
    }
}
