#include "engine/engine.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "engine/batch_engine.h"
#include "engine/runtime.h"
#include "hardware/memory.h"

#include <algorithm>
#include <array>
#include <format>

namespace hypura::engine {
namespace {

struct ModeName {
    Mode mode;
    std::string_view name;
};
constexpr std::array kModeNames = {ModeName{Mode::kAuto, "auto"}, ModeName{Mode::kResident, "resident"},
                                   ModeName{Mode::kStream, "stream"}, ModeName{Mode::kMmap, "mmap"}};

constexpr uint64_t kLeastMarginBytes = 512 * kMiB;  // what `auto` leaves to the system

class LlamaEngine final : public Engine {
public:
    Status open(const EngineOptions& options);

    Result<std::unique_ptr<Session>> new_session() override {
        if (runtime_.session_lives) return fail(ErrorCode::kInvalidArgument, "the engine has a session already");
        return make_session(runtime_);
    }
    Result<std::unique_ptr<BatchEngine>> new_batch(const BatchOptions&) override {
        return fail(ErrorCode::kUnsupportedModel, "batches are not written yet");
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
    std::optional<std::string> chat_template_source() const override;
    Token bos_token() const override { return llama_vocab_bos(vocab()); }
    Token eos_token() const override { return llama_vocab_eos(vocab()); }
    bool adds_bos() const override { return llama_vocab_get_add_bos(vocab()); }

private:
    const llama_vocab* vocab() const { return llama_model_get_vocab(runtime_.model.get()); }
    Status decide_budget(EngineOptions& options);
    void decide_mode(const EngineOptions& options);
    uint64_t resident_estimate_bytes(const EngineOptions& options) const;

    Runtime runtime_;
};

Status LlamaEngine::open(const EngineOptions& requested) {
    const int64_t begin_us = now_us();
    EngineOptions options = requested;
    HYPURA_ASSIGN(runtime_.file, gguf::open_model(options.model_path));
    if (runtime_.file.tensors.empty())
        return fail(ErrorCode::kUnsupportedModel, "{}: holds no tensors (a vocabulary only?)", options.model_path);
    runtime_.shape = gguf::model_shape(runtime_.file);
    runtime_.report.model_bytes = runtime_.file.tensor_bytes;
    HYPURA_TRY(decide_budget(options));
    decide_mode(options);
    HYPURA_TRY(runtime_.report.mode == Mode::kStream ? open_streaming(runtime_, options)
                                                     : open_plain(runtime_, options));
    runtime_.report.load_us = now_us() - begin_us;
    return {};
}

// Without --ram: what is really available, less a margin for the rest of the system.
Status LlamaEngine::decide_budget(EngineOptions& options) {
    if (options.ram_bytes == 0) {
        HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
        const uint64_t usable_bytes = limits.usable_bytes();
        const uint64_t margin_bytes = std::max(kLeastMarginBytes, usable_bytes / 10);
        options.ram_bytes = usable_bytes - std::min(margin_bytes, usable_bytes / 2);
    }
    runtime_.report.ram_bytes = options.ram_bytes;
    return {};
}

// Weights, an f16 KV cache, and room for compute buffers.
uint64_t LlamaEngine::resident_estimate_bytes(const EngineOptions& options) const {
    const gguf::ModelShape& shape = runtime_.shape;
    const uint64_t tokens =
        options.context_tokens > 0 ? options.context_tokens : std::min<uint64_t>(shape.context_train, 4096);
    const uint64_t kv_bytes = tokens * shape.layers * shape.kv_heads * (shape.key_length + shape.value_length) * 2;
    const uint64_t compute_bytes = options.batch_tokens * (shape.vocabulary + 24 * shape.embedding) * 4;
    return runtime_.file.tensor_bytes + kv_bytes + compute_bytes + 160 * kMiB;
}

void LlamaEngine::decide_mode(const EngineOptions& options) {
    Report& report = runtime_.report;
    const uint64_t needed_bytes =
        options.weights_bytes > 0 ? runtime_.file.tensor_bytes : resident_estimate_bytes(options);
    const uint64_t budget_bytes = options.weights_bytes > 0 ? options.weights_bytes : options.ram_bytes;
    const bool fits = needed_bytes <= budget_bytes;
    report.mode = options.mode != Mode::kAuto ? options.mode : fits ? Mode::kResident : Mode::kStream;
    report.reason = options.mode != Mode::kAuto ? std::string("asked for")
                                                : std::format("the model needs {} and the budget is {}",
                                                              format_bytes(needed_bytes), format_bytes(budget_bytes));
}

Report LlamaEngine::report() const {
    Report report = runtime_.report;
    if (runtime_.streamer == nullptr) return report;
    const residency::CacheCounters& counters = runtime_.streamer->cache().counters();
    report.demands = counters.demands;
    report.hits = counters.hits;
    report.joined = counters.joined;
    report.evictions = counters.evictions;
    report.prefetches = counters.prefetches;
    report.prefetch_wasted = counters.prefetch_wasted;
    report.wait_us = counters.wait_us;
    report.evictions_by_layer = runtime_.streamer->cache().evictions_by_group();
    report.reads = runtime_.reader->counters();
    report.reader = runtime_.reader->raw_name();
    report.direct_io = std::ranges::all_of(runtime_.reader->files(), &storage::DirectFile::direct);
    return report;
}

void LlamaEngine::observe(residency::CacheObserver* observer) {
    if (runtime_.streamer == nullptr) return;
    runtime_.observer = observer;
    runtime_.streamer->observe(observer);
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

std::optional<std::string> LlamaEngine::chat_template_source() const {
    const char* const source = llama_model_chat_template(runtime_.model.get(), nullptr);
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
