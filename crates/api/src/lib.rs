//! Docker's wire types, nothing else.
