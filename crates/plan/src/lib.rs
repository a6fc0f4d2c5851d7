//! Decides: the recorded facts, the wished-for network, the difference. No IO.
