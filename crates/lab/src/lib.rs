//! Tests and benchmarks only: private namespaces, hosts, segments, probes.
