//! An image goes to a registry and comes back the same.

use std::time::Duration;

#[test]
fn pushed_and_pulled_is_byte_identical_and_a_corrupt_blob_is_refused() {
    lab::alone(|lab| {
        let store = lab.dir().join("registry");
        let config = lab.dir().join("registry.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:5000\n",
            store.display()
        );
        std::fs::write(&config, text).unwrap();
        let _registry = lab.here().spawn(&["docker-registry", "serve", config.to_str().unwrap()]);
        lab::wait_for("the registry", Duration::from_secs(10), || lab.here().connect("127.0.0.1:5000").ok());
        let engine = lab.engine(&[]);
        engine.load_busybox();
        let name = "127.0.0.1:5000/team/busybox:1";
        engine.ok(&["tag", "busybox", name]);
        let pushed = engine.ok(&["push", name]);
        assert!(pushed.contains("digest: sha256:"), "{pushed}");
        let id = engine.ok(&["inspect", "-f", "{{.Id}}", name]);
        let first = lab.dir().join("first.tar");
        engine.ok(&["save", "-o", first.to_str().unwrap(), name]);
        engine.ok(&["rmi", name, "busybox"]);
        assert_eq!(engine.ok(&["images", "-q"]), "");
        let pulled = engine.ok(&["pull", name]);
        assert!(pulled.contains("Status: Downloaded newer image for 127.0.0.1:5000/team/busybox:1"), "{pulled}");
        assert_eq!(engine.ok(&["inspect", "-f", "{{.Id}}", name]), id);
        let second = lab.dir().join("second.tar");
        engine.ok(&["save", "-o", second.to_str().unwrap(), name]);
        assert!(
            std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(),
            "the image is not the same after its journey"
        );
        assert_eq!(engine.ok(&["run", "--rm", name, "echo", "alive"]), "alive\n");
        let again = engine.ok(&["pull", name]);
        assert!(again.contains("Image is up to date"), "{again}");
        if lab::has_docker() {
            engine.docker_ok(&["pull", name]);
            engine.docker_ok(&["push", name]);
        }
        // Somebody changes a byte of every large blob in the registry's own storage.
        engine.ok(&["rmi", name]);
        let blobs =
            lab.here().ok(&["find", store.to_str().unwrap(), "-path", "*blobs*", "-name", "data", "-size", "+64k"]);
        assert!(!blobs.trim().is_empty(), "the registry holds no layer");
        for blob in blobs.lines() {
            let mut bytes = std::fs::read(blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(blob, bytes).unwrap();
        }
        let refused = engine.berth(&["pull", name]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("arrives as sha256:"), "{refused:?}");
        assert_eq!(engine.ok(&["images", "-q"]), "", "a part of a refused image is there");
    });
}
