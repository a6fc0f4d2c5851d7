//! A template's text as pieces: plain text and the tokens inside `{{…}}`.

/// One token of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// `.Name`, one step of a path.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$` or `$name`.
    Variable(String),
    /// A word: a keyword or a function.
    Word(String),
    /// A string constant, unquoted.
    Text(String),
    /// A number, as written.
    Number(String),
    /// `|`
    Pipe,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `,`
    Comma,
    /// `(`
    Open,
    /// `)`
    Close,
}

/// A token, where it begins (bytes from the start of the template), and whether a blank stands before it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Bytes from the start of the template.
    pub at: usize,
    /// Whether it stands directly behind its forerunner, as `.b` in `$a.b` does.
    pub glued: bool,
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Text to print as it is.
    Plain(String),
    /// The tokens of one `{{…}}`, and where it begins.
    Action(Vec<Placed>, usize),
}

/// The line of a place, counted from 1.
pub fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The place as `LINE:COLUMN`, the column counted in bytes from 0.
pub fn place(text: &str, at: usize) -> String {
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    format!("{}:{column}", line(text, at))
}

/// Cuts a template into pieces.
pub fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let fault = |at: usize, why: &str| format!("template: :{}: {why}", line(text, at));
    let mut out = Vec::new();
    let mut rest = 0;
    let mut trim_next = false;
    while let Some(open) = text[rest..].find("{{").map(|at| at + rest) {
        let mut inside = open + 2;
        let trim_before = text[inside..].starts_with("- ");
        if trim_before {
            inside += 1;
        }
        push_plain(&mut out, &text[rest..open], trim_next, trim_before);
        let body = text[inside..].trim_start();
        let close;
        if body.starts_with("/*") {
            close =
                text[inside..].find("*/").map(|at| at + inside + 2).ok_or_else(|| fault(open, "unclosed comment"))?;
            let tail = text[close..].trim_start();
            let end = close + text[close..].len() - tail.len();
            let tail = tail.strip_prefix('-').unwrap_or(tail);
            if !tail.starts_with("}}") {
                return Err(fault(open, "comment ends before closing delimiter"));
            }
            trim_next = text[end..].starts_with('-');
            rest = end + 2 + usize::from(trim_next);
            continue;
        }
        let (tokens, end, trim) = tokens(text, inside)?;
        out.push(Piece::Action(tokens, open));
        trim_next = trim;
        rest = end;
    }
    push_plain(&mut out, &text[rest..], trim_next, false);
    Ok(out)
}

fn push_plain(out: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        out.push(Piece::Plain(text.to_owned()));
    }
}

/// The tokens from `at` to the end of the action; where the text goes on, and whether its leading blanks are cut.
fn tokens(text: &str, mut at: usize) -> Result<(Vec<Placed>, usize, bool), String> {
    let fault = |at: usize, why: String| format!("template: :{}: {why}", line(text, at));
    let mut out = Vec::new();
    let mut glued = false;
    loop {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else {
            return Err(fault(at, "unclosed action".into()));
        };
        if rest.starts_with("}}") {
            return Ok((out, at + 2, false));
        }
        if rest.starts_with(" -}}") {
            return Ok((out, at + 4, true));
        }
        if c.is_whitespace() {
            at += c.len_utf8();
            glued = false;
            continue;
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let name = |from: usize| {
            let end = text[from..].find(|c| !is_name(c)).map_or(text.len(), |end| from + end);
            (text[from..end].to_owned(), end)
        };
        let (token, end) = match c {
            '.' => match name(at + 1) {
                (field, _) if field.is_empty() => (Token::Dot, at + 1),
                (field, end) => (Token::Field(field), end),
            },
            '$' => {
                let (name, end) = name(at + 1);
                (Token::Variable(format!("${name}")), end)
            }
            '|' => (Token::Pipe, at + 1),
            ',' => (Token::Comma, at + 1),
            '(' => (Token::Open, at + 1),
            ')' => (Token::Close, at + 1),
            ':' if rest.starts_with(":=") => (Token::Declare, at + 2),
            '=' => (Token::Assign, at + 1),
            '"' => quoted(text, at).ok_or_else(|| fault(at, "unterminated quoted string".into()))?,
            '`' => {
                let end = text[at + 1..].find('`').ok_or_else(|| fault(at, "unterminated raw quoted string".into()))?;
                (Token::Text(text[at + 1..at + 1 + end].to_owned()), at + end + 2)
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' => {
                let end = rest[1..]
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                    .map_or(text.len(), |end| at + 1 + end);
                (Token::Number(text[at..end].to_owned()), end)
            }
            c if is_name(c) => {
                let (word, end) = name(at);
                (Token::Word(word), end)
            }
            c => return Err(fault(at, format!("unexpected {c:?} in command"))),
        };
        out.push(Placed { token, at, glued });
        glued = true;
        at = end;
    }
}

fn quoted(text: &str, at: usize) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut chars = text[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Text(out), at + 1 + offset + 1)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                other => out.push(other),
            },
            '\n' => return None,
            c => out.push(c),
        }
    }
    None
}
