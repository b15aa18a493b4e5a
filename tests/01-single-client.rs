//! Lesson 01, held to its word.
