// Our own command stream on a device, beside libllama's: uploads of experts, and products of pieces of a MUL_MAT_ID
// whose experts do not all fit the device at once.
//
// libllama's graph stands still at a cut while any of this runs, so the two streams never touch the same memory at the
// same time. Internal to this folder.
#pragma once

#include "base/memory_region.h"
#include "base/status.h"
#include "engine/expert_compute.h"
#include "engine/llama_handles.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hypura::engine {

struct AllocatorDeleter {
    void operator()(ggml_gallocr_t allocator) const { ggml_gallocr_free(allocator); }
};

// Makes `tensor` that many matrices like those of `weight`, one behind another from the beginning of `buffer` on.
// kInternal where the device does not take that.
Status lay_over(ggml_backend_buffer_t buffer, const ggml_tensor& weight, uint64_t matrix_bytes, uint64_t matrices,
                ggml_tensor& tensor);

class DeviceStream {
public:
    // `staging_bytes` of device memory hold experts that pass through; 0: none do.
    static Result<std::unique_ptr<DeviceStream>> create(ggml_backend_dev_t device, uint64_t staging_bytes);

    ggml_backend_dev_t device() const { return device_; }
    // Whether the host writes to the device's memory as to its own, so that a DeviceWriter is of use.
    bool writes_directly() const { return writes_directly_; }
    // A buffer for weights. kOutOfMemory where the device has no room.
    Result<BufferHandle> allocate(uint64_t bytes) const;
    // Memory of the host that uploads leave fastest: pinned by the driver. Empty where the device has none.
    Result<MemoryRegion> allocate_pinned(uint64_t bytes) const;
    // The same, or ordinary memory where the device has none.
    Result<MemoryRegion> allocate_transfer_memory(uint64_t bytes) const;

    // `data` stays as it is until wait().
    void upload(ggml_tensor* tensor, uint64_t offset, const void* data, uint64_t bytes);
    // A copy of a tensor that libllama has computed: there after wait(), until the next begin_read() behind that.
    Result<const std::byte*> begin_read(const ggml_tensor* tensor);
    void wait();

    // The staging memory as matrices like those of `weight`, as many as fit. kOutOfMemory where none does.
    Result<ggml_tensor*> staging_like(const ggml_tensor* weight, uint64_t matrix_bytes);

    // Writes the rows of `node` = MUL_MAT_ID(weight, src[1], …) that `rows` names; a row's slot is a matrix of
    // `matrices`. Blocks. kUnsupportedModel where src[1] is laid out in a way that has not been seen.
    Status multiply(ggml_tensor* node, ggml_tensor* matrices, std::span<const RoutedRow> rows);

private:
    struct Piece;
    DeviceStream() = default;
    Status set_up_staging(uint64_t bytes);
    void find_out_how_it_writes();
    Status multiply_piece(ggml_tensor* node, ggml_tensor* matrices, std::span<const RoutedRow> rows);

    ggml_backend_dev_t device_ = nullptr;
    bool writes_directly_ = false;
    BackendHandle backend_;
    BufferHandle staging_;
    GgmlContextHandle staging_context_;
    ggml_tensor* staging_tensor_ = nullptr;
    std::vector<MemoryRegion> read_memory_;  // of each read between two waits
    size_t reads_ = 0;
    std::unique_ptr<ggml_gallocr, AllocatorDeleter> allocator_;
    std::vector<std::byte> graph_memory_;
};

struct UploadRate {
    double bytes_per_second = 0;   // 0: the device cannot be used
    bool writes_directly = false;  // as DeviceStream::writes_directly()
};
// Into the device's memory, from the memory that uploads leave fastest, in pieces as large as matrices of experts.
// Moves 64 MiB four times.
UploadRate upload_rate(ggml_backend_dev_t device);

}  // namespace hypura::engine
