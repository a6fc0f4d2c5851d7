//! Printing a parsed template for one value.

use serde_json::{Map, Value};

use super::Missing;
use super::functions;
use super::parse::{Command, Kind, Node, Operand, Pipeline};

/// The hidden column of a row that holds the labels `.Label "name"` asks for.
pub const LABELS: &str = "\u{0}labels";

/// Objects whose keys users choose: a key that is not there has no value, which is no mistake of the template.
const FREE: [&str; 16] = [
    "Labels",
    "Options",
    "Networks",
    "Ports",
    "Sysctls",
    "Annotations",
    "ExposedPorts",
    "Volumes",
    "PortBindings",
    "Tmpfs",
    "StorageOpt",
    "DriverOpts",
    "Config",
    "Data",
    "Containers",
    "Attributes",
];

/// A value with what it takes to explain that a part of it is missing.
#[derive(Clone)]
struct Found {
    value: Option<Value>,
    /// Whether its keys are chosen by users.
    free: bool,
}

/// What a list of nodes did to the loop around it.
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    missing: Missing,
    root: &'a Value,
    variables: Vec<(String, Found)>,
    out: String,
}

pub fn print(nodes: &[Node], value: &Value, missing: Missing) -> Result<String, String> {
    let dot = Found { value: Some(value.clone()), free: false };
    let mut run = Run { missing, root: value, variables: Vec::new(), out: String::new() };
    run.nodes(nodes, &dot)?;
    Ok(run.out)
}

/// How Docker's own command prints a null of the engine's answer: as an empty list, an empty map or a nil pointer,
/// which is what the field is in Docker's code.
fn nothing(pipeline: &Pipeline) -> &'static str {
    const POINTERS: [&str; 9] = [
        "Health",
        "Healthcheck",
        "Init",
        "IPAMConfig",
        "OomKillDisable",
        "PidsLimit",
        "MemorySwappiness",
        "StopTimeout",
        "UsageData",
    ];
    let name = match pipeline.commands.as_slice() {
        [Command { operands }] => operands.last().and_then(|operand| operand.path.last()),
        _ => None,
    };
    match name.map(String::as_str) {
        None => "<no value>",
        Some(name) if POINTERS.contains(&name) => "<nil>",
        Some(name) if FREE.contains(&name) => "map[]",
        Some(_) => "[]",
    }
}

fn truth(found: &Found) -> bool {
    found.value.as_ref().is_some_and(functions::truth)
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Found) -> Result<Flow, String> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if !matches!(flow, Flow::On) {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Found) -> Result<Flow, String> {
        match node {
            Node::Plain(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let found = self.pipeline(pipeline, dot)?;
                if pipeline.into.is_none() {
                    let text = match (&found.value, self.missing) {
                        (Some(Value::Null), Missing::Entry | Missing::Message) => nothing(pipeline).to_owned(),
                        (None, Missing::Entry | Missing::Message) => "<no value>".to_owned(),
                        (None | Some(Value::Null), Missing::Column(_)) => "<nil>".to_owned(),
                        (None | Some(Value::Null), Missing::Title) => String::new(),
                        (Some(value), _) => functions::show(value),
                    };
                    self.out.push_str(&text);
                }
            }
            Node::If(pipeline, then, otherwise) => {
                let chosen = if truth(&self.pipeline(pipeline, dot)?) { then } else { otherwise };
                return self.nodes(chosen, dot);
            }
            Node::With(pipeline, then, otherwise) => {
                let found = self.pipeline(pipeline, dot)?;
                return if truth(&found) { self.nodes(then, &found) } else { self.nodes(otherwise, dot) };
            }
            Node::Range(key, value, pipeline, body, otherwise) => {
                let found = self.pipeline(pipeline, dot)?;
                return self.range(key.as_deref(), value.as_deref(), &found, body, otherwise, dot);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        key: Option<&str>,
        value: Option<&str>,
        over: &Found,
        body: &[Node],
        otherwise: &[Node],
        dot: &Found,
    ) -> Result<Flow, String> {
        let items: Vec<(Value, Value)> = match &over.value {
            Some(Value::Array(list)) => list.iter().cloned().enumerate().map(|(i, v)| (i.into(), v)).collect(),
            Some(Value::Object(map)) => map.iter().map(|(k, v)| (k.clone().into(), v.clone())).collect(),
            Some(Value::Number(n)) => {
                let count = n.as_u64().unwrap_or(0);
                (0..count).map(|i| (i.into(), i.into())).collect()
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("template: : range can't iterate over {}", functions::show(other))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (k, v) in items {
            let scope = self.variables.len();
            let item = Found { value: Some(v), free: false };
            if let Some(name) = key {
                self.variables.push((name.to_owned(), Found { value: Some(k), free: false }));
            }
            if let Some(name) = value {
                self.variables.push((name.to_owned(), item.clone()));
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Found) -> Result<Found, String> {
        let mut last: Option<Found> = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let found = last.unwrap_or(Found { value: None, free: false });
        if let Some(name) = &pipeline.into {
            self.variables.push((name.clone(), found.clone()));
        }
        Ok(found)
    }

    fn command(&mut self, command: &Command, dot: &Found, piped: Option<Found>) -> Result<Found, String> {
        let (first, rest) = command.operands.split_first().ok_or("template: : a command without a value")?;
        let fault = |why: String| format!("template: :{}: executing \"\" at <{}>: {why}", first.place, first.text);
        if let Kind::Function(name) = &first.kind {
            let mut arguments = Vec::new();
            for operand in rest {
                arguments.push(self.operand(operand, dot, &[])?.value.unwrap_or(Value::Null));
            }
            arguments.extend(piped.map(|found| found.value.unwrap_or(Value::Null)));
            let value =
                functions::call(name, &arguments).map_err(|why| fault(format!("error calling {name}: {why}")))?;
            return Ok(Found { value, free: false });
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot, &[]);
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot, &[])?.value.unwrap_or(Value::Null));
        }
        arguments.extend(piped.map(|found| found.value.unwrap_or(Value::Null)));
        if !matches!(first.kind, Kind::Field | Kind::Variable(_)) {
            return Err(fault("can't give argument to non-function".to_owned() + " " + &first.text));
        }
        self.operand(first, dot, &arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Found, arguments: &[Value]) -> Result<Found, String> {
        let start = match &operand.kind {
            Kind::Dot => {
                let mut found = dot.clone();
                hide(&mut found);
                found
            }
            Kind::Field => dot.clone(),
            Kind::Variable(name) if name == "$" => Found { value: Some(self.root.clone()), free: false },
            Kind::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map(|(_, found)| found.clone())
                .ok_or_else(|| format!("template: :{}: undefined variable \"{name}\"", operand.place))?,
            Kind::Constant(value) => Found { value: Some(value.clone()), free: false },
            Kind::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Kind::Function(name) => {
                let value = functions::call(name, &[]).map_err(|why| {
                    format!("template: :{}: executing \"\" at <{name}>: error calling {name}: {why}", operand.place)
                })?;
                Found { value, free: false }
            }
        };
        let mut found = start;
        for (step, name) in operand.path.iter().enumerate() {
            let given = if step + 1 == operand.path.len() { arguments } else { &[] };
            found = self
                .field(&found, name, given)
                .map_err(|why| format!("template: :{}: executing \"\" at <{}>: {why}", operand.place, operand.text))?;
        }
        if operand.path.is_empty() && !arguments.is_empty() {
            return Err(format!(
                "template: :{}: executing \"\" at <{}>: {} is not a method but has arguments",
                operand.place, operand.text, operand.text
            ));
        }
        Ok(found)
    }

    fn field(&self, of: &Found, name: &str, arguments: &[Value]) -> Result<Found, String> {
        let map = match &of.value {
            Some(Value::Object(map)) => map,
            None | Some(Value::Null) => {
                return Err(format!("nil data; no entry for key \"{name}\""));
            }
            Some(other) => {
                return Err(format!("can't evaluate field {name} in type {}", functions::kind(other)));
            }
        };
        if let (Missing::Column(_), "Label", [Value::String(label)]) = (self.missing, name, arguments) {
            return Ok(Found { value: Some(label_of(map, label)), free: false });
        }
        if let (Missing::Title, "Label", [Value::String(label)]) = (self.missing, name, arguments) {
            let last = label.rsplit('.').next().unwrap_or(label);
            let title = last.replace(['-', '_'], " ");
            return Ok(Found { value: Some(title.into()), free: false });
        }
        if !arguments.is_empty() {
            return Err(format!("{name} is not a method but has arguments"));
        }
        let value = map.get(name).or_else(|| map.get(tag(name)?).filter(|_| self.missing == Missing::Message));
        match (value, self.missing) {
            (Some(value), _) => Ok(Found {
                value: Some(value.clone()),
                free: FREE.contains(&name) && !value.get("Image").is_some_and(Value::is_string),
            }),
            (None, _) if of.free => Ok(Found { value: None, free: false }),
            (None, Missing::Entry) => Err(format!("map has no entry for key \"{name}\"")),
            // What engines say to old clients only.
            (None, Missing::Message) if ["Status", "ID", "From"].contains(&name) => {
                Ok(Found { value: Some("".into()), free: false })
            }
            (None, Missing::Message) => Err(format!("can't evaluate field {name} in type *events.Message")),
            (None, Missing::Title) => Ok(Found { value: None, free: false }),
            (None, Missing::Column(kind)) => Err(format!("can't evaluate field {name} in type *{kind}")),
        }
    }
}

/// The key under which the API has a field of Docker's Go type of an event.
fn tag(field: &str) -> Option<&'static str> {
    let tags = [
        ("Status", "status"),
        ("ID", "id"),
        ("From", "from"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ];
    tags.into_iter().find(|(name, _)| *name == field).map(|(_, tag)| tag)
}

/// The value of a label of a row; empty if it has none of that name.
fn label_of(row: &Map<String, Value>, label: &str) -> Value {
    row.get(LABELS).and_then(|labels| labels.get(label)).cloned().unwrap_or_else(|| "".into())
}

/// Takes the hidden column away before the whole row is shown.
fn hide(found: &mut Found) {
    if let Some(Value::Object(map)) = &mut found.value {
        map.remove(LABELS);
    }
}
