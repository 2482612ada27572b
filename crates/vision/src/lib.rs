//! selfsup vision.
