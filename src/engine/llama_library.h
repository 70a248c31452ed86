// One-time start of libllama and ggml, and what they last complained about.
#pragma once

#include "engine/llama_handles.h"

#include <cstdint>
#include <string>

namespace hypura::engine {

// Loads ggml's backends and routes libllama's log to us. Idempotent, thread-safe.
void start_llama();

// A backend of our own on `device`, beside libllama's. Null where the device refuses. `threads` holds where the backend
// has threads of the host's.
BackendHandle start_backend(ggml_backend_dev_t device, uint32_t threads);

// The warnings and errors that libllama logged since the last call, one line each; empty when there were none. This is
// all that libllama says about why a load failed.
std::string take_llama_complaints();

}  // namespace hypura::engine
