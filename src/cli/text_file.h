// Whole text files, for results.
#pragma once

#include "base/status.h"

#include <string>

namespace hypura::cli {

// Creates or replaces the file.
Status write_text(const std::string& path, const std::string& text);

}  // namespace hypura::cli
