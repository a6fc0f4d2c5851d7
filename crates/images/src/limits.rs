//! How much an archive may ask of this machine.

/// Bounds on what is accepted from archives and registries. The defaults are generous: no honest image met them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries of one archive or layer.
    pub entries: u64,
    /// Bytes of one layer once decompressed, holes of sparse files included.
    pub layer_bytes: u64,
    /// Bytes of one blob or of one member of an archive, as stored.
    pub blob_bytes: u64,
    /// How many times longer than its blob a layer may become, once it is longer than `ratio_from` bytes.
    pub ratio: u64,
    /// Below this many bytes the ratio does not matter: an empty small layer compresses without bound.
    pub ratio_from: u64,
    /// Bytes of one path. The kernel's own bound is 4096.
    pub path_bytes: usize,
    /// Bytes of one manifest, index or configuration.
    pub json_bytes: u64,
    /// Layers of one image. Overlayfs takes 500.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries: 5_000_000,
            layer_bytes: 256 << 30,
            blob_bytes: 128 << 30,
            ratio: 300,
            ratio_from: 1 << 30,
            path_bytes: 4095,
            json_bytes: 4 << 20,
            layers: 499,
        }
    }
}
