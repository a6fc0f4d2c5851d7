//! A conversation with the kernel about links, addresses and routes (rtnetlink(7)).

use crate::fault::Refused;
use crate::socket::Socket;
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use std::io;

pub(crate) struct Rtnetlink(pub Socket);

impl Rtnetlink {
    /// In the caller's namespace.
    pub fn open() -> io::Result<Rtnetlink> {
        Ok(Rtnetlink(Socket::route()?))
    }

    /// Ask for one change.
    pub fn request(&mut self, message: &RouteNetlinkMessage, flags: u16) -> Result<(), Refused> {
        let (kind, body) = wire(message);
        self.0.request(kind, flags, &body)
    }

    /// Ask for one thing.
    pub fn get(&mut self, message: &RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Refused> {
        let (kind, body) = wire(message);
        let answer = self.0.get(kind, &body)?;
        parse(answer.kind, &answer.body).map_err(|text| Refused { errno: libc::EPROTO, text })
    }

    /// Ask for all of something. An entry that cannot be understood is a stranger's (ours are made of few, known
    /// attributes) and is left out.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        let (kind, body) = wire(message);
        let answers = self.0.dump(kind, &body)?;
        let parsed = answers.iter().filter_map(|answer| match parse(answer.kind, &answer.body) {
            Ok(message) => Some(message),
            Err(why) => {
                tracing::debug!(kind = answer.kind, why, "left out an entry of the kernel's list");
                None
            }
        });
        Ok(parsed.collect())
    }
}

fn wire(message: &RouteNetlinkMessage) -> (u16, Vec<u8>) {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    (message.message_type(), body)
}

pub(crate) fn parse(kind: u16, body: &[u8]) -> Result<RouteNetlinkMessage, String> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, body).map_err(|err| err.to_string())
}
