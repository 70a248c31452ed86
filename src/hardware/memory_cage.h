// A control group with a hard memory limit, made for programs that are to be compared under the same one.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <string>

namespace hypura::hardware {

// Owns one group; move-only; the group is removed with it, once nobody is in it any more.
class MemoryCage {
public:
    // Makes a group below our own, or else below the nearest ancestor that lets us, in cgroup v1 or v2. Nothing in it
    // may hold more than `limit_bytes`, page cache included, and nothing may be swapped (where the kernel can say so).
    // kUnsupportedHost, with the reason, where no group can be made: that usually takes root.
    // `root` is prefixed to /proc and /sys paths: tests point it at a folder of recorded files.
    static Result<MemoryCage> create(uint64_t limit_bytes, const std::string& root = "");

    MemoryCage(MemoryCage&& other) noexcept;
    MemoryCage& operator=(MemoryCage&&) = delete;
    ~MemoryCage();

    // A process enters by writing "0" here.
    std::string entrance() const { return folder_ + "/cgroup.procs"; }
    // "cgroup v1", "cgroup v2"
    std::string_view kind() const { return unified_ ? "cgroup v2" : "cgroup v1"; }
    // Processes that the limit has killed.
    uint64_t kills() const;

private:
    MemoryCage(std::string folder, bool unified) : folder_(std::move(folder)), unified_(unified) {}
    std::string folder_;  // empty: moved from
    bool unified_ = false;
};

}  // namespace hypura::hardware
