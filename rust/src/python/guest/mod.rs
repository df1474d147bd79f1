//! The other side: `SoundDriver`, `DriverQueue`, `PcmRun`. `vsnd_hybrid.guest` makes them pleasant.

use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::guest::{self, GuestError as Error};

mod driver;
mod queue;
mod run;

pub use driver::SoundDriver;
pub use queue::DriverQueue;
pub use run::PcmRun;

create_exception!(
    vsnd_hybrid._core,
    GuestError,
    PyException,
    "The device refused, did not answer, or is gone. One line says which."
);

impl From<Error> for PyErr {
    fn from(e: Error) -> Self {
        match e {
            Error::Invalid(text) => PyValueError::new_err(text),
            e => GuestError::new_err(e.to_string()),
        }
    }
}

/// `frames` frames of `frame_bytes` that count from `first`.
#[pyfunction]
pub fn numbered_frames(py: Python<'_>, first: u64, frames: u64, frame_bytes: usize) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &guest::numbered(first, frames, frame_bytes))
}

fn seconds(s: f64) -> PyResult<Duration> {
    if s.is_nan() || s < 0.0 {
        return Err(PyValueError::new_err(format!("a time of {s} s: expected 0 or more")));
    }
    Ok(Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX))
}

/// Wait in slices, so that Ctrl-C ends it: `f` waits at most as long as it is told, and says if it is done.
fn wait_slices(py: Python<'_>, limit: Duration, f: impl Fn(Duration) -> guest::Result<bool> + Sync) -> PyResult<bool> {
    const SLICE: Duration = Duration::from_millis(100);
    let end = Instant::now().checked_add(limit);
    loop {
        let left = end.map_or(SLICE, |e| e.saturating_duration_since(Instant::now()));
        if py.detach(|| f(left.min(SLICE)))? {
            return Ok(true);
        }
        py.check_signals()?;
        if left <= SLICE && end.is_some() {
            return Ok(false);
        }
    }
}
