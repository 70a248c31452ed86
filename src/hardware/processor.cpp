#include "hardware/processor.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/memory_region.h"
#include "hardware/memory.h"
#include "hardware/text_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>
#include <system_error>
#include <thread>

namespace hypura::hardware {
namespace {

// As the kernel spells them: x86 first, then ARM.
constexpr std::array<std::string_view, 17> kFeatures = {
    "avx",      "avx2",     "avx_vnni", "fma",     "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "amx_int8", "amx_bf16", "asimd",    "asimddp", "i8mm", "bf16",    "sve",      "sve2"};

// The value of a "key : value" line of /proc/cpuinfo; of many processors the first one's.
std::string_view cpuinfo_value(std::string_view text, std::string_view key) {
    for (const std::string_view line : split(text, '\n')) {
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos || !line.starts_with(key)) continue;
        std::string_view value = line.substr(colon + 1);
        while (value.starts_with(' ')) value.remove_prefix(1);
        return value;
    }
    return {};
}

std::vector<std::string> features_in(std::string_view flags) {
    const auto words = split(flags, ' ');
    std::vector<std::string> found;
    for (const std::string_view feature : kFeatures)
        if (std::ranges::find(words, feature) != words.end()) found.emplace_back(feature);
    return found;
}

uint64_t sum_of(const uint64_t* words, uint64_t count) {
    uint64_t sums[8] = {};
    for (uint64_t i = 0; i + 8 <= count; i += 8)
        for (uint64_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
    uint64_t sum = 0;
    for (const uint64_t lane : sums) sum += lane;
    return sum;
}

constexpr uint64_t kShareBytes = 64 * kMiB;  // a thread's

// One pass of all threads over all of the memory, in seconds. The sum is kept so that the reads cannot be left out.
double timed_pass(const MemoryRegion& memory, uint32_t threads) {
    static std::atomic<uint64_t> sink = 0;
    const int64_t begin_us = now_us();
    std::vector<std::jthread> readers;
    readers.reserve(threads);
    for (uint32_t i = 0; i < threads; ++i)
        readers.emplace_back([&memory, i] {
            const auto* const words = reinterpret_cast<const uint64_t*>(memory.data() + i * kShareBytes);
            sink += sum_of(words, kShareBytes / sizeof(uint64_t));
        });
    readers.clear();
    return static_cast<double>(std::max<int64_t>(now_us() - begin_us, 1)) / 1e6;
}

}  // namespace

Processor processor(const std::string& root) {
    const std::string text = read_text(root + "/proc/cpuinfo").value_or("");
    std::string_view flags = cpuinfo_value(text, "flags");
    if (flags.empty()) flags = cpuinfo_value(text, "Features");
    return {std::string(cpuinfo_value(text, "model name")), usable_cores(root), features_in(flags)};
}

Result<double> measure_memory_bandwidth(uint32_t threads) try {
    const uint64_t bytes = kShareBytes * threads;
    HYPURA_ASSIGN(MemoryRegion memory, MemoryRegion::reserve(bytes));
    memory.advise_huge_pages(0, bytes);
    memory.commit(0, bytes);
    double best_seconds = timed_pass(memory, threads);
    for (int i = 0; i < 6; ++i) best_seconds = std::min(best_seconds, timed_pass(memory, threads));
    return static_cast<double>(bytes) / best_seconds;
} catch (const std::system_error& error) {
    return fail(ErrorCode::kOutOfMemory, "cannot start {} threads: {}", threads, error.what());
}

}  // namespace hypura::hardware
