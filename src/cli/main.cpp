// The program: the only reader of argv and of the environment, and the only place that turns errors into exit codes.
#include "cli/command.h"
#include "cli/console.h"
#include "cli/exit_codes.h"
#include "cli/lost_mapping.h"
#include "engine/llama_library.h"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <format>
#include <string_view>
#include <system_error>

namespace hypura::cli {
namespace {

constexpr std::array kCommands = {
    Command{add_run},      Command{add_serve},  Command{add_bench},      Command{add_iobench}, Command{add_trace},
    Command{add_simulate}, Command{add_verify}, Command{add_logits},     Command{add_plan},    Command{add_estimate},
    Command{add_profile},  Command{add_doctor}, Command{add_make_model},
};

std::string environment_text(const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? "" : text;
}

// XDG base directory specification: relative paths in the variable are to be ignored.
std::string xdg_directory(const char* variable, const char* below_home) {
    const std::string base = environment_text(variable);
    if (base.starts_with('/')) return base + "/hypura";
    const std::string home = environment_text("HOME");
    return home.empty() ? "" : home + "/" + below_home + "/hypura";
}

std::map<std::string, std::string> serve_variables() {
    std::map<std::string, std::string> variables;
    for (const char* name :
         {"OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE",
          "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE", "OLLAMA_ORIGINS", "OLLAMA_KV_CACHE_TYPE", "HYPURA_API_KEY"})
        if (const std::string value = environment_text(name); !value.empty()) variables[name] = value;
    return variables;
}

Environment read_environment() {
    Environment environment;
    environment.stdin_is_terminal = ::isatty(STDIN_FILENO) == 1;
    environment.stdout_is_terminal = ::isatty(STDOUT_FILENO) == 1;
    environment.stderr_is_terminal = ::isatty(STDERR_FILENO) == 1;
    environment.colours =
        environment.stderr_is_terminal && environment_text("NO_COLOR").empty() && environment_text("TERM") != "dumb";
    environment.state_directory = xdg_directory("XDG_STATE_HOME", ".local/state");
    environment.cache_directory = xdg_directory("XDG_CACHE_HOME", ".cache");
    environment.serve = serve_variables();
    return environment;
}

// NVIDIA's driver keeps the shaders that it has translated, but not everywhere, and then each start translates for 12 s
// (docs/devices.md): so it is told to, and where. Whoever sets one of the variables decides.
void keep_translated_shaders(const std::string& cache_directory) {
    constexpr const char *kSwitch = "__GL_SHADER_DISK_CACHE", *kFolder = "__GL_SHADER_DISK_CACHE_PATH";
    const bool is_decided = std::getenv(kSwitch) != nullptr || std::getenv(kFolder) != nullptr;
    if (is_decided || cache_directory.empty() || ::access("/dev/nvidiactl", F_OK) != 0) return;
    const std::string folder = cache_directory + "/shaders";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return;
    ::setenv(kSwitch, "1", 0);
    ::setenv(kFolder, folder.c_str(), 0);
}

void add_help_command(CLI::App& app, CommandContext& context) {
    CLI::App* command = app.add_subcommand("help", "Show this help");
    command->callback(
        [&app, &context] { context.action = [&app] { return print_text(app.help("", CLI::AppFormatMode::Normal)); }; });
}

void add_commands(CLI::App& app, CommandContext& context) {
    app.set_version_flag("--version", "hypura " HYPURA_VERSION);
    app.require_subcommand(1);
    for (const Command& command : kCommands) command.add(app, context);
    add_help_command(app, context);
}

int report(const Environment& environment, const Status& status) {
    if (status) return kExitOk;
    print_error(environment, status.error().message);
    return exit_code(status.error());
}

// CLI11 only says that a command is missing.
std::string parse_complaint(const CLI::App& app, std::string_view first_argument, const CLI::ParseError& error) {
    const bool is_name = !first_argument.empty() && !first_argument.starts_with('-');
    if (is_name && app.get_subcommand_no_throw(std::string(first_argument)) == nullptr)
        return std::format("'{}' is no command", first_argument);
    return error.what();
}

// --help and --version arrive as CLI11 "errors" with exit code 0; app.exit prints them.
int report_parse_error(const CLI::App& app, const Environment& environment, std::string_view first_argument,
                       const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    print_error(environment, parse_complaint(app, first_argument, error) + " (see hypura help)");
    return exit_code(ErrorCode::kInvalidArgument);
}

// libggml aborts where a device of another machine is gone, and nothing can be caught: say so, and leave with a code of
// its own. Anything else ends as libggml wants it.
void end_after_device_loss(const char* reason) {
    if (std::string_view(reason).find("RPC") == std::string_view::npos) {
        std::fprintf(stderr, "hypura: libggml gave up: %s\n", reason);
        return;
    }
    std::fprintf(stderr, "hypura: a remote device is gone (a ggml-rpc-server died, or the network did): %s\n", reason);
    std::_Exit(exit_code(ErrorCode::kDeviceLost));
}

int main_function(int argc, char** argv) {
    std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error with a name, and what was begun is removed
    explain_lost_mappings();
    engine::on_ggml_abort(end_after_device_loss);
    CommandContext context;
    context.environment = read_environment();
    context.version = HYPURA_VERSION;
    CLI::App app("Runs GGUF language models that are larger than memory", "hypura");
    add_commands(app, context);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return report_parse_error(app, context.environment, argc > 1 ? argv[1] : "", error);
    }
    keep_translated_shaders(context.environment.cache_directory);
    return report(context.environment, context.action());
}

}  // namespace
}  // namespace hypura::cli

int main(int argc, char** argv) { return hypura::cli::main_function(argc, argv); }
