//! A question to the loop outside, which the connection waits for: give me the device's state, or take this one.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::events::{Event, EventQueue};
use super::lock;

/// So long the loop outside has to answer.
const WAIT: Duration = Duration::from_secs(2);

/// See the module text. One question at a time: a connection has one thread.
#[derive(Default)]
pub struct Exchange {
    answer: Mutex<Option<Option<Vec<u8>>>>,
    answered: Condvar,
}

impl Exchange {
    /// Ask, and wait for the answer. None: refused, or nobody answered.
    pub fn ask(&self, events: &EventQueue, question: Event) -> Option<Vec<u8>> {
        *lock(&self.answer) = None;
        events.push(question);
        let until = Instant::now() + WAIT;
        let mut answer = lock(&self.answer);
        while answer.is_none() && !events.is_closed() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let wait = self.answered.wait_timeout(answer, left.min(Duration::from_millis(100)));
            answer = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        answer.take().flatten()
    }

    /// The answer; None refuses.
    pub fn answer(&self, data: Option<Vec<u8>>) {
        *lock(&self.answer) = Some(data);
        self.answered.notify_all();
    }
}
