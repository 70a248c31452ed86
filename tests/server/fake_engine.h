// An engine without a model: every byte is a token, and a sequence answers with a text that the test has set. Passes
// can be held back, so that a test decides what is under way when.
#pragma once

#include "engine/batch_engine.h"
#include "server/model_manager.h"
#include "server/model_store.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace hypura::server {

constexpr std::string_view kFakeTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif "
    "%}"
    "{# tools <tool_call> <think> </think> #}";

// For requests with tools.
constexpr std::string_view kFakeToolTemplate =
    "{% for t in tools if t.function %}[{{ t.function.name }}]{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif "
    "%}";

class FakeEngine : public engine::Engine {
public:
    Result<std::unique_ptr<engine::Session>> new_session() override {
        return fail(ErrorCode::kUnsupportedModel, "fake");
    }
    Result<std::unique_ptr<engine::BatchEngine>> new_batch(const engine::BatchOptions&) override {
        return fail(ErrorCode::kUnsupportedModel, "fake");
    }
    const gguf::ModelFile& file() const override { return file_; }
    const gguf::ModelShape& shape() const override { return shape_; }
    engine::Report report() const override { return {}; }
    const residency::SlotCache* slot_cache() const override { return nullptr; }
    void observe(residency::CacheObserver*) override {}
    bool has_vocabulary() const override { return true; }
    uint32_t vocabulary_tokens() const override { return 256; }
    Result<std::vector<engine::Token>> tokenize(std::string_view text, bool, bool) const override {
        std::vector<engine::Token> tokens;
        for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
        return tokens;
    }
    std::string piece(engine::Token token, bool) const override { return std::string(1, static_cast<char>(token)); }
    bool ends_generation(engine::Token token) const override { return token == 0; }
    std::optional<std::string> chat_template_source(ChatTemplate which) const override {
        return std::string(which == ChatTemplate::kToolUse ? kFakeToolTemplate : kFakeTemplate);
    }
    engine::Token bos_token() const override { return -1; }
    engine::Token eos_token() const override { return 0; }
    bool adds_bos() const override { return false; }
    const llama_vocab* llama_vocabulary() const override { return nullptr; }
    engine::Drafting* drafting() const override { return nullptr; }

private:
    gguf::ModelFile file_;
    gguf::ModelShape shape_;
};

// What test and engine share.
struct FakeControl {
    std::mutex mutex;
    std::condition_variable wake;
    std::string answer = "hello";
    Error error;        // with a message: every sequence fails with it after its first token
    bool held = false;  // step() waits while it is
    std::atomic<uint32_t> opened{0}, closed{0};
    std::vector<engine::GenerateRequest> requests;

    void hold(bool value) {
        {
            const std::scoped_lock lock(mutex);
            held = value;
        }
        wake.notify_all();
    }
    std::vector<engine::GenerateRequest> seen() {
        const std::scoped_lock lock(mutex);
        return requests;
    }
};

class FakeBatch final : public engine::BatchEngine {
public:
    explicit FakeBatch(FakeControl& control) : control_(control) { ++control_.opened; }
    ~FakeBatch() override { ++control_.closed; }

    Result<engine::SequenceId> add(engine::GenerateRequest request) override {
        const std::scoped_lock lock(control_.mutex);
        live_[++last_] = {static_cast<uint32_t>(request.prompt.size()), request.max_tokens.value_or(1000)};
        control_.requests.push_back(std::move(request));
        return last_;
    }
    Result<engine::SequenceId> add(engine::EmbeddingRequest request) override {
        const std::scoped_lock lock(control_.mutex);
        live_[++last_] = {static_cast<uint32_t>(request.tokens.size()), 0, true};
        return last_;
    }
    void cancel(engine::SequenceId sequence) override {
        const std::scoped_lock lock(control_.mutex);
        if (const auto entry = live_.find(sequence); entry != live_.end()) entry->second.cancelled = true;
        control_.wake.notify_all();
    }
    void interrupt() override {
        interrupted_ = true;
        control_.wake.notify_all();
    }
    bool has_work() const override { return !live_.empty(); }

    // One byte of the answer a sequence.
    std::vector<engine::SequenceEvent> step() override {
        std::unique_lock lock(control_.mutex);
        const auto go = [this] {
            return !control_.held || interrupted_ ||
                   std::ranges::any_of(live_, [](const auto& entry) { return entry.second.cancelled; });
        };
        control_.wake.wait(lock, go);
        std::vector<engine::SequenceEvent> events;
        for (auto entry = live_.begin(); entry != live_.end();) {
            const bool ended = advance(entry->first, entry->second, events);
            entry = ended ? live_.erase(entry) : std::next(entry);
        }
        return events;
    }
    engine::BatchCounters counters() const override { return {}; }
    uint32_t cached_tokens(std::span<const engine::Token>) const override { return 0; }
    Result<uint32_t> save_prefix(std::span<const engine::Token> tokens, const std::string&) override {
        return static_cast<uint32_t>(tokens.size());
    }
    Result<std::vector<engine::Token>> restore_prefix(const std::string&) override {
        return std::vector<engine::Token>(7);
    }
    void drop_prefixes() override {}

private:
    struct Live {
        uint32_t prompt_tokens = 0;
        uint32_t max_tokens = 0;
        bool embeds = false;
        bool cancelled = false;
        uint32_t done = 0;
    };
    bool advance(engine::SequenceId id, Live& live, std::vector<engine::SequenceEvent>& events) {
        using engine::FinishReason;
        const auto finish = [&](FinishReason reason) {
            events.push_back({id, engine::Finished{.reason = reason,
                                                   .error = control_.error,
                                                   .prompt_tokens = live.prompt_tokens,
                                                   .generated_tokens = live.done}});
            return true;
        };
        if (live.cancelled) return finish(FinishReason::kCancelled);
        if (control_.held) return false;
        if (live.embeds) {
            events.emplace_back(id, engine::Embedded{{3.0F, 4.0F}});
            return finish(FinishReason::kEmbedded);
        }
        if (live.done > 0 && !control_.error.message.empty()) return finish(FinishReason::kFailed);
        if (live.done >= live.max_tokens) return finish(FinishReason::kMaxTokens);
        if (live.done >= control_.answer.size()) return finish(FinishReason::kEndOfText);
        events.push_back({id, engine::Sampled{.token = static_cast<unsigned char>(control_.answer[live.done++])}});
        return false;
    }

    FakeControl& control_;
    std::map<engine::SequenceId, Live> live_;
    engine::SequenceId last_ = 0;
    std::atomic<bool> interrupted_{false};
};

inline ManagerOptions fake_options(FakeControl& control, uint32_t sequences = 2, uint32_t max_queue = 8) {
    ManagerOptions options;
    options.sequences = sequences;
    options.max_queue = max_queue;
    options.open = [&control](const ModelEntry&, uint32_t) -> Result<OpenedModel> {
        return OpenedModel{std::make_unique<FakeEngine>(), std::make_unique<FakeBatch>(control), 200};
    };
    return options;
}

}  // namespace hypura::server
