#include "engine/batch_engine.h"

#include "base/check.h"
#include "base/clock.h"
#include "engine/drafting.h"
#include "engine/kv_cache.h"
#include "engine/model_fingerprint.h"
#include "engine/pass.h"
#include "engine/share_out.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>
#include <unordered_set>
#include <utility>

namespace hypura::engine {
namespace {

// Cells that each running sequence should find free before another one joins: else the newcomer would soon be sent
// back.
constexpr uint64_t kGrowthTokens = 16;

// What the two kinds of requests have in common is a text of which a part is evaluated, on the slot's timeline.
struct Sequence {
    SequenceId id = 0;
    std::vector<Token> text;  // prompt and answer so far; after a shift, what is left of them
    uint32_t prompt_tokens = 0;
    std::optional<KvCache::SlotId> slot;  // while it runs, except in an encoder
    bool ended = false;

    // Generation: `sampler` is there.
    GenerateRequest request;  // without the prompt, which is in text
    std::optional<Sampler> sampler;
    uint32_t limit_tokens = 0;
    uint32_t generated_tokens = 0;
    Draft draft;  // evaluated behind the text in the pass in hand, as far as it is not part of it yet

    // Embedding.
    Pooling pooling = Pooling::kModel;
    bool normalize = true;
    std::vector<double> sum;  // of the rows so far

    uint32_t reused_tokens = 0;
    int64_t added_us = 0;
    int64_t started_us = 0;
    int64_t first_token_us = 0;

    bool embeds() const { return !sampler.has_value(); }
};

// Part of a pass: the next `tokens` of a sequence's text.
struct Share {
    Sequence* sequence = nullptr;
    uint32_t tokens = 0;
};

// A beginning of this many tokens that another sequence is reading is worth waiting for.
constexpr uint32_t kWorthWaitingTokens = 32;

class LlamaBatch final : public BatchEngine {
public:
    LlamaBatch(const Engine& engine, Runtime& runtime, const BatchOptions& options);
    ~LlamaBatch() override;

    Result<SequenceId> add(GenerateRequest request) override;
    Result<SequenceId> add(EmbeddingRequest request) override;
    void cancel(SequenceId sequence) override;
    void interrupt() override;
    bool has_work() const override { return !waiting_.empty() || !running_.empty(); }
    std::vector<SequenceEvent> step() override;
    BatchCounters counters() const override;

    uint32_t cached_tokens(std::span<const Token> prompt) const override {
        return cache_ ? cache_->longest_match(prompt) : 0;
    }
    Result<uint32_t> save_prefix(std::span<const Token> tokens, const std::string& path) override;
    Result<std::vector<Token>> restore_prefix(const std::string& path) override;
    void drop_prefixes() override {
        if (cache_) cache_->drop_kept();
    }

private:
    // ---- requests
    Status check_tokens(std::span<const Token> tokens, size_t most, std::string_view what) const;
    SequenceId enqueue(std::unique_ptr<Sequence> sequence);
    Pooling model_pooling() const;

    // ---- the steps of a step
    void finish_cancelled();
    void admit();
    bool is_being_read(const Sequence& sequence) const;
    bool start(Sequence& sequence);
    std::vector<Share> plan_pass();
    std::vector<Share> share_pass(bool embeddings) const;
    std::vector<Share> share_generation() const;
    uint32_t chunk_tokens() const;
    std::vector<Share> share_embeddings() const;
    bool make_room(std::span<const Share> pass);
    bool only_generates(std::span<const Share> pass) const;
    void draft(std::span<const Share> pass);
    size_t room_for_draft(const Sequence& sequence, size_t sequences) const;
    void requeue_youngest();
    static Rounding rounding_of(std::span<const Share> pass);
    void evaluate(std::span<const Share> pass);
    bool pass_may_begin(std::span<const Share> pass);
    void pass_has_ended();
    std::vector<PassToken> tokens_of(std::span<const Share> pass) const;
    bool wants_output(const Sequence& sequence, size_t index) const;
    void take_results(std::span<const Share> pass);
    void undo(std::span<const Share> pass, const Status& failure);

    // ---- what a pass means to one sequence
    void take_generated(Sequence& sequence, size_t row);
    void take_tokens(Sequence& sequence, size_t row);
    void sample(Sequence& sequence, size_t row);
    void drop_draft(Sequence& sequence);
    void check_limits(Sequence& sequence);
    void shift(Sequence& sequence);
    void take_embedded(const Share& share, size_t first_row);
    void finish_embedding(Sequence& sequence);
    void show_progress(const Sequence& sequence);
    void finish(Sequence& sequence, FinishReason reason, Error error = {});
    void emit(const Sequence& sequence, decltype(SequenceEvent::what) what) {
        events_.push_back({sequence.id, std::move(what)});
    }

    bool is_encoder() const { return !cache_.has_value(); }
    size_t evaluated(const Sequence& sequence) const {
        return sequence.slot ? cache_->tokens(*sequence.slot).size() : 0;
    }
    uint32_t remaining(const Sequence& sequence) const {
        return static_cast<uint32_t>(sequence.text.size() - evaluated(sequence));
    }

    const Engine& engine_;
    Runtime& runtime_;
    const BatchOptions options_;
    std::optional<KvCache> cache_;  // empty: an encoder, which keeps nothing between passes
    bool embedding_pass_ = false;   // what libllama's context is set to

    std::deque<std::unique_ptr<Sequence>> waiting_;
    std::vector<std::unique_ptr<Sequence>> running_;  // by id, that is, by age
    std::vector<SequenceEvent> events_;
    SequenceId last_id_ = 0;
    BatchCounters counters_;

    // Shared with cancel() and interrupt().
    std::mutex mutex_;
    std::unordered_set<SequenceId> cancelled_;
    std::unordered_set<SequenceId> in_pass_;
    bool interrupted_ = false;
};

LlamaBatch::LlamaBatch(const Engine& engine, Runtime& runtime, const BatchOptions& options)
    : engine_(engine), runtime_(runtime), options_(options) {
    runtime_.session_lives = true;
    llama_context* const context = runtime_.context.get();
    if (llama_get_memory(context) != nullptr)
        cache_.emplace(*context, history_can_be_cut(*runtime_.model), options.keep_prefixes);
    llama_set_embeddings(context, false);
    counters_.context_tokens = cache_ ? cache_->cells() : runtime_.report.batch_tokens;
}

LlamaBatch::~LlamaBatch() {
    llama_set_embeddings(runtime_.context.get(), !llama_model_has_decoder(runtime_.model.get()));
    runtime_.session_lives = false;
}

// ---- requests ------------------------------------------------------------------------------------------------------

Status LlamaBatch::check_tokens(std::span<const Token> tokens, size_t most, std::string_view what) const {
    if (tokens.empty()) return fail(ErrorCode::kInvalidArgument, "the {} is empty", what);
    if (tokens.size() > most)
        return fail(ErrorCode::kInvalidArgument, "the {} has {} tokens, and at most {} fit", what, tokens.size(), most);
    const auto vocabulary = static_cast<Token>(engine_.vocabulary_tokens());
    for (const Token token : tokens)
        if (token < 0 || token >= vocabulary)
            return fail(ErrorCode::kInvalidArgument, "the {} has a token {}, and the vocabulary only {}", what, token,
                        vocabulary);
    return {};
}

Result<SequenceId> LlamaBatch::add(GenerateRequest request) {
    if (is_encoder()) return fail(ErrorCode::kUnsupportedModel, "this model gives embeddings and cannot generate text");
    auto sequence = std::make_unique<Sequence>();
    const uint32_t wanted = request.context_tokens;
    sequence->limit_tokens = wanted == 0 ? cache_->cells() : std::min(wanted, cache_->cells());
    HYPURA_TRY(check_tokens(request.prompt, sequence->limit_tokens, "prompt"));
    HYPURA_ASSIGN(sequence->sampler, Sampler::create(engine_, request.sampling));
    for (const Token token : request.prompt) sequence->sampler->accept(token);
    sequence->text = std::move(request.prompt);
    sequence->request = std::move(request);
    return enqueue(std::move(sequence));
}

Result<SequenceId> LlamaBatch::add(EmbeddingRequest request) {
    HYPURA_TRY(check_tokens(request.tokens, is_encoder() ? runtime_.report.batch_tokens : cache_->cells(), "text"));
    auto sequence = std::make_unique<Sequence>();
    sequence->pooling = request.pooling == Pooling::kModel ? model_pooling() : request.pooling;
    sequence->normalize = request.normalize;
    sequence->text = std::move(request.tokens);
    return enqueue(std::move(sequence));
}

SequenceId LlamaBatch::enqueue(std::unique_ptr<Sequence> sequence) {
    sequence->id = ++last_id_;
    sequence->prompt_tokens = static_cast<uint32_t>(sequence->text.size());
    sequence->added_us = now_us();
    waiting_.push_back(std::move(sequence));
    return last_id_;
}

// llama.cpp's numbers: 1 mean, 2 first token, 3 last token; 0 none and 4 ranking give no vector of a text.
Pooling LlamaBatch::model_pooling() const {
    switch (runtime_.file.find_uint(runtime_.shape.architecture + ".pooling_type").value_or(0)) {
        case 1:
            return Pooling::kMean;
        case 2:
            return Pooling::kCls;
        case 3:
            return Pooling::kLast;
        default:
            return is_encoder() ? Pooling::kMean : Pooling::kLast;
    }
}

void LlamaBatch::cancel(SequenceId sequence) {
    const std::scoped_lock lock(mutex_);
    cancelled_.insert(sequence);
    const bool nobody_waits = std::ranges::all_of(in_pass_, [&](SequenceId id) { return cancelled_.contains(id); });
    if (nobody_waits && !in_pass_.empty()) runtime_.eval.abort = true;
}

void LlamaBatch::interrupt() {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
    if (!in_pass_.empty()) runtime_.eval.abort = true;
}

// ---- one step ------------------------------------------------------------------------------------------------------

std::vector<SequenceEvent> LlamaBatch::step() {
    finish_cancelled();
    admit();
    const std::vector<Share> pass = plan_pass();
    if (!pass.empty()) evaluate(pass);
    finish_cancelled();
    return std::exchange(events_, {});
}

void LlamaBatch::finish_cancelled() {
    std::unordered_set<SequenceId> cancelled;
    {
        const std::scoped_lock lock(mutex_);
        cancelled.swap(cancelled_);
    }
    if (cancelled.empty()) return;
    for (auto& sequence : waiting_)
        if (cancelled.contains(sequence->id)) finish(*sequence, FinishReason::kCancelled);
    for (auto& sequence : running_)
        if (cancelled.contains(sequence->id)) finish(*sequence, FinishReason::kCancelled);
    std::erase_if(waiting_, [](const auto& sequence) { return sequence->ended; });
    std::erase_if(running_, [](const auto& sequence) { return sequence->ended; });
}

// First come, first served: the first that does not fit holds up the others, or it might wait for ever. Only one whose
// prompt is being read by another just now lets them pass.
void LlamaBatch::admit() {
    const uint32_t most = std::min(runtime_.report.sequences, runtime_.report.batch_tokens);
    for (size_t i = 0; i < waiting_.size() && running_.size() < most;) {
        if (is_being_read(*waiting_[i])) {
            ++i;
            continue;
        }
        if (!start(*waiting_[i])) return;
        const auto place =
            std::ranges::lower_bound(running_, waiting_[i]->id, {}, [](const auto& sequence) { return sequence->id; });
        running_.insert(place, std::move(waiting_[i]));
        waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    }
}

// Whether a running sequence is about to evaluate what this prompt begins with: soon that is found in the KV cache.
bool LlamaBatch::is_being_read(const Sequence& sequence) const {
    if (!cache_ || !cache_->can_cut() || sequence.embeds()) return false;
    const std::span<const Token> prompt = std::span(sequence.text).first(sequence.text.size() - 1);
    uint32_t common = 0;
    for (const auto& other : running_) {
        const uint32_t shared = other->embeds() ? 0 : common_beginning(prompt, other->text);
        if (shared > evaluated(*other)) common = std::max(common, shared);
    }
    return common >= kWorthWaitingTokens && common >= cache_->longest_match(sequence.text) + kWorthWaitingTokens;
}

bool LlamaBatch::start(Sequence& sequence) {
    if (cache_) {
        const uint64_t growth = kGrowthTokens * (running_.size() + 1);
        if (!running_.empty() && !cache_->fits(sequence.text, growth)) return false;
        const std::span<const Token> text(sequence.text);  // an embedding wants the rows of all tokens
        const auto started = cache_->start(sequence.embeds() ? text.first(0) : text);
        if (!started) return false;
        sequence.slot = started->slot;
        counters_.reused_tokens += started->reused_tokens;
        counters_.refused_tokens += started->refused_tokens;
        if (sequence.started_us == 0) sequence.reused_tokens = started->reused_tokens;
    }
    if (sequence.started_us == 0) sequence.started_us = now_us();
    show_progress(sequence);
    return true;
}

// Generation and embeddings want different things of libllama, so they take turns.
std::vector<Share> LlamaBatch::plan_pass() {
    while (!running_.empty()) {
        std::vector<Share> pass = share_pass(!embedding_pass_);
        if (pass.empty()) pass = share_pass(embedding_pass_);
        if (!make_room(pass)) {
            requeue_youngest();
            continue;
        }
        if (runtime_.drafting != nullptr && only_generates(pass)) draft(pass);
        std::erase_if(pass, [](const Share& share) { return share.sequence->ended; });
        std::erase_if(running_, [](const auto& sequence) { return sequence->ended; });
        return pass;
    }
    return {};
}

// Every sequence has one token in the pass, and draws another from it.
bool LlamaBatch::only_generates(std::span<const Share> pass) const {
    return std::ranges::all_of(
        pass, [&](const Share& share) { return !share.sequence->embeds() && remaining(*share.sequence) == 1; });
}

// Has each sequence's next tokens guessed, so that the pass can check them. They never cost anybody his place: where
// there is no room for them, there are none.
void LlamaBatch::draft(std::span<const Share> pass) {
    uint64_t tokens = pass.size();
    for (const Share& share : pass) {
        Sequence& sequence = *share.sequence;
        auto drafted = runtime_.drafting->draft(sequence.text, pass.size(), room_for_draft(sequence, pass.size()));
        if (!drafted) {
            finish(sequence, FinishReason::kFailed, drafted.error());
            continue;
        }
        sequence.draft = *std::move(drafted);
        tokens += sequence.draft.tokens.size();
    }
    if (cache_->make_room(tokens)) return;
    for (const Share& share : pass) share.sequence->draft.tokens.clear();
}

// Tokens that may come behind the next one.
size_t LlamaBatch::room_for_draft(const Sequence& sequence, size_t sequences) const {
    const size_t in_pass = std::min(runtime_.report.batch_tokens, runtime_.most_outputs) / sequences;
    const size_t in_context = sequence.limit_tokens - std::min<size_t>(sequence.limit_tokens, sequence.text.size());
    const size_t wanted = sequence.request.max_tokens.value_or(UINT32_MAX) - sequence.generated_tokens;
    return std::min({std::max<size_t>(in_pass, 1), std::max<size_t>(wanted, 1), in_context + 1}) - 1;
}

std::vector<Share> LlamaBatch::share_pass(bool embeddings) const {
    std::vector<Share> pass = embeddings ? share_embeddings() : share_generation();
    std::erase_if(pass, [](const Share& share) { return share.tokens == 0; });
    return pass;
}

// One token of everybody who generates, the rest for those who still read.
std::vector<Share> LlamaBatch::share_generation() const {
    std::vector<Share> pass;
    std::vector<Share> readers;
    std::vector<uint32_t> wanted;
    for (const auto& sequence : running_) {
        if (sequence->embeds()) continue;
        const uint32_t left = remaining(*sequence);
        if (left == 1) {
            pass.push_back({sequence.get(), 1});
        } else {
            readers.push_back({sequence.get(), 0});
            wanted.push_back(left);
        }
    }
    uint32_t limit = runtime_.report.batch_tokens - static_cast<uint32_t>(pass.size());
    if (!pass.empty()) limit = std::min(limit, chunk_tokens());
    const std::vector<uint32_t> shares = share_out(wanted, limit);
    for (size_t i = 0; i < readers.size(); ++i) pass.push_back({readers[i].sequence, shares[i]});
    return pass;
}

uint32_t LlamaBatch::chunk_tokens() const {
    return options_.prefill_chunk_tokens > 0 ? options_.prefill_chunk_tokens : runtime_.report.chunk_tokens;
}

// An encoder takes texts whole, the first that fit; a decoder takes parts of all of them.
std::vector<Share> LlamaBatch::share_embeddings() const {
    std::vector<Share> pass;
    std::vector<uint32_t> wanted;
    uint32_t limit = runtime_.report.batch_tokens;
    for (const auto& sequence : running_) {
        if (!sequence->embeds()) continue;
        const uint32_t left = remaining(*sequence);
        if (is_encoder() && left > limit) break;
        if (is_encoder()) limit -= left;
        pass.push_back({sequence.get(), left});
        wanted.push_back(left);
    }
    if (is_encoder()) return pass;
    // Averaging wants the rows of all tokens, and libllama computes logits with each of them.
    const std::vector<uint32_t> shares = share_out(wanted, std::min(limit, runtime_.most_outputs));
    for (size_t i = 0; i < pass.size(); ++i) pass[i].tokens = shares[i];
    return pass;
}

bool LlamaBatch::make_room(std::span<const Share> pass) {
    uint64_t tokens = 0;
    for (const Share& share : pass) tokens += share.tokens;
    return is_encoder() || cache_->make_room(tokens);
}

// It reads its text again when its turn comes; most of it may still be in the KV cache then.
void LlamaBatch::requeue_youngest() {
    HYPURA_CHECK(running_.size() > 1);  // one alone is no longer than the KV cache
    std::unique_ptr<Sequence> youngest = std::move(running_.back());
    running_.pop_back();
    cache_->end(*youngest->slot);
    youngest->slot.reset();
    youngest->sum.clear();
    ++counters_.requeued;
    waiting_.push_front(std::move(youngest));
}

// One that is alone gets what it gets without drafts; several round together with or without.
Rounding LlamaBatch::rounding_of(std::span<const Share> pass) {
    const bool drafted_alone = pass.size() == 1 && !pass.front().sequence->draft.tokens.empty();
    return drafted_alone ? Rounding::kOneByOne : Rounding::kTogether;
}

void LlamaBatch::evaluate(std::span<const Share> pass) {
    const bool embeddings = pass.front().sequence->embeds();
    if (!pass_may_begin(pass)) return;
    if (embedding_pass_ != embeddings) llama_set_embeddings(runtime_.context.get(), embeddings);
    embedding_pass_ = embeddings;
    const Pass kind = llama_model_has_encoder(runtime_.model.get()) ? Pass::kEncode : Pass::kDecode;
    const std::vector<PassToken> tokens = tokens_of(pass);
    const int64_t begin_us = now_us();
    const Status ran = run_pass(runtime_, kind, tokens, rounding_of(pass));
    if (runtime_.drafting != nullptr && ran && only_generates(pass))
        runtime_.drafting->note_pass(tokens.size(), now_us() - begin_us);
    pass_has_ended();
    ++counters_.passes;
    if (ran)
        take_results(pass);
    else
        undo(pass, ran);
    std::erase_if(running_, [](const auto& sequence) { return sequence->ended; });
}

bool LlamaBatch::pass_may_begin(std::span<const Share> pass) {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(interrupted_, false)) return false;
    for (const Share& share : pass) in_pass_.insert(share.sequence->id);
    runtime_.eval.abort = false;
    return true;
}

void LlamaBatch::pass_has_ended() {
    const std::scoped_lock lock(mutex_);
    in_pass_.clear();
    interrupted_ = false;
}

std::vector<PassToken> LlamaBatch::tokens_of(std::span<const Share> pass) const {
    std::vector<PassToken> tokens;
    int32_t encoder_sequence = 0;
    for (const Share& share : pass) {
        const Sequence& sequence = *share.sequence;
        const int32_t id = sequence.slot ? static_cast<int32_t>(*sequence.slot) : encoder_sequence++;
        const size_t begin = evaluated(sequence);
        for (size_t i = begin; i < begin + share.tokens; ++i)
            tokens.push_back({sequence.text[i], static_cast<uint32_t>(i), id, wants_output(sequence, i)});
        for (size_t i = 0; i < sequence.draft.tokens.size(); ++i)
            tokens.push_back({sequence.draft.tokens[i], static_cast<uint32_t>(sequence.text.size() + i), id, true});
    }
    return tokens;
}

bool LlamaBatch::wants_output(const Sequence& sequence, size_t index) const {
    if (is_encoder() || (sequence.embeds() && sequence.pooling == Pooling::kMean)) return true;
    if (sequence.embeds() && sequence.pooling == Pooling::kCls) return index == 0;
    return index + 1 == sequence.text.size();
}

void LlamaBatch::take_results(std::span<const Share> pass) {
    size_t row = 0;
    for (const Share& share : pass) {
        Sequence& sequence = *share.sequence;
        const size_t first_row = std::exchange(row, row + share.tokens + sequence.draft.tokens.size());
        (share.tokens == 1 && sequence.generated_tokens > 0 ? counters_.decode_tokens : counters_.prompt_tokens) +=
            share.tokens;
        if (sequence.embeds()) {
            take_embedded(share, first_row);
            continue;
        }
        cache_->append(*sequence.slot, std::span(sequence.text).subspan(evaluated(sequence), share.tokens));
        take_generated(sequence, first_row + share.tokens - 1);
    }
}

// What the pass may have written is taken back. Cancelling and interrupting lose nothing else; any other failure ends
// the sequences that took part.
void LlamaBatch::undo(std::span<const Share> pass, const Status& failure) {
    ++counters_.failed_passes;
    for (const Share& share : pass) {
        Sequence& sequence = *share.sequence;
        if (sequence.slot) cache_->cut(*sequence.slot, evaluated(sequence));
        sequence.draft.tokens.clear();
        if (failure.error().code != ErrorCode::kCancelled) finish(sequence, FinishReason::kFailed, failure.error());
    }
}

// ---- generation ----------------------------------------------------------------------------------------------------

// `row`: of the text's last token in the pass.
void LlamaBatch::take_generated(Sequence& sequence, size_t row) {
    if (remaining(sequence) > 0) return show_progress(sequence);
    if (sequence.request.max_tokens == 0U) return finish(sequence, FinishReason::kMaxTokens);
    take_tokens(sequence, row);
}

// A token from the first row, and from the next ones as long as the drafted token that they follow is the one drawn.
void LlamaBatch::take_tokens(Sequence& sequence, size_t row) {
    const Draft draft = sequence.draft;  // an ending sequence drops its own
    size_t accepted = 0;
    for (sample(sequence, row); accepted < sequence.draft.tokens.size(); sample(sequence, row + accepted)) {
        const Token drawn = sequence.text.back();
        if (drawn != draft.tokens[accepted]) break;
        cache_->append(*sequence.slot, std::span(&drawn, 1));
        ++accepted;
    }
    if (runtime_.drafting != nullptr) runtime_.drafting->note_draft(draft, accepted);
    drop_draft(sequence);
}

// libllama forgets what of the draft is not on the timeline.
void LlamaBatch::drop_draft(Sequence& sequence) {
    if (!sequence.draft.tokens.empty() && sequence.slot) cache_->cut(*sequence.slot, evaluated(sequence));
    sequence.draft.tokens.clear();
}

void LlamaBatch::sample(Sequence& sequence, size_t row) {
    const float* const values = logits_row(runtime_, row);
    if (values == nullptr)
        return finish(sequence, FinishReason::kFailed, {ErrorCode::kInternal, "libllama gave no logits"});
    const std::span logits(values, runtime_.logits_row);
    const Result<Token> drawn = sequence.sampler->sample(logits);
    if (!drawn) return finish(sequence, FinishReason::kFailed, drawn.error());
    if (sequence.first_token_us == 0) sequence.first_token_us = now_us();
    if (engine_.ends_generation(*drawn)) return finish(sequence, FinishReason::kEndOfText);
    Sampled sampled{*drawn, 0.0F, {}};
    if (const std::optional<uint32_t> top = sequence.request.top_logprobs) {
        sampled.logprob = logprob_of(logits, *drawn);
        sampled.top = top_logprobs(logits, *top);
    }
    emit(sequence, std::move(sampled));
    sequence.text.push_back(*drawn);
    ++sequence.generated_tokens;
    check_limits(sequence);
}

// The token just drawn is evaluated only if another one is to follow.
void LlamaBatch::check_limits(Sequence& sequence) {
    const std::optional<uint32_t> most = sequence.request.max_tokens;
    if (most && sequence.generated_tokens >= *most) return finish(sequence, FinishReason::kMaxTokens);
    if (evaluated(sequence) < sequence.limit_tokens) return;
    if (sequence.request.shift && sequence.limit_tokens >= 4) return shift(sequence);
    finish(sequence, FinishReason::kContextFull);
}

// The rest moves to other positions, so it is read again: exact, and possible for every architecture.
void LlamaBatch::shift(Sequence& sequence) {
    drop_draft(sequence);
    const size_t kept = std::min(sequence.request.keep_tokens, sequence.limit_tokens / 2);
    const size_t dropped = (sequence.text.size() - kept) / 2;
    const auto begin = sequence.text.begin() + static_cast<ptrdiff_t>(kept);
    sequence.text.erase(begin, begin + static_cast<ptrdiff_t>(dropped));
    cache_->cut(*sequence.slot, kept);
    ++counters_.shifts;
}

// ---- embeddings ----------------------------------------------------------------------------------------------------

void LlamaBatch::take_embedded(const Share& share, size_t first_row) {
    Sequence& sequence = *share.sequence;
    const auto width = static_cast<size_t>(llama_model_n_embd_out(runtime_.model.get()));
    const size_t begin = evaluated(sequence);
    sequence.sum.resize(width);
    for (size_t i = 0; i < share.tokens; ++i) {
        const size_t index = begin + i;
        const bool counts = sequence.pooling == Pooling::kMean ||
                            index == (sequence.pooling == Pooling::kCls ? 0 : sequence.text.size() - 1);
        if (!counts) continue;
        const float* const row = embedding_row(runtime_, first_row + i);
        if (row == nullptr)
            return finish(sequence, FinishReason::kFailed, {ErrorCode::kInternal, "libllama gave no embedding"});
        for (size_t d = 0; d < width; ++d) sequence.sum[d] += static_cast<double>(row[d]);
    }
    if (sequence.slot) cache_->append(*sequence.slot, std::span(sequence.text).subspan(begin, share.tokens));
    if (!sequence.slot || remaining(sequence) == 0) return finish_embedding(sequence);
    show_progress(sequence);
}

void LlamaBatch::finish_embedding(Sequence& sequence) {
    double scale = sequence.pooling == Pooling::kMean ? 1.0 / static_cast<double>(sequence.text.size()) : 1.0;
    double squares = 0;
    for (const double value : sequence.sum) squares += value * value;
    if (sequence.normalize) scale = squares > 0 ? 1.0 / std::sqrt(squares) : 0.0;
    Embedded embedded;
    for (const double value : sequence.sum) embedded.values.push_back(static_cast<float>(value * scale));
    emit(sequence, std::move(embedded));
    finish(sequence, FinishReason::kEmbedded);
}

// ---- events --------------------------------------------------------------------------------------------------------

void LlamaBatch::show_progress(const Sequence& sequence) {
    emit(sequence, PromptProgress{static_cast<uint32_t>(evaluated(sequence)),
                                  static_cast<uint32_t>(sequence.text.size()), sequence.reused_tokens});
}

// Callers remove the ended ones from waiting_ and running_ when they are done walking over them.
void LlamaBatch::finish(Sequence& sequence, FinishReason reason, Error error) {
    const int64_t now = now_us();
    const int64_t started = sequence.started_us == 0 ? now : sequence.started_us;
    const int64_t first_token = sequence.first_token_us == 0 ? now : sequence.first_token_us;
    drop_draft(sequence);
    if (sequence.slot && sequence.embeds()) cache_->drop(*sequence.slot);
    if (sequence.slot && !sequence.embeds()) cache_->end(*sequence.slot);
    sequence.slot.reset();
    sequence.ended = true;
    emit(sequence,
         Finished{reason, std::move(error), sequence.prompt_tokens, sequence.reused_tokens, sequence.generated_tokens,
                  started - sequence.added_us, first_token - started, now - first_token});
}

BatchCounters LlamaBatch::counters() const {
    BatchCounters counters = counters_;
    counters.waiting = static_cast<uint32_t>(waiting_.size());
    counters.running = static_cast<uint32_t>(running_.size());
    if (!cache_) return counters;
    counters.evicted_prefixes = cache_->evicted();
    counters.kept_prefixes = cache_->kept();
    counters.used_tokens = cache_->used_cells();
    return counters;
}

// ---- prefixes ------------------------------------------------------------------------------------------------------

Result<uint32_t> LlamaBatch::save_prefix(std::span<const Token> tokens, const std::string& path) {
    if (!cache_) return fail(ErrorCode::kUnsupportedModel, "this model keeps no prefixes");
    HYPURA_ASSIGN(const uint64_t model, fingerprint(runtime_.file));
    return cache_->save(tokens, path, model);
}

Result<std::vector<Token>> LlamaBatch::restore_prefix(const std::string& path) {
    if (!cache_) return fail(ErrorCode::kUnsupportedModel, "this model keeps no prefixes");
    HYPURA_ASSIGN(const uint64_t model, fingerprint(runtime_.file));
    return cache_->restore(path, model);
}

}  // namespace

std::string_view to_string(FinishReason reason) {
    switch (reason) {
        case FinishReason::kEndOfText:
            return "end_of_text";
        case FinishReason::kMaxTokens:
            return "max_tokens";
        case FinishReason::kContextFull:
            return "context_full";
        case FinishReason::kCancelled:
            return "cancelled";
        case FinishReason::kEmbedded:
            return "embedded";
        case FinishReason::kFailed:
            return "failed";
    }
    return "unknown";
}

Result<std::unique_ptr<BatchEngine>> make_batch(const Engine& engine, Runtime& runtime, const BatchOptions& options) {
    const llama_model* const model = runtime.model.get();
    if (llama_model_has_encoder(model) && llama_model_has_decoder(model))
        return fail(ErrorCode::kUnsupportedModel, "encoder-decoder models run one sequence at a time");
    return std::make_unique<LlamaBatch>(engine, runtime, options);
}

}  // namespace hypura::engine
