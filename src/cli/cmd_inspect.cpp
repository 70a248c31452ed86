// hypura inspect: what a model file says about itself, without loading it.
#include "cli/command.h"
#include "cli/console.h"
#include "cli/model_facts.h"

#include <CLI/CLI.hpp>

namespace hypura::cli {
namespace {

struct InspectFlags {
    std::string model_path;
    bool json = false;
};

Status inspect(const InspectFlags& flags) {
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(flags.model_path));
    const ModelFacts facts = model_facts(file);
    return print_text(flags.json ? facts_json(facts) : facts_text(facts));
}

}  // namespace

void add_inspect(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<InspectFlags>();
    CLI::App* command = app.add_subcommand("inspect", "Show what a model file says about itself");
    command->add_option("MODEL", flags->model_path, "a GGUF file, or any part of a split one")->required();
    command->add_flag("--json", flags->json, "print JSON");
    command->callback([flags, &context] { context.action = [flags] { return inspect(*flags); }; });
}

}  // namespace hypura::cli
