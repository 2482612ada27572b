//! selfsup datasets.
