#include "hardware/cores.h"

#include "hardware/cgroup.h"
#include "hardware/memory.h"
#include "hardware/text_file.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <optional>
#include <set>
#include <thread>

namespace hypura::hardware {
namespace {

// Processors this thread may run on. The kernel refuses a mask smaller than its own, so the mask grows until it fits.
std::vector<uint32_t> affine_cpus() {
    constexpr uint32_t kWordBits = 8 * sizeof(unsigned long);
    for (size_t words = sizeof(cpu_set_t) / sizeof(unsigned long); words <= 4096; words *= 2) {
        std::vector<unsigned long> mask(words);
        const size_t bytes = words * sizeof(unsigned long);
        if (::sched_getaffinity(0, bytes, reinterpret_cast<cpu_set_t*>(mask.data())) != 0) {
            if (errno == EINVAL) continue;
            break;
        }
        std::vector<uint32_t> cpus;
        for (uint32_t cpu = 0; cpu < words * kWordBits; ++cpu)
            if ((mask[cpu / kWordBits] >> (cpu % kWordBits)) & 1) cpus.push_back(cpu);
        return cpus;
    }
    return {};
}

// A quota and its period in microseconds.
struct CpuQuota {
    uint64_t quota_us = 0;
    uint64_t period_us = 0;
};

// "200000 100000" in v2, "max 100000" without a quota; two files in v1, with -1 for none.
std::optional<CpuQuota> quota_of(const std::string& folder, bool unified) {
    const std::string quota_text = read_text(folder + (unified ? "/cpu.max" : "/cpu.cfs_quota_us")).value_or("");
    const auto quota = leading_number(quota_text);
    if (!quota) return std::nullopt;
    const size_t blank = quota_text.find(' ');
    const std::string period_text = unified ? quota_text.substr(std::min(blank, quota_text.size()))
                                            : read_text(folder + "/cpu.cfs_period_us").value_or("");
    const auto period = leading_number(period_text);
    if (!period || *period == 0) return std::nullopt;
    return CpuQuota{*quota, *period};
}

}  // namespace

uint32_t physical_cores(const std::string& root, std::span<const uint32_t> cpus) {
    std::set<std::string> cores;  // a core is known by the list of its hardware threads
    for (uint32_t cpu : cpus) {
        const auto siblings =
            read_text(std::format("{}/sys/devices/system/cpu/cpu{}/topology/thread_siblings", root, cpu));
        if (!siblings || siblings->empty()) return static_cast<uint32_t>(cpus.size());
        cores.insert(*siblings);
    }
    return static_cast<uint32_t>(cores.size());
}

// Rounded down: compute threads wait for each other after every operation, so one that has run out of quota stops all.
uint32_t quota_cores(const std::string& root) {
    uint64_t fewest = UINT32_MAX;
    for (const CgroupChain& chain : cgroup_chains(root, "cpu"))
        for (const std::string& folder : chain.folders)
            if (const auto quota = quota_of(folder, chain.unified))
                fewest = std::min(fewest, quota->quota_us / quota->period_us);
    return static_cast<uint32_t>(std::max<uint64_t>(fewest, 1));
}

uint32_t usable_cores(const std::string& root) {
    const std::vector<uint32_t> cpus = affine_cpus();
    const uint32_t cores = cpus.empty() ? std::thread::hardware_concurrency() : physical_cores(root, cpus);
    return std::max<uint32_t>(std::min(cores, quota_cores(root)), 1);
}

}  // namespace hypura::hardware
