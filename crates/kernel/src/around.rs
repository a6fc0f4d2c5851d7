//! Sees what others made around our network.

use crate::facts::HostFacts;
use crate::fault::Refused;
use crate::{Fault, Host, legacy};
use plan::around::{Around, StrangersRoute};
use plan::ids::IfName;
use plan::netstate::Errno;
use std::collections::HashMap;

impl Host {
    /// What is around our network; the caller fills in the pools.
    ///
    /// # Errors
    /// As [`Host::facts`]; what the kernel answered about others' chains.
    pub fn around(&mut self) -> Result<Around, Fault> {
        let HostFacts { routes, addrs, links, forwarding, .. } = self.facts()?;
        let ours = |name: &IfName| links.get(name).is_some_and(|link| link.ours);
        let strangers = routes.into_iter().filter(|route| route.to.prefix_len() > 0);
        let strangers = strangers.filter(|route| !route.dev.as_ref().is_some_and(ours));
        let mut around = Around {
            routes: strangers.map(|route| StrangersRoute { to: route.to, dev: route.dev }).collect(),
            addrs: addrs
                .into_iter()
                .filter(|(name, _)| !ours(name))
                .flat_map(|(name, addrs)| addrs.into_iter().map(move |addr| (name.clone(), addr)))
                .collect(),
            forwarding,
            ..Around::default()
        };
        for link in links.values().filter(|link| !link.ours) {
            if let Some(master) = &link.master {
                *around.ports.entry(master.clone()).or_default() += 1;
            }
        }
        let fault = |what: &'static str| {
            move |refused: Refused| {
                let source = Errno::Kernel { errno: refused.errno, text: refused.text };
                Fault::Kernel { what, source }
            }
        };
        let names: HashMap<_, _> = links.into_iter().map(|(name, link)| (link.index, name)).collect();
        around.refusing.extend(self.nft.refusing(&names).map_err(fault("firewall"))?);
        around.refusing.extend(legacy::refusing().map_err(|err| fault("older firewall")(err.into()))?);
        Ok(around)
    }
}
