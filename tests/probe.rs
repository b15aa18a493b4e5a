//! The probe, held to its word.
