//! selfsup.
