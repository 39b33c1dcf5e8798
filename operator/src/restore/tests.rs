//! Reconciles.
