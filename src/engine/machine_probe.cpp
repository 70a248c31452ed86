#include "engine/machine_probe.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "engine/device_stream.h"
#include "engine/devices.h"
#include "engine/llama_library.h"
#include "hardware/disk_info.h"
#include "hardware/memory.h"
#include "hardware/processor.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <format>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace hypura::engine {
namespace {

struct Format {
    ggml_type type;
    const char* name;  // as in GGUF
};
constexpr std::array kFormats = {Format{GGML_TYPE_F16, "f16"}, Format{GGML_TYPE_Q8_0, "q8_0"},
                                 Format{GGML_TYPE_Q6_K, "q6_K"}, Format{GGML_TYPE_Q4_K, "q4_K"},
                                 Format{GGML_TYPE_MXFP4, "mxfp4"}};

constexpr int64_t kColumns = 4096;
// Far more than the last-level cache for one column, where the weights' way from memory is what counts; little for
// many.
constexpr uint64_t kSingleBytes = 96 * kMiB;
constexpr int64_t kExperts = 64;
constexpr int64_t kExpertColumns = 2048;

// Products of many columns.
struct BatchShape {
    uint64_t dense_bytes = 0;  // of the weights
    int64_t expert_rows = 0;
    int nodes = 0;  // of experts
    std::span<const int64_t> tokens;
};
constexpr std::array<int64_t, 2> kTokens = {512, 2048};
constexpr BatchShape kSomeWork = {4 * kMiB, 256, 1, std::span(kTokens).first(1)};
// A card that computes f16 faster than 1 TFLOPS is through with that before it is at work: an H100 gets 24 TFLOPS of
// q4_K from experts of 256 rows, 31 from eight such products at once, 46 from eight of 1024 rows, and 119 with 2048
// tokens.
constexpr BatchShape kMuchWork = {32 * kMiB, 1024, 8, kTokens};
constexpr double kMuchFlops = 1e12;
constexpr int64_t kBusyUs = 1'000'000;  // until a card's clocks are up
constexpr int64_t kLeastUs = 60'000;    // a figure rests on that much computing, or on five runs
constexpr int64_t kLongUs = 500'000;    // or, on devices in software, on fewer
// As f16 0.065, and an ordinary scale in every block format: neither NaN nor denormal numbers, which some processors
// are slow with.
constexpr int kWeightPattern = 0x2C;

placement::ComputeDevice describe(ggml_backend_dev_t device) {
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(device, &props);
    return {.name = props.name,
            .description = props.description == nullptr ? "" : props.description,
            .kind = std::string(device_kind(device)),
            .free_bytes = props.memory_free,
            .total_bytes = props.memory_total};
}

// The processor first; libggml lists what it found in the order of its backends.
std::vector<ggml_backend_dev_t> devices_in_order() {
    start_llama();
    std::vector<ggml_backend_dev_t> devices(ggml_backend_dev_count());
    for (size_t i = 0; i < devices.size(); ++i) devices[i] = ggml_backend_dev_get(i);
    const auto is_processor = [](ggml_backend_dev_t device) {
        return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
    };
    std::ranges::stable_partition(devices, is_processor);
    return devices;
}

// The device's own buffers, and on a processor those that libggml rearranges weights in (nullptr-terminated list).
std::vector<ggml_backend_buffer_type_t> repacking_buffers(ggml_backend_dev_t device) {
    void* const address =
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    std::vector<ggml_backend_buffer_type_t> buffers;
    if (address == nullptr) return buffers;
    for (auto* next = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(address)(device);
         next != nullptr && *next != nullptr; ++next)
        buffers.push_back(*next);
    return buffers;
}

GgmlContextHandle new_context() {
    return GgmlContextHandle(
        ggml_init({.mem_size = 4096 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true}));
}

// Until there is a result: libggml goes on as soon as it has told another machine what to compute.
bool compute(ggml_backend_t backend, ggml_cgraph* graph) {
    if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) return false;
    float first = 0;
    if (device_kind(ggml_backend_get_device(backend)) == "remote")
        ggml_backend_tensor_get(ggml_graph_node(graph, -1), &first, 0, sizeof(first));
    return true;
}

// Of one run of `graph`, in seconds: the median of several, since a token has no choice of the best moment either. The
// first one warms up. 0: the device failed.
double median_seconds(ggml_backend_t backend, ggml_cgraph* graph) {
    if (!compute(backend, graph)) return 0;
    std::vector<int64_t> runs_us;
    for (int64_t spent_us = 0; spent_us < kLongUs && (runs_us.size() < 5 || spent_us < kLeastUs);) {
        const int64_t begin_us = now_us();
        if (!compute(backend, graph)) return 0;
        runs_us.push_back(std::max<int64_t>(now_us() - begin_us, 1));
        spent_us += runs_us.back();
    }
    const auto middle = runs_us.begin() + static_cast<std::ptrdiff_t>(runs_us.size() / 2);
    std::ranges::nth_element(runs_us, middle);
    return static_cast<double>(*middle) / 1e6;
}

struct ProductShape {
    int64_t columns = 4096;  // of the weights
    int64_t rows = 0;
    int64_t tokens = 1;
    int64_t experts = 0;  // 0: one matrix for all tokens
    int64_t used = 0;     // experts a token
    int nodes = 1;        // products in the graph
};

// Some number of products of one weight tensor, ready to compute.
class Product {
public:
    // Empty where the device cannot do it in these buffers.
    static std::unique_ptr<Product> create(ggml_backend_t backend, ggml_backend_buffer_type_t weights_in,
                                           ggml_type type, const ProductShape& shape) {
        auto product = std::make_unique<Product>();
        product->backend_ = backend;
        product->weights_context_ = new_context();
        product->context_ = new_context();
        ggml_tensor* const weights = ggml_new_tensor_3d(product->weights_context_.get(), type, shape.columns,
                                                        shape.rows, std::max<int64_t>(shape.experts, 1));
        product->weights_buffer_.reset(
            ggml_backend_alloc_ctx_tensors_from_buft(product->weights_context_.get(), weights_in));
        if (product->weights_buffer_ == nullptr) return nullptr;
        if (!product->build(weights, shape)) return nullptr;
        product->fill(weights);
        product->choose_experts(shape);
        return product;
    }

    double seconds() const { return median_seconds(backend_, graph_); }
    uint64_t weight_bytes() const { return weight_bytes_; }

private:
    bool build(ggml_tensor* weights, const ProductShape& shape) {
        weight_bytes_ = ggml_nbytes(weights);
        const bool routed = shape.experts > 0;
        input_ = routed ? ggml_new_tensor_3d(context_.get(), GGML_TYPE_F32, shape.columns, 1, shape.tokens)
                        : ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, shape.columns, shape.tokens);
        graph_ = ggml_new_graph(context_.get());
        for (int i = 0; i < shape.nodes; ++i) {
            if (routed) ids_.push_back(ggml_new_tensor_2d(context_.get(), GGML_TYPE_I32, shape.used, shape.tokens));
            ggml_tensor* const product = routed ? ggml_mul_mat_id(context_.get(), weights, input_, ids_.back())
                                                : ggml_mul_mat(context_.get(), weights, input_);
            if (!ggml_backend_dev_supports_op(ggml_backend_get_device(backend_), product)) return false;
            ggml_build_forward_expand(graph_, product);
        }
        buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), backend_));
        return buffer_ != nullptr;
    }

    void fill(ggml_tensor* weights) {
        const std::vector<std::byte> pattern(weight_bytes_, std::byte{kWeightPattern});
        ggml_backend_tensor_set(weights, pattern.data(), 0, weight_bytes_);
        const std::vector<float> halves(static_cast<size_t>(ggml_nelements(input_)), 0.5F);
        ggml_backend_tensor_set(input_, halves.data(), 0, halves.size() * sizeof(float));
    }

    // In turn, so that each expert gets as many tokens, and a node does not find the experts of the one before in a
    // cache.
    void choose_experts(const ProductShape& shape) {
        int32_t next = 0;
        for (ggml_tensor* ids : ids_) {
            std::vector<int32_t> chosen(static_cast<size_t>(shape.used * shape.tokens));
            for (int32_t& expert : chosen) expert = next++ % static_cast<int32_t>(shape.experts);
            ggml_backend_tensor_set(ids, chosen.data(), 0, chosen.size() * sizeof(int32_t));
        }
    }

    ggml_backend_t backend_ = nullptr;
    GgmlContextHandle weights_context_, context_;
    BufferHandle weights_buffer_, buffer_;
    ggml_tensor* input_ = nullptr;
    std::vector<ggml_tensor*> ids_;  // of each node, where experts are chosen
    ggml_cgraph* graph_ = nullptr;
    uint64_t weight_bytes_ = 0;
};

int64_t rows_for(ggml_type type, int64_t columns, uint64_t bytes) {
    return static_cast<int64_t>(align_down(bytes / static_cast<uint64_t>(ggml_row_size(type, columns)), 64));
}

// Where products are computed, and from which buffers.
struct Place {
    ggml_backend_t backend = nullptr;
    ggml_backend_buffer_type_t weights_in = nullptr;
    bool repacked = false;
    double trip_s = 0;  // of every graph, whatever is in it
};

// What one run reads of the weights is a multiple of the tensor; what each matrix multiplies is the tokens that chose
// it.
void add_rate(const Place& place, const Format& format, const ProductShape& shape,
              std::vector<placement::MatmulRate>& rates) {
    const auto product = Product::create(place.backend, place.weights_in, format.type, shape);
    if (product == nullptr) return;
    const double seconds = product->seconds() - place.trip_s;
    if (seconds <= 0) return;
    const bool routed = shape.experts > 0;
    const double choices = static_cast<double>(shape.used * shape.tokens);
    const double touched = routed ? shape.nodes * std::min(choices / static_cast<double>(shape.experts), 1.0) : 1;
    const auto each =
        static_cast<uint32_t>(routed ? std::max<int64_t>(shape.used * shape.tokens / shape.experts, 1) : shape.tokens);
    const double weights =
        static_cast<double>(shape.columns * shape.rows * std::max<int64_t>(shape.experts, 1)) * touched;
    rates.push_back({format.name,
                     {.repacked = place.repacked, .routed = routed},
                     each,
                     static_cast<double>(product->weight_bytes()) * touched / seconds,
                     2.0 * weights * each / seconds});
}

// One token; then one token that chooses 4 experts of 64 in each of 16 nodes, which is each expert once.
void measure_singles(const Place& place, const Format& format, std::vector<placement::MatmulRate>& rates) {
    add_rate(place, format, {.columns = kColumns, .rows = rows_for(format.type, kColumns, kSingleBytes)}, rates);
    const int64_t rows = rows_for(format.type, kExpertColumns, kSingleBytes / kExperts);
    add_rate(place, format, {.columns = kExpertColumns, .rows = rows, .experts = kExperts, .used = 4, .nodes = 16},
             rates);
}

// 512 tokens, say, and as many that choose experts, 32 for each.
void measure_batches(const Place& place, const Format& format, const BatchShape& shape,
                     std::vector<placement::MatmulRate>& rates) {
    const int64_t rows = rows_for(format.type, kColumns, shape.dense_bytes);
    for (const int64_t tokens : shape.tokens) {
        add_rate(place, format, {.columns = kColumns, .rows = rows, .tokens = tokens}, rates);
        add_rate(place, format,
                 {.columns = kExpertColumns,
                  .rows = shape.expert_rows,
                  .tokens = tokens,
                  .experts = kExperts,
                  .used = 4,
                  .nodes = shape.nodes},
                 rates);
    }
}

std::vector<placement::MatmulRate> measure_products(std::span<const Place> places, const BatchShape& shape,
                                                    const std::function<void(const Format&)>& progress) {
    std::vector<placement::MatmulRate> rates;
    for (const Format& format : kFormats) {
        progress(format);
        for (const Place& place : places) measure_singles(place, format, rates);
        for (const Place& place : places) measure_batches(place, format, shape, rates);
    }
    return rates;
}

bool is_quick(const Place& place) {
    std::vector<placement::MatmulRate> rates;
    measure_batches(place, kFormats.front(), kSomeWork, rates);
    return !rates.empty() && rates.front().flops > kMuchFlops;
}

void keep_busy(const Place& place, const BatchShape& shape) {
    std::vector<placement::MatmulRate> rates;
    const int64_t begin_us = now_us();
    while (now_us() - begin_us < kBusyUs) measure_batches(place, kFormats.front(), shape, rates);
}

// A graph of many products that are next to nothing each: what remains is what a node costs.
double node_us(ggml_backend_t backend, ggml_backend_buffer_type_t weights_in) {
    constexpr int kNodes = 256;
    const auto product = Product::create(backend, weights_in, GGML_TYPE_F16, {.rows = 1, .nodes = kNodes});
    return product == nullptr ? 0 : product->seconds() * 1e6 / kNodes;
}

// Of a graph of so many additions, each of which waits for the one before, as most nodes do. On devices beside the
// processor they are the measure of nodes: an H200 takes 12 to 46 us for a product of next to nothing, and 2.1 ms for
// the 1100 nodes of a token.
double additions_us(ggml_backend_t backend, int nodes) {
    const GgmlContextHandle context = new_context();
    ggml_tensor* const addend = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, kExpertColumns);
    ggml_tensor* sum = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, kExpertColumns);
    for (int i = 0; i < nodes; ++i) sum = ggml_add(context.get(), sum, addend);
    ggml_cgraph* const graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, sum);
    const BufferHandle buffer(ggml_backend_alloc_ctx_tensors(context.get(), backend));
    if (buffer == nullptr) return 0;
    ggml_backend_buffer_clear(buffer.get(), 0);
    return median_seconds(backend, graph) * 1e6;
}

void measure_nodes(placement::ComputeDevice& row, ggml_backend_t backend, ggml_backend_buffer_type_t own) {
    constexpr int kNodes = 256;
    if (row.kind == "cpu") {
        row.node_us = node_us(backend, own);
        return;
    }
    if (row.kind == "remote") row.trip_us = additions_us(backend, 1);
    row.node_us = std::max(additions_us(backend, kNodes) - row.trip_us, 0.0) / kNodes;
}

void note_uploads(placement::ComputeDevice& row, const UploadRate& rate) {
    row.upload_bytes_per_second = rate.bytes_per_second;
    row.writes_directly = rate.writes_directly;
}

placement::ComputeDevice measure_device(ggml_backend_dev_t device, uint32_t threads, const ProbeProgress& progress) {
    placement::ComputeDevice row = describe(device);
    const BackendHandle backend = start_backend(device, threads);
    if (backend == nullptr) return row;  // listed, but it cannot be used: no rates
    ggml_backend_buffer_type_t const own = ggml_backend_dev_buffer_type(device);
    const bool is_processor = row.kind == "cpu";
    if (!is_processor) note_uploads(row, upload_rate(device));
    measure_nodes(row, backend.get(), own);
    std::vector<Place> places = {{backend.get(), own, false, row.trip_us / 1e6}};
    for (ggml_backend_buffer_type_t repacking : repacking_buffers(device))
        places.push_back({backend.get(), repacking, true});
    const auto tell = [&](const Format& format) {
        if (progress) progress(std::format("{} on {}", format.name, row.name));
    };
    BatchShape shape = kSomeWork;
    if (!is_processor && is_quick(places.front())) {
        // A shader is translated when it is needed first, which takes seconds. Meanwhile the card slows its clocks
        // down, and for 0.3 to 1.3 s of work thereafter it is three to five times slower than it can be (H100).
        shape = kMuchWork;
        measure_products(places, shape, tell);
        keep_busy(places.front(), shape);
    }
    row.rates = measure_products(places, shape, tell);
    return row;
}

// A small file would be answered by the drive's own cache: then a larger one is made beside it.
std::string measurable_path(const std::string& path) {
    constexpr uint64_t kLeastBytes = 64 * kMiB;
    std::error_code error;
    const bool small_file =
        std::filesystem::is_regular_file(path, error) && std::filesystem::file_size(path, error) < kLeastBytes;
    if (!small_file) return path;
    const std::string folder = std::filesystem::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

}  // namespace

std::vector<placement::ComputeDevice> list_devices() {
    std::vector<placement::ComputeDevice> rows;
    for (ggml_backend_dev_t device : devices_in_order()) rows.push_back(describe(device));
    return rows;
}

std::string library_versions() { return std::format("ggml {}", ggml_version()); }

Result<std::string> this_fingerprint() {
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    const hardware::Processor processor = hardware::processor();
    return placement::fingerprint_of(processor.name, processor.usable_cores, limits.physical_bytes, library_versions());
}

Result<placement::Machine> measure_machine(uint32_t threads, const ProbeProgress& progress) {
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    const hardware::Processor processor = hardware::processor();
    placement::Machine machine;
    HYPURA_ASSIGN(machine.fingerprint, this_fingerprint());
    machine.measured_s = std::time(nullptr);
    machine.processor = processor.name;
    machine.cores = processor.usable_cores;
    machine.features = processor.features;
    machine.memory_bytes = limits.physical_bytes;
    const uint32_t workers = threads > 0 ? threads : processor.usable_cores;
    if (progress) progress("memory");
    HYPURA_ASSIGN(machine.memory_bytes_per_second, hardware::measure_memory_bandwidth(workers));
    for (ggml_backend_dev_t device : devices_in_order())
        machine.devices.push_back(measure_device(device, workers, progress));
    if (machine.devices.empty()) return fail(ErrorCode::kUnsupportedHost, "libggml found no device to compute on");
    return machine;
}

bool measure_remote_devices(placement::Machine& machine, const ProbeProgress& progress) {
    bool is_changed = false;
    for (ggml_backend_dev_t device : devices_in_order()) {
        if (device_kind(device) != "remote" || measured_row(machine, device) != nullptr) continue;
        machine.devices.push_back(measure_device(device, 0, progress));
        is_changed = true;
    }
    return is_changed;
}

Result<placement::DiskProfile> measure_disk(const std::string& path, const ProbeProgress& progress) {
    HYPURA_ASSIGN(const hardware::DiskInfo info, hardware::disk_info(path));
    if (progress) progress(std::format("disk {}", info.key()));
    HYPURA_ASSIGN(storage::DiskProbe probe, storage::probe_disk(measurable_path(path)));
    return placement::DiskProfile{.key = info.key(),
                                  .path = path,
                                  .measured_s = std::time(nullptr),
                                  .direct = probe.direct,
                                  .proven = probe.compared_bytes > 0 && probe.bypasses_page_cache(),
                                  .made_file = probe.made_file,
                                  .points = std::move(probe.points)};
}

const placement::DiskProfile* known_disk(const placement::Machine& machine, const std::string& path) {
    const auto info = hardware::disk_info(path);
    if (!info) return nullptr;
    const auto fresh = [&](const placement::DiskProfile& disk) {
        return disk.key == info->key() && std::time(nullptr) - disk.measured_s < placement::kStaleAfterSeconds;
    };
    const auto found = std::ranges::find_if(machine.disks, fresh);
    return found == machine.disks.end() ? nullptr : &*found;
}

KnownMachine known_machine(const std::string& profile_file, const std::string& path) {
    const auto limits = hardware::memory_limits();
    KnownMachine known{
        placement::assumed_machine(hardware::usable_cores(), limits ? limits->physical_bytes : 0), {}, false};
    known.disk = known.machine.disks.front();
    const auto fingerprint = this_fingerprint();
    auto saved = placement::load_machine(profile_file);
    const bool usable = saved && fingerprint && saved->fingerprint == *fingerprint &&
                        std::time(nullptr) - saved->measured_s < placement::kStaleAfterSeconds;
    if (!usable) return known;
    known.machine = *std::move(saved);
    if (const placement::DiskProfile* disk = known_disk(known.machine, path)) {
        known.disk = *disk;
        known.disk_measured = true;
    }
    return known;
}

void glance_at_unknown_disk(KnownMachine& known, const std::string& path) {
    if (known.disk_measured) return;
    if (auto points = storage::glance_at_disk(path)) known.disk.points = *std::move(points);
}

}  // namespace hypura::engine
