//! The project's own recipes.
fn main() {}
