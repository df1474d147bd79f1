//! Bytes from any contiguous Python buffer, whatever its elements are.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A copy of a buffer's bytes: an argument that Python or the guest cannot change behind our back.
pub struct BytesLike(pub Vec<u8>);

/// The place of a contiguous buffer.
fn place(buffer: &PyUntypedBuffer) -> PyResult<(*mut u8, usize)> {
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("the buffer must be contiguous"));
    }
    Ok((buffer.buf_ptr().cast(), buffer.len_bytes()))
}

impl<'a, 'py> FromPyObject<'a, 'py> for BytesLike {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(&obj)?;
        let (from, n) = place(&buffer)?;
        let mut data = Vec::with_capacity(n);
        // SAFETY: `n` bytes at `from`, held by `buffer`; copied without a Rust reference, because it may be shared memory.
        unsafe {
            std::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), n);
            data.set_len(n);
        }
        Ok(BytesLike(data))
    }
}

/// Have `f` fill the first bytes of a writable buffer; `whole` cuts its length.
pub fn fill(
    obj: &Bound<'_, PyAny>,
    whole: impl FnOnce(usize) -> usize,
    f: impl FnOnce(&mut [u8]) -> usize,
) -> PyResult<usize> {
    let buffer = PyUntypedBuffer::get(obj)?;
    if buffer.readonly() {
        return Err(PyValueError::new_err("the buffer must be writable"));
    }
    let (to, n) = place(&buffer)?;
    // SAFETY: `n` writable bytes at `to`, held by `buffer`; we stay attached, so no Python code touches them meanwhile.
    Ok(f(unsafe { std::slice::from_raw_parts_mut(to, whole(n)) }))
}
