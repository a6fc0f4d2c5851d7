use crate::{Both, bridge, id, inside, name, open, same, up, veth};
use plan::apply::Kernel;
use plan::netstate::{LinkKind, NetState, Ns, Op};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn debris_of_a_crash_is_in_nobodys_way() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        let pins = lab.dir().join("netns");
        // A crash between the file and the mount leaves the file.
        File::create(pins.join(id('a').as_str())).unwrap();
        File::create(pins.join("something else")).unwrap();
        both.compare("debris");
        let refused = both.refused(Op::DelSpace(id('a')));
        assert_eq!(refused, "no such sandbox aaaaaaaaaaaa");
        assert!(!pins.join(id('a').as_str()).exists(), "the debris went with it");
        File::create(pins.join(id('a').as_str())).unwrap();
        both.ok(Op::AddSpace(id('a')));
        // A crash between the unmount and the unlink leaves the file as well.
        let pin = both.real.pin(&id('a'));
        rustix::mount::unmount(&pin, rustix::mount::UnmountFlags::DETACH).unwrap();
        same(&both.real.observe().unwrap(), &NetState::default(), "unpinned by hand");
        both.real.perform(&Op::AddSpace(id('a'))).unwrap();
        both.compare("pinned again");
        both.ok(Op::DelSpace(id('a')));
        assert!(pins.join("something else").exists(), "a stranger's file stays");
    })
}

#[test]
fn sandboxes_outlive_the_hands() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(Op::AddSpace(id('a')));
        both.ok(bridge("br0", 1500));
        both.ok(veth("veth0", "br0", "eth0", 'a'));
        both.real = open(lab);
        both.compare("opened again");
        both.ok(up(inside('a'), "eth0", true));
        // Pinned anew by somebody else under the same name: what was kept open must not be used any more.
        let mut other = open(lab);
        other.perform(&Op::DelSpace(id('a'))).unwrap();
        other.perform(&Op::AddSpace(id('a'))).unwrap();
        both.ok_fake(&[Op::DelSpace(id('a')), Op::AddSpace(id('a'))]);
        let seen = both.real.observe().unwrap();
        assert_eq!(seen.spaces[&inside('a')], both.fake.state().spaces[&inside('a')]);
    })
}

impl Both {
    fn ok_fake(&mut self, ops: &[Op]) {
        for op in ops {
            self.fake.perform(op).unwrap();
        }
    }
}

#[test]
fn dying_ends_are_neither_seen_nor_in_the_way() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(bridge("br0", 1500));
        for _ in 0..20 {
            both.ok(Op::AddSpace(id('a')));
            both.ok(veth("veth0", "br0", "eth0", 'a'));
            both.ok(veth("veth1", "br0", "eth1", 'a'));
            both.ok(Op::DelSpace(id('a')));
            assert!(both.refused(up(Ns::Host, "veth0", true)).starts_with("no such link"));
        }
        // Without a look in between, too.
        for op in [Op::AddSpace(id('a')), veth("veth0", "br0", "eth0", 'a'), Op::DelSpace(id('a'))] {
            both.fake.perform(&op).unwrap();
            both.real.perform(&op).unwrap();
        }
        both.compare("a short life");
        // Held by somebody, it is shown again after a while, as an end without another.
        both.ok(Op::AddSpace(id('a')));
        both.ok(veth("veth0", "br0", "eth0", 'a'));
        let held = both.real.namespace(&id('a')).unwrap().unwrap();
        both.ok(Op::DelSpace(id('a')));
        std::thread::sleep(Duration::from_millis(5100));
        let state = both.real.observe().unwrap();
        assert_eq!(state.spaces[&Ns::Host].links[&name("veth0")].kind, LinkKind::Veth { peer: None });
        drop(held);
        until("it is gone", || !both.real.observe().unwrap().spaces[&Ns::Host].links.contains_key(&name("veth0")));
    })
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process in a copy of this mount namespace, as containers are.
fn elsewhere(propagation: &str) -> Child {
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", propagation, "sleep", "60"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let theirs = format!("/proc/{}/ns/mnt", child.id());
    until("a mount namespace of its own", || fs::read_link(&theirs).is_ok_and(|link| link != own));
    // The program behind `unshare` runs once the propagation is set.
    let comm = format!("/proc/{}/comm", child.id());
    until("sleep runs", || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep"));
    child
}

#[test]
fn copies_of_the_mount_do_not_keep_a_namespace() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(bridge("br0", 1500));
        for propagation in ["private", "slave", "shared", "unchanged"] {
            both.ok(Op::AddSpace(id('a')));
            both.ok(veth("veth0", "br0", "eth0", 'a'));
            let mut copy = elsewhere(propagation);
            let mounts = || fs::read_to_string(format!("/proc/{}/mountinfo", copy.id())).unwrap();
            assert!(mounts().contains(id('a').as_str()), "{propagation}: it has a copy");
            both.ok(Op::DelSpace(id('a')));
            assert!(!mounts().contains(id('a').as_str()), "{propagation}: the copy went");
            let link = || lab.here().run(&["ip", "link", "show", "veth0"]).code == 0;
            until(&format!("{propagation}: the pair went, so the namespace died"), || !link());
            // What is pinned later does not spread into what was there before.
            both.ok(Op::AddSpace(id('b')));
            assert!(!mounts().contains(id('b').as_str()), "{propagation}");
            both.ok(Op::DelSpace(id('b')));
            copy.kill().unwrap();
            copy.wait().unwrap();
        }
    })
}

#[test]
fn pins_on_a_shared_file_system_stay_private() {
    lab::alone(|lab| {
        let shared = lab.dir().join("run");
        fs::create_dir(&shared).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &shared, "tmpfs", flags, None).unwrap();
        rustix::mount::mount_change(&shared, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        let mut copy = elsewhere("slave");
        let pins = shared.join("berth/netns");
        let mut host = kernel::Host::open(&pins).unwrap();
        // Opened twice, it is still one mount.
        drop(kernel::Host::open(&pins).unwrap());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines: Vec<_> = mounts.lines().filter(|line| line.contains("/run/berth/netns ")).collect();
        assert_eq!(lines.len(), 1, "{mounts}");
        assert!(!lines[0].contains("shared:"), "{}", lines[0]);
        host.perform(&Op::AddSpace(id('a'))).unwrap();
        let theirs = fs::read_to_string(format!("/proc/{}/mountinfo", copy.id())).unwrap();
        assert!(!theirs.contains(id('a').as_str()), "{theirs}");
        host.perform(&Op::DelSpace(id('a'))).unwrap();
        copy.kill().unwrap();
        copy.wait().unwrap();
    })
}

#[test]
fn a_job_inside_comes_back() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(Op::AddSpace(id('a')));
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = both.real.inside(&id('a'), || fs::read_link("/proc/thread-self/ns/net")).unwrap();
        assert_ne!(own, theirs);
        let failed = both.real.inside(&id('a'), || fs::read_link("/nowhere")).unwrap_err();
        assert_eq!(failed.to_string(), "no such sandbox aaaaaaaaaaaa");
        assert!(both.real.inside(&id('b'), || Ok(())).is_err());
        let again = both.real.inside(&id('a'), || fs::read_link("/proc/thread-self/ns/net")).unwrap();
        assert_eq!(again, theirs);
    })
}

#[test]
fn ends_that_linger_make_room_on_a_full_bridge() {
    lab::alone(|lab| {
        let mut host = open(lab);
        for op in [bridge("br0", 1500), Op::AddSpace(id('a')), veth("veth0", "br0", "eth0", 'a')] {
            host.perform(&op).unwrap();
        }
        let pair = |n: u32| format!("link add p{n} master br0 type veth peer name q{n}\nlink set q{n} master br0\n");
        let file = lab.dir().join("strangers");
        std::fs::write(&file, (1..=511).map(pair).collect::<String>()).unwrap();
        lab.here().ok(&["ip", "-batch", file.to_str().unwrap()]);
        assert_eq!(host.around().unwrap().ports[&name("br0")], plan::warnings::BRIDGE_PORTS - 1);
        host.perform(&Op::AddSpace(id('b'))).unwrap();
        let second = veth("veth1", "br0", "eth0", 'b');
        let refused = host.perform(&second).unwrap_err();
        assert!(refused.to_string().starts_with("Exchange full"), "{refused}");
        host.perform(&Op::DelSpace(id('a'))).unwrap();
        host.perform(&second).unwrap();
    })
}
