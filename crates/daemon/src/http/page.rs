//! The page `docs/api.md`: every path of the routes, since when the Engine API has it, and how much of it is here. The test
//! below writes it under `UPDATE=1`, and compares otherwise; an action that nobody has described does not compile.

use super::routes::{Action, ROUTES};
use super::version;
use api::{NEWEST, OLDEST};
use std::path::Path;

/// What of an action is not there; empty if nothing is missing.
fn missing(action: Action) -> &'static str {
    use Action::*;
    match action {
        Ping | Version | Info | Events | ContainerList | ContainerInspect | ContainerTop | ContainerLogs
        | ContainerChanges | ContainerExport | ContainerStats | ContainerResize | ContainerStop | ContainerRestart
        | ContainerKill | ContainerRename | ContainerPause | ContainerUnpause | ContainerAttach | ContainerRemove
        | ArchiveStat | ArchiveGet | ArchivePut | ContainerPrune | PortsAdd | PortsRemove | LinkList | LinkCheck
        | Explain | ExecCreate | ExecStart | ExecResize | ExecInspect | ImageHistory | ImageTag | ImagePrune
        | Commit | VolumeList | VolumeInspect | VolumeRemove | VolumePrune | NetworkList | NetworkInspect
        | NetworkRemove | NetworkConnect | NetworkDisconnect | NetworkPrune | DnsLog | Plugins | PluginInspect
        | BuildPrune => "",
        ContainerWait => "nothing is missing; `condition=healthy` is berth's own (and Podman's)",
        DiskUsage => "how much of an image others share is told as 0",
        Auth => "identity tokens",
        ContainerCreate => {
            "user namespaces but `host`, `StorageOpt`, rates and weights by block device, `DeviceRequests` (GPUs), AppArmor \
             profiles, writable cgroups, mounts of images and of parts of volumes, log drivers but `json-file`, `local` and \
             `none`, volume plugins"
        }
        ContainerStart => "checkpoints",
        ContainerUpdate => "devices",
        ImageList | ImageInspect => "manifests of several platforms: an image here has one",
        ImageCreate => "`fromSrc` from an address",
        ImagePush | ImageSave | ImageLoad | ImageRemove => "choosing one platform of several",
        VolumeCreate => "drivers but `local`, and its options; cluster volumes",
        NetworkCreate => {
            "the drivers `ipvlan` and `overlay`, the macvlan mode `passthru`, several subnets of one family, IPAM drivers but \
             `default`, networks that are only a configuration"
        }
        Swarm => "berth has no swarm: 503, `This node is not a swarm manager`",
        Absent(why) => why,
    }
}

/// How much of it is here, in a word.
fn state(action: Action) -> &'static str {
    use Action::*;
    match action {
        Swarm | Absent(_) => "absent",
        ContainerWait => "supported",
        action if missing(action).is_empty() => "supported",
        _ => "partly",
    }
}

/// The versions of the Engine API that brought paths which the oldest one did not have.
const BROUGHT: &[(&str, &str, (u32, u32))] = &[
    ("HEAD", "/_ping", (1, 40)),
    ("GET", "/system/df", (1, 25)),
    ("POST", "/containers/prune", (1, 25)),
    ("POST", "/images/prune", (1, 25)),
    ("POST", "/volumes/prune", (1, 25)),
    ("POST", "/networks/prune", (1, 25)),
    ("GET", "/containers/{name}/checkpoints", (1, 25)),
    ("POST", "/containers/{name}/checkpoints", (1, 25)),
    ("DELETE", "/containers/{name}/checkpoints/{id}", (1, 25)),
    ("GET", "/distribution/{name..}/json", (1, 30)),
    ("POST", "/build/prune", (1, 31)),
    ("POST", "/build/cancel", (1, 39)),
    ("POST", "/session", (1, 39)),
    ("POST", "/grpc", (1, 39)),
    ("PUT", "/volumes/{name}", (1, 42)),
    ("GET", "/plugins", (1, 25)),
    ("GET", "/plugins/{name..}/json", (1, 25)),
    ("*", "/plugins/*", (1, 25)),
    ("*", "/secrets", (1, 25)),
    ("*", "/secrets/*", (1, 25)),
    ("*", "/configs", (1, 30)),
    ("*", "/configs/*", (1, 30)),
];

/// The version that brought a path; the oldest that berth speaks, if it is older.
fn since(method: &str, path: &str) -> String {
    if path.starts_with("/berth/") {
        return "berth's own".to_owned();
    }
    let found = BROUGHT.iter().find(|(verb, pattern, _)| (*verb, *pattern) == (method, path));
    version::text(found.map_or(OLDEST, |(_, _, version)| *version))
}

fn page() -> String {
    let mut page = format!(
        "# The Engine API\n\n\
         What of Docker's Engine API berth answers, in the versions {} to {}. A path may begin with a version (`/v1.44/…`); \
         without one it is of the newest.\nFields and answers follow the client's version where Docker's do. What is absent is \
         answered with 501 and a sentence that says so, never with\nan answer that is not true (what needs a swarm: \
         with 503); what does not exist in the API either, with 404.\n\n\
         This page is written from the table of routes (`crates/daemon/src/http/routes.rs`) by a test, which also compares.\n\n\
         | request | since | state | what is missing, or why it is absent |\n| --- | --- | --- | --- |\n",
        version::text(OLDEST),
        version::text(NEWEST)
    );
    for (method, path, action) in ROUTES {
        let verb = if *method == "*" { "any" } else { method };
        let shown = path.replace("..}", "}");
        let (since, state, missing) = (since(method, path), state(*action), missing(*action));
        page.push_str(&format!("| `{verb} {shown}` | {since} | {state} | {missing} |\n"));
    }
    page
}

#[test]
fn the_page_is_what_the_routes_are() {
    let page = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/api.md is not what the routes are: run this test with UPDATE=1\n{page}");
}

#[test]
fn every_path_that_has_a_version_is_there() {
    for (method, path, _) in BROUGHT {
        let is_there = ROUTES.iter().any(|(verb, pattern, _)| (verb, pattern) == (method, path));
        assert!(is_there, "{method} {path} is no route any more");
    }
}
