// From a native request to a sequence for the engine: template, tokens, context, sampling, grammar.
#pragma once

#include "engine/batch_engine.h"
#include "server/answer_builder.h"
#include "server/model_store.h"
#include "server/request.h"

namespace hypura::server {

struct Prepared {
    engine::GenerateRequest sequence;
    AnswerOptions answer;
};

// What can be said about a request before its model is loaded: capabilities. Errors: 400 with the texts clients match.
ApiStatus check_request(const Request& request, const ModelEntry& model);

// The GBNF that the answer is held to: of `format`, or of a tool call that tool_choice requires; empty: none. Errors:
// 400.
ApiResult<std::string> grammar_of_answer(const Request& request, const ModelEntry& model);

// `context_tokens`: of the engine. Errors: 400; context_exceeded when the prompt does not fit and may not be cut.
ApiResult<Prepared> prepare(const Request& request, const ModelEntry& model, const engine::Engine& engine,
                            uint32_t context_tokens);

// Tokens of the whole prompt: system, tools and template included.
ApiResult<std::vector<engine::Token>> prompt_tokens(const Request& request, const ModelEntry& model,
                                                    const engine::Engine& engine);

// One token list an input. Errors: 400 when one exceeds `most_tokens` and may not be cut.
ApiResult<std::vector<std::vector<engine::Token>>> prepare_embedding(const EmbedRequest& request,
                                                                     const engine::Engine& engine,
                                                                     uint32_t most_tokens);

// The first `dimensions` values, normalised again; 0: as they are.
void cut_dimensions(std::vector<float>& values, int64_t dimensions, bool normalize);

}  // namespace hypura::server
