//! The `selfsup` command.
fn main() {}
