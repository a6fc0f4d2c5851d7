//! The sockets, and the way of a request through the door.

use super::answer::{self, Answer};
use super::ask::{Ask, Query};
use super::{routes, version};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::USER_AGENT;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Sockets that are listened on; clients wait until [`serve`] takes them in.
pub struct Listeners(Vec<UnixListener>);

/// Listens on every socket of the settings. Only root and the group may connect.
///
/// # Errors
/// Another process listens there; the place cannot be written; there is no such group.
pub fn listen(config: &Config) -> Result<Listeners> {
    let group = config.group.as_deref().map(group_id).transpose()?;
    let listeners = config.sockets.iter().map(|socket| listen_on(socket, group)).collect::<Result<_>>()?;
    Ok(Listeners(listeners))
}

fn listen_on(socket: &Path, group: Option<u32>) -> Result<UnixListener> {
    let doing = || format!("listen on {}", socket.display());
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).doing(format_args!("make {}", dir.display()))?;
    }
    match std::fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::Fault(format!("{} is there and is no socket; choose another -H", socket.display())));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(socket).is_ok() => {
            return Err(Error::Fault(format!(
                "somebody listens on {} already; stop that engine, or choose another -H",
                socket.display()
            )));
        }
        // Left by an engine that was killed.
        Ok(_) => std::fs::remove_file(socket).doing(format_args!("remove the stale {}", socket.display()))?,
        Err(_) => {}
    }
    // Until the next lines the umask keeps others out: connecting needs the right to write.
    let listener = UnixListener::bind(socket).doing(doing())?;
    if let Some(group) = group {
        std::os::unix::fs::chown(socket, None, Some(group)).doing(format_args!("chown {}", socket.display()))?;
    }
    std::fs::set_permissions(socket, Permissions::from_mode(0o660))
        .doing(format_args!("chmod {}", socket.display()))?;
    Ok(listener)
}

fn group_id(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string("/etc/group").doing("read /etc/group")?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|words| words.first() == Some(&group)).and_then(|words| words.get(2)?.parse().ok());
    found.ok_or_else(|| {
        Error::Invalid(format!("--group {group}: there is no such group; make it with groupadd, or give its number"))
    })
}

/// Answers requests until the process ends.
///
/// # Errors
/// A socket broke.
pub async fn serve(engine: Arc<Engine>, listeners: Listeners) -> Result<()> {
    let router: Router = Router::new().fallback(answer).with_state(engine);
    let mut sockets = tokio::task::JoinSet::new();
    for listener in listeners.0 {
        let router = router.clone();
        sockets.spawn(async move { axum::serve(listener, router).await });
    }
    while let Some(ended) = sockets.join_next().await {
        ended.doing("answer requests")?.doing("answer requests")?;
    }
    Ok(())
}

async fn answer(State(engine): State<Arc<Engine>>, request: Request) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answered = match through(engine, request).await {
        Ok(answered) => answered,
        Err(error) => {
            match &error {
                Error::Fault(text) => tracing::error!(%method, path, "{text}"),
                other => tracing::debug!(%method, path, "{other}"),
            }
            answer::error(&error)
        }
    };
    answer::signed(answered)
}

async fn through(engine: Arc<Engine>, request: Request) -> Result<Answer> {
    let path = request.uri().path().to_owned();
    let (version, rest) = version::split(&path)?;
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let version = version::meant(version, user_agent.unwrap_or_default());
    let found = match routes::find(request.method(), rest) {
        Ok(found) => found,
        Err(miss) => return Ok(missed(miss)),
    };
    let query = Query::read(&request)?;
    let ask = Ask { engine, version, places: found.places, query, request };
    // Boxed: the one future of all handlers would be as large as the largest.
    Box::pin(routes::carry_out(found.action, ask)).await
}

fn missed(miss: routes::Miss) -> Answer {
    match miss {
        routes::Miss::NoSuchPath => {
            answer::json_as(StatusCode::NOT_FOUND, &api::ErrorBody { message: "page not found".into() })
        }
        routes::Miss::OtherMethod => {
            answer::json_as(StatusCode::METHOD_NOT_ALLOWED, &api::ErrorBody { message: "method not allowed".into() })
        }
    }
}
