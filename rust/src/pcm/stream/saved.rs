//! What of a stream another process needs to go on with it, to the frame: messages that are kept, and bytes of those that were
//! completed already.

use super::Stream;
use crate::error::{Error, Result};

/// More than this was not read ahead.
const AHEAD_MAX: usize = 8 << 20;

impl Stream {
    /// The heads of the messages that are kept while the ring is stopped, and how much of the first was consumed.
    pub fn kept_messages(&self) -> (Vec<u16>, usize) {
        let s = self.state.lock();
        let consumed = s.items.front().map_or(0, |i| i.pos);
        (s.items.iter().map(|i| i.chain.head).chain(s.again.iter().copied()).collect(), consumed)
    }

    /// Go on with what another process kept (`kept_messages`), when the ring starts.
    pub fn restore_kept(&self, heads: Vec<u16>, consumed: usize) {
        let mut s = self.state.lock();
        s.carry = heads.first().map(|&head| (head, consumed));
        s.again = heads;
    }

    /// What was read ahead of the engine and it has not taken; in capture, what it gave and the guest has not got yet. Final
    /// while the ring is stopped.
    pub fn read_ahead(&self) -> Vec<u8> {
        self.ahead.content()
    }

    /// Go on with what another process had read ahead, before anything else; to be called when the stream is configured and,
    /// if it runs, started. An error for what cannot have been.
    pub fn restore_read_ahead(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > AHEAD_MAX || !bytes.len().is_multiple_of(self.frame_bytes()) {
            let (n, frame) = (bytes.len(), self.frame_bytes());
            let what =
                format!("{n} bytes read ahead: expected whole frames of {frame} bytes, at most {AHEAD_MAX} bytes");
            return Err(Error::Invalid(what));
        }
        self.ahead.replace(bytes, self.is_surplus(bytes.len()));
        Ok(())
    }
}
