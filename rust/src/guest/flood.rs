//! As many messages as the device takes: chains written once and offered over and over, for benchmarks.

use std::time::{Duration, Instant};

use super::error::{GuestError, Result};
use super::layout::{Piece, Shape};
use super::player::StreamOptions;
use super::queue::Kick;
use super::sound::Driver;
use super::wire::{self, STATUS_BYTES, XFER_BYTES};

/// How hard.
#[derive(Clone, Copy, Debug)]
pub struct FloodOptions {
    /// Messages in flight.
    pub depth: u16,
    /// Messages that must have come back before the guest wakes up.
    pub batch: u16,
    /// Messages in all.
    pub messages: u64,
    /// Nothing more is offered after so long, whatever `messages` says.
    pub limit: Duration,
}

impl Default for FloodOptions {
    fn default() -> Self {
        FloodOptions { depth: 32, batch: 16, messages: u64::MAX, limit: Duration::MAX }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FloodReport {
    pub messages: u64,
    /// From the answer to START to the last completion.
    pub elapsed_ns: u64,
    pub kicks: u64,
    pub signals: u64,
    /// Messages whose status was not OK.
    pub failed: u64,
}

impl FloodReport {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }
}

impl Driver {
    /// Send `messages` messages of one stream as fast as the device gives them back. No other stream may use the ring.
    pub fn flood(&self, options: &StreamOptions, flood: FloodOptions) -> Result<FloodReport> {
        let bytes = options.message_bytes.unwrap_or(options.params.period_bytes);
        let depth = u64::from(flood.depth.max(1));
        self.prepare_stream(options)?;
        let shape = Shape { indirect: options.shape.indirect && self.indirect(), ..options.shape.clone() };
        let slot = (u64::from(bytes) + 16 + 4095) & !4095;
        let area = self.ram.alloc(slot * depth, 4096)?;
        let shared = &self.queues[if options.capture { wire::RX } else { wire::TX }];
        let kick = if options.params.features & wire::MSG_POLLING != 0 { Kick::Never } else { Kick::Asked };
        let mut status = vec![0u64; shared.lock().size().into()];
        let mut heads = Vec::new();
        for i in 0..depth {
            // Data first, for its alignment; header and status behind it.
            let data = area + slot * i;
            let header = (data + u64::from(bytes)).next_multiple_of(4);
            self.ram.write(header, &options.stream.to_le_bytes())?;
            let areas = [
                Piece { addr: header, len: XFER_BYTES, writable: false },
                Piece { addr: data, len: bytes, writable: options.capture },
                Piece { addr: header + 4, len: STATUS_BYTES, writable: true },
            ];
            let head = shared.lock().reserve(&shape.cut(&areas), shape.indirect)?;
            status[usize::from(head)] = header + 4;
            heads.push(head);
        }
        let result = self.flood_run(options, flood, kick, &heads, &status);
        let mut queue = shared.lock();
        heads.iter().for_each(|&head| queue.release(head));
        if result.is_ok() {
            self.ram.free(area, slot * depth);
        }
        result
    }

    fn flood_run(
        &self,
        options: &StreamOptions,
        flood: FloodOptions,
        kick: Kick,
        heads: &[u16],
        status: &[u64],
    ) -> Result<FloodReport> {
        let shared = &self.queues[if options.capture { wire::RX } else { wire::TX }];
        let mut report = FloodReport::default();
        let (kicks, signals) = {
            let queue = shared.lock();
            (queue.kicks(), queue.signals())
        };
        let mut left = flood.messages;
        let mut in_flight = 0u64;
        {
            let depth = heads.len() as u64;
            let mut queue = shared.lock();
            for &head in heads.iter().take(left.min(depth) as usize) {
                queue.offer(head);
                in_flight += 1;
            }
            left -= in_flight;
            queue.publish(kick);
        }
        self.must(wire::START, options.stream)?;
        let begin = Instant::now();
        let end = begin.checked_add(flood.limit);
        while in_flight > 0 {
            let batch = u64::from(flood.batch.max(1)).min(in_flight) as u16;
            if !shared.wait(batch, options.stall)? {
                let what = format!("{in_flight} messages of stream {}", options.stream);
                return Err(GuestError::Timeout { what, seconds: options.stall.as_secs_f64() });
            }
            if end.is_some_and(|e| Instant::now() >= e) {
                left = 0;
            }
            let mut queue = shared.lock();
            queue.disarm();
            let mut offered = false;
            while let Some(used) = queue.reap() {
                report.messages += 1;
                in_flight = in_flight.saturating_sub(1);
                let at = status.get(used.head as usize).copied().unwrap_or(0);
                report.failed += u64::from(u32::from_le(self.ram.load(at)) != wire::OK);
                if left > 0 && used.known {
                    queue.offer(used.head as u16);
                    offered = true;
                    left -= 1;
                    in_flight += 1;
                }
            }
            if offered {
                queue.publish(kick);
            }
        }
        report.elapsed_ns = begin.elapsed().max(Duration::from_nanos(1)).as_nanos() as u64;
        self.must(wire::STOP, options.stream)?;
        self.must(wire::RELEASE, options.stream)?;
        let queue = shared.lock();
        report.kicks = queue.kicks() - kicks;
        report.signals = queue.signals() - signals;
        Ok(report)
    }
}
