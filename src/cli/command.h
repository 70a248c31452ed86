// How a subcommand plugs into the program.
//
// A command is one function that adds a subcommand with its flags to the CLI11 app. Parsing only stores what was asked;
// the work is `context.action`, which main() runs after a successful parse and whose error becomes the exit code:
//
//   void add_doctor(CLI::App& app, CommandContext& context) {
//       auto flags = std::make_shared<DoctorFlags>();
//       CLI::App* command = app.add_subcommand("doctor", "Check this host, and say what to change");
//       command->add_option("PATH", flags->path, "a model");
//       command->callback([flags, &context] { context.action = [flags] { return doctor(*flags); }; });
//   }
//
// Commands print results to stdout and everything else to stderr; they never exit and never print their own error.
#pragma once

#include "base/status.h"

#include <functional>
#include <map>
#include <string>

namespace CLI {
class App;
}

namespace hypura::cli {

// What the program learns from its surroundings, read once by main(): nothing else looks at the environment.
struct Environment {
    bool stdin_is_terminal = false;
    bool stdout_is_terminal = false;
    bool stderr_is_terminal = false;
    bool colours = false;         // stderr is a terminal, TERM is not "dumb" and NO_COLOR is empty
    std::string state_directory;  // $XDG_STATE_HOME/hypura; empty when there is no home
    std::string cache_directory;  // $XDG_CACHE_HOME/hypura; empty when there is no home
    // OLLAMA_... and the like, which stand in for flags of serve; only those that are set.
    std::map<std::string, std::string> serve;
};

struct CommandContext {
    Environment environment;
    std::string version;             // "0.1.0"
    std::function<Status()> action;  // set by the subcommand that was chosen
};

// The table in main.cpp, in the order of the help text.
struct Command {
    void (*add)(CLI::App& app, CommandContext& context);
};

void add_run(CLI::App& app, CommandContext& context);
void add_verify(CLI::App& app, CommandContext& context);
void add_logits(CLI::App& app, CommandContext& context);
void add_plan(CLI::App& app, CommandContext& context);
void add_estimate(CLI::App& app, CommandContext& context);
void add_doctor(CLI::App& app, CommandContext& context);
void add_bench(CLI::App& app, CommandContext& context);
void add_trace(CLI::App& app, CommandContext& context);
void add_simulate(CLI::App& app, CommandContext& context);
void add_iobench(CLI::App& app, CommandContext& context);
void add_serve(CLI::App& app, CommandContext& context);
void add_make_model(CLI::App& app, CommandContext& context);
void add_profile(CLI::App& app, CommandContext& context);

}  // namespace hypura::cli
