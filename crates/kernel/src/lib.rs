//! Hands and eyes for the network: netlink, nftables, sysctl, network namespaces. Blocking.
