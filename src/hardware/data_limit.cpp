#include "hardware/data_limit.h"

namespace hypura::hardware {

DataLimit::DataLimit(uint64_t bytes) {
    if (::getrlimit(RLIMIT_DATA, &before_) != 0 || before_.rlim_cur <= bytes) return;
    const rlimit limit{bytes, before_.rlim_max};
    changed_ = ::setrlimit(RLIMIT_DATA, &limit) == 0;
}

DataLimit::~DataLimit() {
    if (changed_) ::setrlimit(RLIMIT_DATA, &before_);
}

}  // namespace hypura::hardware
