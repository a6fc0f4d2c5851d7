//! The engine: HTTP, containers, store, the reconcile loop.
