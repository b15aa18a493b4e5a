//! Lesson 06 does what its chapter says.
