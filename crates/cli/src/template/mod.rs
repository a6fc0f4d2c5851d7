//! Go templates, the part of the language that people use with `--format`.
//!
//! Values are JSON. A template is parsed once ([`Template::parse`]) and printed for each row ([`Template::print`]).

mod eval;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

pub use eval::LABELS;
pub use functions::json_text;

/// What a name that is not there means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The value is the engine's own answer (`inspect`): an unknown name is an error, except among names that users
    /// choose (labels, options, networks, …), where it prints `<no value>`.
    Entry,
    /// The value is an event: its fields also go by the names of Docker's Go type (`TimeNano` for `timeNano`).
    Message,
    /// The value is a row of this kind (`formatter.ContainerContext`): an unknown column is an error.
    Column(&'static str),
    /// The value is the titles of columns: what has no title prints nothing.
    Title,
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template; the refusal begins with `template: :LINE:` as Go's does.
    pub fn parse(text: &str) -> Result<Self, String> {
        let nodes = parse::parse(text)?;
        Ok(Self { nodes })
    }

    /// Prints one value. The refusal names the place in the template.
    pub fn print(&self, value: &Value, missing: Missing) -> Result<String, String> {
        eval::print(&self.nodes, value, missing)
    }

    /// The columns of a `table` template: the same template printed over the headers of its fields.
    pub fn header(&self, headers: &Value) -> String {
        self.print(headers, Missing::Title).unwrap_or_default()
    }
}

/// Turns the escapes `\t` and `\n`, which a shell leaves alone, into the characters they mean.
pub fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(template: &str) -> String {
        let value = json!({
            "Name": "web", "State": {"Running": true, "ExitCode": 3, "Health": null},
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a": "b", "c.d": "e"}, "Cmd": null},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "net": {"IPAddress": "10.0.0.2"}},
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "9/tcp": null}},
            "Mounts": []
        });
        match Template::parse(template) {
            Err(why) => why,
            Ok(parsed) => parsed.print(&value, Missing::Entry).unwrap_or_else(|why| why),
        }
    }

    #[test]
    fn what_people_write() {
        for (template, wanted) in [
            ("plain", "plain"),
            ("{{.Name}}", "web"),
            ("{{.State.Running}} {{.State.ExitCode}}", "true 3"),
            ("{{.Config.Env}}", "[A=1 B=2]"),
            ("{{.Config.Labels}}", "map[a:b c.d:e]"),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{.Config.Env | json}}", r#"["A=1","B=2"]"#),
            (r#"{{index .Config.Labels "c.d"}}"#, "e"),
            (r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (r#"{{index .NetworkSettings.Ports "80/tcp" 0 "HostIp"}}"#, "0.0.0.0"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "172.17.0.2 10.0.0.2 "),
            (
                "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}",
                "bridge=172.17.0.2;net=10.0.0.2;",
            ),
            (
                "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{if $c}}{{(index $c 0).HostPort}}{{else}}-{{end}}\n{{end}}",
                "80/tcp -> 8080\n9/tcp -> -\n",
            ),
            ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
            ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=2"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{if eq .Name \"x\"}}1{{else if eq .Name \"web\"}}2{{else}}3{{end}}", "2"),
            ("{{with .State}}{{.ExitCode}}{{end}}", "3"),
            ("{{len .Config.Env}} {{len .Name}}", "2 3"),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            ("{{upper .Name}} {{lower \"ABC\"}} {{title .Name}}", "WEB abc Web"),
            (r#"{{split "a,b" ","}}"#, "[a b]"),
            (r#"{{println .Name}}"#, "web\n"),
            (r#"{{printf "%s-%d %v %q" .Name .State.ExitCode .State.Running .Name}}"#, "web-3 true \"web\""),
            ("{{ .Name }}{{/* a note */}}!", "web!"),
            ("a {{- .Name -}} b", "awebb"),
            ("{{$x := .Name}}{{$x}}{{$x}}", "webweb"),
            ("{{not .State.Running}} {{and true .Name}} {{or \"\" \"z\"}}", "false web z"),
            ("{{.Config.Labels.zz}}", "<no value>"),
            ("{{.Config.Cmd}} {{.State.Health}}", "[] <nil>"),
            ("{{json .State.Health}}", "null"),
            ("{{truncate .Name 2}}", "we"),
        ] {
            assert_eq!(printed(template), wanted, "{template}");
        }
    }

    #[test]
    fn refusals() {
        for (template, wanted) in [
            ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
            (
                "{{.NetworkSettings.IPAddress}}",
                "template: :1:18: executing \"\" at <.NetworkSettings.IPAddress>: map has no entry for key \"IPAddress\"",
            ),
            ("{{.Foo", "template: :1: unclosed action"),
            ("{{nosuch .Name}}", "template: :1: function \"nosuch\" not defined"),
            ("{{if .Name}}", "template: :1: unexpected EOF"),
            ("{{end}}", "template: :1: unexpected {{end}}"),
            (
                "{{.Name.First}}",
                "template: :1:7: executing \"\" at <.Name.First>: can't evaluate field First in type string",
            ),
            ("{{$x}}", "template: :1: undefined variable \"$x\""),
            ("{{}}", "template: :1: missing value for command"),
            ("{{\"abc}}", "template: :1: unterminated quoted string"),
        ] {
            assert_eq!(printed(template), wanted, "{template}");
        }
    }

    #[test]
    fn rows_have_columns() {
        let row = json!({"Names": "web", "Platform": null, "\u{0}labels": {"k": "v"}});
        let print = |text: &str| {
            Template::parse(text)
                .and_then(|template| template.print(&row, Missing::Column("formatter.ContainerContext")))
                .unwrap_or_else(|why| why)
        };
        assert_eq!(print("{{.Names}}|{{.Platform}}"), "web|<nil>");
        assert_eq!(print(r#"{{.Label "k"}}|{{.Label "z"}}"#), "v|");
        assert_eq!(
            print("{{.Names}} {{.Foo}}"),
            "template: :1:13: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
        assert_eq!(print("{{json .}}"), r#"{"Names":"web","Platform":null}"#);
        let titled = Template::parse(r#"{{.Names}} {{.Label "com.example.my-name"}}{{.Foo}}"#).expect("a template");
        assert_eq!(titled.header(&json!({"Names": "NAMES"})), "NAMES my name");
    }
}
