// Copies a model's files into the folder of models: what `pull` does.
#pragma once

#include "server/api_error.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace hypura::server {

// The path that a path or a file:// address ("file:///a%20b.gguf", "file://localhost/a.gguf") names.
std::string local_path(std::string_view source);

// Copies a file, with its time of modification: a model's digest depends on it. `copied(bytes)` hears of every step and
// may give up (false: 499, "request canceled"). Whatever goes wrong, `to` is as it was, and nothing else is left.
ApiStatus copy_file(const std::string& from, const std::string& to, const std::function<bool(uint64_t bytes)>& copied);

}  // namespace hypura::server
