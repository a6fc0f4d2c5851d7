//! Where facts live.
//!
//! Two databases, each ACID: `berth.redb` in the state directory for what outlives the boot (containers, networks), and
//! `boot.redb` in the run directory, a tmpfs, for what dies with it (sandboxes, endpoints, which containers run).
//! A commit to the second costs no disk write, so a start waits for none.

use crate::container::health::Health;
use crate::container::link_state::Watched;
use crate::container::{Container, in_todays_form};
use crate::error::{Doing, Result};
use plan::ids::{ContainerId, EndpointId, NetworkId, SandboxId};
use plan::world::{Change, Endpoint, Fact, Network, Rest, Sandbox, World};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

type Facts = TableDefinition<'static, &'static str, &'static [u8]>;

const CONTAINERS: Facts = TableDefinition::new("containers");
const NETWORKS: Facts = TableDefinition::new("networks");
const SANDBOXES: Facts = TableDefinition::new("sandboxes");
const ENDPOINTS: Facts = TableDefinition::new("endpoints");
const RESTING: Facts = TableDefinition::new("resting");
const ALIVE: Facts = TableDefinition::new("alive");
const HEALTH: Facts = TableDefinition::new("health");
const LINKS: Facts = TableDefinition::new("ties");
const RELAY: Facts = TableDefinition::new("relay");
/// The only key of that table.
const PORT: &str = "port";

/// Enough for the pages of a few hundred containers; the default of a gigabyte is for databases.
const CACHE_BYTES: usize = 1 << 20;

/// Both databases.
pub struct Store {
    lasting: Database,
    boot: Database,
}

/// A container that was started in this boot and not yet seen to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Its program was let run; before that a crash of the engine takes the start back.
    pub started: bool,
    /// The first process; 0 before the runtime told.
    pub pid: i32,
    /// When it was started.
    pub since: std::time::SystemTime,
    /// The sandbox, if it has one of its own or of another's.
    pub sandbox: Option<SandboxId>,
}

/// Everything that was recorded.
pub struct Loaded {
    /// All containers.
    pub containers: Vec<Container>,
    /// The facts about the network.
    pub world: World,
    /// What runs, or was being started.
    pub alive: BTreeMap<ContainerId, Alive>,
    /// What health checks said of those.
    pub health: BTreeMap<ContainerId, Health>,
    /// How their links stood.
    pub links: BTreeMap<ContainerId, Watched>,
}

impl Store {
    /// Opens both, making what is missing.
    ///
    /// # Errors
    /// A file that cannot be opened or is no database; another engine has it open.
    pub fn open(data_root: &Path, exec_root: &Path) -> Result<Store> {
        Ok(Store { lasting: open(&data_root.join("berth.redb"))?, boot: open(&exec_root.join("boot.redb"))? })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// A database that cannot be read, or an entry that is none of ours.
    pub fn load(&self) -> Result<Loaded> {
        let mut world = World::default();
        for network in all::<Network>(&self.lasting, NETWORKS)? {
            world.networks.insert(network.id.clone(), network);
        }
        for sandbox in all::<Sandbox>(&self.boot, SANDBOXES)? {
            world.sandboxes.insert(sandbox.id.clone(), sandbox);
        }
        for endpoint in all::<Endpoint>(&self.boot, ENDPOINTS)? {
            world.endpoints.insert(endpoint.id.clone(), endpoint);
        }
        for (network, addr, rest) in all::<Resting>(&self.boot, RESTING)? {
            if world.networks.contains_key(&network) {
                world.resting.entry(network).or_default().insert(addr, rest);
            }
        }
        world.relay = all::<u16>(&self.boot, RELAY)?.pop();
        let alive = all::<(ContainerId, Alive)>(&self.boot, ALIVE)?.into_iter().collect();
        let containers = all::<serde_json::Value>(&self.lasting, CONTAINERS)?
            .into_iter()
            .map(|record| serde_json::from_value(in_todays_form(record)).doing("read a container of the store"));
        let health = all::<(ContainerId, Health)>(&self.boot, HEALTH)?.into_iter().collect();
        let links = all::<(ContainerId, Watched)>(&self.boot, LINKS)?.into_iter().collect();
        Ok(Loaded { containers: containers.collect::<Result<_>>()?, world, alive, health, links })
    }

    /// Records a container as it is now; on disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_container(&self, container: &Container) -> Result<()> {
        write(&self.lasting, |tx| put(tx, CONTAINERS, container.id.as_str(), container))
    }

    /// Forgets a container.
    ///
    /// # Errors
    /// The disk's.
    pub fn drop_container(&self, id: &ContainerId) -> Result<()> {
        write(&self.lasting, |tx| drop_key(tx, CONTAINERS, id.as_str()))
    }

    /// Records that a container runs, or is being started.
    ///
    /// # Errors
    /// The run directory's.
    pub fn put_alive(&self, id: &ContainerId, alive: &Alive) -> Result<()> {
        write(&self.boot, |tx| put(tx, ALIVE, id.as_str(), &(id, alive)))
    }

    /// Records that it does no longer, and forgets what health checks said and how its links stood.
    ///
    /// # Errors
    /// The run directory's.
    pub fn drop_alive(&self, id: &ContainerId) -> Result<()> {
        write(&self.boot, |tx| {
            drop_key(tx, ALIVE, id.as_str())?;
            drop_key(tx, HEALTH, id.as_str())?;
            drop_key(tx, LINKS, id.as_str())
        })
    }

    /// Records what health checks say of a container that runs.
    ///
    /// # Errors
    /// The run directory's.
    pub fn put_health(&self, id: &ContainerId, health: &Health) -> Result<()> {
        write(&self.boot, |tx| put(tx, HEALTH, id.as_str(), &(id, health)))
    }

    /// Records how the links of a container that runs stand.
    ///
    /// # Errors
    /// The run directory's.
    pub fn put_links(&self, id: &ContainerId, links: &Watched) -> Result<()> {
        write(&self.boot, |tx| put(tx, LINKS, id.as_str(), &(id, links)))
    }

    /// Records changes of the network, all or none for each of the two databases. Networks are written first: an endpoint
    /// never names a network that is not recorded.
    ///
    /// # Errors
    /// The disk's.
    pub fn commit(&self, change: &Change) -> Result<()> {
        let lasting = |fact: &&Fact| matches!(fact, Fact::Network(_) | Fact::NoNetwork(_));
        if change.iter().any(|fact| lasting(&fact)) {
            write(&self.lasting, |tx| change.iter().filter(lasting).try_for_each(|fact| put_fact(tx, fact)))?;
        }
        if change.iter().any(|fact| !lasting(&fact)) {
            write(&self.boot, |tx| {
                change.iter().filter(|fact| !lasting(fact)).try_for_each(|fact| put_fact(tx, fact))
            })?;
        }
        Ok(())
    }
}

fn put_fact(tx: &WriteTransaction, fact: &Fact) -> Result<()> {
    match fact {
        Fact::Network(network) => put(tx, NETWORKS, network.id.as_str(), network),
        Fact::NoNetwork(id) => drop_key(tx, NETWORKS, NetworkId::as_str(id)),
        Fact::Sandbox(sandbox) => put(tx, SANDBOXES, sandbox.id.as_str(), sandbox),
        Fact::NoSandbox(id) => drop_key(tx, SANDBOXES, SandboxId::as_str(id)),
        Fact::Endpoint(endpoint) => {
            for addr in endpoint.addrs() {
                drop_key(tx, RESTING, &rest_key(&endpoint.network, addr))?;
            }
            put(tx, ENDPOINTS, endpoint.id.as_str(), endpoint)
        }
        Fact::NoEndpoint(id, now) => {
            let gone: Option<Endpoint> = get(tx, ENDPOINTS, EndpointId::as_str(id))?;
            let sandbox = match &gone {
                Some(gone) => get::<Sandbox>(tx, SANDBOXES, gone.sandbox.as_str())?,
                None => None,
            };
            for (gone, sandbox) in gone.iter().zip(sandbox) {
                let rest = Rest { since: *now, container: sandbox.container };
                for addr in gone.addrs() {
                    put(tx, RESTING, &rest_key(&gone.network, addr), &(&gone.network, addr, &rest))?;
                }
            }
            drop_key(tx, ENDPOINTS, EndpointId::as_str(id))
        }
        Fact::Relay(Some(port)) => put(tx, RELAY, PORT, port),
        Fact::Relay(None) => drop_key(tx, RELAY, PORT),
        Fact::Rested(network, addr) => drop_key(tx, RESTING, &rest_key(network, *addr)),
    }
}

/// An address at rest, with its network.
type Resting = (NetworkId, IpAddr, Rest);

fn rest_key(network: &NetworkId, addr: IpAddr) -> String {
    format!("{network} {addr}")
}

fn open(file: &Path) -> Result<Database> {
    let doing = || format!("open {}", file.display());
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(file).doing(doing())?;
    // Reading a table that was never written is an error in redb, so make them all once.
    write(&db, |tx| {
        for table in [CONTAINERS, NETWORKS, SANDBOXES, ENDPOINTS, RESTING, ALIVE, HEALTH, LINKS, RELAY] {
            tx.open_table(table).doing(doing())?;
        }
        Ok(())
    })?;
    Ok(db)
}

fn write(db: &Database, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
    let tx = db.begin_write().doing("begin a transaction of the store")?;
    work(&tx)?;
    crate::crash::point("before a commit of the store");
    tx.commit().doing("commit a transaction of the store")
}

fn put(tx: &WriteTransaction, table: Facts, key: &str, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).doing(format_args!("encode {key}"))?;
    let mut table = tx.open_table(table).doing("open a table of the store")?;
    table.insert(key, bytes.as_slice()).doing(format_args!("record {key}"))?;
    Ok(())
}

fn get<T: DeserializeOwned>(tx: &WriteTransaction, table: Facts, key: &str) -> Result<Option<T>> {
    let table = tx.open_table(table).doing("open a table of the store")?;
    let found = table.get(key).doing(format_args!("read {key} of the store"))?;
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).doing(format_args!("read {key} of the store"));
    found.map(|found| read(found.value())).transpose()
}

fn drop_key(tx: &WriteTransaction, table: Facts, key: &str) -> Result<()> {
    let mut table = tx.open_table(table).doing("open a table of the store")?;
    table.remove(key).doing(format_args!("forget {key}"))?;
    Ok(())
}

fn all<T: DeserializeOwned>(db: &Database, table: Facts) -> Result<Vec<T>> {
    let tx = db.begin_read().doing("read the store")?;
    let table = tx.open_table(table).doing("open a table of the store")?;
    let mut found = Vec::new();
    for entry in table.iter().doing("read the store")? {
        let (key, value) = entry.doing("read the store")?;
        found.push(serde_json::from_slice(value.value()).doing(format_args!("read {} of the store", key.value()))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let sandbox = Sandbox::new("cd".repeat(32).parse().unwrap(), id.clone());
        let alive = Alive {
            started: true,
            pid: 42,
            since: std::time::SystemTime::UNIX_EPOCH,
            sandbox: Some(sandbox.id.clone()),
        };
        {
            let store = Store::open(dir.path(), dir.path()).unwrap();
            store.put_alive(&id, &alive).unwrap();
            store.commit(&vec![Fact::Sandbox(sandbox.clone()), Fact::Relay(Some(65_000))]).unwrap();
            let refused = Store::open(dir.path(), dir.path()).err().unwrap().to_string();
            assert!(refused.contains("berth.redb"), "{refused}");
        }
        let store = Store::open(dir.path(), dir.path()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.alive[&id], alive);
        assert_eq!(loaded.world.sandboxes[&sandbox.id], sandbox);
        assert_eq!(loaded.world.relay, Some(65_000));
        store.commit(&vec![Fact::NoSandbox(sandbox.id.clone()), Fact::Relay(None)]).unwrap();
        store.drop_alive(&id).unwrap();
        let loaded = store.load().unwrap();
        assert!(loaded.alive.is_empty() && loaded.world.sandboxes.is_empty() && loaded.world.relay.is_none());
    }

    #[test]
    fn a_container_of_an_older_engine_is_on_its_network() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), dir.path()).unwrap();
        let container = Container {
            id: "ab".repeat(32).parse().unwrap(),
            name: "web".into(),
            created: std::time::SystemTime::UNIX_EPOCH,
            spec: crate::oci::example().into(),
            asked: serde_json::Value::Null.into(),
            image_id: "sha256:cd".into(),
            mounts: Vec::new(),
            state: Default::default(),
            kept: Default::default(),
            restart_count: 0,
            stopped_by_user: false,
        };
        let mut record = serde_json::to_value(&container).unwrap();
        record["spec"]["network"].as_object_mut().unwrap().remove("places").unwrap();
        write(&store.lasting, |tx| put(tx, CONTAINERS, container.id.as_str(), &record)).unwrap();
        let places = store.load().unwrap().containers.remove(0).spec.network.places.clone();
        assert_eq!(places, [crate::container::spec::PlaceSpec::on("bridge")]);
    }
}
