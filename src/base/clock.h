// Monotonic time in microseconds.
#pragma once

#include <chrono>
#include <cstdint>

namespace hypura {

inline int64_t now_us() {
    using namespace std::chrono;
    return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

// Adds the time that its scope took to `total_us`.
class ScopeTimer {
public:
    explicit ScopeTimer(int64_t& total_us) : total_us_(total_us), begin_us_(now_us()) {}
    ScopeTimer(const ScopeTimer&) = delete;
    ScopeTimer& operator=(const ScopeTimer&) = delete;
    ~ScopeTimer() { total_us_ += now_us() - begin_us_; }

private:
    int64_t& total_us_;
    int64_t begin_us_;
};

}  // namespace hypura
