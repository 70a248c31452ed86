#include "engine/engine.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "engine/batch_engine.h"
#include "engine/machine_probe.h"
#include "engine/runtime.h"
#include "hardware/memory.h"
#include "placement/card_count.h"
#include "placement/device_choice.h"
#include "placement/pass_size.h"

#include <algorithm>
#include <array>
#include <format>
#include <utility>

namespace hypura::engine {
namespace {

// busy_us stays that of the slots: rows are read while they are, too.
storage::ReadCounters with_rows(storage::ReadCounters reads, const storage::ReadCounters& rows) {
    reads.reads += rows.reads;
    reads.bytes += rows.bytes;
    reads.retries += rows.retries;
    reads.failures += rows.failures;
    return reads;
}

struct ModeName {
    Mode mode;
    std::string_view name;
};
constexpr std::array kModeNames = {ModeName{Mode::kAuto, "auto"}, ModeName{Mode::kResident, "resident"},
                                   ModeName{Mode::kStream, "stream"}, ModeName{Mode::kMmap, "mmap"}};

std::optional<placement::PlanMode> to_plan_mode(Mode mode) {
    switch (mode) {
        case Mode::kResident:
            return placement::PlanMode::kResident;
        case Mode::kStream:
            return placement::PlanMode::kStream;
        case Mode::kMmap:
            return placement::PlanMode::kMmap;
        case Mode::kAuto:
            break;
    }
    return std::nullopt;
}

Mode from_plan_mode(placement::PlanMode mode) {
    switch (mode) {
        case placement::PlanMode::kResident:
            return Mode::kResident;
        case placement::PlanMode::kMmap:
            return Mode::kMmap;
        case placement::PlanMode::kStream:
            break;
    }
    return Mode::kStream;
}

constexpr uint32_t kMostSequences = 128;  // libllama's own limit, running and kept ones together, is 256

Status check_sequences(const EngineOptions& options) {
    if (options.sequences == 0 || options.sequences > kMostSequences || options.kept_prefixes > kMostSequences)
        return fail(ErrorCode::kInvalidArgument, "sequences must be 1 to {}, and kept prefixes at most {}",
                    kMostSequences, kMostSequences);
    return {};
}

// libllama takes part of the memory for itself, and other programs may want some.
uint64_t device_room_bytes(const std::vector<ggml_backend_dev_t>& devices, uint64_t vram_bytes) {
    uint64_t room_bytes = 0;
    for (ggml_backend_dev_t device : devices) room_bytes += usable_device_bytes(device);
    return vram_bytes > 0 ? vram_bytes : room_bytes;
}

uint32_t default_context_tokens(const gguf::ModelShape& shape) {
    constexpr uint64_t kMost = 4096;
    return static_cast<uint32_t>(shape.context_train == 0 ? kMost : std::min(shape.context_train, kMost));
}

bool asks_for_drafts(const EngineOptions& options) {
    return options.drafts == DraftKind::kLookup || options.drafts == DraftKind::kModel;
}

class LlamaEngine final : public Engine {
public:
    Status open(const EngineOptions& options);

    Result<std::unique_ptr<Session>> new_session() override {
        if (runtime_.session_lives) return fail(ErrorCode::kInvalidArgument, "the engine has a session already");
        return make_session(runtime_);
    }
    Result<std::unique_ptr<BatchEngine>> new_batch(const BatchOptions& options) override {
        if (runtime_.session_lives) return fail(ErrorCode::kInvalidArgument, "the engine has a session already");
        return make_batch(*this, runtime_, options);
    }
    const gguf::ModelFile& file() const override { return runtime_.file; }
    const gguf::ModelShape& shape() const override { return runtime_.shape; }
    Report report() const override;
    const residency::SlotCache* slot_cache() const override {
        return runtime_.streamer == nullptr ? nullptr : &runtime_.streamer->cache();
    }
    void observe(residency::CacheObserver* observer) override;

    bool has_vocabulary() const override { return llama_vocab_type(vocab()) != LLAMA_VOCAB_TYPE_NONE; }
    uint32_t vocabulary_tokens() const override { return runtime_.logits_row; }
    Result<std::vector<Token>> tokenize(std::string_view text, bool add_special, bool parse_special) const override;
    std::string piece(Token token, bool special) const override;
    bool ends_generation(Token token) const override { return llama_vocab_is_eog(vocab(), token); }
    std::optional<std::string> chat_template_source(ChatTemplate which) const override;
    Token bos_token() const override { return llama_vocab_bos(vocab()); }
    Token eos_token() const override { return llama_vocab_eos(vocab()); }
    const llama_vocab* llama_vocabulary() const override { return vocab(); }
    Drafting* drafting() const override { return runtime_.drafting.get(); }
    bool adds_bos() const override { return llama_vocab_get_add_bos(vocab()); }

private:
    const llama_vocab* vocab() const { return llama_model_get_vocab(runtime_.model.get()); }
    Status decide_budget(EngineOptions& options);
    placement::PlanRequest plan_request(const EngineOptions& options) const;
    Status check_plain_budget(const EngineOptions& options, const Error& too_small) const;
    Status decide_plan(EngineOptions& options);
    placement::DeviceRequest device_request(const EngineOptions& options) const;
    Status take_devices(const EngineOptions& options, const placement::ModelDemand& demand);
    Status decide_devices(EngineOptions& options);
    Status do_without_devices(const EngineOptions& options, uint64_t room_bytes);
    std::optional<placement::DeviceOutlook> outlook_with_devices(const EngineOptions& options,
                                                                 const placement::ModelDemand& demand) const;
    placement::DeviceChoice weigh_devices(const EngineOptions& options,
                                          const std::optional<placement::DeviceOutlook>& outlook) const;
    Status share_model(EngineOptions& options, const placement::ModelDemand& demand);
    Mode mode_with_devices(bool fits_whole) const;
    void take_device_mode(Mode mode, bool fits_whole);
    ggml_backend_dev_t local_device() const;
    void decide_pass_size(EngineOptions& options, const placement::ModelDemand& demand,
                          placement::DeviceRequest request);
    void glance_at_upload_rate();
    uint32_t wanted_context_tokens(const EngineOptions& options) const {
        return options.context_tokens > 0 ? options.context_tokens : default_context_tokens(runtime_.shape);
    }
    Status check_drafts(const EngineOptions& options) const;
    Status weigh_draft_model(const EngineOptions& options);
    Status open_draft_model(const EngineOptions& options);
    Status decide_drafts(const EngineOptions& options);
    void describe_devices(Report& report) const;

    uint64_t page_cache_bytes_ = 0;  // that mapped weights may take; 0: a budget was named
    bool pass_size_is_free_ = false;
    bool uploads_are_timed_ = false;
    KnownMachine known_;
    std::optional<placement::Plan> plan_;  // without devices; empty: none works
    uint64_t draft_bytes_ = 0;             // that a model for drafts will take
    std::unique_ptr<DraftModel> draft_model_;

    Runtime runtime_;
};

Status LlamaEngine::open(const EngineOptions& requested) {
    const int64_t begin_us = now_us();
    EngineOptions options = requested;
    HYPURA_TRY(check_sequences(options));
    HYPURA_ASSIGN(runtime_.file, gguf::open_model(options.model_path));
    if (runtime_.file.tensors.empty())
        return fail(ErrorCode::kUnsupportedModel, "{}: holds no tensors (a vocabulary only?)", options.model_path);
    runtime_.shape = gguf::model_shape(runtime_.file);
    runtime_.report.model_bytes = runtime_.file.tensor_bytes;
    HYPURA_TRY(decide_budget(options));
    pass_size_is_free_ = options.batch_tokens == 0;
    if (pass_size_is_free_) options.batch_tokens = placement::kPassTokens;
    HYPURA_TRY(weigh_draft_model(options));
    HYPURA_TRY(decide_plan(options));
    HYPURA_TRY(decide_devices(options));
    HYPURA_TRY(check_drafts(options));
    HYPURA_TRY(open_draft_model(options));
    HYPURA_TRY(runtime_.report.mode == Mode::kStream ? open_streaming(runtime_, options)
                                                     : open_plain(runtime_, options));
    HYPURA_TRY(decide_drafts(options));
    HYPURA_TRY(gguf::check_unchanged(runtime_.file));  // the header was read before the weights were
    runtime_.report.load_us = now_us() - begin_us;
    return {};
}

// Without --ram: what is really available, less a margin for the rest of the system.
Status LlamaEngine::decide_budget(EngineOptions& options) {
    if (options.ram_bytes == 0) {
        HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
        options.ram_bytes = limits.budget_bytes();
        page_cache_bytes_ = limits.usable_bytes();
    }
    runtime_.report.ram_bytes = options.ram_bytes;
    return {};
}

placement::PlanRequest LlamaEngine::plan_request(const EngineOptions& options) const {
    placement::PlanRequest request;
    request.ram_bytes = options.ram_bytes - std::min(options.ram_bytes, draft_bytes_);
    request.weights_bytes = options.weights_bytes;
    request.page_cache_bytes = page_cache_bytes_;
    request.mode = to_plan_mode(options.mode);
    request.context_tokens = options.context_tokens;
    request.batch_tokens = options.batch_tokens;
    request.cache_types = options.cache_types;
    return request;
}

// A plain mode that was asked for and cannot keep a budget that was named is refused before libllama takes the memory.
Status LlamaEngine::check_plain_budget(const EngineOptions& options, const Error& too_small) const {
    const bool plain = options.mode == Mode::kResident || options.mode == Mode::kMmap;
    const bool budget_was_named = page_cache_bytes_ == 0 || options.weights_bytes > 0;
    if (!plain || !budget_was_named || options.plain_reference) return {};
    const std::string& path = runtime_.file.parts[0].path;
    if (options.weights_bytes > 0)
        return fail(ErrorCode::kBudgetTooSmall,
                    "{}: --weights {} cannot work without streaming; the smallest that works is "
                    "{}MiB",
                    path, format_bytes(options.weights_bytes), runtime_.file.tensor_bytes / kMiB + 1);
    return fail(ErrorCode::kBudgetTooSmall, "{}: --ram {}", path, too_small.message);
}

// The planner predicts from the file's directory; opening then lays out what the graph shows. Where no plan works,
// streaming is tried all the same: it knows exactly what is missing, and says so.
Status LlamaEngine::decide_plan(EngineOptions& options) {
    known_ = known_machine(options.profile_file, options.model_path);
    const bool disk_decides = options.mode == Mode::kAuto && runtime_.file.tensor_bytes > options.ram_bytes / 2;
    if (disk_decides) glance_at_unknown_disk(known_, options.model_path);
    const auto plan = placement::make_plan(placement::model_demand(runtime_.file), known_.machine, known_.disk,
                                           plan_request(options));
    if (!plan) HYPURA_TRY(check_plain_budget(options, plan.error()));
    runtime_.bank_rates = placement::bank_rates(known_.machine, known_.disk, {});
    Report& report = runtime_.report;
    report.mode = options.mode != Mode::kAuto ? options.mode : plan ? from_plan_mode(plan->mode) : Mode::kStream;
    report.reason = options.mode != Mode::kAuto ? "asked for" : plan ? plan->reason : plan.error().message;
    if (plan) {
        report.predicted_tokens_per_second = plan->prediction.decode_tokens_per_second();
        options.context_tokens = plan->context_tokens;
    }
    report.chunk_tokens = plan ? plan->chunk_tokens : placement::kChunkTokens;
    options.cache_types = {plan ? plan->cache_type : options.cache_types.front()};
    report.cache_type = placement::to_string(options.cache_types.front());
    if (plan) plan_ = *plan;
    return {};
}

// What devices are asked to hold, but for their room and whether experts go along.
placement::DeviceRequest LlamaEngine::device_request(const EngineOptions& options) const {
    return {.gpu_layers = options.gpu_layers,
            .context_tokens = wanted_context_tokens(options),
            .batch_tokens = options.batch_tokens,
            .cache_type = options.cache_types.front()};
}

// Those that were named, all of them; else as many cards as make a token fastest. Other machines are always named.
Status LlamaEngine::take_devices(const EngineOptions& options, const placement::ModelDemand& demand) {
    HYPURA_ASSIGN(runtime_.devices, choose_devices(options));
    const std::vector<ggml_backend_dev_t> cards = cards_by_size(runtime_.devices);
    if (!options.devices.empty() || cards.size() < 2) return {};
    std::vector<uint64_t> usable_bytes(cards.size());
    std::ranges::transform(cards, usable_bytes.begin(), usable_device_bytes);
    const placement::CardLimits limits{options.vram_bytes > 0 ? options.vram_bytes : UINT64_MAX, options.ram_bytes};
    placement::DeviceRequest request = device_request(options);
    request.with_experts = options.mode == Mode::kResident || options.mode == Mode::kMmap;
    if (placement::cards_that_hold(demand, request, usable_bytes, limits) > 1) glance_at_upload_rate();
    const size_t used = placement::cards_to_use(demand, request, usable_bytes, limits, runtime_.bank_rates);
    for (size_t unused = used; unused < cards.size(); ++unused) std::erase(runtime_.devices, cards[unused]);
    return {};
}

// Nothing where the profile does not know all of them, or where experts go with their layers, which it cannot tell.
std::optional<placement::DeviceOutlook> LlamaEngine::outlook_with_devices(const EngineOptions& options,
                                                                          const placement::ModelDemand& demand) const {
    const auto machine = with_these_devices(known_.machine, runtime_.devices);
    if (!machine || !plan_) return std::nullopt;
    placement::PlanRequest request = plan_request(options);
    if (pass_size_is_free_) request.batch_tokens = 0;
    const auto outlook = placement::device_outlook(demand, *machine, known_.disk, request, *plan_, options.vram_bytes,
                                                   options.gpu_layers);
    const bool streams = options.mode == Mode::kAuto || options.mode == Mode::kStream;
    const bool is_told =
        streams || demand.experts.empty() || (outlook && outlook->mode == placement::PlanMode::kResident);
    return is_told ? outlook : std::nullopt;
}

// Devices that somebody asked for are used, as are those that nothing is predicted of.
placement::DeviceChoice LlamaEngine::weigh_devices(const EngineOptions& options,
                                                   const std::optional<placement::DeviceOutlook>& outlook) const {
    const bool asked_for = !options.devices.empty() || options.gpu_layers || !options.rpc_servers.empty();
    if (!outlook || asked_for) return {};
    return placement::choose_cards(*outlook, *plan_, plan_request(options).prompt_tokens);
}

Status LlamaEngine::decide_devices(EngineOptions& options) {
    if (options.plain_reference) return {};
    const placement::ModelDemand demand = placement::model_demand(runtime_.file);
    HYPURA_TRY(take_devices(options, demand));
    if (runtime_.devices.empty()) return {};
    const auto outlook = outlook_with_devices(options, demand);
    const placement::DeviceChoice choice = weigh_devices(options, outlook);
    if (choice.use_cards)
        HYPURA_TRY(share_model(options, demand));
    else
        runtime_.devices.clear();
    Report& report = runtime_.report;
    if (!choice.reason.empty()) report.reason += "; " + choice.reason;
    if (!runtime_.devices.empty())
        report.predicted_tokens_per_second = outlook ? outlook->prediction.decode_tokens_per_second() : 0;
    return {};
}

// Everything on the devices if it fits, and then libllama alone is best. Else what every token reads; experts are
// streamed to what is left. Where they are not, and to other machines, they go with their layers.
Status LlamaEngine::share_model(EngineOptions& options, const placement::ModelDemand& demand) {
    placement::DeviceRequest request = device_request(options);
    request.room_bytes = device_room_bytes(runtime_.devices, options.vram_bytes);
    const bool fits_whole = holds_whole_model(demand, request);
    const Mode mode = options.mode == Mode::kAuto ? mode_with_devices(fits_whole) : runtime_.report.mode;
    request.with_experts = mode != Mode::kStream || local_device() == nullptr;
    runtime_.device_plan = plan_devices(demand, request);
    if (runtime_.device_plan.gpu_layers == 0) return do_without_devices(options, request.room_bytes);
    if (options.mode == Mode::kAuto) take_device_mode(mode, fits_whole);
    const bool shares_experts = !request.with_experts && runtime_.shape.experts > 0 && !fits_whole;
    if (shares_experts) glance_at_upload_rate();
    if (runtime_.shape.experts > 0 && (fits_whole || shares_experts) && local_device() != nullptr)
        decide_pass_size(options, demand, request);
    return {};
}

// Nothing of the model fits.
Status LlamaEngine::do_without_devices(const EngineOptions& options, uint64_t room_bytes) {
    if (!options.devices.empty() && options.gpu_layers != 0U)
        return fail(ErrorCode::kBudgetTooSmall, "{}: not even the output layer fits {} of --vram",
                    runtime_.file.parts[0].path, format_bytes(room_bytes));
    runtime_.devices.clear();
    return {};
}

void LlamaEngine::decide_pass_size(EngineOptions& options, const placement::ModelDemand& demand,
                                   placement::DeviceRequest request) {
    if (pass_size_is_free_) {
        request.batch_tokens = options.batch_tokens =
            placement::pass_tokens_with_cards(demand, request, options.ram_bytes, runtime_.bank_rates);
        runtime_.device_plan = plan_devices(demand, request);
    }
    // Half of a mixture on an H100: a pass of 128 takes 139 ms, one of 512 172 to 192.
    runtime_.report.chunk_tokens = placement::kPassTokens;
}

// The first; null where all are other machines' memory, to which no expert comes token by token.
ggml_backend_dev_t LlamaEngine::local_device() const {
    const auto local = std::ranges::find_if(runtime_.devices,
                                            [](ggml_backend_dev_t device) { return device_kind(device) != "remote"; });
    return local == runtime_.devices.end() ? nullptr : *local;
}

// It decides how many cards are used, and how experts are shared out among layers. No profile is asked: it may be of
// another bus or none.
void LlamaEngine::glance_at_upload_rate() {
    if (std::exchange(uploads_are_timed_, true)) return;
    if (local_device() == nullptr) return;
    const UploadRate rate = upload_rate(local_device());
    if (rate.bytes_per_second > 0) runtime_.bank_rates.upload_bytes_per_second = rate.bytes_per_second;
    runtime_.bank_rates.uploads_ahead = rate.writes_directly;
}

Mode LlamaEngine::mode_with_devices(bool fits_whole) const {
    if (fits_whole) return Mode::kResident;
    return runtime_.shape.experts > 0 ? Mode::kStream : runtime_.report.mode;
}

void LlamaEngine::take_device_mode(Mode mode, bool fits_whole) {
    Report& report = runtime_.report;
    report.mode = mode;
    if (fits_whole)
        report.reason = std::format("the whole model fits {}", device_names(runtime_.devices));
    else if (runtime_.shape.experts > 0)
        report.reason = std::format("experts are streamed to {}", device_names(runtime_.devices));
}

// ---- drafts --------------------------------------------------------------------------------------------------------

// What it will take of the budget, before there is a plan for the rest.
Status LlamaEngine::weigh_draft_model(const EngineOptions& options) {
    if (options.drafts != DraftKind::kModel) return {};
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(options.draft_model_path));
    const uint32_t context = wanted_context_tokens(options);
    draft_bytes_ = file.tensor_bytes +
                   placement::cache_size_bytes(placement::model_demand(file), context, placement::CacheType::kF16);
    if (draft_bytes_ < options.ram_bytes) return {};
    return fail(ErrorCode::kBudgetTooSmall, "{}: as a model for drafts it takes {} of --ram {}; name a smaller one",
                options.draft_model_path, format_bytes(draft_bytes_), format_bytes(options.ram_bytes));
}

// Before the model itself: what the process holds then is taken off the budget for weights.
Status LlamaEngine::open_draft_model(const EngineOptions& options) {
    if (options.drafts != DraftKind::kModel) return {};
    const uint32_t context = wanted_context_tokens(options);
    HYPURA_ASSIGN(draft_model_, DraftModel::open(options.draft_model_path, runtime_.file, context, options.threads));
    return {};
}

// Before anything is loaded.
Status LlamaEngine::check_drafts(const EngineOptions& options) const {
    if (!asks_for_drafts(options) || (runtime_.report.mode == Mode::kStream && runtime_.devices.empty())) return {};
    return fail(ErrorCode::kUnsupportedModel,
                "{}: drafts are for models that stream on the processor; use --draft auto",
                runtime_.file.parts[0].path);
}

Status LlamaEngine::decide_drafts(const EngineOptions& options) {
    Report& report = runtime_.report;
    report.drafts = "none";
    const llama_model* const model = runtime_.model.get();
    const bool one_after_another =
        history_can_be_cut(*model) && !llama_model_has_encoder(model) && !llama_model_is_diffusion(model);
    if (!one_after_another && asks_for_drafts(options))
        return fail(ErrorCode::kUnsupportedModel,
                    "{}: this architecture cannot say one token after another and take some back, so drafts cannot be "
                    "checked; use --draft auto",
                    runtime_.file.parts[0].path);
    report.can_draft = report.mode == Mode::kStream && runtime_.devices.empty() && one_after_another;
    // Experts that a wrong guess names are read for nothing; a dense model's bytes do not depend on it.
    const bool reads_no_more = report.scanned_bytes > 0 && runtime_.shape.experts == 0;
    const bool drafts = asks_for_drafts(options) || (options.drafts == DraftKind::kAuto && reads_no_more);
    if (!report.can_draft || !drafts) return {};
    report.drafts = draft_model_ ? options.draft_model_path : "lookup";
    runtime_.drafting = std::make_unique<Drafting>(std::move(draft_model_));
    return {};
}

void LlamaEngine::describe_devices(Report& report) const {
    for (ggml_backend_dev_t device : runtime_.devices)
        report.devices.push_back(
            std::format("{} ({})", ggml_backend_dev_name(device), ggml_backend_dev_description(device)));
    report.gpu_layers = runtime_.device_plan.gpu_layers;
    for (const auto& bank : runtime_.banks)
        if (!bank->is_whole()) report.device_slot_bytes += bank->bytes();
}

Report LlamaEngine::report() const {
    Report report = runtime_.report;
    describe_devices(report);
    if (runtime_.drafting != nullptr) {
        report.drafted_tokens = runtime_.drafting->counters().drafted_tokens;
        report.accepted_tokens = runtime_.drafting->counters().accepted_tokens;
    }
    if (runtime_.streamer == nullptr) return report;
    const residency::CacheCounters& counters = runtime_.streamer->cache().counters();
    report.demands = counters.demands;
    report.hits = counters.hits;
    report.joined = counters.joined;
    report.evictions = counters.evictions;
    report.prefetches = counters.prefetches;
    report.prefetch_wasted = counters.prefetch_wasted;
    report.wait_us = counters.wait_us;
    const WeightStreamer::DeviceCounters device = runtime_.streamer->device_counters();
    report.device_demands = device.demands;
    report.device_hits = device.hits;
    report.device_brought_ahead = device.brought_ahead;
    report.device_uploaded_bytes = device.uploaded_bytes;
    report.device_batches_staged = device.batches_staged;
    report.device_batches_in_pieces = device.batches_in_pieces;
    report.evictions_by_layer = runtime_.streamer->cache().evictions_by_group();
    report.row_reads = runtime_.streamer->row_reads();
    report.reads = with_rows(runtime_.reader->counters(), report.row_reads);
    report.reader = runtime_.reader->raw_name();
    report.direct_io = std::ranges::all_of(runtime_.reader->files(), &storage::DirectFile::direct);
    return report;
}

void LlamaEngine::observe(residency::CacheObserver* observer) {
    if (runtime_.streamer != nullptr) runtime_.streamer->observe(observer);
}

// ---- vocabulary ----------------------------------------------------------------------------------------------------

Result<std::vector<Token>> LlamaEngine::tokenize(std::string_view text, bool add_special, bool parse_special) const {
    if (!has_vocabulary())
        return fail(ErrorCode::kUnsupportedModel, "{}: has no vocabulary, so it cannot take text",
                    runtime_.file.parts[0].path);
    const auto length = static_cast<int32_t>(text.size());
    std::vector<Token> tokens(text.size() + 8);
    const auto run = [&] {
        return llama_tokenize(vocab(), text.data(), length, tokens.data(), static_cast<int32_t>(tokens.size()),
                              add_special, parse_special);
    };
    int32_t count = run();
    if (count < 0) {
        tokens.resize(static_cast<size_t>(-static_cast<int64_t>(count)));
        count = run();
    }
    if (count < 0) return fail(ErrorCode::kInvalidArgument, "the text is too long to tokenize");
    tokens.resize(static_cast<size_t>(count));
    return tokens;
}

std::string LlamaEngine::piece(Token token, bool special) const {
    std::string text(64, '\0');
    int32_t length = llama_token_to_piece(vocab(), token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    if (length < 0) {
        text.resize(static_cast<size_t>(-length));
        length = llama_token_to_piece(vocab(), token, text.data(), static_cast<int32_t>(text.size()), 0, special);
    }
    text.resize(static_cast<size_t>(std::max(0, length)));
    return text;
}

std::optional<std::string> LlamaEngine::chat_template_source(ChatTemplate which) const {
    const char* const name = which == ChatTemplate::kToolUse ? "tool_use" : nullptr;
    const char* const source = llama_model_chat_template(runtime_.model.get(), name);
    if (source == nullptr) return std::nullopt;
    return std::string(source);
}

}  // namespace

std::string_view to_string(Mode mode) {
    for (const ModeName& entry : kModeNames)
        if (entry.mode == mode) return entry.name;
    return "auto";
}

std::optional<Mode> parse_mode(std::string_view text) {
    for (const ModeName& entry : kModeNames)
        if (entry.name == text) return entry.mode;
    return std::nullopt;
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options) {
    auto engine = std::make_unique<LlamaEngine>();
    HYPURA_TRY(engine->open(options));
    return engine;
}

}  // namespace hypura::engine
