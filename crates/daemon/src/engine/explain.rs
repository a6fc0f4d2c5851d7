//! Why one place reaches another, or does not: words become places, the network is looked at, and `plan::explain` answers.

use super::Engine;
use crate::container::spec::NetworkMode;
use crate::error::{Doing, Error, Result};
use kernel::probe::{self, Outcome};
use plan::explain::{self, Answer, Ask, Origin, Place, Question, Service, Verdict};
use plan::ids::IfName;
use plan::netstate::Ns;
use plan::world::Proto;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long a real packet may take to be answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the host's own resolver may take for a name.
const NAMES: Duration = Duration::from_secs(3);

/// An answer, and what real packets say to it.
pub struct Explained {
    /// The answer.
    pub answer: Answer,
    /// What was asked for.
    pub service: Service,
    /// How a name became addresses; empty where none had to.
    pub found: String,
    /// What a real try gave, where one was asked for.
    pub probe: Option<Probe>,
}

/// A real try.
pub struct Probe {
    /// Who was asked.
    pub to: IpAddr,
    /// For what.
    pub service: Service,
    /// What came of it; or why it was not tried.
    pub outcome: std::result::Result<Outcome, String>,
}

impl Probe {
    /// Does it say the same as the answer? `None` where one of them says nothing.
    pub fn agrees(&self, verdict: Verdict) -> Option<bool> {
        let reached = match (&self.outcome, self.service) {
            (Ok(Outcome::Answered), _) => true,
            // Whoever has a port of UDP need not answer.
            (Ok(Outcome::Silent), Service::Port(Proto::Udp, _)) | (Err(_), _) => return None,
            (Ok(_), _) => false,
        };
        verdict.reaches().map(|said| said == reached)
    }
}

impl Engine {
    /// Does `from` reach `to`, a place with an optional `:PORT[/PROTO]`? With `tries`, real packets are sent as well.
    ///
    /// # Errors
    /// A word that names no place, a container that does not run; the kernel's.
    pub async fn explain(&self, from: &str, to: &str, tries: bool) -> Result<Explained> {
        let (to, service) = target(to)?;
        let from_place = match self.place_called(from)? {
            Some(place) => place,
            None => return Err(Error::NotFound(format!("no container, network or other place is called {from}"))),
        };
        let mut found = String::new();
        let to_place = match self.place_called(&to) {
            Ok(Some(place)) => place,
            Ok(None) => {
                let (addrs, text) = self.addresses(from, &from_place, &to).await?;
                found = text;
                Place::Addrs(addrs)
            }
            Err(Error::Conflict(reason)) => {
                let remedies = vec![format!("berth start {to}")];
                let answer = Answer { verdict: Verdict::NobodyListens, reason, remedies, tries: Vec::new() };
                return Ok(Explained { answer, service, found, probe: None });
            }
            Err(error) => return Err(error),
        };
        let question = Question { from: from_place, to: to_place, service };
        let concerned = question.concerns(&self.net.world());
        let sights = self.net.sight(concerned).await?;
        let answer = explain::answer(&sights.seen, &sights.wished, &self.net.world(), &question);
        let first = answer.tries.first().map(|one| one.ask.clone());
        let probe = match first.filter(|_| tries) {
            Some(ask) => Some(self.probe(ask).await?),
            None => None,
        };
        Ok(Explained { answer, service, found, probe })
    }

    /// The place of this name; `None` if it can only be a name of the DNS.
    fn place_called(&self, word: &str) -> Result<Option<Place>> {
        let outside = |addr, link| Ok(Some(Place::Outside { addr, link }));
        if let Some(addr) = word.strip_prefix("outside=") {
            let addr = addr.trim_matches(['[', ']']);
            let addr = addr.parse().map_err(|_| Error::Invalid(format!("{addr:?} is no address: outside=ADDRESS")))?;
            return outside(Some(addr), None);
        }
        if let Some(link) = word.strip_prefix("outside@") {
            let link = link.parse::<IfName>().map_err(|bad| Error::Invalid(bad.to_string()))?;
            return outside(None, Some(link));
        }
        if let Some(network) = word.strip_prefix("gateway=") {
            return Ok(Some(Place::Gateway(self.find_network(network)?.id)));
        }
        match word {
            "host" => return Ok(Some(Place::Host)),
            "outside" => return outside(None, None),
            _ => {}
        }
        if let Ok(addr) = word.trim_matches(['[', ']']).parse() {
            return Ok(Some(Place::Addrs(vec![addr])));
        }
        match self.snapshot(word) {
            Ok(container) => self.place_of(&container.name).map(Some),
            Err(Error::NotFound(_)) => match self.find_network(word) {
                Ok(network) => Ok(Some(Place::Gateway(network.id))),
                Err(Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn place_of(&self, name: &str) -> Result<Place> {
        let container = self.snapshot(name)?;
        if !container.state.phase.is_alive() {
            return Err(Error::Conflict(format!("{name} does not run")));
        }
        let sandbox = match &container.spec.network.mode {
            NetworkMode::Open => return Ok(Place::Host),
            NetworkMode::Joined(_) => container.kept.joined.clone(),
            _ => container.kept.sandbox.clone(),
        };
        // Who joined one that has the host's network is there as well.
        Ok(sandbox.map_or(Place::Host, Place::Container))
    }

    /// What a name stands for where it is asked, and how it is known.
    async fn addresses(&self, from: &str, place: &Place, name: &str) -> Result<(Vec<IpAddr>, String)> {
        if let (Place::Container(sandbox), Ok(container)) = (place, self.snapshot(from)) {
            let extra = self.extra_hosts(&container).unwrap_or_default();
            let own: Vec<IpAddr> = extra.iter().filter(|(known, _)| known == name).map(|(_, addr)| *addr).collect();
            if !own.is_empty() {
                return Ok((own, format!("{name} is known by --add-host")));
            }
            let links = self.link_lines(&container);
            let linked =
                links.iter().filter(|link| [&link.alias, &link.hostname, &link.name].contains(&&name.to_owned()));
            let linked: Vec<IpAddr> = linked.map(|link| link.addr).collect();
            if !linked.is_empty() {
                return Ok((linked, format!("{name} is known by --link")));
            }
            let world = self.net.world();
            let on: BTreeSet<_> = world.endpoints_of(sandbox).map(|e| &e.network).collect();
            let known = world.endpoints.values().filter(|e| on.contains(&e.network));
            let known = known.filter(|e| e.names.iter().any(|known| known == name));
            let members: Vec<IpAddr> = known.flat_map(|e| e.addrs()).collect();
            if !members.is_empty() {
                return Ok((members, format!("{name} is a name of a network that {from} is on")));
            }
        }
        let asked = tokio::time::timeout(NAMES, tokio::net::lookup_host((name, 0))).await;
        let unknown = || {
            Error::NotFound(format!(
                "{name} is no container, network or address, and the host's resolver knows no such name"
            ))
        };
        let addrs: BTreeSet<IpAddr> = match asked {
            Ok(Ok(addrs)) => addrs.map(|addr| addr.ip()).collect(),
            _ => return Err(unknown()),
        };
        if addrs.is_empty() {
            return Err(unknown());
        }
        Ok((addrs.into_iter().collect(), format!("{name} is known to the host's resolver")))
    }

    async fn probe(&self, ask: Ask) -> Result<Probe> {
        let (to, service) = (ask.to, ask.service);
        let not = |why: &str| Probe { to, service, outcome: Err(why.to_owned()) };
        let pin = match &ask.from {
            Origin::Inside(Ns::Host) => None,
            Origin::Inside(Ns::Of(id)) => Some(self.net.pin(id)),
            Origin::Outside { .. } => return Ok(not("only whoever is outside can send packets from there")),
        };
        // A thread of its own, for it goes elsewhere.
        let (reply, answer) = tokio::sync::oneshot::channel();
        let run = move || {
            let tried = pin.map(File::open).transpose().and_then(|namespace| {
                let namespace = namespace.as_ref().map(AsFd::as_fd);
                probe::ask(namespace, to, service, PATIENCE)
            });
            // Whoever asked may have gone away.
            let _ = reply.send(tried);
        };
        std::thread::Builder::new().name("probe".into()).spawn(run).doing("start a probe")?;
        let tried = answer.await.map_err(|_| Error::Fault("the probe has ended without an answer".into()))?;
        Ok(match tried.doing("send a probe")? {
            Some(outcome) => Probe { to, service, outcome: Ok(outcome) },
            None => not("SCTP is not tried"),
        })
    }
}

/// A place and what is asked there: `db:5432/tcp`, `[fd00::2]:53/udp`, `10.0.0.2`.
fn target(text: &str) -> Result<(String, Service)> {
    let bare = text.trim_start_matches("outside=");
    if bare.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), Service::Echo));
    }
    let invalid = |why: String| Error::Invalid(format!("{text:?} is no TO[:PORT[/PROTO]]: {why}"));
    let (rest, proto) = match text.rsplit_once('/') {
        None => (text, None),
        Some((rest, "tcp")) => (rest, Some(Proto::Tcp)),
        Some((rest, "udp")) => (rest, Some(Proto::Udp)),
        Some((rest, "sctp")) => (rest, Some(Proto::Sctp)),
        Some((_, other)) => return Err(invalid(format!("{other:?} is none of tcp, udp, sctp"))),
    };
    let port = rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    match port {
        None if proto.is_some() => Err(invalid("a protocol needs a port before it".into())),
        None => Ok((rest.to_owned(), Service::Echo)),
        Some((place, port)) => {
            let number = port.parse::<u16>().ok().filter(|port| *port > 0);
            let number = number.ok_or_else(|| invalid(format!("{port:?} is no port from 1 to 65535")))?;
            Ok((place.to_owned(), Service::Port(proto.unwrap_or(Proto::Tcp), number)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let read = |text: &str| match target(text) {
            Ok((place, service)) => format!("{place} {service}"),
            Err(error) => error.to_string(),
        };
        for (text, wanted) in [
            ("db", "db ping"),
            ("db:5432", "db 5432/tcp"),
            ("db:53/udp", "db 53/udp"),
            ("10.0.0.2", "10.0.0.2 ping"),
            ("10.0.0.2:80", "10.0.0.2 80/tcp"),
            ("fd00::2", "fd00::2 ping"),
            ("[fd00::2]:80", "[fd00::2] 80/tcp"),
            ("[fd00::2]", "[fd00::2] ping"),
            ("outside=192.0.2.2:7", "outside=192.0.2.2 7/tcp"),
            ("outside=2001:db8::2", "outside=2001:db8::2 ping"),
            ("outside=[2001:db8::2]:7/sctp", "outside=[2001:db8::2] 7/sctp"),
            ("gateway=app:53/udp", "gateway=app 53/udp"),
            ("db:0", "\"db:0\" is no TO[:PORT[/PROTO]]: \"0\" is no port from 1 to 65535"),
            ("db:http", "\"db:http\" is no TO[:PORT[/PROTO]]: \"http\" is no port from 1 to 65535"),
            ("db:80/icmp", "\"db:80/icmp\" is no TO[:PORT[/PROTO]]: \"icmp\" is none of tcp, udp, sctp"),
            ("db/udp", "\"db/udp\" is no TO[:PORT[/PROTO]]: a protocol needs a port before it"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }
}
