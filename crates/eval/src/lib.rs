//! selfsup eval.
