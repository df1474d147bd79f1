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
    let Some(code) = e.raw_os_error() else {
        return e.into();
    };
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((code, text, path))
}
