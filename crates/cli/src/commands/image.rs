//! `images`, `tag`, `rmi`, `commit`.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use super::row::{self, Listing, text as at};
use crate::failure::Failure;
use crate::flags::{self, Flags, LONG, list, switch, text};
use crate::reference::{Reference, Version};
use crate::wire::{Call, escape};
use crate::{human, printer};

/// The flags of `images`.
pub fn images_flags() -> Vec<Arg> {
    vec![
        switch("all", 'a', "List those between a name and its base too"),
        switch("digests", LONG, "Show digests"),
        flags::filters('f'),
        flags::format(LONG),
        switch("no-trunc", LONG, "Do not shorten anything"),
        switch("quiet", 'q', "Print IDs only"),
        switch("tree", LONG, "Accepted; platforms of an image are not listed by themselves"),
    ]
}

/// Lists images.
pub async fn images(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let mut filters = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in m.values::<(String, String)>("filter") {
        filters.entry(name).or_default().push(value);
    }
    if let Some(pattern) = ask.args.first() {
        filters.entry("reference".to_owned()).or_default().push(pattern.clone());
    }
    let call = Call::get("/images/json").switch("all", m.on("all")).query_if("filters", row::encode(&filters));
    let found = ask.wire.ask(call).await?;
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let whole = m.on("no-trunc");
    let format = m.get("format");
    if m.on("quiet") && format.is_none() {
        for name in found.iter().flat_map(names) {
            printer::line(&shown_id(name.image, whole));
        }
        return Ok(0);
    }
    let digests = m.on("digests") || format.is_some_and(|format| format.contains(".Digest"));
    let rows: Vec<Value> = found.iter().flat_map(names).map(|name| image_row(&name, whole, digests)).collect();
    let listing = Listing {
        kind: "formatter.imageContext",
        titles: json!({
            "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
            "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
            "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE"
        }),
        columns: if m.on("digests") {
            "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        } else {
            "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
        },
    };
    listing.print(&rows, format)?;
    Ok(0)
}

/// One name of an image: images with several names take several rows.
struct Name<'a> {
    image: &'a Value,
    repository: String,
    tag: String,
    digest: String,
}

fn names(image: &Value) -> Vec<Name<'_>> {
    const NONE: &str = "<none>";
    let list = |key: &str| -> Vec<Reference> {
        let texts = image[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.filter(|text| !text.starts_with(NONE)).filter_map(|text| Reference::parse(text).ok()).collect()
    };
    let familiar = |name: &Reference| Reference { version: None, ..name.clone() }.familiar();
    let digests = list("RepoDigests");
    let digest_of = |repository: &str| {
        let same = digests.iter().find(|digest| familiar(digest) == repository);
        same.map_or_else(|| NONE.to_owned(), |digest| digest.version_text().to_owned())
    };
    let mut all: Vec<Name<'_>> = list("RepoTags")
        .iter()
        .map(|name| Name {
            image,
            repository: familiar(name),
            tag: match &name.version {
                Some(Version::Tag(tag)) => tag.clone(),
                _ => NONE.to_owned(),
            },
            digest: digest_of(&familiar(name)),
        })
        .collect();
    if all.is_empty() {
        all = digests
            .iter()
            .map(|name| Name {
                image,
                repository: familiar(name),
                tag: NONE.to_owned(),
                digest: name.version_text().to_owned(),
            })
            .collect();
    }
    if all.is_empty() {
        all.push(Name { image, repository: NONE.to_owned(), tag: NONE.to_owned(), digest: NONE.to_owned() });
    }
    all
}

fn shown_id(image: &Value, whole: bool) -> String {
    let id = at(image, "Id");
    if whole { id.to_owned() } else { row::short_id(id) }
}

fn image_row(name: &Name<'_>, whole: bool, digests: bool) -> Value {
    let image = name.image;
    let created = image["Created"].as_i64().unwrap_or(0);
    let sized = |key: &str| match image[key].as_f64() {
        Some(size) if size >= 0.0 => human::size_with(size, 3),
        _ => "N/A".to_owned(),
    };
    let counted = match image["Containers"].as_i64() {
        Some(count) if count >= 0 => count.to_string(),
        _ => "N/A".to_owned(),
    };
    let unique = match (image["Size"].as_f64(), image["SharedSize"].as_f64()) {
        (Some(size), Some(shared)) if shared >= 0.0 => human::size_with(size - shared, 3),
        _ => "N/A".to_owned(),
    };
    json!({
        "ID": shown_id(image, whole),
        "Repository": name.repository,
        "Tag": name.tag,
        "Digest": if digests { name.digest.as_str() } else { "<none>" },
        "CreatedSince": if created > 0 { row::ago(created) } else { "N/A".to_owned() },
        "CreatedAt": human::instant(created),
        "Size": sized("Size"),
        "VirtualSize": sized("Size"),
        "SharedSize": sized("SharedSize"),
        "UniqueSize": unique,
        "Containers": counted,
    })
}

/// Gives an image another name.
pub async fn tag(ask: &Ask<'_>) -> Result<u8, Failure> {
    let target = Reference::parse(&ask.args[1]).map_err(Failure::Refused)?;
    if matches!(target.version, Some(Version::Digest(_))) {
        return Err(Failure::refused("refusing to create a tag with a digest reference"));
    }
    let target = target.or_latest();
    let call = Call::post(format!("/images/{}/tag", path(&ask.args[0])))
        .query("repo", target.name())
        .query("tag", target.version_text());
    ask.wire.ask(call).await?;
    Ok(0)
}

/// The name of an image as a part of a path.
pub fn path(name: &str) -> String {
    name.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// The flags of `rmi`.
pub fn rmi_flags() -> Vec<Arg> {
    vec![
        switch("force", 'f', "Remove an image that has several names or that stopped containers use"),
        switch("no-prune", LONG, "Keep untagged parents"),
        list("platform", LONG, "strings", "Remove only this platform"),
    ]
}

/// Removes images.
pub async fn rmi(ask: &Ask<'_>) -> Result<u8, Failure> {
    let force = ask.m.on("force");
    let mut code = 0;
    for name in &ask.args {
        let call = Call::delete(format!("/images/{}", path(name)))
            .switch("force", force)
            .switch("noprune", ask.m.on("no-prune"));
        match ask.wire.ask(call).await {
            Ok(removed) => {
                for step in removed.as_array().into_iter().flatten() {
                    match at(step, "Deleted") {
                        "" => printer::line(&format!("Untagged: {}", at(step, "Untagged"))),
                        id => printer::line(&format!("Deleted: {id}")),
                    }
                }
            }
            Err(failure @ Failure::Engine { .. }) => {
                if !(force && failure.is_missing()) {
                    code = 1;
                }
                printer::complain(&failure.to_string());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(code)
}

/// The flags of `commit`.
pub fn commit_flags() -> Vec<Arg> {
    vec![
        text("author", 'a', "string", "Who made it"),
        list("change", 'c', "list", "Apply an instruction of a Dockerfile"),
        text("message", 'm', "string", "What was changed"),
        switch("pause", 'p', "Freeze the container meanwhile [true]"),
    ]
}

/// Makes an image of a container.
pub async fn commit(ask: &Ask<'_>) -> Result<u8, Failure> {
    let m = ask.m;
    let mut call = Call::post("/commit").query("container", &ask.args[0]);
    if let Some(name) = ask.args.get(1) {
        let name = Reference::parse(name).map_err(Failure::Refused)?;
        call = call.query("repo", name.name()).query("tag", name.clone().or_latest().version_text());
    }
    call = call.query_if("comment", m.get("message")).query_if("author", m.get("author"));
    for change in m.all("change") {
        call = call.query("changes", change);
    }
    if m.given_switch("pause") == Some(false) {
        call = call.query("pause", "0");
    }
    let made = ask.wire.ask(call.json(json!({}))).await?;
    printer::line(match at(&made, "Id") {
        "" => at(&made, "ID"),
        id => id,
    });
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_a_row_for_each_name() {
        let image = json!({
            "Id": format!("sha256:{}", "c".repeat(64)), "RepoTags": ["busybox:latest", "localhost:5000/bb:1"],
            "RepoDigests": [format!("busybox@sha256:{}", "d".repeat(64))], "Created": 0, "Size": 4_500_000
        });
        let rows: Vec<Value> = names(&image).iter().map(|name| image_row(name, false, true)).collect();
        let shown: Vec<String> = rows
            .iter()
            .map(|row| format!("{}:{} {} {}", at(row, "Repository"), at(row, "Tag"), at(row, "ID"), at(row, "Size")))
            .collect();
        assert_eq!(shown, ["busybox:latest cccccccccccc 4.5MB", "localhost:5000/bb:1 cccccccccccc 4.5MB"]);
        assert_eq!(at(&rows[0], "Digest"), format!("sha256:{}", "d".repeat(64)));
        assert_eq!(at(&rows[1], "Digest"), "<none>");
        let bare = json!({"Id": "sha256:ee", "RepoTags": [], "RepoDigests": [], "Created": 0, "Size": 1});
        assert_eq!(names(&bare)[0].repository, "<none>");
    }
}
