//! What happened, for whoever listens: the last thousand events, and a queue for each listener.
//!
//! A listener that does not read is skipped over, not waited for: its queue is bounded, and what it missed is counted.

use crate::container::Container;
use crate::time;
use plan::ids::ContainerId;
use plan::world::Network;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::broadcast;

/// How many past events are kept for `since`.
const KEPT: usize = 1000;
/// How many events a listener may be behind.
const QUEUE: usize = 1024;

/// The kind of thing that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The engine itself.
    Daemon,
}

impl Kind {
    /// The Engine API's word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Volume => "volume",
            Kind::Network => "network",
            Kind::Daemon => "daemon",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To what kind of thing.
    pub kind: Kind,
    /// What: `create`, `die`, `exec_create: sh` …
    pub action: String,
    /// To which: the id, or a volume's name.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: SystemTime,
}

impl Event {
    /// The action without what follows its colon: what filters compare.
    pub fn verb(&self) -> &str {
        self.action.split_once(':').map_or(self.action.as_str(), |(verb, _)| verb)
    }
}

/// All events. Clones share them.
#[derive(Clone)]
pub struct Events(Arc<Mutex<Past>>);

struct Past {
    last: VecDeque<Arc<Event>>,
    listeners: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

impl Events {
    /// None yet.
    pub fn new() -> Events {
        let (listeners, _) = broadcast::channel(QUEUE);
        Events(Arc::new(Mutex::new(Past { last: VecDeque::with_capacity(KEPT), listeners })))
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: Kind, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let mut past = self.lock();
        // Under the lock, so that times never go backwards in the list.
        let event = Event { kind, action: action.to_owned(), id: id.to_owned(), attributes, at: SystemTime::now() };
        let event = Arc::new(event);
        if past.last.len() == KEPT {
            past.last.pop_front();
        }
        past.last.push_back(event.clone());
        // An error only says that nobody listens.
        let _ = past.listeners.send(event);
    }

    /// The past that is still known, oldest first, and a listener to what comes: nothing lies between, nothing is in both.
    pub fn listen(&self) -> (Vec<Arc<Event>>, Listener) {
        let past = self.lock();
        (past.last.iter().cloned().collect(), Listener(past.listeners.subscribe()))
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.lock().listeners.receiver_count()
    }

    /// Something happened to a container; its image, name and labels go along.
    pub fn container(&self, action: &str, container: &Container, more: &[(&str, &str)]) {
        let mut attributes = container.spec.labels.clone();
        attributes.insert("image".into(), container.spec.image.clone());
        attributes.insert("name".into(), container.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.tell(Kind::Container, action, container.id.as_str(), attributes);
    }

    /// A container joined or left a network.
    pub fn network(&self, action: &str, network: &Network, container: &ContainerId) {
        let attributes = [("container", container.as_str()), ("name", &network.name), ("type", network.driver())];
        self.tell(Kind::Network, action, network.id.as_str(), owned(&attributes));
    }

    /// A network was made (`create`) or removed (`destroy`).
    pub fn network_itself(&self, action: &str, network: &Network) {
        let attributes = [("name", network.name.as_str()), ("type", network.driver())];
        self.tell(Kind::Network, action, network.id.as_str(), owned(&attributes));
    }

    /// Something happened to an image; `name` is a tag, or its id.
    pub fn image(&self, action: &str, id: &str, name: &str) {
        self.tell(Kind::Image, action, id, owned(&[("name", name)]));
    }

    /// Something happened to a volume.
    pub fn volume(&self, action: &str, name: &str) {
        self.tell(Kind::Volume, action, name, owned(&[("driver", "local")]));
    }

    /// A container that starts has volumes mounted, or one that has ended has them no longer.
    pub fn mounts(&self, action: &str, container: &Container) {
        for mount in &container.mounts {
            let Some(volume) = &mount.volume else { continue };
            let mut attributes = owned(&[("container", container.id.as_str()), ("driver", "local")]);
            if action == "mount" {
                attributes.insert("destination".into(), mount.target.clone());
                attributes.insert("propagation".into(), mount.propagation.clone());
                attributes.insert("read/write".into(), (!mount.read_only).to_string());
            }
            self.tell(Kind::Volume, action, volume, attributes);
        }
    }

    /// Somebody changed what is ours in the kernel, and it was put right.
    pub fn healed(&self, steps: usize, first: &str) {
        let attributes = [("steps", steps.to_string()), ("first", first.to_owned())];
        let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.tell(Kind::Daemon, "heal", "network", attributes);
    }

    /// Something on the network will not go well; `about` is one word.
    pub fn warning(&self, about: &str, text: &str, help: &str) {
        let attributes = [("about", about), ("text", text), ("help", help)];
        self.tell(Kind::Daemon, "warning", "network", owned(&attributes));
    }
}

fn owned(attributes: &[(&str, &str)]) -> BTreeMap<String, String> {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// One listener's queue.
pub struct Listener(broadcast::Receiver<Arc<Event>>);

impl Listener {
    /// The next event; `None` when the engine ends. What a slow listener missed is skipped and logged.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a client of /events does not read fast enough");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// The Engine API's form. Before 1.52 containers and images carried three more fields at the top.
pub fn wire(event: &Event, legacy: bool) -> serde_json::Value {
    let nanos = time::unix_nanos(event.at);
    let mut value = serde_json::json!({
        "Type": event.kind.word(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": time::unix(event.at),
        "timeNano": i64::try_from(nanos).unwrap_or(i64::MAX),
    });
    if legacy && matches!(event.kind, Kind::Container | Kind::Image) {
        value["status"] = event.action.clone().into();
        value["id"] = event.id.clone().into();
        if let Some(image) = event.attributes.get("image") {
            value["from"] = image.clone().into();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|event| event.action.as_str()).collect()
    }

    #[tokio::test]
    async fn a_listener_has_the_past_and_what_comes_and_nothing_twice() {
        let events = Events::new();
        events.image("pull", "sha256:1", "busybox:latest");
        let (past, mut listener) = events.listen();
        events.image("tag", "sha256:1", "b:1");
        events.volume("create", "v");
        assert_eq!(actions(&past), ["pull"]);
        assert_eq!(listener.next().await.unwrap().action, "tag");
        assert_eq!(listener.next().await.unwrap().id, "v");
        drop(events);
        assert!(listener.next().await.is_none());
    }

    #[test]
    fn only_the_last_thousand_are_kept_in_order() {
        let events = Events::new();
        for number in 0..KEPT + 5 {
            events.volume(&number.to_string(), "v");
        }
        let (past, _) = events.listen();
        assert_eq!(past.len(), KEPT);
        assert_eq!(past[0].action, "5");
        assert!(past.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[tokio::test]
    async fn a_slow_listener_misses_but_goes_on() {
        let events = Events::new();
        let (_, mut listener) = events.listen();
        for number in 0..QUEUE + 10 {
            events.volume(&number.to_string(), "v");
        }
        assert_eq!(listener.next().await.unwrap().action, "10");
    }

    #[test]
    fn the_wire_form_is_dockers() {
        let event = Event {
            kind: Kind::Container,
            action: "exec_create: sh -c true".into(),
            id: "ab".into(),
            attributes: owned(&[("image", "busybox"), ("name", "web")]),
            at: SystemTime::UNIX_EPOCH + std::time::Duration::new(5, 7),
        };
        assert_eq!(event.verb(), "exec_create");
        let old = wire(&event, true);
        assert_eq!(
            (&old["status"], &old["from"], &old["id"]),
            (&event.action.clone().into(), &"busybox".into(), &"ab".into())
        );
        assert_eq!(old["time"], 5);
        assert_eq!(old["timeNano"], 5_000_000_007_i64);
        let new = wire(&event, false);
        assert!(new.get("status").is_none() && new.get("id").is_none());
        assert_eq!(new["Actor"]["Attributes"]["name"], "web");
    }
}
