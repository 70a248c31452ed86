#include "engine/device_stream.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "engine/devices.h"
#include "engine/llama_library.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace hypura::engine {
namespace {

constexpr size_t kGraphNodes = 16;                     // six are used
constexpr size_t kMostBufferBytes = size_t{32} << 20;  // of a piece's inputs and results
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kProbeBytes = 64 * kMiB;
constexpr uint64_t kProbePieceBytes = 2 * kMiB;  // about what a matrix of an expert takes
// Mapped memory takes 0.3 to 0.5 us; through a queue of the device's it is 30 to 50.
constexpr double kMostDirectWriteS = 5e-6;

ggml_backend_buffer_t buffer_of(const ggml_tensor* tensor) {
    return tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
}

// A tensor of ours over memory of libllama's.
void lie_over(ggml_tensor* tensor, const ggml_tensor* owner) {
    tensor->buffer = buffer_of(owner);
    tensor->data = owner->data;
}

// The distance from row to row where all rows of [columns, n, tokens] lie equally far apart; 0: they do not.
size_t row_stride(const ggml_tensor* tensor) {
    if (tensor->ne[1] == 1) return tensor->nb[2];
    return tensor->nb[2] == tensor->nb[1] * static_cast<size_t>(tensor->ne[1]) ? tensor->nb[1] : 0;
}

ggml_tensor* rows_of(ggml_context* context, const ggml_tensor* owner) {
    ggml_tensor* const rows = ggml_new_tensor_2d(context, GGML_TYPE_F32, owner->ne[0], owner->ne[1] * owner->ne[2]);
    rows->nb[1] = row_stride(owner);
    rows->nb[2] = rows->nb[3] = rows->nb[1] * static_cast<size_t>(rows->ne[1]);
    lie_over(rows, owner);
    return rows;
}

// Of the quickest of a few writes of a few bytes.
double write_s(ggml_tensor* tensor) {
    const std::byte nothing{};
    double least_s = 1;
    for (int i = 0; i < 8; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        ggml_backend_tensor_set(tensor, &nothing, 0, sizeof(nothing));
        least_s = std::min(least_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return least_s;
}

size_t rows_at_a_time(const ggml_tensor* node) {
    const auto both = static_cast<size_t>(node->ne[0] + node->src[1]->ne[0]);
    return std::max<size_t>(kMostBufferBytes / (both * sizeof(float)), 1);
}

}  // namespace

Status lay_over(ggml_backend_buffer_t buffer, const ggml_tensor& weight, uint64_t matrix_bytes, uint64_t matrices,
                ggml_tensor& tensor) {
    tensor.type = weight.type;
    for (int dimension = 0; dimension < GGML_MAX_DIMS; ++dimension) {
        tensor.ne[dimension] = weight.ne[dimension];
        tensor.nb[dimension] = weight.nb[dimension];
    }
    tensor.ne[2] = static_cast<int64_t>(matrices);
    tensor.nb[2] = matrix_bytes;
    tensor.nb[3] = matrix_bytes * matrices;
    tensor.buffer = buffer;
    tensor.data = ggml_backend_buffer_get_base(buffer);
    tensor.extra = nullptr;
    if (ggml_backend_buffer_init_tensor(buffer, &tensor) == GGML_STATUS_SUCCESS) return {};
    return fail(ErrorCode::kInternal, "{}: the device does not take this tensor", weight.name);
}

Result<std::unique_ptr<DeviceStream>> DeviceStream::create(ggml_backend_dev_t device, uint64_t staging_bytes) {
    std::unique_ptr<DeviceStream> stream(new DeviceStream());
    stream->device_ = device;
    stream->backend_ = start_backend(device, 1);
    if (stream->backend_ == nullptr)
        return fail(ErrorCode::kUnsupportedHost, "{}: ggml cannot start this device", ggml_backend_dev_name(device));
    stream->allocator_.reset(ggml_gallocr_new(ggml_backend_dev_buffer_type(device)));
    stream->graph_memory_.resize(ggml_tensor_overhead() * kGraphNodes + ggml_graph_overhead_custom(kGraphNodes, false));
    stream->staging_context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * 2, .no_alloc = true}));
    if (device_kind(device) != "remote") stream->find_out_how_it_writes();
    if (staging_bytes > 0) HYPURA_TRY(stream->set_up_staging(staging_bytes));
    return stream;
}

Status DeviceStream::set_up_staging(uint64_t bytes) {
    HYPURA_ASSIGN(staging_, allocate(bytes));
    staging_tensor_ = ggml_new_tensor_3d(staging_context_.get(), GGML_TYPE_I8, 1, 1, 1);
    if (ggml_backend_tensor_alloc(staging_.get(), staging_tensor_, ggml_backend_buffer_get_base(staging_.get())) !=
        GGML_STATUS_SUCCESS)
        return fail(ErrorCode::kInternal, "{}: no tensor in a buffer of ours", ggml_backend_dev_name(device_));
    return {};
}

void DeviceStream::find_out_how_it_writes() {
    const GgmlContextHandle context(ggml_init({.mem_size = ggml_tensor_overhead() * 2, .no_alloc = true}));
    ggml_tensor* const target = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, 1);
    const BufferHandle buffer(
        ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_dev_buffer_type(device_)));
    writes_directly_ = buffer != nullptr && write_s(target) < kMostDirectWriteS;
}

Result<BufferHandle> DeviceStream::allocate(uint64_t bytes) const {
    BufferHandle buffer(ggml_backend_buft_alloc_buffer(ggml_backend_dev_buffer_type(device_), bytes));
    if (buffer == nullptr)
        return fail(ErrorCode::kOutOfMemory, "{}: cannot allocate {}; lower --vram", ggml_backend_dev_name(device_),
                    format_bytes(bytes));
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    return buffer;
}

// libggml answers with ordinary memory where pinning fails: that would be counted as pinned and be slow.
Result<MemoryRegion> DeviceStream::allocate_pinned(uint64_t bytes) const {
    ggml_backend_buffer_type_t const pinned = ggml_backend_dev_host_buffer_type(device_);
    if (pinned == nullptr) return MemoryRegion();
    ggml_backend_buffer_t const buffer = ggml_backend_buft_alloc_buffer(pinned, bytes + kPageBytes);
    if (buffer == nullptr) return fail(ErrorCode::kOutOfMemory, "cannot pin {} of memory", format_bytes(bytes));
    auto* const base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer));
    auto* const aligned = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<uint64_t>(base), kPageBytes));
    return MemoryRegion::adopt(aligned, bytes, [buffer] { ggml_backend_buffer_free(buffer); });
}

void DeviceStream::upload(ggml_tensor* tensor, uint64_t offset, const void* data, uint64_t bytes) {
    ggml_backend_tensor_set_async(backend_.get(), tensor, data, offset, bytes);
}

// Pinned where the device has that: otherwise libggml's Vulkan backend waits for each read by itself.
Result<MemoryRegion> DeviceStream::allocate_transfer_memory(uint64_t bytes) const {
    HYPURA_ASSIGN(MemoryRegion memory, allocate_pinned(bytes));
    if (memory.data() == nullptr) return MemoryRegion::reserve(bytes);
    return memory;
}

// Measured on an H200: 10 us in our stream, 50 to 80 us through ggml_backend_tensor_get.
Result<const std::byte*> DeviceStream::begin_read(const ggml_tensor* tensor) {
    const uint64_t bytes = ggml_nbytes(tensor);
    if (reads_ == read_memory_.size()) read_memory_.emplace_back();
    MemoryRegion& memory = read_memory_[reads_++];
    if (memory.size_bytes() < bytes) {
        HYPURA_ASSIGN(memory, allocate_transfer_memory(bytes));
    }
    ggml_backend_tensor_get_async(backend_.get(), tensor, memory.data(), 0, bytes);
    return memory.data();
}

void DeviceStream::wait() {
    ggml_backend_synchronize(backend_.get());
    reads_ = 0;
}

Result<ggml_tensor*> DeviceStream::staging_like(const ggml_tensor* weight, uint64_t matrix_bytes) {
    const uint64_t matrices = staging_ == nullptr ? 0 : ggml_backend_buffer_get_size(staging_.get()) / matrix_bytes;
    if (matrices == 0)
        return fail(ErrorCode::kOutOfMemory, "{}: no room on the device for one expert of a batch; raise --vram",
                    weight->name);
    HYPURA_TRY(lay_over(staging_.get(), *weight, matrix_bytes, matrices, *staging_tensor_));
    return staging_tensor_;
}

Status DeviceStream::multiply(ggml_tensor* node, ggml_tensor* matrices, std::span<const RoutedRow> rows) {
    if (node->src[1]->type != GGML_TYPE_F32 || row_stride(node->src[1]) == 0 || row_stride(node) == 0)
        return fail(ErrorCode::kUnsupportedModel, "{}: its inputs are laid out in an unknown way; use --device none",
                    node->src[0]->name);
    const size_t most = rows_at_a_time(node);
    for (size_t done = 0; done < rows.size(); done += most)
        HYPURA_TRY(multiply_piece(node, matrices, rows.subspan(done, std::min(most, rows.size() - done))));
    return {};
}

// Gather the rows' inputs, multiply each by its matrix, put the results where the node's belong.
Status DeviceStream::multiply_piece(ggml_tensor* node, ggml_tensor* matrices, std::span<const RoutedRow> rows) {
    const GgmlContextHandle owner(
        ggml_init({.mem_size = graph_memory_.size(), .mem_buffer = graph_memory_.data(), .no_alloc = true}));
    ggml_context* const context = owner.get();
    const auto count = static_cast<int64_t>(rows.size());
    ggml_tensor* const from = ggml_new_tensor_1d(context, GGML_TYPE_I32, count);
    ggml_tensor* const slots = ggml_new_tensor_2d(context, GGML_TYPE_I32, 1, count);
    ggml_tensor* const to = ggml_new_tensor_1d(context, GGML_TYPE_I64, count);
    for (ggml_tensor* input : {from, slots, to}) ggml_set_input(input);
    ggml_tensor* const gathered = ggml_get_rows(context, rows_of(context, node->src[1]), from);
    ggml_tensor* const columns = ggml_reshape_3d(context, gathered, gathered->ne[0], 1, count);
    ggml_tensor* const product = ggml_mul_mat_id(context, matrices, columns, slots);
    std::memcpy(product->op_params, node->op_params, sizeof(product->op_params));
    ggml_tensor* const flat = ggml_reshape_2d(context, product, product->ne[0], count);
    ggml_tensor* const scattered = ggml_set_rows(context, rows_of(context, node), flat, to);
    ggml_cgraph* const graph = ggml_new_graph_custom(context, kGraphNodes, false);
    ggml_build_forward_expand(graph, scattered);
    if (!ggml_gallocr_alloc_graph(allocator_.get(), graph))
        return fail(ErrorCode::kOutOfMemory, "{}: no room for a batch's experts; lower --vram",
                    ggml_backend_dev_name(device_));
    std::vector<int32_t> from_rows, slot_numbers;
    std::vector<int64_t> to_rows;
    const auto input_columns = static_cast<uint32_t>(node->src[1]->ne[1]);
    for (const RoutedRow& row : rows) {
        from_rows.push_back(static_cast<int32_t>(row.token * input_columns + row.column % input_columns));
        slot_numbers.push_back(row.slot);
        to_rows.push_back(static_cast<int64_t>(row.token) * node->ne[1] + row.column);
    }
    upload(from, 0, from_rows.data(), ggml_nbytes(from));
    upload(slots, 0, slot_numbers.data(), ggml_nbytes(slots));
    upload(to, 0, to_rows.data(), ggml_nbytes(to));
    wait();  // the numbers leave with this scope
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
    if (status == GGML_STATUS_SUCCESS) return {};
    return fail(ErrorCode::kInternal, "ggml failed with {} on a graph of ours on {}", static_cast<int>(status),
                ggml_backend_dev_name(device_));
}

UploadRate upload_rate(ggml_backend_dev_t device) {
    const auto stream = DeviceStream::create(device, 0);
    const GgmlContextHandle context(ggml_init({.mem_size = ggml_tensor_overhead() * 2, .no_alloc = true}));
    ggml_tensor* const target = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, static_cast<int64_t>(kProbeBytes));
    const BufferHandle buffer(
        ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_dev_buffer_type(device)));
    if (!stream || buffer == nullptr) return {};
    auto source = (*stream)->allocate_transfer_memory(kProbeBytes);
    if (!source) return {};
    source->commit(0, kProbeBytes);
    int64_t best_us = INT64_MAX;
    for (int i = 0; i < 4; ++i) {
        const int64_t begin_us = now_us();
        for (uint64_t at = 0; at < kProbeBytes; at += kProbePieceBytes)
            (*stream)->upload(target, at, source->data() + at, kProbePieceBytes);
        (*stream)->wait();
        best_us = std::min(best_us, std::max<int64_t>(now_us() - begin_us, 1));
    }
    return {static_cast<double>(kProbeBytes) * 1e6 / static_cast<double>(best_us), (*stream)->writes_directly()};
}

}  // namespace hypura::engine
