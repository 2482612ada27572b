//! objective.
