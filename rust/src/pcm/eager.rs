//! Streams that are moved as fast as the guest can, by a thread of their own: copied out and heard by nobody, or silence.
//! For measuring what a copy costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::stream::Stream;
use crate::vhost::{Caller, lock};

/// How long a stop may go unnoticed; whoever stops waits for that.
const SLICE: Duration = Duration::from_millis(5);
/// Bytes moved at once.
const SCRATCH: usize = 1 << 17;

/// Moves one stream while it is started.
pub struct EagerPort {
    stream: Arc<Stream>,
    thread: Mutex<Option<(Arc<AtomicBool>, JoinHandle<()>)>>,
}

impl EagerPort {
    /// A port that does not move yet.
    pub fn new(stream: Arc<Stream>) -> Self {
        EagerPort { stream, thread: Mutex::default() }
    }

    /// Begin. An error if there can be no thread.
    pub fn start(&self) -> std::io::Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let going = Arc::new(AtomicBool::new(true));
            let (stream, flag) = (self.stream.clone(), going.clone());
            let run = move || run(&stream, &flag);
            *thread = Some((going, std::thread::Builder::new().name("vsnd-eager".into()).spawn(run)?));
        }
        Ok(())
    }

    /// Pause. When it returns the thread is gone. Idempotent.
    pub fn stop(&self) {
        if let Some((going, thread)) = lock(&self.thread).take() {
            going.store(false, Ordering::Relaxed);
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for EagerPort {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(stream: &Stream, going: &AtomicBool) {
    let mut scratch = vec![stream.silence(); SCRATCH];
    while going.load(Ordering::Relaxed) {
        if stream.wait(Some(SLICE)) {
            // No more than is given back at once: see `Stream::complete`.
            let n = stream.queued_bytes().min(stream.burst()).min(SCRATCH);
            if stream.capture {
                stream.push_as(&scratch[..n], 0, Caller::Worker);
            } else {
                stream.pull_as(&mut scratch[..n], 0, Caller::Worker);
            }
        } else if !stream.is_running() {
            // START comes in a moment.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
