//! `stats`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, switch};
use crate::wire::{Call, escape};
use crate::{human, printer, terminal};

/// The flags of `stats`.
pub fn flags() -> Vec<Arg> {
    vec![
        switch("all", 'a', "Show those that do not run too"),
        flags::format(LONG),
        switch("no-stream", LONG, "Show the numbers once instead of following them"),
        switch("no-trunc", LONG, "Do not shorten anything"),
    ]
}

/// Shows what containers use: once, or again and again until it is interrupted.
pub async fn stats(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let once = m.on("no-stream");
    let columns = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
    let listing = Listing {
        kind: "container.statsContext",
        titles: json!({
            "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %",
            "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O",
            "PIDs": "PIDS"
        }),
        columns,
    };
    loop {
        let names = match ask.args.as_slice() {
            [] => {
                let all = ask.wire.ask(Call::get("/containers/json").switch("all", m.on("all"))).await?;
                let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
                all.iter().map(|container| text(container, "Id").to_owned()).collect()
            }
            given => given.to_vec(),
        };
        let asked = names.iter().map(|name| sample(ask, name));
        let mut rows = Vec::new();
        for (name, sample) in names.iter().zip(futures_util::future::join_all(asked).await) {
            match sample {
                Ok(sample) => rows.push(stats_row(name, &sample, m.on("no-trunc"))),
                // One that ended while we asked is simply not shown any more.
                Err(failure) if failure.is_missing() && ask.args.is_empty() => {}
                Err(failure) => return Err(failure),
            }
        }
        let page = listing.text(&rows, m.get("format"))?;
        if !once && terminal::is_output() {
            // Home, and clear what the page before had more of.
            printer::out(&format!("\x1b[H\x1b[J{page}"));
        } else {
            printer::out(&page);
        }
        if once {
            return Ok(0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// One sample, taken over the engine's usual span so that it knows a rate of CPU time.
async fn sample(ask: &Ask<'_>, name: &str) -> Result<Value, Failure> {
    let call = Call::get(format!("/containers/{}/stats", escape(name))).query("stream", "0");
    let rest = ask.wire.begin(call).await?;
    rest.await
}

fn stats_row(asked: &str, sample: &Value, whole: bool) -> Value {
    let number = |path: &[&str]| path.iter().fold(sample, |at, key| &at[*key]).as_f64().unwrap_or(0.0);
    let cpu = {
        let used =
            number(&["cpu_stats", "cpu_usage", "total_usage"]) - number(&["precpu_stats", "cpu_usage", "total_usage"]);
        let passed = number(&["cpu_stats", "system_cpu_usage"]) - number(&["precpu_stats", "system_cpu_usage"]);
        let cpus = match number(&["cpu_stats", "online_cpus"]) {
            0.0 => 1.0,
            cpus => cpus,
        };
        if used > 0.0 && passed > 0.0 { used / passed * cpus * 100.0 } else { 0.0 }
    };
    // Memory that the kernel would give back at once is not used: the inactive part of the page cache.
    let cache = match number(&["memory_stats", "stats", "total_inactive_file"]) {
        0.0 => number(&["memory_stats", "stats", "inactive_file"]),
        cache => cache,
    };
    let usage = number(&["memory_stats", "usage"]);
    let memory = if cache < usage { usage - cache } else { usage };
    let limit = number(&["memory_stats", "limit"]);
    let share = if limit > 0.0 { memory / limit * 100.0 } else { 0.0 };
    let interfaces = sample["networks"].as_object().into_iter().flatten();
    let (received, sent) = interfaces.fold((0.0, 0.0), |(rx, tx), (_, net)| {
        (rx + net["rx_bytes"].as_f64().unwrap_or(0.0), tx + net["tx_bytes"].as_f64().unwrap_or(0.0))
    });
    let operations = sample["blkio_stats"]["io_service_bytes_recursive"].as_array().into_iter().flatten();
    let (read, written) = operations.fold((0.0, 0.0), |(read, written), op| {
        let value = op["value"].as_f64().unwrap_or(0.0);
        match text(op, "op").to_lowercase().as_str() {
            "read" => (read + value, written),
            "write" => (read, written + value),
            _ => (read, written),
        }
    });
    let id = match text(sample, "id") {
        "" => asked,
        id => id,
    };
    let pair = |a: f64, b: f64| format!("{} / {}", human::size_with(a, 3), human::size_with(b, 3));
    json!({
        "Container": asked,
        "ID": if whole { id.to_owned() } else { row::short_id(id) },
        "Name": match text(sample, "name").trim_start_matches('/') { "" => "--", name => name },
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", human::binary_size(memory), human::binary_size(limit)),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": pair(received, sent),
        "BlockIO": pair(read, written),
        "PIDs": sample["pids_stats"]["current"].as_u64().unwrap_or(0).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_in_words() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3_145_728, "limit": 10_485_760, "stats": {"inactive_file": 1_048_576}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 600}, "eth1": {"rx_bytes": 200, "tx_bytes": 48}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
            "pids_stats": {"current": 3}
        });
        let row = stats_row("web", &sample, false);
        let shown: Vec<&str> = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
            .iter()
            .map(|column| text(&row, column))
            .collect();
        assert_eq!(
            shown,
            ["0123456789ab", "web", "20.00%", "2MiB / 10MiB", "20.00%", "1.2kB / 648B", "4.1kB / 1B", "3"]
        );
        assert_eq!(text(&stats_row("x", &json!({}), false), "NetIO"), "0B / 0B");
    }
}
