// One-time start of libllama and ggml, and what they last complained about.
#pragma once

#include "engine/llama_handles.h"

#include <cstdint>
#include <string>

namespace hypura::engine {

// Loads ggml's backends and routes libllama's log to us. Idempotent, thread-safe.
void start_llama();

// libggml ends the process where it cannot go on: a remote device that died, a driver that failed. `handler` is called
// first, on whatever thread that is, with the reason; it may end the process in its own way, or return.
void on_ggml_abort(void (*handler)(const char* reason));

// A backend of our own on `device`, beside libllama's. Null where the device refuses. `threads` holds where the backend
// has threads of the host's.
BackendHandle start_backend(ggml_backend_dev_t device, uint32_t threads);

// The warnings and errors that libllama logged since the last call, one line each; empty when there were none. This is
// all that libllama says about why a load failed.
std::string take_llama_complaints();

}  // namespace hypura::engine
