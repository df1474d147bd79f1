//! Every input that the fuzzers kept still does what it should: their corpora, through the functions that they fuzz.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

/// The vhost target counts this process's descriptors: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn replay(target: &str, run: fn(&[u8])) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("rust/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(corpus).expect("a corpus").map(|e| e.expect("an entry").path()).collect();
    inputs.sort();
    assert!(inputs.len() > 5, "the corpus of {target} has {} inputs", inputs.len());
    for path in inputs {
        // Where a failure shows it.
        println!("{}", path.display());
        run(&fs::read(&path).expect("an input"));
    }
}

#[test]
fn chains_are_walked_by_the_book() {
    replay("chain", bodies::chain::run);
}

#[test]
fn messages_become_what_the_model_says() {
    replay("pcm", bodies::pcm::run);
}

#[test]
fn connections_come_to_their_end_whatever_is_said() {
    replay("vhost", bodies::vhost::run);
}
