//! What `run` and `create` ask for: flags as typed, turned into the body of `POST /containers/create`.

/// `--subnet`, `--gateway` and what else belongs to the addresses of a network.
pub mod addresses;
/// The flags themselves, and the body made of them.
pub mod body;
/// Devices, weights and rates of devices, GPUs.
pub mod devices;
/// Environment variables, labels, and the files they are read from.
pub mod envs;
/// The flags of `run` and `create` as definitions.
pub mod flags;
/// Limits of the process: ulimits, restart policies, sysctls.
pub mod limits;
/// Bind mounts, volumes, tmpfs.
pub mod mounts;
/// Hosts lines, resolvers, links, MAC addresses.
pub mod names;
/// `--network` in its short and long form, and the flags that belong to the first network.
pub mod networks;
/// `-p` and `--expose`.
pub mod ports;

/// What `--link` is for, wherever there is one.
pub const LINK: &str = "Link to another container (NAME[:ALIAS][,wait=tcp:PORT|exposed|healthy][,timeout=TIME][,required=true][,on-loss=stop|pause])";
