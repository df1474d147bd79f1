//! The real thing beside the model: guest memory and driver rings, a device without a socket, streams; compared after each
//! operation.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use _core::guest::{GuestRam, Kick, Piece, Queue};
use _core::pcm::router::Queues;
use _core::pcm::stream::{Mode, Shape};
use _core::pcm::{Router, Stream};
use _core::vhost::Mem;
use _core::vhost::chain::INLINE;
use _core::vhost::connection::Connection;
use _core::vhost::device::{Device, QueueHandler, Spec};
use _core::vhost::events::EventQueue;
use _core::vhost::ring::{Kept, Ring};
use vhost::vhost_user::VhostUserBackendReqHandlerMut;
use vhost::vhost_user::message::{VhostUserMemoryRegion, VhostUserVringAddrFlags};

use super::model::{Back, Message, Model};
use super::turns::Ahead;
use super::{DIRECTIONS, Form, Op};

const CONTROL: usize = 0;
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
pub(super) const SHAPE: Shape =
    Shape { buffer: 2048, period: 512, frame: 4, rate: 48000, silence: 0x80, polling: false };

/// A router whose rings are looked at when the test says so, not by a worker: each run is the same.
struct OnDemand(Arc<Router>);

impl QueueHandler for OnDemand {
    fn owns(&self, queue: usize) -> bool {
        self.0.owns(queue)
    }
    fn kept(&self, ring: &Arc<Ring>) -> Kept {
        self.0.kept(ring)
    }
    fn forget_kept(&self, ring: &Arc<Ring>) {
        self.0.forget_kept(ring);
    }
    fn started(&self, ring: &Arc<Ring>, fresh: bool) {
        self.0.started(ring, fresh);
    }
    fn available(&self, _: &Arc<Ring>) {}
    fn stopping(&self, ring: &Arc<Ring>) {
        self.0.stopping(ring);
    }
    fn memory_replaced(&self, mem: &Arc<Mem>) {
        self.0.memory_replaced(mem);
    }
    fn reset(&self) {
        self.0.reset();
    }
    fn disconnected(&self) {
        self.0.disconnected();
    }
}

/// Where a message lies in guest memory.
struct Place {
    header: u64,
    data: u64,
    len: u64,
    status: u64,
    /// The status begins in the last byte of the data.
    short: bool,
    serial: u64,
}

/// See the module text.
pub struct Bench {
    router: Arc<Router>,
    pub(super) streams: Vec<Arc<Stream>>,
    device: Arc<Device>,
    connection: Connection,
    ram: Arc<GuestRam>,
    queues: Vec<Queue>,
    pub(super) model: Model,
    /// What was read ahead of each stream's engine.
    pub(super) ahead: [Ahead; DIRECTIONS.len()],
    away: [BTreeMap<u16, Place>; 2],
    /// What was recorded into each message of rx that is away.
    pub(super) recorded: BTreeMap<u64, Vec<u8>>,
    serial: u64,
    event_idx: bool,
    pub(super) clock: u8,
    /// Rings that stand still by ENABLE 0 alone.
    disabled: [bool; 2],
}

/// The byte that message `serial` has at `at`.
pub(super) fn tone(serial: u64, at: usize) -> u8 {
    (serial.wrapping_mul(31) + at as u64 * 7 + at as u64 / 256) as u8
}

fn duplicate(fd: BorrowedFd<'_>) -> File {
    fd.try_clone_to_owned().map(File::from).expect("dup")
}

fn ring(rx: bool) -> usize {
    2 + usize::from(rx)
}

impl Bench {
    /// Rings of `size` entries.
    pub fn new(size: u16, event_idx: bool) -> Self {
        let streams: Vec<_> = (0..).zip(DIRECTIONS).map(|(i, c)| Arc::new(Stream::new(i, c))).collect();
        streams.iter().for_each(|s| s.configure(SHAPE).expect("shape"));
        let router = Router::new(streams.clone(), Queues::default()).expect("router");
        let events = Arc::new(EventQueue::new().expect("events"));
        router.bind(&events).expect("bind");
        let spec = Spec { queues: 4, device_owned: vec![1], ..Spec::default() };
        let handler = Arc::new(OnDemand(router.clone()));
        let device = Device::new(spec, events, Some(handler)).expect("device");
        let ram = Arc::new(GuestRam::new(&[(0, 0x40000), (0x100000, 0x40000)]).expect("memory"));
        let queue = |i| Queue::new(i, size, event_idx, ram.clone()).expect("queue");
        let mut bench = Bench {
            router,
            streams,
            connection: Connection::new(device.clone()),
            device,
            queues: (0..4).map(queue).collect(),
            ram,
            model: Model::new(SHAPE.buffer - SHAPE.period),
            ahead: Default::default(),
            away: Default::default(),
            recorded: BTreeMap::new(),
            serial: 0,
            event_idx,
            clock: 0,
            disabled: [false; 2],
        };
        bench.begin();
        bench
    }

    /// A driver starts from zero.
    fn begin(&mut self) {
        let features = FEATURES | if self.event_idx { EVENT_IDX } else { 0 };
        self.connection.set_features(features).expect("features");
        self.share_memory();
        for i in [CONTROL, ring(false), ring(true)] {
            self.start_ring(i, 0);
        }
        self.model.rings.iter_mut().for_each(|r| r.open = true);
        self.ahead.iter_mut().for_each(Ahead::begin);
    }

    fn share_memory(&mut self) {
        let regions = self.ram.regions();
        let table: Vec<_> =
            regions.iter().map(|r| VhostUserMemoryRegion::new(r.addr, r.size, r.user_addr, 0)).collect();
        let files = (0..regions.len()).map(|i| duplicate(self.ram.file(i).as_fd())).collect();
        self.connection.set_mem_table(&table, files, None).expect("memory");
    }

    fn start_ring(&mut self, i: usize, base: u16) {
        let q = &self.queues[i];
        let at = q.ring().user_addr();
        // SAFETY: the queue keeps its descriptors open, and they are borrowed for this call only.
        let fd = |raw| duplicate(unsafe { BorrowedFd::borrow_raw(raw) });
        let (kick, call) = (fd(q.kick_fd().as_raw_fd()), fd(q.call_fd().as_raw_fd()));
        let (c, index) = (&mut self.connection, i as u32);
        c.set_vring_num(index, q.size().into()).expect("size");
        c.set_vring_base(index, base.into()).expect("base");
        let flags = VhostUserVringAddrFlags::empty();
        c.set_vring_addr(index, flags, at.desc, at.used, at.avail, 0).expect("addresses");
        c.set_vring_kick(i as u8, Some(kick)).expect("kick");
        c.set_vring_call(i as u8, Some(call)).expect("call");
        c.set_vring_enable(index, true).expect("enable");
    }

    /// Do it, and compare.
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Offer { stream, rx, bytes, form, quiet } => {
                self.offer(stream.into(), rx, bytes.into(), form);
                if !quiet {
                    self.drain(rx);
                }
            }
            Op::Move { stream, bytes, real_time } => self.turn(stream.into(), bytes.into(), real_time),
            Op::ReadAhead { stream } => self.read_ahead(stream.into()),
            Op::StandIn { stream, bytes } => self.stand_in(stream.into(), bytes.into()),
            Op::Carry { stream } => self.carry(stream.into()),
            Op::Prepare { stream, discard } => self.policy(stream, |s, m, i| {
                // As the device does: never while it runs.
                if !m.streams[i].running {
                    s.set_mode(if discard { Mode::Discard } else { Mode::Queue });
                    m.prepare(i, discard);
                }
            }),
            Op::Start { stream } => {
                self.policy(stream, |s, m, i| {
                    s.start();
                    m.start(i);
                });
                let i = usize::from(stream) % DIRECTIONS.len();
                self.ahead[i].start(self.model.begins_empty(i));
            }
            Op::Stop { stream } => {
                self.policy(stream, |s, m, i| {
                    s.stop();
                    m.stop(i);
                });
                self.ahead[usize::from(stream) % DIRECTIONS.len()].stop();
            }
            Op::Flush { stream } => self.policy(stream, |s, m, i| {
                s.flush(0x8000);
                m.flush(i);
            }),
            Op::StopRing { rx, by_disabling } => self.stop_ring(rx, by_disabling),
            Op::ResumeRing { rx, by_enabling } => self.resume_ring(rx, by_enabling),
            Op::Remap => self.share_memory(),
            Op::Reset => self.reset(),
        }
        self.compare();
        // Nobody else takes them.
        self.device.take_events(usize::MAX);
    }

    /// What the loop outside does with a stream, after everything offered was seen.
    fn policy(&mut self, stream: u8, f: impl FnOnce(&Stream, &mut Model, usize)) {
        let i = usize::from(stream) % DIRECTIONS.len();
        self.drain(DIRECTIONS[i]);
        f(&self.streams[i], &mut self.model, i);
    }

    fn drain(&mut self, rx: bool) {
        self.router.drain(&self.device.rings()[ring(rx)]);
        self.model.see(rx, false);
    }

    fn offer(&mut self, stream: usize, rx: bool, bytes: usize, form: Form) {
        let ram = self.ram.clone();
        // Sound behind it would be taken for the rest of the header.
        let bytes = if form == Form::ShortHeader && !rx { 0 } else { bytes };
        let (header_len, status_len) = match form {
            Form::ShortHeader => (3, 8),
            Form::ShortStatus => (4, 7),
            _ => (4, 8),
        };
        let len = bytes as u64;
        let (Ok(header), Ok(data), Ok(status)) = (ram.alloc(16, 16), ram.alloc(len, 16), ram.alloc(16, 16)) else {
            return;
        };
        let short = form == Form::ShortStatus && rx && bytes > 0;
        let place = Place { header, data, len, status, short, serial: self.serial };
        let piece = |addr, len, writable| Piece { addr, len, writable };
        let mut areas =
            vec![piece(header, header_len, false), piece(data, bytes as u32, rx), piece(status, status_len, true)];
        if form == Form::Mixed {
            areas.push(piece(header, 4, false));
        }
        areas.retain(|p| p.len > 0);
        let cut = match form {
            Form::Cut(n) => _core::guest::Shape { pieces: vec![n.into()], indirect: false, pages: false }.cut(&areas),
            _ => areas,
        };
        let q = &mut self.queues[ring(rx)];
        let Ok(head) = q.push(&cut, !matches!(form, Form::Cut(_))) else {
            self.free(place);
            return;
        };
        ram.write(header, &(stream as u32).to_le_bytes()).expect("inside");
        let content: Vec<u8> = (0..bytes).map(|i| if rx { 0xee } else { tone(self.serial, i) }).collect();
        ram.write(data, &content).expect("inside");
        ram.write(status, &[0xee; 8]).expect("inside");
        q.publish(Kick::Never);
        let has_status = form != Form::ShortStatus || short;
        let message = Message {
            serial: self.serial,
            head,
            stream,
            // A status of seven bytes takes one from the room before it.
            len: bytes - usize::from(short),
            sound: !matches!(form, Form::ShortHeader | Form::Mixed) && has_status,
            has_status,
            long: cut.len() > INLINE,
            pos: 0,
        };
        self.model.offer(rx, message);
        self.away[usize::from(rx)].insert(head, place);
        self.serial += 1;
    }

    fn stop_ring(&mut self, rx: bool, by_disabling: bool) {
        let i = ring(rx) as u32;
        if by_disabling {
            self.connection.set_vring_enable(i, false).expect("disable");
        } else {
            let base = { self.connection.get_vring_base(i).expect("base") }.num as u16;
            assert_eq!(base, self.queues[ring(rx)].used_index(), "base and used index");
        }
        let r = usize::from(rx);
        // GET_VRING_BASE takes the kick descriptor away, also from one that stands still.
        self.disabled[r] = by_disabling && (self.model.rings[r].open || self.disabled[r]);
        self.model.stop_ring(rx);
        assert_eq!(self.device.rings()[ring(rx)].in_flight(), 0);
        assert_eq!(self.device.rings()[ring(rx)].base(), self.queues[ring(rx)].used_index(), "base and used index");
    }

    fn resume_ring(&mut self, rx: bool, by_enabling: bool) {
        let r = usize::from(rx);
        if self.model.rings[r].open {
            return;
        }
        if by_enabling && self.disabled[r] {
            self.connection.set_vring_enable(ring(rx) as u32, true).expect("enable");
        } else {
            self.start_ring(ring(rx), self.device.rings()[ring(rx)].base());
        }
        self.model.resume_ring(rx);
        self.ahead.iter_mut().zip(DIRECTIONS).filter(|(_, capture)| *capture == rx).for_each(|(a, _)| a.begin());
    }

    fn reset(&mut self) {
        self.connection.reset_device().expect("reset");
        self.model.reset();
        self.ahead.iter_mut().for_each(Ahead::reset);
        self.away = Default::default();
        self.recorded.clear();
        self.ram.free_all();
        self.queues.iter_mut().for_each(|q| q.renew().expect("memory"));
        self.begin();
    }

    fn free(&self, p: Place) {
        self.ram.free(p.header, 16);
        self.ram.free(p.data, p.len);
        self.ram.free(p.status, 16);
    }

    /// Everything that came back had to, nothing else did, and it says what the model says.
    fn compare(&mut self) {
        for rx in [false, true] {
            let r = usize::from(rx);
            let mut want: Vec<Back> = std::mem::take(&mut self.model.back[r]);
            let mut got = Vec::new();
            while let Some(used) = self.queues[ring(rx)].reap() {
                assert!(used.known, "head {} came back twice, or was never away", used.head);
                let head = used.head as u16;
                let place = self.away[r].remove(&head).expect("away");
                let status = (used.len > 0).then(|| self.status(&place));
                self.check_content(rx, &place, used.len);
                got.push(Back { head, len: used.len, status });
                self.free(place);
            }
            want.sort_by_key(|b| b.head);
            got.sort_by_key(|b| b.head);
            assert_eq!(got, want, "queue {}", ring(rx));
            assert_eq!(self.away[r].len(), self.model.away(rx), "messages that are away");
        }
        for (stream, ahead) in self.streams.iter().zip(&self.ahead) {
            ahead.compare(stream);
        }
    }

    fn status(&self, p: &Place) -> u32 {
        let mut bytes = if p.short { self.ram.read(p.data + p.len - 1, 1).expect("inside") } else { Vec::new() };
        bytes.extend(self.ram.read(p.status, 4).expect("inside"));
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn check_content(&mut self, rx: bool, place: &Place, used: u32) {
        let content = self.ram.read(place.data, place.len as usize).expect("inside");
        if !rx {
            assert!((0..).zip(&content).all(|(i, &b)| b == tone(place.serial, i)), "written into what is only read");
        } else if let Some(mut want) = self.recorded.remove(&place.serial) {
            let n = (used as usize).saturating_sub(8).min(want.len());
            want.truncate(n);
            assert!(content.starts_with(&want), "recorded is another sound");
        }
    }

    /// The connection ends; nothing is left.
    pub fn end(mut self) {
        for rx in [false, true] {
            self.stop_ring(rx, false);
        }
        self.connection.get_vring_base(CONTROL as u32).expect("base");
        self.compare();
        self.connection.forget_kicks();
        self.router.disconnected();
        self.device.close();
    }
}
