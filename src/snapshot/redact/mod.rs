//! Masks secrets before anything is written.
