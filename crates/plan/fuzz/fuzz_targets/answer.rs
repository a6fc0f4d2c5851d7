//! Answers of other servers: looked through, kept, passed on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plan_fuzz::answer(bytes));
