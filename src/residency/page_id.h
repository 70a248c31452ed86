#pragma once

#include <cstdint>

namespace hypura::residency {

using PageId = uint32_t;

}  // namespace hypura::residency
