// Continuous batching: many sequences of tokens over one model, every pass over the weights shared by all of them. An
// expert or a matrix that a pass needs is read once, whoever needs it; with weights on a disk that is where the time
// goes.
//
//   auto engine = Engine::open({.model_path = path, .sequences = 8, …});
//   auto batch  = (*engine)->new_batch({});
//   auto id     = (*batch)->add(GenerateRequest{.prompt = tokens, .sampling = {…}, .max_tokens = 100});
//   while ((*batch)->has_work())
//       for (const SequenceEvent& event : (*batch)->step()) …;       // one pass; what came of it
//
// One step is one pass: first one token of each sequence that generates (and, while nobody reads a prompt, what is
// drafted to follow it: drafting.h), then prompt tokens, shared out evenly among
// the sequences that still read their prompts (a short prompt leaves its rest to the longer ones). While anybody
// generates, a pass takes at most prefill_chunk_tokens of prompts, so that a long prompt delays the others by a bounded
// amount.
//
// The KV cache is one pool of Engine's context_tokens cells for all sequences. Room is made in this order: kept
// prefixes, least recently used first; then the youngest running sequence goes back to the queue and reads prompt and
// answer again when its turn comes (its events go on where they stopped). A sequence alone that has no room left ends
// with kContextFull, or goes on with `shift`.
//
// Prompts that arrive together and begin alike are read once: the later one waits in the queue until the earlier one
// has read what they share, and lets others pass meanwhile.
//
// Prefix cache: a sequence that ends stays in the KV cache until its room is needed. A new prompt starts behind the
// longest beginning that it has in common with any sequence there, running or ended; those tokens are not evaluated
// again. At least the last token of a prompt always is, since its logits are wanted. An architecture whose history
// cannot be cut (recurrent state) only goes on where a whole kept sequence is a beginning of the prompt; whatever else
// matched is counted as refused_tokens.
//
// Errors: whatever is wrong with one request is the Result of add(), or a Finished event of that sequence; it never
// disturbs the others. A read that fails for good ends every sequence of that pass with kFailed and an error of
// kReadFailed (or kModelChanged); the KV cache goes back to what it held before the pass, sequences outside the pass go
// on, and so does the next step if the device does. step() itself cannot fail.
//
// Threads: one at a time, the model thread, as for Engine. Only cancel() and interrupt() may be called from any thread.
//
// Exactness: what a sequence gets depends on its own tokens, options and seed. Rounding may depend on the company:
// docs/batching.md says where, and what the tests hold fixed (greedy text, above all).
#pragma once

#include "base/status.h"
#include "engine/engine.h"
#include "engine/sampler.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace hypura::engine {

using SequenceId = uint64_t;  // from 1; never used again within one BatchEngine

struct BatchOptions {
    // Most prompt tokens a pass while other sequences generate; 0: as many as Report::chunk_tokens says. A smaller
    // chunk delays the others less, but reads streamed weights more often a prompt.
    uint32_t prefill_chunk_tokens = 0;
    bool keep_prefixes = true;  // false: an ended sequence leaves the KV cache at once
};

// ---- requests ------------------------------------------------------------------------------------------------------

struct GenerateRequest {
    std::vector<Token> prompt;  // at least one token
    SamplingOptions sampling;   // with grammar, logit biases and seed: sampler.h
    // Tokens to generate; empty: until the model ends or the context is full. 0: only reads the prompt, which then is a
    // kept prefix (warming up).
    std::optional<uint32_t> max_tokens;
    // Limit of prompt and answer of this sequence (num_ctx); 0 or more than the engine's: the engine's context_tokens.
    // Costs nothing and reloads nothing.
    uint32_t context_tokens = 0;
    // With each token: its log-probability and those of this many likeliest tokens (0: only its own). Empty: none.
    std::optional<uint32_t> top_logprobs;
    // Instead of kContextFull: drop the older half of what follows the first keep_tokens, read the rest again, go on.
    bool shift = false;
    uint32_t keep_tokens = 0;
};

enum class Pooling {
    kModel,  // as the model file says; if it does not: kMean for encoders, kLast for decoders
    kMean,   // average over all tokens
    kCls,    // the first token
    kLast,   // the last token
};

// One vector for a text. An encoder takes it whole, at most Report::batch_tokens tokens; a decoder takes up to
// context_tokens, in as many passes as needed. Passes of embeddings and of generation take turns.
struct EmbeddingRequest {
    std::vector<Token> tokens;  // at least one; add BOS, EOS and the like as the model wants them (Engine::tokenize)
    Pooling pooling = Pooling::kModel;
    bool normalize = true;  // to length 1
};

// ---- events --------------------------------------------------------------------------------------------------------

// After each pass that read tokens of the prompt, but the last: that one brings Sampled (or Finished). The first comes
// before any evaluation: done_tokens is then what the prefix cache gave.
struct PromptProgress {
    uint32_t done_tokens = 0;    // reused ones included
    uint32_t total_tokens = 0;   // of the prompt; after a shift or a return to the queue: what is to be read again
    uint32_t reused_tokens = 0;  // found in the KV cache
};

struct Sampled {
    Token token = 0;
    // Of top_logprobs: `logprob` is the token's own, `top` the likeliest, best first.
    float logprob = 0.0F;
    std::vector<TokenLogprob> top;
};

enum class FinishReason {
    kEndOfText,  // the model said so; the ending token is not a Sampled event
    kMaxTokens,
    kContextFull,
    kCancelled,
    kEmbedded,  // an EmbeddingRequest is done
    kFailed,    // `error` says why
};
std::string_view to_string(FinishReason reason);

struct Embedded {
    std::vector<float> values;  // Engine's embedding width
};

// The last event of a sequence.
struct Finished {
    FinishReason reason = FinishReason::kEndOfText;
    Error error;                    // kFailed only
    uint32_t prompt_tokens = 0;     // of the request
    uint32_t reused_tokens = 0;     // of these, found in the KV cache when the sequence first started
    uint32_t generated_tokens = 0;  // Sampled events
    // Wall time, whoever shared it: waiting in the queue; from the first pass to the first token; from there to the
    // end.
    int64_t queue_us = 0;
    int64_t prompt_us = 0;
    int64_t decode_us = 0;
};

struct SequenceEvent {
    SequenceId sequence = 0;
    std::variant<PromptProgress, Sampled, Embedded, Finished> what;
};

// ---- counters ------------------------------------------------------------------------------------------------------

struct BatchCounters {
    uint64_t passes = 0;  // over the weights, failed ones included
    uint64_t failed_passes = 0;
    uint64_t prompt_tokens = 0;   // evaluated, of prompts; read again after a shift or a return to the queue counts
    uint64_t decode_tokens = 0;   // evaluated, one a generating sequence and pass; drafts are in Report
    uint64_t reused_tokens = 0;   // of prompts, found in the KV cache
    uint64_t refused_tokens = 0;  // matched, but the architecture cannot go back to that point
    uint64_t evicted_prefixes = 0;
    uint64_t requeued = 0;  // sequences sent back to the queue for want of room
    uint64_t shifts = 0;
    uint32_t waiting = 0;        // now: in the queue
    uint32_t running = 0;        // now: reading a prompt or generating
    uint32_t kept_prefixes = 0;  // now
    uint32_t used_tokens = 0;    // now: cells of the KV cache that hold something, of context_tokens
    uint32_t context_tokens = 0;
};

// ---- the batch -----------------------------------------------------------------------------------------------------

class BatchEngine {
public:
    virtual ~BatchEngine() = default;

    // Puts a sequence into the queue, first come, first served; step() starts it when one of Engine's `sequences` is
    // free and its prompt fits the KV cache. The queue has no bound of its own (BatchCounters::waiting). Errors:
    // kInvalidArgument for an empty prompt, a prompt of more than its context, options that mean nothing or a grammar
    // that does not parse (the message quotes what libllama says); kUnsupportedModel for a model that cannot generate
    // (an encoder) or give embeddings.
    virtual Result<SequenceId> add(GenerateRequest request) = 0;
    virtual Result<SequenceId> add(EmbeddingRequest request) = 0;

    // Ends a sequence: its Finished event (kCancelled) comes with the step in hand or the next one, and no further
    // token. A pass that is being computed goes on for the others; it is abandoned when all of its sequences are
    // cancelled. What was evaluated is kept as a prefix. Unknown or ended sequences are ignored. Any thread.
    virtual void cancel(SequenceId sequence) = 0;
    // Makes a step() in hand return soon, its pass undone: nothing is lost but time. Any thread.
    virtual void interrupt() = 0;

    virtual bool has_work() const = 0;  // anything queued or running

    // Evaluates one pass and returns what came of it, in order: a token for each sequence that generates, and those
    // behind it that were drafted rightly. Without work: no events.
    virtual std::vector<SequenceEvent> step() = 0;

    virtual BatchCounters counters() const = 0;

    // ---- prefixes ---------------------------------------------------------------------------------------------------

    // Tokens of `prompt` that the KV cache holds now, as a new sequence would find them.
    virtual uint32_t cached_tokens(std::span<const Token> prompt) const = 0;

    // Writes what the KV cache holds of the beginning of `tokens` (the longest kept or running sequence that matches,
    // as whole as it is) to a file: `path` is replaced in one go. Returns the number of tokens written. Errors:
    // kNotFound when nothing of `tokens` is in the KV cache; errors of the file system, by name.
    virtual Result<uint32_t> save_prefix(std::span<const Token> tokens, const std::string& path) = 0;

    // Reads such a file into the KV cache as a kept prefix; returns its tokens. Errors: kNotFound, kPermissionDenied;
    // kInvalidArgument for a file that is none of ours or of another model; kCorruptModel for a damaged one;
    // kOutOfMemory when the KV cache has no room even without other kept prefixes.
    virtual Result<std::vector<Token>> restore_prefix(const std::string& path) = 0;

    virtual void drop_prefixes() = 0;  // forgets all kept ones
};

}  // namespace hypura::engine
