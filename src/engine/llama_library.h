// One-time start of libllama and ggml, and what they last complained about.
#pragma once

#include <string>

namespace hypura::engine {

// Loads ggml's backends and routes libllama's log to us. Idempotent, thread-safe.
void start_llama();

// The warnings and errors that libllama logged since the last call, one line each; empty when there were none. This is
// all that libllama says about why a load failed.
std::string take_llama_complaints();

}  // namespace hypura::engine
