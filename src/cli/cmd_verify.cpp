// hypura verify: proves on this machine that streaming computes what plain libllama computes.
#include "cli/command.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/verify_report.h"
#include "engine/verify.h"

#include <CLI/CLI.hpp>

namespace hypura::cli {
namespace {

struct VerifyFlags {
    EngineFlags engine;
    uint32_t tokens = 8;
    uint32_t seed = 1;
    bool json = false;
};

Result<engine::VerifyOptions> to_verify_options(const VerifyFlags& flags) {
    HYPURA_ASSIGN(engine::EngineOptions engine, to_engine_options(flags.engine));
    // Bit for bit is a promise about the processor; a device has to be named.
    if (engine.devices.empty()) engine.devices = {"none"};
    return engine::VerifyOptions{std::move(engine), flags.tokens, flags.seed};
}

Status check_identical(const engine::VerifyResult& result) {
    if (result.passed()) return {};
    return fail(ErrorCode::kMismatch, "streaming and plain libllama gave different logits");
}

Status verify_model(const VerifyFlags& flags) {
    HYPURA_ASSIGN(const engine::VerifyOptions options, to_verify_options(flags));
    HYPURA_ASSIGN(const engine::VerifyResult result, engine::verify(options));
    HYPURA_TRY(print_text(flags.json ? verify_json(result) : verify_text(result)));
    return check_identical(result);
}

}  // namespace

void add_verify(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<VerifyFlags>();
    CLI::App* command = app.add_subcommand("verify", "Compare streaming with plain libllama, bit for bit");
    add_engine_flags(*command, flags->engine, context.environment);
    add_draft_flag(*command, flags->engine);
    command->add_option("--tokens", flags->tokens, "single-token passes after the prompt");
    command->add_option("--seed", flags->seed, "of the random tokens");
    command->add_flag("--json", flags->json, "print JSON");
    command->callback([flags, &context] { context.action = [flags] { return verify_model(*flags); }; });
}

}  // namespace hypura::cli
