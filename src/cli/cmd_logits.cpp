// hypura logits: the raw numbers, for comparing with other programs.
#include "cli/command.h"
#include "cli/options.h"
#include "engine/verify.h"

#include <CLI/CLI.hpp>

namespace hypura::cli {
namespace {

struct LogitsFlags {
    EngineFlags engine;
    std::string tokens;
    std::string out_path;
};

Status write_logits(const LogitsFlags& flags) {
    HYPURA_ASSIGN(const std::vector<engine::Token> tokens, parse_tokens(flags.tokens));
    HYPURA_ASSIGN(const engine::EngineOptions options, to_engine_options(flags.engine));
    return engine::write_logits(options, tokens, flags.out_path);
}

}  // namespace

void add_logits(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<LogitsFlags>();
    CLI::App* command = app.add_subcommand("logits", "Write the logits of given tokens as raw float32");
    add_engine_flags(*command, flags->engine, context.environment);
    command->add_option("--tokens", flags->tokens, "token numbers: 1,2,3 or @FILE")->required();
    command->add_option("--out", flags->out_path, "file to write, one row a token")->required();
    command->callback([flags, &context] { context.action = [flags] { return write_logits(*flags); }; });
}

}  // namespace hypura::cli
