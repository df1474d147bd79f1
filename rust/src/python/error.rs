//! The one conversion from our errors to Python's exceptions.

use std::io;
use std::path::PathBuf;

use pyo3::exceptions::{PyBufferError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;

impl From<Error> for PyErr {
    fn from(e: Error) -> Self {
        match e {
            Error::Io(e) => e.into(),
            Error::BadAddress { .. } => PyBufferError::new_err(e.to_string()),
            Error::Invalid(text) => PyValueError::new_err(text),
            Error::CompletedTwice { .. } => PyRuntimeError::new_err(e.to_string()),
        }
    }
}

/// An OSError with the path in it, as Python's own calls have it.
pub fn with_path(e: io::Error, path: PathBuf) -> PyErr {
    match e.raw_os_error() {
        Some(code) => PyOSError::new_err((code, text(&e), path)),
        None => e.into(),
    }
}

/// An OSError with its number, also where PyO3 would make something else of it (MemoryError of ENOMEM).
pub fn os_error(e: io::Error) -> PyErr {
    match e.raw_os_error() {
        Some(code) => PyOSError::new_err((code, text(&e))),
        None => e.into(),
    }
}

fn text(e: &io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}
