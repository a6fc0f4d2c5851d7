//! `version`, `info`, `ping`, `system df`, and everything called `prune`.

use std::io::{self, BufRead};

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, parsed_list, switch, text as text_flag};
use crate::template::{Missing, Template, json_text, unescape};
use crate::wire::Call;
use crate::{human, literal, printer};

/// `--format` of `version` and `info`.
pub fn format_flag() -> Vec<Arg> {
    vec![text_flag("format", 'f', "string", "How to print: 'json', or a Go template")]
}

/// Prints a value by a template, if one was given.
fn formatted(value: &Value, format: Option<&str>) -> Result<bool, Failure> {
    match format.filter(|format| !format.is_empty()) {
        None => return Ok(false),
        Some("json") => printer::line(&json_text(value)),
        Some(format) => {
            let printed = Template::parse(&unescape(format))
                .and_then(|template| template.print(value, Missing::Entry))
                .map_err(|why| Failure::Exit { text: format!("template parsing error: {why}"), code: 64 })?;
            printer::line(&printed);
        }
    }
    Ok(true)
}

/// Shows the versions of this program and of the engine.
pub async fn version(ask: &Ask<'_>) -> Result<u8, Failure> {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS, "Arch": architecture(),
    });
    let asked = ask.wire.ask(Call::get("/version")).await;
    let format = ask.m.get("format");
    if format.is_some() {
        let server = asked?;
        formatted(&json!({"Client": client, "Server": server}), format)?;
        return Ok(0);
    }
    let pairs = |title: &str, rows: &[(&str, &str)]| {
        let rows = rows.iter().filter(|(_, value)| !value.is_empty());
        let lines: String = rows.map(|(name, value)| format!(" {:<18} {value}\n", format!("{name}:"))).collect();
        printer::out(&format!("{title}\n{lines}"));
    };
    let platform = |value: &Value| format!("{}/{}", text(value, "Os"), text(value, "Arch"));
    pairs("Client:", &[("Version", text(&client, "Version")), ("OS/Arch", &platform(&client))]);
    let server = asked?;
    let api = format!("{} (minimum version {})", text(&server, "ApiVersion"), text(&server, "MinAPIVersion"));
    printer::out("\n");
    pairs(
        format!("Server: {}", text(&server["Platform"], "Name")).trim_end(),
        &[
            ("Version", text(&server, "Version")),
            ("API version", &api),
            ("Git commit", text(&server, "GitCommit")),
            ("Built", text(&server, "BuildTime")),
            ("OS/Arch", &platform(&server)),
            ("Kernel", text(&server, "KernelVersion")),
        ],
    );
    for component in server["Components"].as_array().into_iter().flatten() {
        if matches!(text(component, "Name"), "Engine" | "berth") {
            continue;
        }
        pairs(&format!(" {}:", text(component, "Name")), &[(" Version", text(component, "Version"))]);
    }
    Ok(0)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Asks the engine whether it is there.
pub async fn ping(ask: &Ask<'_>) -> Result<u8, Failure> {
    let mut answer = ask.wire.stream(Call::get("/_ping")).await?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    printer::line(String::from_utf8_lossy(&body).trim());
    Ok(0)
}

/// Shows what the engine says of itself and its host.
pub async fn info(ask: &Ask<'_>) -> Result<u8, Failure> {
    let info = ask.wire.ask(Call::get("/info")).await?;
    if formatted(&info, ask.m.get("format"))? {
        return Ok(0);
    }
    printer::out(&format!("Client:\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION")));
    printer::out(&info_text(&info));
    for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        printer::complain(warning);
    }
    Ok(0)
}

fn info_text(info: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(format!(" {name}: {value}").trim_end());
            out.push('\n');
        }
    };
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(" ")
    };
    for (name, key) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
    ] {
        line(name, shown(&info[key]));
    }
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(&format!(" {}", pair[0].as_str().unwrap_or_default()), shown(&pair[1]));
    }
    line("Logging Driver", shown(&info["LoggingDriver"]));
    line("Cgroup Driver", shown(&info["CgroupDriver"]));
    line("Cgroup Version", shown(&info["CgroupVersion"]));
    let plugins: Vec<(&str, String)> = [(" Volume", "Volume"), (" Network", "Network"), (" Log", "Log")]
        .iter()
        .map(|(name, key)| (*name, words(&info["Plugins"][*key])))
        .filter(|(_, list)| !list.is_empty())
        .collect();
    if !plugins.is_empty() {
        line("Plugins", " ".to_owned());
        for (name, list) in plugins {
            line(name, list);
        }
    }
    let runtimes: Vec<String> =
        info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    line("Runtimes", runtimes.join(" "));
    line("Default Runtime", shown(&info["DefaultRuntime"]));
    let security = words(&info["SecurityOptions"]);
    line("Security Options", security);
    if let Some(backend) = info["FirewallBackend"].as_object() {
        line("Firewall Backend", backend.get("Driver").map(shown).unwrap_or_default());
    }
    for (name, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        line(name, shown(&info[key]));
    }
    if let Some(memory) = info["MemTotal"].as_f64() {
        line("Total Memory", human::binary_size(memory));
    }
    line("Name", shown(&info["Name"]));
    line("ID", shown(&info["ID"]));
    line("Root Dir", shown(&info["DockerRootDir"]));
    line("Debug Mode", shown(&info["Debug"]));
    line("Live Restore Enabled", shown(&info["LiveRestoreEnabled"]));
    out
}

/// The flags of `system df`.
pub fn df_flags() -> Vec<Arg> {
    vec![flags::format(LONG), switch("verbose", 'v', "Accepted; each thing's own size is in its listing")]
}

/// Shows what images, containers and volumes take on the disk.
pub async fn df(ask: &Ask<'_>) -> Result<u8, Failure> {
    let usage = ask.wire.ask(Call::get("/system/df")).await?;
    let sum =
        |list: &[Value], size: &dyn Fn(&Value) -> f64| list.iter().map(size).filter(|size| *size > 0.0).sum::<f64>();
    let list = |key: &str| usage[key].as_array().cloned().unwrap_or_default();
    let size = |key: &'static str| move |value: &Value| value[key].as_f64().unwrap_or(0.0);
    let (images, containers, volumes) = (list("Images"), list("Containers"), list("Volumes"));
    let part =
        |list: &[Value], used: &dyn Fn(&Value) -> bool| list.iter().filter(|v| used(v)).cloned().collect::<Vec<_>>();
    let image_used = |image: &Value| image["Containers"].as_i64().unwrap_or(0) > 0;
    let running = |container: &Value| matches!(text(container, "State"), "running" | "paused" | "restarting");
    let volume_used = |volume: &Value| volume["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
    let volume_size = |volume: &Value| volume["UsageData"]["Size"].as_f64().unwrap_or(0.0);
    let image_total = usage["LayersSize"].as_f64().unwrap_or_else(|| sum(&images, &size("Size")));
    let rows = [
        (
            "Images",
            images.len(),
            part(&images, &image_used).len(),
            image_total,
            image_total - sum(&part(&images, &image_used), &size("Size")).min(image_total),
        ),
        (
            "Containers",
            containers.len(),
            part(&containers, &running).len(),
            sum(&containers, &size("SizeRw")),
            sum(&part(&containers, &|c| !running(c)), &size("SizeRw")),
        ),
        (
            "Local Volumes",
            volumes.len(),
            part(&volumes, &volume_used).len(),
            sum(&volumes, &volume_size),
            sum(&part(&volumes, &|v| !volume_used(v)), &volume_size),
        ),
    ];
    let rows: Vec<Value> = rows
        .iter()
        .map(|(name, total, active, size, free)| {
            let share = if *size > 0.0 { format!(" ({}%)", (free / size * 100.0) as u64) } else { String::new() };
            json!({
                "Type": name, "TotalCount": total.to_string(), "Active": active.to_string(),
                "Size": human::size_with(*size, 3), "Reclaimable": format!("{}{share}", human::size_with(*free, 3)),
            })
        })
        .collect();
    let listing = row::Listing {
        kind: "formatter.diskUsageContext",
        titles: json!({
            "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"
        }),
        columns: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    };
    listing.print(&rows, ask.m.get("format"))?;
    Ok(0)
}

fn prune_filter() -> Arg {
    parsed_list("filter", LONG, "filter", "Remove only what matches (until=TIME, label=NAME)", literal::filter)
}

/// The flags of `container prune`.
pub fn prune_flags() -> Vec<Arg> {
    vec![prune_filter(), switch("force", 'f', "Do not ask")]
}

/// The flags of `image prune` and `volume prune`.
pub fn prune_all_flags() -> Vec<Arg> {
    let mut all = prune_flags();
    all.push(switch("all", 'a', "Remove all that nothing uses, not only what has no name"));
    all
}

/// The flags of `system prune`.
pub fn prune_system_flags() -> Vec<Arg> {
    let mut all = prune_all_flags();
    all.push(switch("volumes", LONG, "Remove anonymous volumes too"));
    all
}

/// Asks before something is lost; only `y` and `yes` count.
fn sure(warning: &str) -> bool {
    printer::out(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// One thing to prune: the path of the API, what the list of removed things is called, and its filters.
async fn prune(ask: &Ask<'_>, what: &str, extra: &[(&str, &str)]) -> Result<(Vec<String>, f64), Failure> {
    let mut filters = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in ask.m.values::<(String, String)>("filter") {
        filters.entry(name).or_default().push(value);
    }
    for (name, value) in extra {
        filters.entry((*name).to_owned()).or_default().push((*value).to_owned());
    }
    let call = Call::post(format!("/{what}/prune")).query_if("filters", row::encode(&filters));
    let removed = ask.wire.ask(call).await?;
    let key = match what {
        "containers" => "ContainersDeleted",
        "images" => "ImagesDeleted",
        "networks" => "NetworksDeleted",
        _ => "VolumesDeleted",
    };
    let names = removed[key]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| match entry {
            Value::String(name) => name.clone(),
            step if text(step, "Deleted").is_empty() => format!("untagged: {}", text(step, "Untagged")),
            step => format!("deleted: {}", text(step, "Deleted")),
        })
        .collect();
    Ok((names, removed["SpaceReclaimed"].as_f64().unwrap_or(0.0)))
}

fn removed(title: &str, names: &[String]) {
    if !names.is_empty() {
        printer::out(&format!("Deleted {title}:\n{}\n\n", names.join("\n")));
    }
}

fn reclaimed(space: f64) {
    printer::line(&format!("Total reclaimed space: {}", human::size_with(space, 4)));
}

async fn prune_one(
    ask: &Ask<'_>,
    warning: &str,
    what: &str,
    title: &str,
    extra: &[(&str, &str)],
) -> Result<u8, Failure> {
    if !ask.m.on("force") && !sure(warning) {
        return Ok(0);
    }
    let (names, space) = prune(ask, what, extra).await?;
    removed(title, &names);
    reclaimed(space);
    Ok(0)
}

/// Removes all stopped containers.
pub async fn prune_containers(ask: &Ask<'_>) -> Result<u8, Failure> {
    prune_one(ask, "This will remove all stopped containers.", "containers", "Containers", &[]).await
}

/// Removes unused images.
pub async fn prune_images(ask: &Ask<'_>) -> Result<u8, Failure> {
    if ask.m.on("all") {
        let warning = "This will remove all images without at least one container associated to them.";
        return prune_one(ask, warning, "images", "Images", &[("dangling", "false")]).await;
    }
    prune_one(ask, "This will remove all dangling images.", "images", "Images", &[("dangling", "true")]).await
}

/// Removes unused volumes.
pub async fn prune_volumes(ask: &Ask<'_>) -> Result<u8, Failure> {
    if ask.m.on("all") {
        let warning = "This will remove all local volumes not used by at least one container.";
        return prune_one(ask, warning, "volumes", "Volumes", &[("all", "true")]).await;
    }
    let warning = "This will remove anonymous local volumes not used by at least one container.";
    prune_one(ask, warning, "volumes", "Volumes", &[]).await
}

/// Removes networks that no container is on. What that frees is nothing, and no word is said of it.
pub async fn prune_networks(ask: &Ask<'_>) -> Result<u8, Failure> {
    if !ask.m.on("force") && !sure("This will remove all custom networks not used by at least one container.") {
        return Ok(0);
    }
    let (names, _) = prune(ask, "networks", &[]).await?;
    removed("Networks", &names);
    Ok(0)
}

/// Removes all that is unused: containers, networks, images, and volumes where the user says so.
pub async fn prune_system(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let all = m.on("all");
    let mut steps = vec![
        ("containers", "Containers", Vec::new(), "all stopped containers"),
        ("networks", "Networks", Vec::new(), "all networks not used by at least one container"),
    ];
    if m.on("volumes") {
        steps.push(("volumes", "Volumes", Vec::new(), "all anonymous volumes not used by at least one container"));
    }
    steps.push(if all {
        (
            "images",
            "Images",
            vec![("dangling", "false")],
            "all images without at least one container associated to them",
        )
    } else {
        ("images", "Images", vec![("dangling", "true")], "all dangling images")
    });
    let lines: Vec<String> = steps.iter().map(|(.., words)| format!("  - {words}")).collect();
    if !m.on("force") && !sure(&format!("This will remove:\n{}\n", lines.join("\n"))) {
        return Ok(0);
    }
    let mut total = 0.0;
    for (what, title, extra, _) in steps {
        match prune(ask, what, &extra).await {
            Ok((names, space)) => {
                removed(title, &names);
                total += space;
            }
            // An engine that does not prune one kind yet still prunes the others.
            Err(Failure::Engine { status: 501, message }) => printer::complain(&message),
            Err(failure) => return Err(failure),
        }
    }
    reclaimed(total);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_shows_what_there_is() {
        let info = json!({
            "Containers": 2, "ContainersRunning": 1, "ServerVersion": "0.1.0", "Driver": "overlay",
            "Plugins": {"Network": ["bridge", "host", "null"]}, "MemTotal": 1_073_741_824_u64, "NCPU": 2,
            "Runtimes": {"berth": {}, "runc": {}}
        });
        assert_eq!(
            info_text(&info),
            " Containers: 2\n  Running: 1\n Server Version: 0.1.0\n Storage Driver: overlay\n Plugins:\n  Network: bridge host null\n Runtimes: berth runc\n CPUs: 2\n Total Memory: 1GiB\n"
        );
    }
}
