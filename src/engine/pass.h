// One pass over the weights: a batch of tokens of one or many sequences goes through libllama, with the weights that it
// needs streamed in beneath it. Whatever evaluates anything does it here. Internal to this folder.
#pragma once

#include "engine/runtime.h"

#include <cstdint>
#include <span>
#include <vector>

namespace hypura::engine {

struct PassToken {
    Token token = 0;
    uint32_t position = 0;  // on its sequence's timeline
    int32_t sequence = 0;   // libllama's sequence id
    bool output = false;    // its logits (or embedding) are wanted
};

// `tokens` of one sequence from `position` on; outputs of all of them, or of the last one.
std::vector<PassToken> pass_of(std::span<const Token> tokens, uint32_t position, bool all_outputs);

// Runs one batch without the streamer: 0 done, 1 no room in the context, 2 aborted, negative failed (llama_decode's
// values).
int run_batch(Runtime& runtime, Pass pass, std::span<const PassToken> tokens);

// How a pass of several tokens rounds: as libggml computes so many rows, or so that each has the bits of a pass of its
// own. That is for few tokens (DraftPace::kMostPassTokens) of one sequence beneath a streamer on the processor;
// elsewhere it changes nothing.
enum class Rounding : uint8_t { kTogether, kOneByOne };

// The same with streamed weights. Errors: what a read ended with (it matters more than libllama's own result, which was
// computed with what was there); kCancelled when eval.abort was raised; kInvalidArgument when the context is full;
// kInternal for what libllama does not explain. After any error the memory of the sequences concerned must be cut back
// to what it was: part of the pass may have been written.
Status run_pass(Runtime& runtime, Pass pass, std::span<const PassToken> tokens, Rounding rounding);

// Row of token `index` of the last pass, which must have wanted it: logits or embedding. Null: there is none.
const float* logits_row(const Runtime& runtime, size_t index);
const float* embedding_row(const Runtime& runtime, size_t index);

}  // namespace hypura::engine
