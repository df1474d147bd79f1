//! The other side of the socket: a vhost-user front end with memory, split virtqueues and a virtio-snd driver, for tests,
//! benchmarks, the demo and notebooks. It speaks to any vhost-user sound device, and can misbehave. Nothing of the device
//! lives here, and no pyo3.
//!
//! ```no_run
//! use _core::guest::{Driver, Options, Socket, wire};
//! # fn main() -> _core::guest::Result<()> {
//! let driver = Driver::connect(Socket::Path("/run/snd.sock".into()), Options::default())?;
//! let (status, items) = driver.info(wire::PCM_INFO, 0, 2, wire::PCM_INFO_BYTES)?;   // high level: `play`, `record`, `flood`
//! let base = driver.stop_one(wire::TX)?;                                            // as a VMM: `reset`, `remap`, `kill`
//! driver.queue(wire::CONTROL)?.lock().set_avail_index(60000);                       // as nobody should
//! # Ok(()) }
//! ```
//!
//! Lock order: frontend, then a pump's state, then a queue. Nobody waits for the device with a queue locked.

mod control;
mod error;
mod events;
mod flood;
mod frontend;
mod layout;
mod memory;
mod monitor;
mod player;
mod poll;
mod pump;
mod queue;
mod ring;
mod shared;
mod sound;
mod transfer;
pub mod wire;

pub use control::{PcmParams, Reply};
pub use error::{GuestError, Result};
pub use events::Event;
pub use flood::{FloodOptions, FloodReport};
pub use frontend::{Frontend, Message as SocketMessage, RingAddr};
pub use layout::{Piece, Shape, numbered};
pub use memory::{GuestRam, Region};
pub use monitor::ResetStyle;
pub use player::{Report, Run, StreamOptions};
pub use poll::monotonic_ns;
pub use queue::{Kick, Queue, Used};
pub use ring::{Descriptor, INDIRECT, NEXT, Ring, WRITE};
pub use shared::SharedQueue;
pub use sound::{Driver, Options, Socket};
pub use transfer::{Message, Starve};
