//! All that can be asked on the command line: one table, one line of it a command.

use std::future::Future;
use std::pin::Pin;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::Failure;
use crate::flags::{Flags, LONG, list, switch, text};
use crate::wire::Wire;

mod create;
mod events;
mod exec;
mod explain;
mod history;
mod image;
mod inspect;
mod lifecycle;
mod lines;
mod link;
mod logs;
mod network;
mod ps;
mod pull;
mod row;
mod run;
mod stats;
mod system;
mod transfer;
mod view;
mod volume;

/// A parsed command line on its way to the engine.
pub struct Ask<'a> {
    /// The engine.
    pub wire: &'a Wire,
    /// The flags.
    pub m: &'a ArgMatches,
    /// The words that are no flags.
    pub args: Vec<String>,
}

/// What a command comes to: an exit code, or why it stopped.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<u8, Failure>> + 'a>>;

/// One command.
pub struct Leaf {
    /// How it is called; the help shows the first two.
    pub spellings: &'static [&'static str],
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// How few and how many words it takes.
    pub arity: (usize, usize),
    /// Whether flags end at the first word, because the rest is another program's command line.
    pub stops: bool,
    /// Its flags.
    pub flags: fn() -> Vec<Arg>,
    /// What it does.
    pub act: for<'a> fn(&'a Ask<'a>) -> Answer<'a>,
}

/// As many words as one likes.
pub const ANY: usize = usize::MAX;

macro_rules! leaf {
    ($spellings:expr, $usage:literal, $about:literal, $min:literal..=$max:expr, $stops:literal, $flags:expr, $act:path) => {
        Leaf {
            spellings: &$spellings,
            usage: $usage,
            about: $about,
            arity: ($min, $max),
            stops: $stops,
            flags: $flags,
            act: {
                fn act<'a>(ask: &'a Ask<'a>) -> Answer<'a> {
                    Box::pin($act(ask))
                }
                act
            },
        }
    };
}

/// Groups of commands: `berth container ls`.
const GROUPS: [(&str, &str); 7] = [
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("link", "Manage links between containers"),
    ("net", "See the network and ask it"),
    ("network", "Manage networks"),
    ("system", "Manage the engine"),
    ("volume", "Manage volumes"),
];

/// Every command.
#[rustfmt::skip]
pub static LEAVES: &[Leaf] = &[
    leaf!(["run", "container run"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Make a container from an image and run it", 1..=ANY, true, run::flags, run::run),
    leaf!(["exec", "container exec"], "[OPTIONS] CONTAINER COMMAND [ARG...]", "Run a command in a running container", 2..=ANY, true, exec::flags, exec::exec),
    leaf!(["ps", "container ls", "container list", "container ps"], "[OPTIONS]", "List containers", 0..=0, false, ps::flags, ps::ps),
    leaf!(["pull", "image pull"], "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", 1..=1, false, pull::pull_flags, pull::pull),
    leaf!(["push", "image push"], "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", 1..=1, false, pull::push_flags, pull::push),
    leaf!(["images", "image ls", "image list"], "[OPTIONS] [REPOSITORY[:TAG]]", "List images", 0..=1, false, image::images_flags, image::images),
    leaf!(["version"], "[OPTIONS]", "Show the versions of this program and of the engine", 0..=0, false, system::format_flag, system::version),
    leaf!(["info", "system info"], "[OPTIONS]", "Show what the engine says of itself and its host", 0..=0, false, system::format_flag, system::info),
    leaf!(["ping"], "", "Ask the engine whether it is there", 0..=0, false, none, system::ping),
    leaf!(["attach", "container attach"], "[OPTIONS] CONTAINER", "Attach our input and output to a running container", 1..=1, false, run::attach_flags, run::attach),
    leaf!(["commit", "container commit"], "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Make an image of a container's changes", 1..=2, false, image::commit_flags, image::commit),
    leaf!(["cp", "container cp"], "[OPTIONS] SOURCE DESTINATION", "Copy files between a container and this machine (CONTAINER:PATH, or - for a tar stream)", 2..=2, false, transfer::cp_flags, transfer::cp),
    leaf!(["create", "container create"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Make a container without starting it", 1..=ANY, true, create::flags, create::create),
    leaf!(["diff", "container diff"], "CONTAINER", "Show what a container changed in its file system", 1..=1, false, none, view::diff),
    leaf!(["events", "system events"], "[OPTIONS]", "Follow what happens in the engine", 0..=0, false, events::flags, events::events),
    leaf!(["export", "container export"], "[OPTIONS] CONTAINER", "Write a container's file system as a tar archive", 1..=1, false, transfer::output_flag, transfer::export),
    leaf!(["history", "image history"], "[OPTIONS] IMAGE", "Show how an image was made", 1..=1, false, history::flags, history::history),
    leaf!(["import", "image import"], "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", "Make an image from a tar archive of a file system", 1..=2, false, transfer::import_flags, transfer::import),
    leaf!(["inspect"], "[OPTIONS] NAME|ID [NAME|ID...]", "Show all that the engine knows of containers, images, networks or volumes", 1..=ANY, false, inspect::any_flags, inspect::any),
    leaf!(["kill", "container kill"], "[OPTIONS] CONTAINER [CONTAINER...]", "Kill running containers", 1..=ANY, false, lifecycle::kill_flags, lifecycle::kill),
    leaf!(["load", "image load"], "[OPTIONS]", "Read images from a tar archive", 0..=0, false, transfer::load_flags, transfer::load),
    leaf!(["logs", "container logs"], "[OPTIONS] CONTAINER", "Show what a container has written", 1..=1, false, logs::flags, logs::logs),
    leaf!(["pause", "container pause"], "CONTAINER [CONTAINER...]", "Freeze all processes of containers", 1..=ANY, false, none, lifecycle::pause),
    leaf!(["port", "container port"], "CONTAINER [PRIVATE_PORT[/PROTO]] | add|rm CONTAINER PUBLISH...", "List a container's published ports, or change them while it runs", 1..=ANY, false, none, view::port),
    leaf!(["rename", "container rename"], "CONTAINER NEW_NAME", "Rename a container", 2..=2, false, none, lifecycle::rename),
    leaf!(["restart", "container restart"], "[OPTIONS] CONTAINER [CONTAINER...]", "Stop containers and start them again", 1..=ANY, false, lifecycle::stop_flags, lifecycle::restart),
    leaf!(["rm", "container rm", "container remove"], "[OPTIONS] CONTAINER [CONTAINER...]", "Remove containers", 1..=ANY, false, lifecycle::rm_flags, lifecycle::rm),
    leaf!(["rmi", "image rm", "image remove"], "[OPTIONS] IMAGE [IMAGE...]", "Remove images", 1..=ANY, false, image::rmi_flags, image::rmi),
    leaf!(["save", "image save"], "[OPTIONS] IMAGE [IMAGE...]", "Write images to a tar archive", 1..=ANY, false, transfer::save_flags, transfer::save),
    leaf!(["start", "container start"], "[OPTIONS] CONTAINER [CONTAINER...]", "Start stopped containers", 1..=ANY, false, run::start_flags, run::start),
    leaf!(["stats", "container stats"], "[OPTIONS] [CONTAINER...]", "Show what containers use", 0..=ANY, false, stats::flags, stats::stats),
    leaf!(["stop", "container stop"], "[OPTIONS] CONTAINER [CONTAINER...]", "Stop running containers", 1..=ANY, false, lifecycle::stop_flags, lifecycle::stop),
    leaf!(["tag", "image tag"], "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image another name", 2..=2, false, none, image::tag),
    leaf!(["top", "container top"], "CONTAINER [ps OPTIONS]", "Show the processes of a container", 1..=ANY, true, none, view::top),
    leaf!(["unpause", "container unpause"], "CONTAINER [CONTAINER...]", "Let frozen containers run on", 1..=ANY, false, none, lifecycle::unpause),
    leaf!(["update", "container update"], "[OPTIONS] CONTAINER [CONTAINER...]", "Change the limits of containers", 1..=ANY, false, lifecycle::update_flags, lifecycle::update),
    leaf!(["wait", "container wait"], "CONTAINER [CONTAINER...]", "Wait until containers end and print their exit codes", 1..=ANY, false, none, lifecycle::wait),
    leaf!(["container inspect"], "[OPTIONS] CONTAINER [CONTAINER...]", "Show all that the engine knows of containers", 1..=ANY, false, inspect::container_flags, inspect::container),
    leaf!(["container prune"], "[OPTIONS]", "Remove all stopped containers", 0..=0, false, system::prune_flags, system::prune_containers),
    leaf!(["image inspect"], "[OPTIONS] IMAGE [IMAGE...]", "Show all that the engine knows of images", 1..=ANY, false, inspect::flags, inspect::image),
    leaf!(["image prune"], "[OPTIONS]", "Remove unused images", 0..=0, false, system::prune_all_flags, system::prune_images),
    leaf!(["link check"], "SOURCE", "Try a container's links as its program would; 1 if one is not ready", 1..=1, false, none, link::check),
    leaf!(["link ls", "link list"], "[OPTIONS] [SOURCE]", "List links and how they stand", 0..=1, false, link::ls_flags, link::ls),
    leaf!(["net explain"], "[OPTIONS] FROM TO[:PORT[/PROTO]]", "Say whether one place reaches another, and why", 2..=2, false, explain::flags, explain::explain),
    leaf!(["network connect"], "[OPTIONS] NETWORK CONTAINER", "Put a container on a network", 2..=2, false, network::connect_flags, network::connect),
    leaf!(["network create"], "[OPTIONS] NETWORK", "Make a network", 1..=1, false, network::create_flags, network::create),
    leaf!(["network disconnect"], "[OPTIONS] NETWORK CONTAINER", "Take a container off a network", 2..=2, false, network::disconnect_flags, network::disconnect),
    leaf!(["network dns-log"], "[OPTIONS] [CONTAINER]", "Show what containers asked the resolver, and who answered", 0..=1, false, network::dns_log_flags, network::dns_log),
    leaf!(["network ls", "network list"], "[OPTIONS]", "List networks", 0..=0, false, network::ls_flags, network::ls),
    leaf!(["network inspect"], "[OPTIONS] NETWORK [NETWORK...]", "Show all that the engine knows of networks", 1..=ANY, false, inspect::network_flags, inspect::network),
    leaf!(["network prune"], "[OPTIONS]", "Remove all networks that no container is on", 0..=0, false, system::prune_flags, system::prune_networks),
    leaf!(["network rm", "network remove"], "[OPTIONS] NETWORK [NETWORK...]", "Remove networks", 1..=ANY, false, network::rm_flags, network::rm),
    leaf!(["system df"], "[OPTIONS]", "Show what images, containers and volumes take on the disk", 0..=0, false, system::df_flags, system::df),
    leaf!(["system prune"], "[OPTIONS]", "Remove unused data", 0..=0, false, system::prune_system_flags, system::prune_system),
    leaf!(["volume create"], "[OPTIONS] [VOLUME]", "Make a volume", 0..=1, false, volume::create_flags, volume::create),
    leaf!(["volume inspect"], "[OPTIONS] VOLUME [VOLUME...]", "Show all that the engine knows of volumes", 1..=ANY, false, inspect::flags, inspect::volume),
    leaf!(["volume ls", "volume list"], "[OPTIONS]", "List volumes", 0..=0, false, volume::ls_flags, volume::ls),
    leaf!(["volume prune"], "[OPTIONS]", "Remove unused volumes", 0..=0, false, system::prune_all_flags, system::prune_volumes),
    leaf!(["volume rm", "volume remove"], "[OPTIONS] VOLUME [VOLUME...]", "Remove volumes", 1..=ANY, false, volume::rm_flags, volume::rm),
];

fn none() -> Vec<Arg> {
    Vec::new()
}

/// The command of this spelling.
pub fn find(spelling: &str) -> Option<&'static Leaf> {
    LEAVES.iter().find(|leaf| leaf.spellings.contains(&spelling))
}

fn helpful(command: Command, free_h: bool) -> Command {
    let help = Arg::new("help").long("help").help("Print this help").action(ArgAction::Help);
    command.disable_help_flag(true).arg(if free_h { help.short('h') } else { help }).args_override_self(true)
}

fn command_of(leaf: &Leaf, spelling: &'static str) -> Command {
    let name = spelling.rsplit(' ').next().unwrap_or(spelling);
    let flags = (leaf.flags)();
    let free_h = !flags.iter().any(|flag| flag.get_short() == Some('h'));
    let words = Arg::new("args").num_args(0..).trailing_var_arg(leaf.stops).hide(true).value_name("ARGS");
    let shown = leaf.spellings.iter().take(2).any(|&known| known == spelling);
    let command = Command::new(name)
        .about(leaf.about)
        .override_usage(format!("berth {spelling} {}", leaf.usage).trim_end().to_owned())
        .hide(!shown)
        .args(flags)
        .arg(words);
    helpful(command, free_h)
}

/// One command by itself, for tests of its flags.
#[cfg(test)]
pub fn leaf_command(spelling: &'static str) -> Command {
    command_of(find(spelling).expect("a known command"), spelling)
}

/// The whole command line but for what other crates add to it.
pub fn command() -> Command {
    let mut root = helpful(Command::new("berth"), true)
        .about("A container engine whose heart is the network of one host")
        .override_usage("berth [OPTIONS] COMMAND [ARG...]")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .subcommand_required(false)
        .args([
            list("host", 'H', "list", "Socket of the engine to talk to (unix:///PATH); also BERTH_HOST"),
            switch("debug", 'D', "Say more when something fails"),
            text("log-level", 'l', "string", "Accepted as Docker does: debug, info, warn, error, fatal"),
            text("config", LONG, "string", "Directory of the client's configuration (registries' credentials)"),
            text("context", 'c', "string", "Accepted only as 'default': there is one engine"),
            switch("version", 'v', "Print the version"),
        ]);
    let mut groups: Vec<Command> = GROUPS
        .iter()
        .map(|&(name, about)| {
            helpful(Command::new(name), true).about(about).override_usage(format!("berth {name} COMMAND"))
        })
        .collect();
    for leaf in LEAVES {
        for &spelling in leaf.spellings {
            let command = command_of(leaf, spelling);
            match spelling.split_once(' ') {
                None => root = root.subcommand(command),
                Some((group, _)) => {
                    let at = GROUPS.iter().position(|(name, _)| *name == group);
                    let at = at.expect("every two-word command belongs to a group of the table above");
                    groups[at] = std::mem::take(&mut groups[at]).subcommand(command);
                }
            }
        }
    }
    root.subcommands(groups)
}

/// Reads the words of a command that are no flags.
pub fn words(m: &ArgMatches) -> Vec<String> {
    m.all("args")
}
