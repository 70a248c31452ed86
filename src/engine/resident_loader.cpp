#include "engine/resident_loader.h"

#include "base/bytes.h"
#include "base/memory_region.h"

#include <ggml-backend.h>
#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <vector>

namespace hypura::engine {
namespace {

constexpr uint64_t kGapBytes = 64 * kKiB;   // a hole this small is cheaper to read than to seek over
constexpr uint64_t kReadBytes = 32 * kMiB;  // a block: progress and errors are reported at this grain
constexpr uint64_t kHugePageBytes = 2 * kMiB;
constexpr size_t kBlocksAhead = 8;

// File bytes [begin, end) of one part, wanted in memory.
struct Run {
    uint32_t part = 0;
    uint64_t begin = 0;
    uint64_t end = 0;
    std::vector<const gguf::TensorInfo*> tensors;  // in file order

    // What a message about the bytes from `at` on names.
    std::string_view tensor_at(uint64_t at) const {
        const auto after = std::ranges::upper_bound(tensors, at, {}, &gguf::TensorInfo::file_offset);
        return after == tensors.begin() ? tensors.front()->name : (*std::prev(after))->name;
    }
};

std::vector<Run> merge_into_runs(std::vector<const gguf::TensorInfo*> tensors) {
    std::ranges::sort(tensors, {}, [](const auto* info) { return std::pair(info->part, info->file_offset); });
    std::vector<Run> runs;
    for (const gguf::TensorInfo* info : tensors) {
        const uint64_t end = info->file_offset + info->size_bytes;
        const bool adjoins =
            !runs.empty() && runs.back().part == info->part && info->file_offset <= runs.back().end + kGapBytes;
        if (adjoins)
            runs.back().end = std::max(runs.back().end, end);
        else
            runs.push_back({info->part, info->file_offset, end, {}});
        runs.back().tensors.push_back(info);
    }
    return runs;
}

// Only whole huge pages inside the run: a huge page that reached into a hole would commit memory for nothing.
void advise_huge_pages(const ModelView& view, const Run& run) {
#ifdef MADV_HUGEPAGE
    const uint64_t begin = align_up(run.begin, kHugePageBytes);
    const uint64_t end = align_down(run.end, kHugePageBytes);
    if (begin < end) ::madvise(view.part_memory(run.part) + begin, end - begin, MADV_HUGEPAGE);
#endif
}

// Cut at multiples of kReadBytes of the file, so that every cut is aligned for direct reads.
std::vector<storage::BlockRead> cut_into_blocks(const ModelView& view, const Run& run) {
    std::vector<storage::BlockRead> blocks;
    for (uint64_t at = run.begin; at < run.end;) {
        const uint64_t next = std::min(run.end, align_down(at, kReadBytes) + kReadBytes);
        blocks.push_back({run.part, at, next - at, view.part_memory(run.part) + at, next - at, run.tensor_at(at)});
        at = next;
    }
    return blocks;
}

Status read_all(storage::BlockReader& reader, std::span<const storage::BlockRead> blocks, uint64_t total_bytes,
                const std::function<void(uint64_t, uint64_t)>& progress) {
    uint64_t done_bytes = 0;
    std::vector<storage::BlockCompletion> finished;
    for (size_t next = 0; next < blocks.size() || reader.outstanding() > 0;) {
        while (next < blocks.size() && reader.outstanding() < kBlocksAhead)
            HYPURA_TRY(reader.submit(blocks.subspan(next++, 1)));
        finished.clear();
        HYPURA_TRY(reader.collect(finished, true));
        for (const storage::BlockCompletion& block : finished) {
            HYPURA_TRY(block.status);
            done_bytes += block.tag;
        }
        if (progress) progress(done_bytes, total_bytes);
    }
    return {};
}

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kBounceBuffers = 8;

// A stretch of a weight on its way to a device.
struct Stretch {
    const DeviceWeight* weight = nullptr;
    uint64_t begin = 0;  // within the tensor
    uint64_t bytes = 0;
};

std::vector<Stretch> cut_into_stretches(std::span<const DeviceWeight> weights) {
    constexpr uint64_t kStretchBytes = kBounceBytes / kBounceBuffers;
    std::vector<Stretch> stretches;
    for (const DeviceWeight& weight : weights)
        for (uint64_t at = 0; at < weight.info->size_bytes; at += kStretchBytes)
            stretches.push_back({&weight, at, std::min(kStretchBytes, weight.info->size_bytes - at)});
    return stretches;
}

// Buffers that direct reads can fill without a copy: a stretch begins at the residue of its place in the file.
class Bounce {
public:
    static Result<Bounce> create() {
        Bounce bounce;
        HYPURA_ASSIGN(bounce.memory_, MemoryRegion::reserve(kBufferBytes * kBounceBuffers));
        return bounce;
    }
    std::byte* place_for(const Stretch& stretch, size_t buffer) const {
        const uint64_t offset = stretch.weight->info->file_offset + stretch.begin;
        return memory_.data() + kBufferBytes * buffer + storage::BlockReader::kSlackBytes + offset % kPageBytes;
    }

private:
    static constexpr uint64_t kBufferBytes =
        kBounceBytes / kBounceBuffers + 2 * storage::BlockReader::kSlackBytes + kPageBytes;
    Bounce() = default;
    MemoryRegion memory_;
};

}  // namespace

Status load_on_devices(std::span<const DeviceWeight> weights, storage::BlockReader& reader,
                       const std::function<void(uint64_t, uint64_t)>& progress) {
    if (weights.empty()) return {};
    HYPURA_ASSIGN(const Bounce bounce, Bounce::create());
    const std::vector<Stretch> stretches = cut_into_stretches(weights);
    uint64_t total_bytes = 0, done_bytes = 0;
    for (const Stretch& stretch : stretches) total_bytes += stretch.bytes;
    std::vector<size_t> in_buffer(kBounceBuffers);
    std::vector<size_t> free_buffers;
    for (size_t i = kBounceBuffers; i-- > 0;) free_buffers.push_back(i);
    std::vector<storage::BlockCompletion> finished;
    for (size_t next = 0; next < stretches.size() || reader.outstanding() > 0;) {
        for (; next < stretches.size() && !free_buffers.empty(); ++next) {
            const Stretch& stretch = stretches[next];
            const size_t buffer = free_buffers.back();
            free_buffers.pop_back();
            in_buffer[buffer] = next;
            const gguf::TensorInfo& info = *stretch.weight->info;
            const storage::BlockRead read{info.part,     info.file_offset + stretch.begin,
                                          stretch.bytes, bounce.place_for(stretch, buffer),
                                          buffer,        info.name};
            HYPURA_TRY(reader.submit(std::span(&read, 1)));
        }
        finished.clear();
        HYPURA_TRY(reader.collect(finished, true));
        for (const storage::BlockCompletion& block : finished) {
            HYPURA_TRY(block.status);
            const Stretch& stretch = stretches[in_buffer[block.tag]];
            ggml_backend_tensor_set(stretch.weight->tensor, bounce.place_for(stretch, block.tag), stretch.begin,
                                    stretch.bytes);
            done_bytes += stretch.bytes;
            free_buffers.push_back(block.tag);
        }
        if (progress) progress(done_bytes, total_bytes);
    }
    return {};
}

Status load_resident(const ModelView& view, std::span<const gguf::TensorInfo* const> tensors,
                     storage::BlockReader& reader, const std::function<void(uint64_t, uint64_t)>& progress) {
    std::vector<storage::BlockRead> blocks;
    uint64_t total_bytes = 0;
    for (const Run& run : merge_into_runs({tensors.begin(), tensors.end()})) {
        advise_huge_pages(view, run);
        for (const storage::BlockRead& block : cut_into_blocks(view, run)) {
            blocks.push_back(block);
            total_bytes += block.bytes;
        }
    }
    return read_all(reader, blocks, total_bytes, progress);
}

}  // namespace hypura::engine
