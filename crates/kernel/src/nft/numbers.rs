//! Numbers of linux/netfilter/nf_tables.h and of nft's own notes in user data (libnftnl's udata.h, nftables' datatype.h).

pub(super) const NEWTABLE: u8 = 0;
pub(super) const GETTABLE: u8 = 1;
pub(super) const DELTABLE: u8 = 2;
pub(super) const NEWCHAIN: u8 = 3;
pub(super) const GETCHAIN: u8 = 4;
pub(super) const NEWRULE: u8 = 6;
pub(super) const GETRULE: u8 = 7;
pub(super) const NEWSET: u8 = 9;
pub(super) const GETSET: u8 = 10;
pub(super) const NEWSETELEM: u8 = 12;
pub(super) const GETSETELEM: u8 = 13;
pub(super) const DELSETELEM: u8 = 14;
pub(crate) const NEWGEN: u8 = 15;
pub(super) const GETGEN: u8 = 16;
/// Since Linux 6.3.
pub(super) const DESTROYSETELEM: u8 = 30;

/// The subsystem in the upper byte of a message's type.
pub(crate) const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

pub(super) const FAMILY_INET: u8 = 1;
pub(super) const FAMILY_BRIDGE: u8 = 7;

/// An element of any list.
pub(super) const LIST_ELEMENT: u16 = 1;

/// `NFTA_GEN_*`
pub(super) mod generation {
    pub(in crate::nft) const ID: u16 = 1;
}

/// `NFTA_TABLE_*`
pub(super) mod table {
    pub(in crate::nft) const NAME: u16 = 1;
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`
pub(super) mod chain {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 3;
    pub(in crate::nft) const HOOK: u16 = 4;
    pub(in crate::nft) const POLICY: u16 = 5;
    pub(in crate::nft) const TYPE: u16 = 7;
    pub(in crate::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::nft) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`, `NFTA_EXPR_*`
pub(super) mod rule {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    pub(in crate::nft) const EXPRESSIONS: u16 = 4;
    pub(in crate::nft) const USERDATA: u16 = 7;
    pub(in crate::nft) const EXPR_NAME: u16 = 1;
    pub(in crate::nft) const EXPR_DATA: u16 = 2;
}

/// `NFTA_SET_*`
pub(super) mod set {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const NAME: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::nft) const KEY_LEN: u16 = 5;
    pub(in crate::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::nft) const DATA_LEN: u16 = 7;
    pub(in crate::nft) const DESC: u16 = 9;
    pub(in crate::nft) const ID: u16 = 10;
    pub(in crate::nft) const USERDATA: u16 = 13;
    pub(in crate::nft) const DESC_CONCAT: u16 = 2;
    pub(in crate::nft) const FIELD_LEN: u16 = 1;

    pub(in crate::nft) const ANONYMOUS: u32 = 1;
    pub(in crate::nft) const INTERVAL: u32 = 4;
    pub(in crate::nft) const MAP: u32 = 8;
    /// `NFT_SET_CONCAT`: ranges in several parts.
    pub(in crate::nft) const CONCAT: u32 = 0x80;
}

/// `NFTA_SET_ELEM_LIST_*` and `NFTA_SET_ELEM_*`
pub(super) mod element {
    pub(in crate::nft) const TABLE: u16 = 1;
    pub(in crate::nft) const SET: u16 = 2;
    pub(in crate::nft) const ELEMENTS: u16 = 3;
    pub(in crate::nft) const KEY: u16 = 1;
    pub(in crate::nft) const DATA: u16 = 2;
    pub(in crate::nft) const FLAGS: u16 = 3;
    pub(in crate::nft) const USERDATA: u16 = 6;
    pub(in crate::nft) const KEY_END: u16 = 10;
    /// This element is the first value *after* an interval.
    pub(in crate::nft) const INTERVAL_END: u32 = 1;
}

/// `NFTA_DATA_*` and `NFTA_VERDICT_*`
pub(super) mod data {
    pub(in crate::nft) const VALUE: u16 = 1;
    pub(in crate::nft) const VERDICT: u16 = 2;
    pub(in crate::nft) const CODE: u16 = 1;
    pub(in crate::nft) const CHAIN: u16 = 2;
    /// The type of a map's data that is a verdict.
    pub(in crate::nft) const VERDICT_TYPE: u32 = 0xffff_ff00;
}

/// Notes that nft keeps in `NFTA_SET_USERDATA`, and the kinds of byte order that it notes.
pub(super) mod notes {
    /// In the user data of rules and of elements.
    pub(in crate::nft) const COMMENT: u8 = 0;
    pub(in crate::nft) const KEY_ORDER: u8 = 0;
    pub(in crate::nft) const DATA_ORDER: u8 = 1;
    pub(in crate::nft) const ORDER_NONE: u32 = 0;
    pub(in crate::nft) const ORDER_HOST: u32 = 1;
    pub(in crate::nft) const ORDER_BIG: u32 = 2;
}
