#include "placement/cost_model.h"

#include "base/bytes.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace hypura::placement {
namespace {

// Nodes of libllama's graph a layer: norms, products, rotations, attention, additions; a mixture adds its router.
constexpr double kDenseNodes = 26;
constexpr double kRoutedNodes = 20;
// Of the embedding's width, that a node on a card reads and writes for a token. Fitted (docs/devices.md): some nodes
// are views, others have rows of their own width or are computed together with the one before.
constexpr double kRowsOfNode = 1.5;
// A cut of the graph: the callback, a synchronisation of the threads, and the bookkeeping of slots. docs/placement.md
// says how it was measured.
constexpr double kCutUs = 25;
constexpr double kPieceBytes = 4.0 * kMiB;  // of the block reader
constexpr double kMostDepth = 64;           // reads in flight
// Of the missed experts, those that are on their way before their layer is routed, and what is read for nothing, over
// what is needed: measured, docs/residency.md and docs/benchmarks.md.
constexpr double kForeseenShare = 0.6;
constexpr double kWasteShare = 0.04;
constexpr double kReadLanes = 2;  // of the experts' slices, so that they come one after another
// A page fault brings in what read-ahead reads around it, one at a time for each thread that faults. Experts lie apart
// and every new page drives out another; a dense model is one long scan, which read-ahead knows. Fitted: a mixture of
// 8.4 GB at 4 GiB came in at 0.19 GB/s where such reads gave 0.9, a dense model of 5.2 GB at 3 GiB at 1.8 GB/s where
// reads of 1 MiB gave 2.3.
constexpr double kFaultBytes = 128.0 * kKiB;
constexpr double kFaultEfficiency = 0.2;
constexpr double kScanEfficiency = 0.75;
constexpr double kLoadDepth = 8;
// Of the bandwidth that the disk has by itself, while the processor computes: both use the same memory, and on small
// machines the same cores. Fitted; docs/placement.md has the figures.
constexpr double kShareWhileComputing = 0.9;
// Of the rate that a product has by itself, between all the other nodes of a token. Fitted likewise; weights that are
// rearranged are computed without reading beside it.
constexpr double kProductShare = 0.8;
constexpr double kResidentProductShare = 0.85;

const ComputeDevice& processor(const CostInputs& inputs) { return inputs.machine.devices.front(); }

double seconds_for(const CostInputs& inputs, double bytes, const std::string& format, double tokens, ProductKind kind) {
    const double rate = weight_rate(processor(inputs), format, kind, tokens);
    return rate > 0 ? bytes / (rate * (kind.repacked ? kResidentProductShare : kProductShare)) : 0;
}

double layers_with_experts(const CostInputs& inputs) { return static_cast<double>(inputs.demand.experts.size()); }

double used_share(const ExpertLayer& layer, uint64_t used) {
    return used == 0 ? 1 : static_cast<double>(used) / static_cast<double>(layer.experts);
}

// Experts of a layer that a pass of `tokens` touches. Layers are mostly alike, so each number of experts is worked out
// once.
class TouchedExperts {
public:
    TouchedExperts(const CostInputs& inputs, double tokens) : inputs_(inputs), tokens_(tokens) {}

    double of(const ExpertLayer& layer) {
        const uint64_t used = inputs_.demand.shape.experts_used;
        if (used == 0) return layer.experts;
        if (tokens_ <= 1) return static_cast<double>(used);
        const auto [place, is_new] = known_.try_emplace(layer.experts, 0.0);
        if (is_new) place->second = expected_union(layer.experts, used, inputs_.workload.routing, tokens_);
        return place->second;
    }

private:
    const CostInputs& inputs_;
    double tokens_;
    std::map<uint32_t, double> known_;
};

// Each touched expert multiplies the columns of the tokens that chose it.
double expert_seconds(const CostInputs& inputs, double tokens, bool repacked) {
    double seconds = 0;
    TouchedExperts touched_experts(inputs, tokens);
    for (const ExpertLayer& layer : inputs.demand.experts) {
        const double touched = touched_experts.of(layer);
        const double columns =
            std::max(1.0, tokens * used_share(layer, inputs.demand.shape.experts_used) * layer.experts / touched);
        for (const auto& [format, bytes] : layer.formats)
            seconds += seconds_for(inputs, static_cast<double>(bytes) * touched / layer.experts, format, columns,
                                   {.repacked = repacked, .routed = true});
    }
    return seconds;
}

double dense_seconds(const CostInputs& inputs, double tokens, bool repacked) {
    double seconds = 0;
    for (const DenseMatrix& matrix : inputs.demand.dense) {
        // Only the last token of a pass needs logits.
        const double columns = matrix.role == gguf::TensorRole::kOutput ? 1 : tokens;
        seconds +=
            seconds_for(inputs, static_cast<double>(matrix.bytes), matrix.format, columns, {.repacked = repacked});
    }
    if (inputs.demand.tied_output_bytes > 0)
        seconds += seconds_for(inputs, static_cast<double>(inputs.demand.tied_output_bytes),
                               inputs.demand.tied_output_format, 1, {.repacked = repacked});
    return seconds;
}

// Every token reads the keys and values of the context before it.
double attention_seconds(const CostInputs& inputs, double tokens) {
    const double bytes = static_cast<double>(inputs.demand.cache_values_per_token) * inputs.cache_bytes_per_value *
                         inputs.workload.depth_tokens;
    const double bandwidth = inputs.machine.memory_bytes_per_second;
    // Columns of one pass share what is read; arithmetic then takes over, at some eight columns a read.
    return bandwidth > 0 ? bytes * std::max(1.0, tokens / 8) / bandwidth : 0;
}

// On a processor the rows of a pass lie in its caches, and what a node costs is starting its threads.
double node_seconds(const CostInputs& inputs, double tokens) {
    const double nodes =
        static_cast<double>(inputs.demand.shape.layers) * kDenseNodes + layers_with_experts(inputs) * kRoutedNodes;
    const double started_s = nodes * processor(inputs).node_us / 1e6;
    if (processor(inputs).kind == "cpu" || inputs.machine.memory_bytes_per_second <= 0) return started_s;
    const double row_bytes = static_cast<double>(inputs.demand.shape.embedding) * sizeof(float);
    return started_s + nodes * kRowsOfNode * tokens * row_bytes / inputs.machine.memory_bytes_per_second;
}

// ---- reading -------------------------------------------------------------------------------------------------------

double read_seconds(const CostInputs& inputs, double bytes, double request_bytes, double depth) {
    if (bytes <= 0) return 0;
    const double request = std::clamp(request_bytes, 1.0, kPieceBytes);
    const double pieces = std::max(1.0, request_bytes / kPieceBytes);
    const double rate = storage::bandwidth_at(inputs.disk.points, request, std::clamp(depth * pieces, 1.0, kMostDepth));
    return rate > 0 ? bytes / (rate * kShareWhileComputing) : INFINITY;
}

// What a pass reads of the experts: `missed` of the demands.
struct ExpertReads {
    double bytes = 0;
    double seconds = 0;
    double slices = 0;  // reads
};

ExpertReads expert_reads(const CostInputs& inputs, double tokens, double missed) {
    ExpertReads reads;
    TouchedExperts touched(inputs, tokens);
    for (const ExpertLayer& layer : inputs.demand.experts) {
        const double experts = touched.of(layer) * missed * (1 + kWasteShare);
        const double bytes = experts * static_cast<double>(layer.expert_bytes);
        const double slice_bytes = static_cast<double>(layer.expert_bytes) / std::max(layer.slices, 1U);
        reads.bytes += bytes;
        reads.seconds += read_seconds(inputs, bytes, slice_bytes, kReadLanes);
        reads.slices += experts * layer.slices;
    }
    return reads;
}

// Of mapped weights.
double fault_seconds(const CostInputs& inputs, double dense_bytes, double expert_bytes) {
    const double scan = storage::bandwidth_at(inputs.disk.points, kMiB, 1) * kScanEfficiency;
    const double faults = storage::bandwidth_at(inputs.disk.points, kFaultBytes, 1) * kFaultEfficiency;
    const auto seconds = [](double bytes, double rate) { return bytes <= 0 ? 0 : rate > 0 ? bytes / rate : INFINITY; };
    return seconds(dense_bytes, scan) + seconds(expert_bytes, faults);
}

struct DenseReads {
    double bytes = 0;
    double seconds = 0;
    double matrices = 0;
};

DenseReads dense_reads(const CostInputs& inputs, const StreamProblem& problem, const StreamPlan& layout) {
    DenseReads reads;
    for (size_t d = 0; d < problem.dense.size(); ++d) {
        if (!layout.dense_streamed[d]) continue;
        const auto bytes = static_cast<double>(problem.dense[d].bytes);
        reads.bytes += bytes;
        reads.seconds += read_seconds(inputs, bytes, bytes, std::max(1U, problem.ring_slots - 1));
        ++reads.matrices;
    }
    return reads;
}

// Of all experts, in slots. Classes of experts come first in the layout, each serving some of the layers.
double pool_share(const StreamProblem& problem, const StreamPlan& layout) {
    double held = 0, all = 0;
    std::vector<bool> counted(layout.classes.size());
    for (size_t g = 0; g < problem.experts.size(); ++g) {
        const uint32_t slot_class = layout.expert_class[g];
        all += problem.experts[g].experts;
        if (!counted[slot_class]) held += layout.classes[slot_class].slots;
        counted[slot_class] = true;
    }
    return all > 0 ? std::min(1.0, held / all) : 1;
}

// How long the arithmetic stands still for experts that nobody foresaw. Those that are there are multiplied while the
// others are read, so the waits are what the experts' own arithmetic does not fill; the first slice of each layer is
// waited for in any case.
double expert_stall(const CostInputs& inputs, const ExpertReads& reads, double expert_arithmetic_s) {
    if (reads.seconds <= 0) return 0;
    const double unforeseen_s = reads.seconds * (1 - kForeseenShare);
    const double first_slices_s =
        unforeseen_s * std::min(1.0, layers_with_experts(inputs) / std::max(reads.slices, 1.0));
    return std::max(unforeseen_s - expert_arithmetic_s, first_slices_s);
}

// Arithmetic and reading of a pass side by side. Dense matrices are read evenly: the slower of both counts. Which
// experts a layer lacks varies, so that the disk is idle at one layer and the processor at another: the cubic mean of
// both sums, between their maximum and their sum, fits what was measured.
double side_by_side(double arithmetic_s, double reading_s, bool reads_experts) {
    return reads_experts ? std::cbrt(std::pow(arithmetic_s, 3) + std::pow(reading_s, 3))
                         : std::max(arithmetic_s, reading_s);
}

double passes(const Workload& workload, uint32_t batch_tokens) {
    return std::ceil(static_cast<double>(workload.prompt_tokens) / std::max(batch_tokens, 1U));
}

double load_seconds(const CostInputs& inputs, double bytes) {
    return read_seconds(inputs, bytes, kPieceBytes, kLoadDepth);
}

}  // namespace

std::string Prediction::bottleneck() const { return exposed_read_s > compute_s ? "disk" : "memory and processor"; }

double pass_tokens(const CostInputs& inputs) {
    return std::min(inputs.workload.prompt_tokens, inputs.workload.batch_tokens);
}

void fill_prefill(Prediction& prediction, const CostInputs& inputs, double pass_s) {
    const double prompt_s = passes(inputs.workload, inputs.workload.batch_tokens) * pass_s;
    prediction.first_token_s = prompt_s;
    prediction.prefill_tokens_per_second = prompt_s > 0 ? inputs.workload.prompt_tokens / prompt_s : 0;
}

double compute_seconds(const CostInputs& inputs, double tokens, bool repacked) {
    return dense_seconds(inputs, tokens, repacked) + expert_seconds(inputs, tokens, repacked) +
           attention_seconds(inputs, tokens) + node_seconds(inputs, tokens);
}

Prediction predict_resident(const CostInputs& inputs) {
    Prediction prediction;
    prediction.compute_s = prediction.token_s = compute_seconds(inputs, 1, true);
    prediction.load_s = load_seconds(inputs, static_cast<double>(inputs.demand.tensor_bytes));
    fill_prefill(prediction, inputs, compute_seconds(inputs, pass_tokens(inputs), true));
    return prediction;
}

// The page cache keeps what every token uses if it has room for all of that, and experts in what remains; a scan that
// does not fit is read anew for every token.
Prediction predict_mmap(const CostInputs& inputs, uint64_t cache_bytes) {
    const auto every_token = static_cast<double>(inputs.demand.dense_bytes() + inputs.demand.fixed_bytes);
    const auto experts = static_cast<double>(inputs.demand.expert_bytes());
    const double room = static_cast<double>(cache_bytes) - every_token;
    const MissCurve curve =
        MissCurve::expected(inputs.demand.shape.experts, inputs.demand.shape.experts_used, inputs.workload.routing);
    Prediction prediction;
    prediction.expert_miss = experts == 0 || room >= experts ? 0 : room <= 0 ? 1 : curve.miss(room / experts);
    const double dense_bytes = room < 0 ? every_token : 0;
    const double expert_bytes = static_cast<double>(inputs.demand.token_expert_bytes()) * prediction.expert_miss;
    prediction.read_bytes_per_token = dense_bytes + expert_bytes;
    prediction.compute_s = compute_seconds(inputs, 1, false);
    prediction.read_s = prediction.exposed_read_s = fault_seconds(inputs, dense_bytes, expert_bytes);
    prediction.token_s = prediction.compute_s + prediction.read_s;
    const double tokens = pass_tokens(inputs);
    const double pass_expert_bytes = room >= experts ? 0 : expert_reads(inputs, tokens, 1).bytes;
    fill_prefill(prediction, inputs,
                 compute_seconds(inputs, tokens, false) + fault_seconds(inputs, dense_bytes, pass_expert_bytes));
    return prediction;
}

Prediction predict_stream(const CostInputs& inputs, const StreamProblem& problem, const StreamPlan& layout) {
    const double share = pool_share(problem, layout);
    const MissCurve curve =
        MissCurve::expected(inputs.demand.shape.experts, inputs.demand.shape.experts_used, inputs.workload.routing);
    const DenseReads dense = dense_reads(inputs, problem, layout);
    const double cuts_s = (layers_with_experts(inputs) + dense.matrices) * kCutUs / 1e6;
    Prediction prediction;
    prediction.expert_miss = share >= 1 ? 0 : curve.miss(share);
    const ExpertReads experts = expert_reads(inputs, 1, prediction.expert_miss);
    prediction.compute_s = compute_seconds(inputs, 1, false) + cuts_s;
    prediction.read_s = experts.seconds + dense.seconds;
    const double stall_s = expert_stall(inputs, experts, expert_seconds(inputs, 1, false));
    prediction.token_s =
        side_by_side(stall_s + std::max(prediction.compute_s, dense.seconds), prediction.read_s, experts.bytes > 0);
    prediction.exposed_read_s = prediction.token_s - prediction.compute_s;
    prediction.read_bytes_per_token = experts.bytes + dense.bytes;
    // A prompt goes through the layers in order, pass by pass: a cyclic scan, of which a pool that does not hold
    // everything finds nothing again. What it touches of a layer is read once a pass.
    const double tokens = pass_tokens(inputs);
    const ExpertReads pass_experts = expert_reads(inputs, tokens, share >= 1 ? 0 : 1);
    const double pass_stall_s = expert_stall(inputs, pass_experts, expert_seconds(inputs, tokens, false));
    const double pass_s = pass_stall_s + std::max(compute_seconds(inputs, tokens, false) + cuts_s, dense.seconds);
    const double pass_read_s = pass_experts.seconds + dense.seconds;
    fill_prefill(prediction, inputs, side_by_side(pass_s, pass_read_s, pass_experts.bytes > 0));
    prediction.load_s = load_seconds(inputs, static_cast<double>(layout.resident_bytes));
    return prediction;
}

}  // namespace hypura::placement
