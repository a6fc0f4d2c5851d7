//! Carrying out a plan, and the narrow door to the kernel through which that happens.

use crate::netstate::{Errno, NetState, Op};

/// The kernel's network: hands and eyes.
pub trait Kernel {
    /// Do one thing.
    ///
    /// # Errors
    /// What the kernel answered. Nothing was changed then.
    fn perform(&mut self, op: &Op) -> Result<(), Errno>;

    /// See all that is ours.
    ///
    /// # Errors
    /// What the kernel answered.
    fn observe(&mut self) -> Result<NetState, Errno>;
}
