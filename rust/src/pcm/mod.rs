//! Sound's data path: messages, streams (FIFOs of guest buffers), the router, clock-paced sinks.
//! Nothing here decides: Python says what a stream does, engines ask for bytes. No Python here.

pub mod clock;
pub mod eager;
pub mod message;
pub mod router;
pub mod shortage;
pub mod stream;
mod watch;
pub mod wire;

pub use router::Router;
pub use stream::Stream;
