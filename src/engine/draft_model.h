// Drafts by a smaller model of the same vocabulary, which is in memory as a whole.
#pragma once

#include "engine/engine.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hypura::engine {

class DraftModel {
public:
    // Opens `path` on the processor, with as much context as `target` has. Errors: as Engine::open;
    // kUnsupportedModel where its tokens are not those of `target`.
    static Result<std::unique_ptr<DraftModel>> open(const std::string& path, const gguf::ModelFile& target,
                                                    uint32_t context_tokens, uint32_t threads);

    // The likeliest tokens behind `text` (at least one token), at most `most`; fewer where the model becomes unsure,
    // its context ends, or a token is not in both vocabularies (which may be padded to different sizes). Reads what is
    // new of `text` first. Errors: as Session::evaluate.
    Result<std::vector<Token>> draft(std::span<const Token> text, size_t most);

    // How many tokens of `text` draft() would read first.
    size_t unread_tokens(std::span<const Token> text) const;

private:
    DraftModel(std::unique_ptr<Engine> engine, Token common_tokens)
        : engine_(std::move(engine)), common_tokens_(common_tokens) {}
    Status read(std::span<const Token> text);
    Status evaluate(std::span<const Token> tokens);

    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Session> session_;  // destroyed before its engine
    std::vector<Token> timeline_;       // of the session
    Token common_tokens_;               // those below are in both vocabularies
};

}  // namespace hypura::engine
