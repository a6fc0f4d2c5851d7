//! A container's record as an older engine wrote it, in the form of today.

use serde_json::{Value, json};

/// Whatever an older record lacks is put in as its engine meant it. A record of today stays as it is.
pub fn in_todays_form(mut record: Value) -> Value {
    if let Some(network) = record.pointer_mut("/spec/network")
        && network.get("places").is_none()
    {
        network["places"] = places(network);
    }
    record
}

/// Before a container could be on several networks, its mode named the only one, and the wishes for it stood beside.
fn places(network: &Value) -> Value {
    let name = match &network["mode"] {
        Value::String(kind) if kind == "Bridged" => plan::decide::DEFAULT_BRIDGE,
        kind => match kind["Named"].as_str() {
            Some(name) => name,
            None => return json!([]),
        },
    };
    let aliases = network.get("aliases").cloned().unwrap_or_else(|| json!([]));
    let [ip4, ip6, mac] = ["ip4", "ip6", "mac"].map(|wish| network[wish].clone());
    json!([{
        "network": name, "id": null, "aliases": aliases, "ip4": ip4, "ip6": ip6, "mac": mac, "priority": 0, "driver_opts": {},
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::{NetworkMode, NetworkSpec, PlaceSpec};

    fn read(mode: Value) -> Vec<PlaceSpec> {
        let old = json!({
            "mode": mode, "exposed": [], "published": [], "publish_all": false, "dns": [], "dns_search": [],
            "dns_options": [], "extra_hosts": [], "links": [], "aliases": ["db"], "ip4": "10.1.0.9", "ip6": null,
            "mac": "02:00:00:00:00:01",
        });
        let record = in_todays_form(json!({ "spec": { "network": old } }));
        let spec: NetworkSpec = serde_json::from_value(record["spec"]["network"].clone()).unwrap();
        spec.places
    }

    #[test]
    fn the_mode_of_an_older_record_is_its_only_place() {
        let place = |network: &str| PlaceSpec {
            aliases: vec!["db".into()],
            ip4: "10.1.0.9".parse().ok(),
            mac: "02:00:00:00:00:01".parse().ok(),
            ..PlaceSpec::on(network)
        };
        assert_eq!(read(json!("Bridged")), [place("bridge")]);
        assert_eq!(read(json!({ "Named": "app" })), [place("app")]);
        for closed in [json!("Closed"), json!("Open"), json!({ "Joined": "web" })] {
            assert_eq!(read(closed.clone()), [], "{closed}");
        }
    }

    #[test]
    fn a_record_of_today_stays() {
        // One that was disconnected from its only network has none, and gets none.
        let left = NetworkSpec { mode: NetworkMode::Bridged, ..NetworkSpec::default() };
        let record = json!({ "spec": { "network": left } });
        assert_eq!(in_todays_form(record.clone()), record);
    }
}
