//! Tokens as a tree of nodes.

use super::functions;
use super::lex::{self, Piece, Placed, Token};

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Node {
    /// Text to print as it is.
    Plain(String),
    /// A value to print, or a variable to set.
    Print(Pipeline),
    /// `{{if}}`
    If(Pipeline, Vec<Node>, Vec<Node>),
    /// `{{with}}`
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// `{{range}}`, with the names of its key and value.
    Range(Option<String>, Option<String>, Pipeline, Vec<Node>, Vec<Node>),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// Commands, each given the value of the one before it; a variable may take the result.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The variable that takes the result; the node then prints nothing.
    pub into: Option<String>,
    /// The commands.
    pub commands: Vec<Command>,
}

/// A value, or a function with its arguments.
#[derive(Clone, Debug)]
pub struct Command {
    /// The function or value first, then the arguments.
    pub operands: Vec<Operand>,
}

/// Something that has a value.
#[derive(Clone, Debug)]
pub struct Operand {
    /// What it is.
    pub kind: Kind,
    /// Fields behind it: `.b` in `$a.b` and `(…).b`; for a field, the whole path.
    pub path: Vec<String>,
    /// Its place as `LINE:COLUMN`, for refusals.
    pub place: String,
    /// Its text, for refusals.
    pub text: String,
}

/// Where an operand's value comes from.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The value at hand.
    Dot,
    /// A path from the value at hand.
    Field,
    /// A variable.
    Variable(String),
    /// A function.
    Function(String),
    /// A constant.
    Constant(serde_json::Value),
    /// A pipeline in parentheses.
    Group(Box<Pipeline>),
}

/// Reads a whole template.
pub fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser { text, pieces: lex::pieces(text)?.into_iter(), variables: vec!["$".to_owned()], loops: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Close::Eof => Ok(nodes),
        Close::End(at) => Err(parser.fault(at, "unexpected {{end}}")),
        Close::Else(_, at) => Err(parser.fault(at, "unexpected {{else}}")),
    }
}

/// What closed a list of nodes.
enum Close {
    Eof,
    End(usize),
    /// `{{else}}` with what stands behind the word.
    Else(Vec<Placed>, usize),
}

struct Parser<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    variables: Vec<String>,
    loops: usize,
}

impl Parser<'_> {
    fn fault(&self, at: usize, why: &str) -> String {
        format!("template: :{}: {why}", lex::line(self.text, at))
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Close), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, at) = match piece {
                Piece::Plain(text) => {
                    nodes.push(Node::Plain(text));
                    continue;
                }
                Piece::Action(tokens, at) => (tokens, at),
            };
            let word = match tokens.first().map(|first| &first.token) {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            match word {
                "end" => return Ok((nodes, Close::End(at))),
                "else" => return Ok((nodes, Close::Else(tokens[1..].to_vec(), at))),
                "break" | "continue" if self.loops == 0 => {
                    return Err(self.fault(at, &format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "if" | "with" | "range" => nodes.push(self.block(word, &tokens[1..], at)?),
                _ => nodes.push(Node::Print(self.pipeline(&tokens, at, "command")?)),
            }
        }
        Ok((nodes, Close::Eof))
    }

    fn block(&mut self, word: &str, tokens: &[Placed], at: usize) -> Result<Node, String> {
        let scope = self.variables.len();
        let (mut key, mut value) = (None, None);
        let pipeline = if word == "range" {
            let rest = self.loop_variables(tokens, &mut key, &mut value);
            self.loops += 1;
            self.pipeline(rest, at, "range")?
        } else {
            self.pipeline(tokens, at, word)?
        };
        let (body, end) = self.nodes()?;
        if word == "range" {
            self.loops -= 1;
        }
        let otherwise = match end {
            Close::Eof => return Err(self.fault(self.text.len(), "unexpected EOF")),
            Close::End(_) => Vec::new(),
            Close::Else(tokens, at) => match tokens.first().map(|first| &first.token) {
                // `else if` is an `else` with an `if` inside, and both end at the same `end`.
                Some(Token::Word(next)) if next == word && word != "range" => {
                    let next = next.clone();
                    vec![self.block(&next, &tokens[1..], at)?]
                }
                Some(_) => return Err(self.fault(at, "unexpected token in else")),
                None => match self.nodes()? {
                    (nodes, Close::End(_)) => nodes,
                    (_, Close::Eof) => return Err(self.fault(self.text.len(), "unexpected EOF")),
                    (_, Close::Else(_, at)) => return Err(self.fault(at, "unexpected {{else}}")),
                },
            },
        };
        self.variables.truncate(scope);
        Ok(match word {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(key, value, pipeline, body, otherwise),
        })
    }

    /// Takes `$key, $value :=` or `$value :=` off the front of a `range`.
    fn loop_variables<'t>(
        &mut self,
        tokens: &'t [Placed],
        key: &mut Option<String>,
        value: &mut Option<String>,
    ) -> &'t [Placed] {
        let kinds: Vec<&Token> = tokens.iter().take(4).map(|placed| &placed.token).collect();
        match kinds.as_slice() {
            [Token::Variable(k), Token::Comma, Token::Variable(v), Token::Declare] => {
                self.variables.extend([k.clone(), v.clone()]);
                (*key, *value) = (Some(k.clone()), Some(v.clone()));
                &tokens[4..]
            }
            [Token::Variable(v), Token::Declare, ..] => {
                self.variables.push(v.clone());
                *value = Some(v.clone());
                &tokens[2..]
            }
            _ => tokens,
        }
    }

    fn pipeline(&mut self, tokens: &[Placed], at: usize, context: &str) -> Result<Pipeline, String> {
        let mut into = None;
        let mut rest = tokens;
        if let [first, second, ..] = tokens
            && let Token::Variable(name) = &first.token
            && matches!(second.token, Token::Declare | Token::Assign)
        {
            into = Some(name.clone());
            rest = &tokens[2..];
        }
        let mut commands = Vec::new();
        let mut depth = 0usize;
        let mut start = 0;
        for (index, placed) in rest.iter().enumerate() {
            match placed.token {
                Token::Open => depth += 1,
                Token::Close => {
                    depth = depth.checked_sub(1).ok_or_else(|| self.fault(placed.at, "unexpected right paren"))?;
                }
                Token::Pipe if depth == 0 => {
                    commands.push(self.command(&rest[start..index], at, context)?);
                    start = index + 1;
                }
                _ => {}
            }
        }
        if depth > 0 {
            return Err(self.fault(at, "unclosed left paren"));
        }
        commands.push(self.command(&rest[start..], at, context)?);
        if let Some(name) = &into {
            self.variables.push(name.clone());
        }
        Ok(Pipeline { into, commands })
    }

    fn command(&mut self, tokens: &[Placed], at: usize, context: &str) -> Result<Command, String> {
        if tokens.is_empty() {
            return Err(self.fault(at, &format!("missing value for {context}")));
        }
        let mut operands = Vec::new();
        let mut index = 0;
        while index < tokens.len() {
            let (mut operand, next) = self.operand(tokens, index)?;
            index = next;
            let mut second = None;
            while let Some(Placed { token: Token::Field(name), at, glued: true }) = tokens.get(index) {
                operand.path.push(name.clone());
                operand.text.push('.');
                operand.text.push_str(name);
                second.get_or_insert(*at);
                index += 1;
            }
            if let Some(at) = second {
                operand.place = lex::place(self.text, at);
            }
            operands.push(operand);
        }
        Ok(Command { operands })
    }

    fn operand(&mut self, tokens: &[Placed], index: usize) -> Result<(Operand, usize), String> {
        let Placed { token, at, .. } = &tokens[index];
        let mut next = index + 1;
        let mut path = Vec::new();
        let (kind, text) = match token {
            Token::Dot => (Kind::Dot, ".".to_owned()),
            Token::Field(name) => {
                path.push(name.clone());
                (Kind::Field, format!(".{name}"))
            }
            Token::Variable(name) => {
                if !self.variables.contains(name) {
                    return Err(self.fault(*at, &format!("undefined variable \"{name}\"")));
                }
                (Kind::Variable(name.clone()), name.clone())
            }
            Token::Word(word) => match word.as_str() {
                "true" => (Kind::Constant(true.into()), word.clone()),
                "false" => (Kind::Constant(false.into()), word.clone()),
                "nil" => (Kind::Constant(serde_json::Value::Null), word.clone()),
                _ if functions::exists(word) => (Kind::Function(word.clone()), word.clone()),
                _ => return Err(self.fault(*at, &format!("function \"{word}\" not defined"))),
            },
            Token::Text(text) => (Kind::Constant(text.clone().into()), crate::literal::quoted(text)),
            Token::Number(text) => {
                let number: serde_json::Number = text
                    .trim_start_matches('+')
                    .parse()
                    .map_err(|_| self.fault(*at, &format!("bad number syntax: \"{text}\"")))?;
                (Kind::Constant(number.into()), text.clone())
            }
            Token::Open => {
                let mut depth = 0;
                let close = tokens[index..]
                    .iter()
                    .position(|placed| {
                        match placed.token {
                            Token::Open => depth += 1,
                            Token::Close => depth -= 1,
                            _ => {}
                        }
                        depth == 0
                    })
                    .ok_or_else(|| self.fault(*at, "unclosed left paren"))?;
                let inner = self.pipeline(&tokens[index + 1..index + close], *at, "parenthesized pipeline")?;
                next = index + close + 1;
                (Kind::Group(Box::new(inner)), "(…)".to_owned())
            }
            Token::Pipe | Token::Comma | Token::Declare | Token::Assign | Token::Close => {
                return Err(self.fault(*at, "unexpected token in operand"));
            }
        };
        let place = lex::place(self.text, *at);
        Ok((Operand { kind, path, place, text }, next))
    }
}
