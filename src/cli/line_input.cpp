#include "cli/line_input.h"

#include <isocline.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace hypura::cli {
namespace {

constexpr long kHistoryLines = 1000;

class PlainInput final : public LineInput {
public:
    std::optional<std::string> read() override {
        std::string line;
        int c = std::getchar();
        if (c == EOF) return std::nullopt;
        for (; c != EOF && c != '\n'; c = std::getchar()) line += static_cast<char>(c);
        return line;
    }
};

// A chat works without a history: a state directory that cannot be written is no reason to stop.
std::string history_path(const Environment& environment) {
    if (environment.state_directory.empty()) return "";
    std::error_code error;
    std::filesystem::create_directories(environment.state_directory, error);
    return error ? "" : environment.state_directory + "/history";
}

// Ends, or stops, the program as if nobody had caught the signal.
void act_by_default(int signal) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);  // delivered when this handler returns
}

// isocline catches these to restore the terminal and then calls the handler that was there before. Where there was none
// it swallows the signal: a closed terminal would leave the program running, and a crash would repeat for ever.
void let_signals_through() {
    for (const int signal : {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU}) {
        struct sigaction before{};
        ::sigaction(signal, nullptr, &before);
        if (before.sa_handler == SIG_DFL) std::signal(signal, act_by_default);
    }
}

// Under nohup no signal tells that the terminal is gone, and isocline would wait for a key in a busy loop.
bool terminal_is_gone() {
    pollfd terminal{STDIN_FILENO, 0, 0};
    return ::poll(&terminal, 1, 0) > 0 && (terminal.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

class EditedInput final : public LineInput {
public:
    explicit EditedInput(const Environment& environment) {
        let_signals_through();  // before the first call of isocline, which remembers them
        const std::string path = history_path(environment);
        ic_set_history(path.empty() ? nullptr : path.c_str(), kHistoryLines);
        ic_set_default_completer(&complete_command, nullptr);
        ic_enable_color(environment.colours);
        ic_enable_brace_insertion(false);
        ic_set_prompt_marker("> ", "  ");
    }

    std::optional<std::string> read() override {
        if (terminal_is_gone()) return std::nullopt;
        const std::unique_ptr<char, decltype(&ic_free_text)> text(ic_readline(""), &ic_free_text);
        if (!text) return std::nullopt;
        return std::string(text.get());
    }

private:
    static void ic_free_text(char* text) { ic_free(text); }

    static void complete_command(ic_completion_env_t* completions, const char* prefix) {
        static std::array commands = {
            "/help", "/exit", "/clear", "/system ", "/stats", "/regenerate", static_cast<const char*>(nullptr)};
        if (prefix[0] == '/') ic_add_completions(completions, prefix, commands.data());
    }
};

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r\n";
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

std::unique_ptr<LineInput> make_line_input(const Environment& environment) {
    if (environment.stdin_is_terminal && environment.stdout_is_terminal)
        return std::make_unique<EditedInput>(environment);
    return std::make_unique<PlainInput>();
}

ChatLine parse_chat_line(std::string_view line) {
    using Kind = ChatLine::Kind;
    static constexpr std::array<std::pair<std::string_view, Kind>, 7> kCommands = {
        {{"/help", Kind::kHelp},
         {"/exit", Kind::kExit},
         {"/quit", Kind::kExit},
         {"/clear", Kind::kClear},
         {"/system", Kind::kSystem},
         {"/stats", Kind::kStats},
         {"/regenerate", Kind::kRegenerate}}};
    const std::string_view text = trimmed(line);
    if (text.empty()) return {};
    if (!text.starts_with('/')) return {Kind::kQuestion, std::string(text)};
    const std::string_view name = text.substr(0, text.find_first_of(" \t\n"));
    const std::string argument(trimmed(text.substr(name.size())));
    for (const auto& [command, kind] : kCommands)
        if (command == name) return {kind, argument};
    return {Kind::kUnknown, std::string(name)};
}

std::string_view chat_help() {
    return "/help          this list\n"
           "/clear         forget the chat so far\n"
           "/system TEXT   set the system message; without TEXT, remove it\n"
           "/regenerate    answer the last question once more\n"
           "/stats         what was read and computed so far\n"
           "/exit          leave (so does Ctrl-D); Ctrl-C stops an answer\n";
}

}  // namespace hypura::cli
