//! On which interface's segment the containers of a network without a bridge are.

use super::network::MacvlanWish;
use super::{Facts, Refusal};
use crate::ids::{IfName, NetworkId};
use crate::world::{Joint, Parent, World};

/// The interface, and where it comes from.
///
/// # Errors
/// It is none, or not there and nothing that could be made.
pub(super) fn joint(
    world: &World,
    facts: &Facts,
    id: &NetworkId,
    wish: &MacvlanWish,
) -> Result<(Joint, IfName), Refusal> {
    let (parent, name) = match wish.parent.as_deref() {
        None => (Parent::Nowhere, IfName::nowhere_of(id)),
        Some(text) => hosts(world, facts, text)?,
    };
    Ok((Joint::Macvlan { mode: wish.mode, parent }, name))
}

fn hosts(world: &World, facts: &Facts, text: &str) -> Result<(Parent, IfName), Refusal> {
    let bad = || Refusal::ParentName(text.to_owned());
    let name: IfName = text.parse().map_err(|_| bad())?;
    if name == IfName::loopback() {
        return Err(Refusal::ParentLoopback);
    }
    if facts.links.contains(&name) {
        return Ok((Parent::Hosts, name));
    }
    if let Some(other) = world.networks.values().find(|network| network.bridge == name) {
        return Err(Refusal::ParentOfAnother { network: other.name.clone(), parent: name });
    }
    let (of, number) = text.split_once('.').filter(|(_, number)| !number.contains('.')).ok_or_else(bad)?;
    let id = number.parse().ok().filter(|id| (1..=4094).contains(id));
    let id: u16 = id.ok_or_else(|| Refusal::VlanId(number.to_owned()))?;
    let of = of
        .parse()
        .ok()
        .filter(|of| facts.links.contains(of))
        .ok_or_else(|| Refusal::ParentMissing { name: text.to_owned(), of: of.to_owned() })?;
    Ok((Parent::Vlan { of, id }, name))
}

/// The largest packets that the interface takes, in bytes; `None` where nothing limits them.
pub(super) fn most(facts: &Facts, joint: &Joint, name: &IfName) -> Option<u32> {
    let of = match joint {
        Joint::Bridge | Joint::Macvlan { parent: Parent::Nowhere, .. } => return None,
        Joint::Macvlan { parent: Parent::Hosts, .. } => name,
        Joint::Macvlan { parent: Parent::Vlan { of, .. }, .. } => of,
    };
    facts.mtus.get(of).copied()
}
