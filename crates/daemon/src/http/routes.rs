//! All that can be asked, on one page: the paths, what each is, and who answers it.

use super::answer::{self, Answer};
use super::ask::Ask;
use super::{archive, containers, exec, explain, images, links, names, networks, ports, system, volumes};
use crate::error::{Error, Result};
use axum::http::Method;
use serde_json::json;
use std::collections::BTreeMap;

/// Everything that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Are you there?
    Ping,
    /// Who are you?
    Version,
    /// How are you?
    Info,
    /// What takes space?
    DiskUsage,
    /// What happens?
    Events,
    /// Do these credentials work?
    Auth,

    /// Containers, a line each.
    ContainerList,
    /// A new container.
    ContainerCreate,
    /// All about one.
    ContainerInspect,
    /// Its processes.
    ContainerTop,
    /// What it wrote.
    ContainerLogs,
    /// How its files differ from the image's.
    ContainerChanges,
    /// Its whole root file system.
    ContainerExport,
    /// What it consumes.
    ContainerStats,
    /// The size of its terminal.
    ContainerResize,
    /// Run its program.
    ContainerStart,
    /// Ask it to end, then make it.
    ContainerStop,
    /// Both.
    ContainerRestart,
    /// A signal.
    ContainerKill,
    /// Other limits.
    ContainerUpdate,
    /// Another name.
    ContainerRename,
    /// Freeze.
    ContainerPause,
    /// Thaw.
    ContainerUnpause,
    /// Its streams.
    ContainerAttach,
    /// How it ends.
    ContainerWait,
    /// Away with it.
    ContainerRemove,
    /// What is at a path in it.
    ArchiveStat,
    /// Files out of it.
    ArchiveGet,
    /// Files into it.
    ArchivePut,
    /// Away with all that do not run.
    ContainerPrune,
    /// More of its ports are published. berth's own.
    PortsAdd,
    /// Some of its ports are published no longer. berth's own.
    PortsRemove,
    /// Links, and how they stand. berth's own.
    LinkList,
    /// A container's links, tried from inside. berth's own.
    LinkCheck,
    /// Why one place reaches another, or does not. berth's own.
    Explain,

    /// One more process.
    ExecCreate,
    /// Run it.
    ExecStart,
    /// The size of its terminal.
    ExecResize,
    /// How it stands.
    ExecInspect,

    /// Images, a line each.
    ImageList,
    /// From a registry, or from an archive.
    ImageCreate,
    /// All about one.
    ImageInspect,
    /// How it was made.
    ImageHistory,
    /// To a registry.
    ImagePush,
    /// Another name.
    ImageTag,
    /// Away with it.
    ImageRemove,
    /// Away with all that nothing uses.
    ImagePrune,
    /// An image of a container.
    Commit,
    /// One or more into an archive.
    ImageSave,
    /// Out of an archive.
    ImageLoad,

    /// Volumes.
    VolumeList,
    /// A new one.
    VolumeCreate,
    /// All about one.
    VolumeInspect,
    /// Away with it.
    VolumeRemove,
    /// Away with all that nothing uses.
    VolumePrune,

    /// Networks.
    NetworkList,
    /// A new one.
    NetworkCreate,
    /// All about one.
    NetworkInspect,
    /// Away with it.
    NetworkRemove,
    /// A container joins it.
    NetworkConnect,
    /// A container leaves it.
    NetworkDisconnect,
    /// Away with all that nobody is on.
    NetworkPrune,
    /// What containers asked the resolver. berth's own.
    DnsLog,

    /// Swarm, services, nodes, tasks, secrets, configs.
    Swarm,

    /// Plugins.
    Plugins,
    /// One of them.
    PluginInspect,
    /// What builds left behind: nothing.
    BuildPrune,
    /// Known, and not there yet or not meant to be.
    Absent(&'static str),
}

use Action::*;

const BUILD: Action = Absent("berth does not build images; build them with another tool and load or pull them");

/// The paths. `{name}` is one part of a path, `{name..}` one or more (image names have slashes); `*` is any rest.
/// A path is looked up from the top, so that `/images/json` comes before `/images/{name..}/json`.
#[rustfmt::skip]
pub const ROUTES: &[(&str, &str, Action)] = &[
    ("GET",    "/_ping",                        Ping),
    ("HEAD",   "/_ping",                        Ping),
    ("GET",    "/version",                      Version),
    ("GET",    "/info",                         Info),
    ("GET",    "/system/df",                    DiskUsage),
    ("GET",    "/events",                       Events),
    ("POST",   "/auth",                         Auth),

    ("GET",    "/containers/json",              ContainerList),
    ("POST",   "/containers/create",            ContainerCreate),
    ("POST",   "/containers/prune",             ContainerPrune),
    // A link's name has a slash.
    ("GET",    "/containers/{name..}/json",     ContainerInspect),
    ("GET",    "/containers/{name}/top",        ContainerTop),
    ("GET",    "/containers/{name}/logs",       ContainerLogs),
    ("GET",    "/containers/{name}/changes",    ContainerChanges),
    ("GET",    "/containers/{name}/export",     ContainerExport),
    ("GET",    "/containers/{name}/stats",      ContainerStats),
    ("POST",   "/containers/{name}/resize",     ContainerResize),
    ("POST",   "/containers/{name}/start",      ContainerStart),
    ("POST",   "/containers/{name}/stop",       ContainerStop),
    ("POST",   "/containers/{name}/restart",    ContainerRestart),
    ("POST",   "/containers/{name}/kill",       ContainerKill),
    ("POST",   "/containers/{name}/update",     ContainerUpdate),
    ("POST",   "/containers/{name}/rename",     ContainerRename),
    ("POST",   "/containers/{name}/pause",      ContainerPause),
    ("POST",   "/containers/{name}/unpause",    ContainerUnpause),
    ("POST",   "/containers/{name}/attach",     ContainerAttach),
    ("GET",    "/containers/{name}/attach/ws",  Absent("attaching through a web socket is not there; use POST attach")),
    ("POST",   "/containers/{name}/wait",       ContainerWait),
    ("DELETE", "/containers/{name}",            ContainerRemove),
    ("DELETE", "/containers/{name}/{alias}",    ContainerRemove),
    ("HEAD",   "/containers/{name}/archive",    ArchiveStat),
    ("GET",    "/containers/{name}/archive",    ArchiveGet),
    ("PUT",    "/containers/{name}/archive",    ArchivePut),
    ("GET",    "/containers/{name}/checkpoints",        Absent("checkpoints are not there")),
    ("POST",   "/containers/{name}/checkpoints",        Absent("checkpoints are not there")),
    ("DELETE", "/containers/{name}/checkpoints/{id}",   Absent("checkpoints are not there")),

    ("POST",   "/berth/containers/{name}/ports", PortsAdd),
    ("DELETE", "/berth/containers/{name}/ports", PortsRemove),
    ("GET",    "/berth/links",                  LinkList),
    ("POST",   "/berth/containers/{name}/links/check", LinkCheck),
    ("GET",    "/berth/explain",                Explain),

    ("POST",   "/containers/{name}/exec",       ExecCreate),
    ("POST",   "/exec/{name}/start",            ExecStart),
    ("POST",   "/exec/{name}/resize",           ExecResize),
    ("GET",    "/exec/{name}/json",             ExecInspect),

    ("GET",    "/images/json",                  ImageList),
    ("GET",    "/images/search",                Absent("berth does not search registries; use a registry's own page")),
    ("GET",    "/images/get",                   ImageSave),
    ("POST",   "/images/create",                ImageCreate),
    ("POST",   "/images/load",                  ImageLoad),
    ("POST",   "/images/prune",                 ImagePrune),
    ("GET",    "/images/{name..}/json",         ImageInspect),
    ("GET",    "/images/{name..}/history",      ImageHistory),
    ("GET",    "/images/{name..}/get",          ImageSave),
    ("POST",   "/images/{name..}/push",         ImagePush),
    ("POST",   "/images/{name..}/tag",          ImageTag),
    ("DELETE", "/images/{name..}",              ImageRemove),
    ("POST",   "/commit",                       Commit),
    ("GET",    "/distribution/{name..}/json",   Absent("asking a registry about an image without pulling it is not there yet")),
    ("POST",   "/build",                        BUILD),
    ("POST",   "/build/prune",                  BuildPrune),
    ("POST",   "/build/cancel",                 BUILD),
    ("POST",   "/session",                      BUILD),
    ("POST",   "/grpc",                         BUILD),

    ("GET",    "/volumes",                      VolumeList),
    ("POST",   "/volumes/create",               VolumeCreate),
    ("POST",   "/volumes/prune",                VolumePrune),
    ("GET",    "/volumes/{name}",               VolumeInspect),
    ("PUT",    "/volumes/{name}",               Absent("berth has no cluster volumes")),
    ("DELETE", "/volumes/{name}",               VolumeRemove),

    ("GET",    "/networks",                     NetworkList),
    ("POST",   "/networks/create",              NetworkCreate),
    ("POST",   "/networks/prune",               NetworkPrune),
    ("GET",    "/networks/{name}",              NetworkInspect),
    ("DELETE", "/networks/{name}",              NetworkRemove),
    ("POST",   "/networks/{name}/connect",      NetworkConnect),
    ("POST",   "/networks/{name}/disconnect",   NetworkDisconnect),

    ("GET",    "/berth/dns-log",                DnsLog),

    ("*",      "/swarm/*",                      Swarm),
    ("*",      "/swarm",                        Swarm),
    ("*",      "/services/*",                   Swarm),
    ("*",      "/services",                     Swarm),
    ("*",      "/nodes/*",                      Swarm),
    ("*",      "/nodes",                        Swarm),
    ("*",      "/tasks/*",                      Swarm),
    ("*",      "/tasks",                        Swarm),
    ("*",      "/secrets/*",                    Swarm),
    ("*",      "/secrets",                      Swarm),
    ("*",      "/configs/*",                    Swarm),
    ("*",      "/configs",                      Swarm),
    ("GET",    "/plugins",                      Plugins),
    ("GET",    "/plugins/{name..}/json",        PluginInspect),
    ("*",      "/plugins/*",                    Absent("berth has no plugins")),
];

/// Answers.
///
/// # Errors
/// Whatever stands in the way; one function gives its status.
pub async fn carry_out(action: Action, ask: Ask) -> Result<Answer> {
    match action {
        Ping => Ok(system::ping(&ask)),
        Version => Ok(system::version()),
        Info => Ok(system::info(&ask)),
        DiskUsage => system::disk_usage(ask).await,
        Events => system::events(&ask),
        Auth => images::auth(ask).await,

        ContainerList => containers::list(ask).await,
        ContainerCreate => containers::create(ask).await,
        ContainerInspect => containers::inspect(ask).await,
        ContainerTop => containers::top(ask).await,
        ContainerLogs => containers::logs(ask).await,
        ContainerChanges => containers::changes(ask).await,
        ContainerExport => archive::export(ask).await,
        ContainerStats => containers::stats(ask).await,
        ContainerResize => containers::resize(ask).await,
        ContainerStart => containers::start(ask).await,
        ContainerStop => containers::stop(ask).await,
        ContainerRestart => containers::restart(ask).await,
        ContainerKill => containers::kill(ask).await,
        ContainerUpdate => containers::update(ask).await,
        ContainerRename => containers::rename(ask).await,
        ContainerPause => containers::pause(ask).await,
        ContainerUnpause => containers::unpause(ask).await,
        ContainerAttach => containers::attach(ask).await,
        ContainerWait => containers::wait(&ask),
        ContainerRemove => containers::remove(ask).await,
        ArchiveStat => archive::stat(ask).await,
        ArchiveGet => archive::get(ask).await,
        ArchivePut => archive::put(ask).await,
        ContainerPrune => containers::prune(ask).await,
        PortsAdd => ports::add(ask).await,
        Explain => explain::explain(ask).await,
        PortsRemove => ports::remove(ask).await,
        LinkList => links::list(ask).await,
        LinkCheck => links::check(ask).await,

        ExecCreate => exec::create(ask).await,
        ExecStart => exec::start(ask).await,
        ExecResize => exec::resize(ask).await,
        ExecInspect => exec::inspect(&ask),

        ImageList => images::list(&ask),
        ImageCreate => images::create(ask).await,
        ImageInspect => images::inspect(&ask),
        ImageHistory => images::history(&ask),
        ImagePush => images::push(ask).await,
        ImageTag => images::tag(&ask),
        ImageRemove => images::remove(ask).await,
        ImagePrune => images::prune(ask).await,
        Commit => images::commit(ask).await,
        ImageSave => images::save(ask).await,
        ImageLoad => images::load(ask).await,

        VolumeList => volumes::list(&ask),
        VolumeCreate => volumes::create(ask).await,
        VolumeInspect => volumes::inspect(&ask),
        VolumeRemove => volumes::remove(ask).await,
        VolumePrune => volumes::prune(ask).await,

        NetworkList => networks::list(&ask),
        NetworkCreate => networks::create(ask).await,
        NetworkInspect => networks::inspect(&ask),
        NetworkRemove => networks::remove(ask).await,
        NetworkConnect => networks::connect(ask).await,
        NetworkDisconnect => networks::disconnect(ask).await,
        NetworkPrune => networks::prune(ask).await,
        DnsLog => names::dns_log(&ask),

        Swarm => Err(Error::Unavailable(
            "This node is not a swarm manager. berth has no swarm: containers run on this host only.".into(),
        )),
        BuildPrune => Ok(answer::json(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))),
        Plugins => Ok(answer::json(&json!([]))),
        PluginInspect => Err(Error::NotFound(format!("plugin \"{}\" not found", ask.name()))),
        Absent(why) => Err(Error::Absent(why.to_owned())),
    }
}

/// A path that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// What is asked.
    pub action: Action,
    /// What stood in its places.
    pub places: BTreeMap<&'static str, String>,
}

/// Why none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing is there.
    NoSuchPath,
    /// Something is, but not for this method.
    OtherMethod,
}

/// Looks a path up.
///
/// # Errors
/// Nothing is there.
pub fn find(method: &Method, path: &str) -> std::result::Result<Found, Miss> {
    let path = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let mut miss = Miss::NoSuchPath;
    for (verb, pattern, action) in ROUTES {
        let pattern: Vec<&'static str> = pattern.split('/').collect();
        let Some(places) = places(&pattern, &parts) else { continue };
        if *verb == "*" || *verb == method.as_str() {
            return Ok(Found { action: *action, places });
        }
        miss = Miss::OtherMethod;
    }
    Err(miss)
}

fn places(pattern: &[&'static str], parts: &[&str]) -> Option<BTreeMap<&'static str, String>> {
    let (Some((head, pattern)), Some((part, rest))) = (pattern.split_first(), parts.split_first()) else {
        return (pattern.is_empty() && parts.is_empty()).then(BTreeMap::new);
    };
    let Some(place) = head.strip_prefix('{').and_then(|head| head.strip_suffix('}')) else {
        return match *head {
            "*" => Some(BTreeMap::new()),
            head if head == *part => places(pattern, rest),
            _ => None,
        };
    };
    let Some(place) = place.strip_suffix("..") else {
        let mut found = places(pattern, rest)?;
        let value = decoded(part)?;
        found.insert(place, value);
        return (!part.is_empty()).then_some(found);
    };
    // As long as what follows allows.
    (1..=parts.len()).rev().find_map(|taken| {
        let mut found = places(pattern, &parts[taken..])?;
        let value = decoded(&parts[..taken].join("/"))?;
        if value.is_empty() {
            return None;
        }
        found.insert(place, value);
        Some(found)
    })
}

/// Undoes percent encoding (RFC 3986); `None` if it is broken or no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        match (first, more) {
            (b'%', [high, low, more @ ..]) => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                rest = more;
            }
            (b'%', _) => return None,
            (byte, more) => {
                bytes.push(*byte);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: &str, path: &str) -> String {
        match find(&Method::from_bytes(verb.as_bytes()).unwrap(), path) {
            Ok(found) => format!("{:?} {}", found.action, found.places.get("name").map_or("", String::as_str)),
            Err(miss) => format!("{miss:?}"),
        }
    }

    #[test]
    fn paths_lead_where_they_should() {
        for (verb, path, want) in [
            ("GET", "/_ping", "Ping "),
            ("HEAD", "/_ping", "Ping "),
            ("GET", "/containers/json", "ContainerList "),
            ("GET", "/containers/json/json", "ContainerInspect json"),
            ("POST", "/containers/create", "ContainerCreate "),
            ("POST", "/containers/web/start", "ContainerStart web"),
            ("POST", "/containers/web/start/", "ContainerStart web"),
            ("DELETE", "/containers/web", "ContainerRemove web"),
            ("DELETE", "/containers/web/db", "ContainerRemove web"),
            ("GET", "/containers/web/db/json", "ContainerInspect web/db"),
            ("POST", "/berth/containers/web/ports", "PortsAdd web"),
            ("DELETE", "/berth/containers/web/ports", "PortsRemove web"),
            ("POST", "/containers/web/ports", "OtherMethod"),
            ("POST", "/containers/web/ports/80", "NoSuchPath"),
            ("GET", "/images/json", "ImageList "),
            ("GET", "/images/busybox/json", "ImageInspect busybox"),
            ("GET", "/images/reg.example:5000/a/b:1/json", "ImageInspect reg.example:5000/a/b:1"),
            ("GET", "/images/reg%3A5000%2Fa/json", "ImageInspect reg:5000/a"),
            ("GET", "/images/json/json", "ImageInspect json"),
            ("DELETE", "/images/a/b/c", "ImageRemove a/b/c"),
            ("GET", "/images/get", "ImageSave "),
            ("GET", "/images/a/get", "ImageSave a"),
            ("POST", "/containers//start", "NoSuchPath"),
            ("GET", "/containers/web/start", "OtherMethod"),
            ("GET", "/nothing", "NoSuchPath"),
            ("GET", "/", "NoSuchPath"),
            ("GET", "", "NoSuchPath"),
            ("GET", "/containers/%zz/json", "NoSuchPath"),
            ("POST", "/swarm/init", "Swarm "),
            ("GET", "/services", "Swarm "),
            ("GET", "/plugins", "Plugins "),
        ] {
            assert_eq!(asked(verb, path), want, "{verb} {path}");
        }
        assert_eq!(asked("POST", "/networks/create"), "NetworkCreate ");
        assert_eq!(asked("POST", "/networks/app/connect"), "NetworkConnect app");
        assert!(asked("POST", "/build").starts_with("Absent"));
    }

    #[test]
    fn no_path_is_hidden_by_one_above_it() {
        for (verb, pattern, action) in ROUTES {
            let path = pattern.replace("{name..}", "x/y").replace(['{', '}'], "").replace('*', "x");
            let verb = if *verb == "*" { "PATCH" } else { verb };
            let found = find(&Method::from_bytes(verb.as_bytes()).unwrap(), &path).unwrap();
            assert_eq!(found.action, *action, "{verb} {pattern}");
        }
    }
}
