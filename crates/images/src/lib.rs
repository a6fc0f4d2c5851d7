//! The image store: pull, load, save, import, commit, layers. Knows no container and no network.
