"""What of libpipewire's interface is used, as C declarations, and the generator of `_abi.py` from it.

Parsing C takes 40 ms and 4 MB, so it is done once: run this file after a change.
Only functions that libpipewire 0.3.65 (Debian 12) has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cffi

CDEF: Final = """
struct spa_callbacks { const void *funcs; void *data; };
struct spa_interface { const char *type; uint32_t version; struct spa_callbacks cb; };
struct spa_hook { void *next, *prev; struct spa_callbacks cb; void *removed; void *priv; };
struct spa_dict_item { const char *key, *value; };
struct spa_dict { uint32_t flags, n_items; const struct spa_dict_item *items; };
struct pw_stream_control { const char *name; uint32_t flags; float def, min, max; float *values;
    uint32_t n_values, max_values; };
struct pw_stream_events { uint32_t version; void *destroy;
    void (*state_changed)(void *, int, int, const char *);
    void (*control_info)(void *, uint32_t, const struct pw_stream_control *);
    void *io_changed, *param_changed, *add_buffer, *remove_buffer; void *process;
    void (*drained)(void *); void *command, *trigger_done; };
struct pw_core_events { uint32_t version; void *info; void (*done)(void *, uint32_t, int); void *ping;
    void (*error)(void *, uint32_t, int, int, const char *); void *rest[5]; };
struct pw_core_methods { uint32_t version;
    int (*add_listener)(void *, struct spa_hook *, const struct pw_core_events *, void *);
    void *hello; int (*sync)(void *, uint32_t, int); void *pong, *error;
    void *(*get_registry)(void *, uint32_t, size_t); void *create_object, *destroy; };
struct pw_registry_events { uint32_t version;
    void (*global)(void *, uint32_t, uint32_t, const char *, uint32_t, const struct spa_dict *);
    void (*global_remove)(void *, uint32_t); };
struct pw_registry_methods { uint32_t version;
    int (*add_listener)(void *, struct spa_hook *, const struct pw_registry_events *, void *);
    void *bind, *destroy; };
void pw_init(int *, char ***); const char *pw_get_library_version(void);
void *pw_thread_loop_new(const char *, void *); void pw_thread_loop_destroy(void *);
int pw_thread_loop_start(void *); void pw_thread_loop_stop(void *);
void pw_thread_loop_lock(void *); void pw_thread_loop_unlock(void *); void *pw_thread_loop_get_loop(void *);
void *pw_context_new(void *, void *, size_t); void pw_context_destroy(void *);
void *pw_context_connect(void *, void *, size_t); int pw_core_disconnect(void *);
void *pw_properties_new_string(const char *); int pw_properties_update_string(void *, const char *, size_t);
void *pw_stream_new(void *, const char *, void *); void pw_stream_destroy(void *);
void pw_stream_add_listener(void *, struct spa_hook *, const struct pw_stream_events *, void *);
int pw_stream_connect(void *, int, uint32_t, int, const void **, uint32_t);
int pw_stream_set_active(void *, bool); int pw_stream_flush(void *, bool);
int pw_stream_set_control(void *, uint32_t, uint32_t, float *, ...);
int pw_stream_get_time_n(void *, void *, size_t);
void *pw_stream_dequeue_buffer(void *); int pw_stream_queue_buffer(void *, void *);
"""

GENERATED: Final = Path(__file__).with_name("_abi.py")

HEADER: Final = """# Made by declarations.py from libpipewire's interface: not to be edited.
# fmt: off
"""


def generate(path: Path) -> None:
    """Write the module for cffi's out-of-line ABI mode. No compiler is needed for it."""
    builder = cffi.FFI()
    builder.set_source("vsnd_hybrid.backends.pipewire._abi", None)
    builder.cdef(CDEF)
    builder.emit_python_code(str(path))
    path.write_text(HEADER + path.read_text())


if __name__ == "__main__":
    generate(GENERATED)
