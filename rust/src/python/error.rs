//! The one conversion from our errors to Python's exceptions.

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
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
