// The outcome of `verify` as a table and as JSON.
#pragma once

#include "engine/verify.h"

#include <span>
#include <string>

namespace hypura::cli {

std::string verify_text(const engine::VerifyResult& result);
std::string verify_json(const engine::VerifyResult& result);

// Layers with equal counts side by side become one entry: "0-3: 12, 4: 9, 5-47: 0".
std::string compact_layers(std::span<const uint64_t> counts);

}  // namespace hypura::cli
