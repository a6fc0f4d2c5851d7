//! Datagrams from containers: read, answered, passed on.
#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| plan_fuzz::question(packet));
