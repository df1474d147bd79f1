//! What each fuzz target does with its input, and what must hold. `rust/tests/corpus.rs` replays the committed corpora
//! through these same functions.

#![allow(dead_code)]

pub mod chain;
pub mod input;
pub mod pcm;
pub mod vhost;
