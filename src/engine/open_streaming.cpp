// Streaming: view, capture, plan, load, bind.
#include "base/bytes.h"
#include "engine/device_share.h"
#include "engine/graph_capture.h"
#include "engine/llama_library.h"
#include "engine/pass.h"
#include "engine/resident_loader.h"
#include "engine/router_copies.h"
#include "engine/runtime.h"
#include "hardware/data_limit.h"
#include "hardware/memory.h"
#include "placement/model_demand.h"
#include "placement/planner.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>

namespace hypura::engine {
namespace {

// Work buffers of ggml's threads, sampling, HTTP, allocator slack: what no one announces beforehand.
constexpr uint64_t kUnannouncedBytes = 96 * kMiB;
constexpr uint64_t kTriedBeyondBytes = 256 * kMiB;  // the budget: so far a context is made to see what it takes

// glibc raises its mmap threshold when a large buffer is freed; the next context would then come out of memory that is
// already counted, and ProcessMemory::data_bytes would not grow.
void keep_large_buffers_apart() {
#ifdef __GLIBC__
    ::mallopt(M_MMAP_THRESHOLD, 128 * 1024);
#endif
}

Result<std::vector<storage::DirectFile>> open_files(const gguf::ModelFile& model) {
    std::vector<storage::DirectFile> files;
    for (const gguf::Part& part : model.parts) {
        HYPURA_ASSIGN(auto file, storage::DirectFile::open(part.path));
        files.push_back(std::move(file));
    }
    return files;
}

Result<std::unique_ptr<storage::BlockReader>> make_reader(const gguf::ModelFile& model,
                                                          const storage::ReaderOptions& options,
                                                          const storage::FaultPlan& fault) {
    HYPURA_ASSIGN(auto raw, storage::make_raw_reader(options));
    if (fault.nth > 0) raw = storage::make_fault_reader(std::move(raw), fault);
    HYPURA_ASSIGN(auto files, open_files(model));
    return std::make_unique<storage::BlockReader>(std::move(raw), std::move(files));
}

// A wait for experts takes a millisecond or two, some dozens of times a token, and libggml's threads wait in loops
// meanwhile, too. On few cores that wins nothing, and little may be left for the thread that commits slots, which gives
// way to all others: two cores had the first token of a prompt of 16 after 2.5 instead of 2.0 s.
storage::ReaderOptions polling_on_many_cores(storage::ReaderOptions options) {
    constexpr uint32_t kManyCores = 8;
    if (hardware::usable_cores() >= kManyCores) options.poll_us = 20'000;
    return options;
}

// A graph on several devices comes in parts, and the abort flag would end it with the first: it is computed, over
// zeros, and only the products of experts are left out.
class WithoutExperts final : public EvalObserver {
public:
    explicit WithoutExperts(GraphCapture& capture) : capture_(capture) {}

    bool ask(ggml_tensor* node) override {
        capture_.ask(node);
        if (node->op == GGML_OP_MUL_MAT_ID) {
            node->op = GGML_OP_NONE;
            emptied_.push_back(node);
        }
        return false;
    }
    bool computed(ggml_tensor*) override { return true; }
    // libllama reuses graphs.
    void end_pass() {
        for (ggml_tensor* node : emptied_) node->op = GGML_OP_MUL_MAT_ID;
        emptied_.clear();
    }

private:
    GraphCapture& capture_;
    std::vector<ggml_tensor*> emptied_;
};

// Lets libllama build the graphs of a single token and of a batch, without computing them if that can be had.
Status capture_graphs(Runtime& runtime, GraphCapture& capture) {
    const std::vector<Token> tokens(std::min(runtime.report.batch_tokens, 4U), 0);
    WithoutExperts without_experts(capture);
    const bool several_devices = !runtime.devices.empty();
    runtime.eval.observer = several_devices ? static_cast<EvalObserver*>(&without_experts) : &capture;
    runtime.eval.abort = !several_devices;
    for (const size_t count : {size_t{1}, tokens.size()}) {
        for (const Pass pass : passes_of(*runtime.model)) {
            capture.begin_pass();
            run_batch(runtime, pass, pass_of(std::span(tokens).first(count), 0, true));
            without_experts.end_pass();
        }
    }
    runtime.eval.abort = false;
    runtime.eval.observer = nullptr;
    take_llama_complaints();  // "aborted" is what was asked for
    if (llama_memory_t memory = llama_get_memory(runtime.context.get())) llama_memory_clear(memory, true);
    if (!capture.saw_nodes())
        return fail(ErrorCode::kUnsupportedModel, "{}: libllama built no graph for it", runtime.file.parts[0].path);
    return {};
}

// Everything rests on libllama having mapped the view: were it to read the file instead, its tensors would be
// elsewhere.
Status check_mapping(const Runtime& runtime, const GraphCapture& capture) {
    for (const CapturedWeight& weight : capture.weights()) {
        if (weight.tensor == nullptr && !weight.on_device.empty()) continue;
        if (weight.tensor == nullptr)
            return fail(ErrorCode::kUnsupportedModel,
                        "{}: libllama copies {} between devices instead of computing where it lies; use --device none",
                        runtime.file.parts[0].path, weight.info->name);
        const std::byte* const expected = runtime.view->part_memory(weight.info->part) + weight.info->file_offset;
        if (weight.tensor->data != expected)
            return fail(ErrorCode::kUnsupportedHost,
                        "{}: libllama did not map the model ({} lies elsewhere); use --mode mmap",
                        runtime.file.parts[0].path, weight.info->name);
    }
    return {};
}

struct Candidate {
    GraphCapture capture;
    StreamLayout layout;
    DeviceShare share;
    placement::StreamProblem problem;
    uint64_t context_bytes = 0;
    uint64_t process_bytes = 0;  // memory of the process before there was a context
};

uint64_t left_beside(const EngineOptions& options, const hardware::ProcessMemory& process) {
    return options.ram_bytes - std::min(options.ram_bytes, process.anonymous_bytes);
}

// The KV cache alone is beyond the budget. An estimate, so it is only asked once libllama could not make the context.
Status check_cache(const Runtime& runtime, const EngineOptions& options, uint64_t left_bytes) {
    const uint32_t context = options.context_tokens;  // 0: the default, which is small
    const placement::ModelDemand demand = placement::model_demand(runtime.file);
    const uint64_t cache_bytes = placement::cache_size_bytes(demand, context, options.cache_types.front());
    if (cache_bytes <= left_bytes) return {};
    return fail(ErrorCode::kBudgetTooSmall,
                "{}: --ram {} cannot work: the KV cache of {} tokens takes {}; lower --ctx or raise --ram",
                runtime.file.parts[0].path, format_bytes(options.ram_bytes), context, format_bytes(cache_bytes));
}

// libllama fills its buffers as soon as it has them, so one that is far beyond the budget must fail, not be taken and
// then measured. What is little beyond is measured: then the error can say what would work.
Status make_context_within_budget(Runtime& runtime, const EngineOptions& options, uint32_t batch_tokens,
                                  const hardware::ProcessMemory& process) {
    const uint64_t left_bytes = left_beside(options, process);
    const hardware::DataLimit limit(process.data_bytes + left_bytes + kTriedBeyondBytes);
    Status made = make_context(runtime, options, batch_tokens);
    if (!made) HYPURA_TRY(check_cache(runtime, options, left_bytes));
    return made;
}

// What the process holds beside weights.
uint64_t other_bytes(const Candidate& candidate) {
    return candidate.process_bytes + candidate.context_bytes + kUnannouncedBytes;
}

// What the budget leaves for weights.
uint64_t named_budget(const EngineOptions& options, const Candidate& candidate) {
    if (options.weights_bytes > 0) return options.weights_bytes;
    return options.ram_bytes - std::min(options.ram_bytes, other_bytes(candidate));
}

// About what the budget leaves for RAM slots of experts.
uint64_t ram_for_experts(const EngineOptions& options, const Candidate& candidate) {
    const uint64_t weights_bytes = named_budget(options, candidate);
    uint64_t fixed_bytes = 0;
    for (const CapturedWeight& weight : candidate.layout.fixed) fixed_bytes += weight.info->size_bytes;
    for (const TableLayout& table : candidate.layout.tables) fixed_bytes += table.kept_bytes;
    return weights_bytes - std::min(weights_bytes, fixed_bytes);
}

// Makes a context of `batch_tokens` and finds out what can be streamed beneath it.
Result<Candidate> try_batch(Runtime& runtime, const EngineOptions& options, uint32_t batch_tokens,
                            std::span<const storage::DirectFile> files) {
    runtime.context.reset();
    HYPURA_ASSIGN(const hardware::ProcessMemory before, hardware::process_memory());
    HYPURA_TRY(make_context_within_budget(runtime, options, batch_tokens, before));
    Candidate candidate{GraphCapture(runtime.file), {}, {}, {}, 0, before.anonymous_bytes};
    HYPURA_TRY(capture_graphs(runtime, candidate.capture));
    HYPURA_TRY(check_mapping(runtime, candidate.capture));
    HYPURA_ASSIGN(const hardware::ProcessMemory after, hardware::process_memory());
    candidate.context_bytes = after.data_bytes - std::min(after.data_bytes, before.data_bytes);
    candidate.layout = lay_out(candidate.capture, files, batch_tokens, options.smallest_pool);
    candidate.share = share_out_devices(runtime, options, ram_for_experts(options, candidate), candidate.layout);
    candidate.problem =
        stream_problem(candidate.layout, batch_tokens, static_cast<uint32_t>(runtime.shape.experts_used));
    for (const DeviceShare::Bank& bank : candidate.share.partial)
        candidate.problem.fixed_bytes += RouterCopies::bytes(bank.group.router);
    return candidate;
}

uint64_t weights_budget(const EngineOptions& options, const Candidate& candidate) {
    return options.smallest_pool ? placement::smallest_weights_bytes(candidate.problem)
                                 : named_budget(options, candidate);
}

Error budget_error(const Runtime& runtime, const EngineOptions& options, const Candidate& candidate) {
    const bool by_weights = options.weights_bytes > 0;
    const uint64_t smallest_bytes = placement::smallest_weights_bytes(candidate.problem);
    const uint64_t fixed_bytes = placement::smallest_fixed_bytes(candidate.problem);
    const std::string own =
        std::format(", the program itself {}", format_bytes(candidate.process_bytes + kUnannouncedBytes));
    return {
        ErrorCode::kBudgetTooSmall,
        std::format(
            "{}: {} {} cannot work; the smallest that works is {} ({} of weights cannot be streamed, the KV cache "
            "and compute buffers take {}, one pass needs {} of slots{})",
            runtime.file.parts[0].path, by_weights ? "--weights" : "--ram",
            format_bytes(by_weights ? options.weights_bytes : options.ram_bytes),
            format_bytes_up(smallest_bytes + (by_weights ? 0 : other_bytes(candidate))), format_bytes(fixed_bytes),
            format_bytes(candidate.context_bytes), format_bytes(smallest_bytes - fixed_bytes), by_weights ? "" : own)};
}

// Large batches need more of a layer's experts at once: where they do not fit, halve.
Result<Candidate> fit_batch(Runtime& runtime, const EngineOptions& options,
                            std::span<const storage::DirectFile> files) {
    for (uint32_t batch_tokens = options.batch_tokens;; batch_tokens = (batch_tokens + 1) / 2) {
        auto tried = try_batch(runtime, options, batch_tokens, files);
        if (!tried && tried.error().code == ErrorCode::kOutOfMemory && batch_tokens > 1) continue;
        HYPURA_ASSIGN(Candidate candidate, std::move(tried));
        candidate.problem.weights_bytes = weights_budget(options, candidate);
        const uint64_t smallest_bytes = placement::smallest_weights_bytes(candidate.problem);
        if (smallest_bytes <= candidate.problem.weights_bytes) return candidate;
        if (batch_tokens > 1) continue;
        return std::unexpected(budget_error(runtime, options, candidate));
    }
}

std::vector<const gguf::TensorInfo*> resident_tensors(const StreamLayout& layout, const placement::StreamPlan& plan) {
    std::vector<const gguf::TensorInfo*> resident;
    resident.reserve(layout.fixed.size() + layout.tables.size() + layout.dense.size());
    for (const CapturedWeight& weight : layout.fixed) resident.push_back(weight.info);
    if (!plan.rows_streamed)
        for (const TableLayout& table : layout.tables) resident.push_back(table.weight.info);
    for (size_t d = 0; d < layout.dense.size(); ++d)
        if (!plan.dense_streamed[d]) resident.push_back(layout.dense[d].part.info);
    return resident;
}

Status load_weights(Runtime& runtime, const EngineOptions& options, const StreamLayout& layout,
                    const placement::StreamPlan& plan) {
    HYPURA_ASSIGN(auto reader, make_reader(runtime.file, options.reader, options.load_fault));
    const auto progress = [&](uint64_t done, uint64_t total) {
        if (options.on_load) options.on_load({done, total});
    };
    HYPURA_TRY(load_resident(*runtime.view, resident_tensors(layout, plan), *reader, progress));
    HYPURA_TRY(load_on_devices(layout.device, *reader, progress));
    runtime.report.load_reads = reader->counters();
    return {};
}

std::string_view plural(size_t count) { return count == 1 ? "" : "s"; }

std::vector<std::string> table_notes(const StreamLayout& layout) {
    std::vector<std::string> notes;
    notes.reserve(layout.tables.size());
    for (const TableLayout& table : layout.tables)
        notes.push_back(std::format("{} ({}): rows are read as tokens name them", table.weight.info->name,
                                    format_bytes(table.weight.info->size_bytes)));
    return notes;
}

// What is streamed; of what could be and is not, why.
std::vector<std::string> dense_notes(const StreamLayout& layout, const placement::StreamPlan& plan, bool has_room) {
    std::vector<std::string> notes;
    uint64_t kept_bytes = 0;
    size_t streamed = 0;
    for (size_t d = 0; d < layout.dense.size(); ++d) {
        if (plan.dense_streamed[d])
            ++streamed;
        else
            kept_bytes += layout.dense[d].part.bytes;
    }
    const size_t kept = layout.dense.size() - streamed;
    if (streamed > 0)
        notes.push_back(std::format("{} of {} dense matrices are streamed", streamed, layout.dense.size()));
    if (kept > 0)
        notes.push_back(std::format("{} dense matri{} ({}) stay{} in memory: {}", kept, kept == 1 ? "x" : "ces",
                                    format_bytes(kept_bytes), kept == 1 ? "s" : "",
                                    has_room ? "the budget has room" : "slots would take as much as the weights do"));
    return notes;
}

std::vector<std::string> notes_of(const Runtime& runtime, const Candidate& candidate,
                                  const placement::StreamPlan& plan) {
    const StreamLayout& layout = candidate.layout;
    const bool has_room = candidate.problem.weights_bytes > placement::smallest_weights_bytes(candidate.problem);
    std::vector<std::string> notes;
    if (!layout.groups.empty())
        notes.push_back(
            std::format("experts of {} layer{} are streamed", layout.groups.size(), plural(layout.groups.size())));
    notes.append_range(dense_notes(layout, plan, has_room));
    if (plan.rows_streamed) notes.append_range(table_notes(layout));
    const bool streams = !plan.classes.empty();
    if (!streams)
        notes.emplace_back("nothing is streamed");
    else if (placement::never_evicts(candidate.problem, plan))
        notes.push_back(std::format("nothing is evicted: there is a slot for all that is streamed{}",
                                    has_room ? "" : ", since one pass may need all of it"));
    notes.append_range(layout.notes);
    const size_t unread = runtime.file.tensors.size() - candidate.capture.weights().size();
    if (unread > 0)
        notes.push_back(std::format("{} tensor{} of the file {} read by no computation", unread, plural(unread),
                                    unread == 1 ? "is" : "are"));
    return notes;
}

void describe(Runtime& runtime, const Candidate& candidate, const placement::StreamPlan& plan) {
    Report& report = runtime.report;
    const StreamLayout& layout = candidate.layout;
    for (const placement::ExpertGroup& group : candidate.problem.experts)
        report.streamed_bytes += group.expert_bytes * group.experts;
    for (size_t d = 0; d < layout.dense.size(); ++d)
        if (plan.dense_streamed[d]) report.scanned_bytes += layout.dense[d].part.bytes;
    report.streamed_bytes += report.scanned_bytes;
    if (plan.rows_streamed)
        for (const TableLayout& table : layout.tables) report.streamed_bytes += table.weight.info->size_bytes;
    report.notes = notes_of(runtime, candidate, plan);
    for (const DeviceWeight& weight : layout.device) report.device_weight_bytes += weight.info->size_bytes;
    report.resident_bytes = plan.resident_bytes;
    report.slot_bytes = plan.slot_bytes;
    report.context_bytes = candidate.context_bytes;
}

// With a queue of their own: slots have reads under way all the time, and rows are waited for at once. All side by
// side: a long prompt names hundreds, and what a page costs is latency.
Status stream_rows(Runtime& runtime, const EngineOptions& options, const StreamLayout& layout) {
    storage::ReaderOptions side_by_side = polling_on_many_cores(options.reader);
    side_by_side.lanes = 0;
    HYPURA_ASSIGN(auto reader, make_reader(runtime.file, side_by_side, options.row_fault));
    runtime.streamer->read_rows_with(std::make_unique<RowTables>(layout.tables, *runtime.view, std::move(reader)));
    return {};
}

}  // namespace

Status open_streaming(Runtime& runtime, const EngineOptions& options) {
    keep_large_buffers_apart();
    HYPURA_ASSIGN(ModelView view, ModelView::create(runtime.file));
    runtime.view = std::move(view);
    HYPURA_TRY(load_llama_model(runtime, runtime.view->paths(), LLAMA_LOAD_MODE_MMAP, false, {}));
    HYPURA_ASSIGN(runtime.reader, make_reader(runtime.file, polling_on_many_cores(options.reader), options.fault));
    HYPURA_ASSIGN(Candidate candidate, fit_batch(runtime, options, runtime.reader->files()));
    HYPURA_ASSIGN(placement::StreamPlan plan, placement::plan_streaming(candidate.problem));
    HYPURA_ASSIGN(const std::vector<DeviceBank*> banks, make_banks(runtime, candidate.share, candidate.layout));
    // Experts that moved to a device give the scheduler another graph to reserve memory for.
    if (!runtime.banks.empty()) HYPURA_TRY(make_context(runtime, options, runtime.report.batch_tokens));
    HYPURA_TRY(load_weights(runtime, options, candidate.layout, plan));
    HYPURA_ASSIGN(runtime.streamer,
                  WeightStreamer::create(candidate.layout, plan, candidate.capture.dense_order(), *runtime.view,
                                         *runtime.reader, static_cast<uint32_t>(llama_n_threads(runtime.context.get())),
                                         banks, slot_memory(runtime, banks)));
    if (plan.rows_streamed) HYPURA_TRY(stream_rows(runtime, options, candidate.layout));
    HYPURA_ASSIGN(runtime.attention_rows,
                  AttentionRows::create(static_cast<uint32_t>(llama_n_threads(runtime.context.get()))));
    runtime.eval.observer = runtime.streamer.get();
    describe(runtime, candidate, plan);
    return {};
}

}  // namespace hypura::engine
