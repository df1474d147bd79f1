//! A virtio-snd driver over a vhost-user front end: connecting, starting and stopping rings. What else a monitor does is in
//! `monitor`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use vhost::vhost_user::message::VhostUserProtocolFeatures as Proto;

use super::error::{GuestError, Result};
use super::events::{Event, EventQueue};
use super::frontend::{Frontend, WANTED};
use super::memory::GuestRam;
use super::pump::Pump;
use super::queue::Queue;
use super::shared::SharedQueue;
use super::wire::{self, F_CTLS, F_EVENT_IDX, F_INDIRECT_DESC, F_PROTOCOL, F_VERSION_1};

/// Where the device is.
pub enum Socket {
    Path(PathBuf),
    /// A connected socket.
    Fd(OwnedFd),
}

/// What kind of guest this is.
#[derive(Clone, Debug)]
pub struct Options {
    pub queue_size: u16,
    /// Memory as `(guest-physical address, bytes)`, ascending.
    pub regions: Vec<(u64, u64)>,
    pub event_idx: bool,
    pub indirect: bool,
    /// Exactly these feature bits instead of what was offered and is known here.
    pub features: Option<u64>,
    /// Protocol features to accept, of those that are offered.
    pub protocol_features: u64,
    /// An answer to every message, as cloud-hypervisor wants it.
    pub need_reply: bool,
    /// Every queue is kicked once when it starts, as QEMU does.
    pub kick_at_start: bool,
    /// Connect, agree and start. Without, nothing is said of its own accord: who sends the messages is the front end, and
    /// `features` are the bits that it agreed on.
    pub handshake: bool,
    /// The regions for rings and buffers; None: rings come to lie in the first, buffers in the last.
    pub rings_in: Option<usize>,
    pub buffers_in: Option<usize>,
    /// Fill the event queue and collect events; without, it is free for raw use.
    pub events: bool,
    pub connect_timeout: Duration,
    /// How long an answer to a sound request may take; Linux waits for one second.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            queue_size: 64,
            regions: vec![(0, 16 << 20)],
            event_idx: true,
            indirect: true,
            features: None,
            protocol_features: WANTED,
            need_reply: false,
            kick_at_start: true,
            handshake: true,
            rings_in: None,
            buffers_in: None,
            events: true,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(1),
        }
    }
}

/// A virtio-snd driver. Any thread may call it.
pub struct Driver {
    pub(crate) options: Options,
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) queues: Vec<Arc<SharedQueue>>,
    pub(crate) control: Mutex<()>,
    pub(crate) events: Arc<EventQueue>,
    /// For tx and rx.
    pub(crate) pumps: [Pump; 2],
    frontend: Mutex<Frontend>,
    offered: u64,
    features: u64,
    config: Vec<u8>,
}

impl Driver {
    /// Connect, agree on features, share the memory, start the rings. No sound request is sent.
    pub fn connect(socket: Socket, options: Options) -> Result<Arc<Self>> {
        let mut frontend = match socket {
            Socket::Path(path) => Frontend::connect(&path, options.connect_timeout)?,
            Socket::Fd(fd) => Frontend::from_fd(fd, options.connect_timeout),
        };
        let offered = if options.handshake { frontend.get_features()? } else { options.features.unwrap_or(0) };
        let known = F_CTLS | F_PROTOCOL | F_VERSION_1;
        let ring = if options.event_idx { F_EVENT_IDX } else { 0 } | if options.indirect { F_INDIRECT_DESC } else { 0 };
        let features = options.features.unwrap_or(offered & (known | ring));
        let mut config = Vec::new();
        if options.handshake && offered & F_PROTOCOL != 0 {
            let protocol = frontend.get_protocol_features()? & options.protocol_features;
            frontend.set_protocol_features(protocol)?;
            frontend.set_need_reply(options.need_reply);
            if protocol & Proto::MQ.bits() != 0 {
                frontend.get_queue_num()?;
            }
        }
        if options.handshake {
            frontend.set_owner()?;
        }
        if frontend.protocol_features() & Proto::CONFIG.bits() != 0 {
            config = frontend.get_config(0, if features & F_CTLS != 0 { 16 } else { 12 })?;
        }
        let ram = Arc::new(GuestRam::new(&options.regions)?);
        ram.place_rings(options.rings_in);
        ram.place_buffers(options.buffers_in);
        let mut queues = Vec::new();
        for i in 0..4 {
            let queue = Queue::new(i, options.queue_size, features & F_EVENT_IDX != 0, ram.clone())?;
            queues.push(Arc::new(SharedQueue::new(queue, frontend.watch()?)));
        }
        let events = Arc::new(EventQueue::new(queues[wire::EVENT].clone(), ram.clone())?);
        let pump = |i: usize| Pump::new(queues[i].clone(), events.clone(), ram.clone());
        let pumps = [pump(wire::TX)?, pump(wire::RX)?];
        if options.events {
            events.fill()?;
        }
        let frontend = Mutex::new(frontend);
        let control = Mutex::new(());
        let driver = Driver { options, ram, queues, control, events, pumps, frontend, offered, features, config };
        if driver.options.handshake {
            driver.set_up(true, false)?;
            driver.start_rings(&[0; 4])?;
        }
        Ok(Arc::new(driver))
    }

    /// The connection, for messages that are not sent here.
    pub fn frontend(&self) -> MutexGuard<'_, Frontend> {
        self.frontend.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// A queue, to look at or to misuse.
    pub fn queue(&self, i: usize) -> Result<&Arc<SharedQueue>> {
        self.queues.get(i).ok_or_else(|| GuestError::Invalid(format!("queue {i}: a sound device has 0 to 3")))
    }

    /// Feature bits that the device offered.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Feature bits agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Whether chains may be indirect.
    pub fn indirect(&self) -> bool {
        self.features & F_INDIRECT_DESC != 0
    }

    /// The configuration space as read at the start.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    /// Wait until there is an event to take.
    pub fn wait_event(&self, timeout: Duration) -> Result<bool> {
        self.events.wait(timeout)
    }

    /// Features and memory, before rings start.
    pub(super) fn set_up(&self, features: bool, memory_first: bool) -> Result<()> {
        let frontend = self.frontend();
        if memory_first {
            frontend.set_mem_table(self.ram.regions())?;
        }
        if features {
            frontend.set_features(self.features)?;
        }
        if !memory_first {
            frontend.set_mem_table(self.ram.regions())?;
        }
        Ok(())
    }

    /// Start every ring; ring i at `bases[i]`. Returns when the device has taken it.
    pub fn start_rings(&self, bases: &[u16]) -> Result<()> {
        {
            let frontend = self.frontend();
            for (i, &base) in bases.iter().enumerate() {
                self.start_ring(&frontend, i, base)?;
            }
            // Answered after all of them were handled.
            frontend.get_features()?;
        }
        self.hold_streams(false);
        Ok(())
    }

    fn start_ring(&self, frontend: &Frontend, i: usize, base: u16) -> Result<()> {
        let mut queue = self.queue(i)?.lock();
        frontend.set_vring_num(i, queue.size().into())?;
        frontend.set_vring_base(i, base)?;
        frontend.set_vring_addr(i, queue.ring().user_addr())?;
        if self.options.kick_at_start {
            queue.kick();
        }
        frontend.set_vring_kick(i, queue.kick_fd())?;
        frontend.set_vring_call(i, queue.call_fd())?;
        if self.features & F_PROTOCOL != 0 {
            frontend.set_vring_enable(i, true)?;
        }
        Ok(())
    }

    /// Start one ring.
    pub fn start_one(&self, i: usize, base: u16) -> Result<()> {
        let frontend = self.frontend();
        self.start_ring(&frontend, i, base)?;
        frontend.get_features().map(|_| ())
    }

    /// Stop every ring as a paused QEMU does: ENABLE 0, then GET_VRING_BASE. Streams wait from here on.
    pub fn stop_rings(&self) -> Result<Vec<u16>> {
        self.hold_streams(true);
        let frontend = self.frontend();
        self.disable(&frontend)?;
        (0..self.queues.len()).map(|i| frontend.get_vring_base(i)).collect()
    }

    pub(super) fn disable(&self, frontend: &Frontend) -> Result<()> {
        if self.features & F_PROTOCOL != 0 {
            for i in 0..self.queues.len() {
                frontend.set_vring_enable(i, false)?;
            }
        }
        Ok(())
    }

    /// Stop one ring; returns its base.
    pub fn stop_one(&self, i: usize) -> Result<u16> {
        self.queue(i)?;
        self.frontend().get_vring_base(i)
    }

    /// SET_VRING_ENABLE of one ring. Returns when the device has taken it.
    pub fn enable(&self, i: usize, on: bool) -> Result<()> {
        self.queue(i)?;
        let frontend = self.frontend();
        frontend.set_vring_enable(i, on)?;
        frontend.get_features().map(|_| ())
    }

    /// Hold running streams still (the virtual CPUs are stopped) or let them go on.
    pub fn hold_streams(&self, on: bool) {
        for pump in &self.pumps {
            pump.hold(on);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.kill();
    }
}
