// hypura run: answers one prompt, or chats.
#include "base/output_file.h"
#include "cli/console.h"
#include "cli/conversation.h"
#include "cli/interrupt.h"
#include "cli/line_input.h"
#include "cli/opening.h"
#include "cli/options.h"
#include "cli/summary.h"

#include <CLI/CLI.hpp>

namespace hypura::cli {
namespace {

struct RunFlags {
    EngineFlags engine;
    SamplingFlags sampling;
    std::string prompt;
    std::string prompt_file;
    std::string system;
    std::string stats_file;
    std::vector<std::string> stop;
    int64_t max_tokens = -1;
    bool interactive = false;
    bool raw = false;
    bool quiet = false;
};

// ---- which prompt --------------------------------------------------------------------------------------------------

// Without a prompt, a terminal means a chat and a pipe is the prompt itself.
bool wants_chat(const RunFlags& flags, const Environment& environment) {
    const bool no_prompt = flags.prompt.empty() && flags.prompt_file.empty();
    return flags.interactive || (no_prompt && environment.stdin_is_terminal);
}

Result<std::string> prompt_text(const RunFlags& flags, bool chat) {
    if (!flags.prompt.empty()) return flags.prompt;
    if (!flags.prompt_file.empty()) return read_text(flags.prompt_file);
    if (chat) return std::string();
    return read_text("-");
}

// Editors and `echo` end a text with a newline that nobody meant as part of the question.
std::string without_last_newline(std::string text) {
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
}

// ---- one run -------------------------------------------------------------------------------------------------------

class Run {
public:
    Run(const Environment& environment, const RunFlags& flags, engine::Engine& engine, engine::Session& session)
        : environment_(environment),
          flags_(flags),
          engine_(engine),
          session_(session),
          conversation_(engine, session, flags.raw) {
        conversation_.set_system(flags.system);
        options_.max_tokens = static_cast<uint32_t>(std::max<int64_t>(flags.max_tokens, 0));
        options_.stop = flags.stop;
        options_.sampling = to_sampling_options(flags.sampling, engine.file().metadata);
    }

    Status answer_once(const std::string& prompt);
    Status chat(const std::string& first_question);
    // Prints the summary, and writes it to `stats` if there is one.
    Status finish(OutputFile* stats);

private:
    enum class Next { kGoOn, kLeave };

    using Answer = std::function<Result<engine::GenerateResult>(const engine::GenerateCallbacks&)>;
    Status print_answer(const Answer& answer);
    Status ask(const std::string& question);
    Next take_line(const ChatLine& line);
    void report(const Status& status);

    const Environment& environment_;
    const RunFlags& flags_;
    engine::Engine& engine_;
    engine::Session& session_;
    Conversation conversation_;
    engine::GenerateOptions options_;
    RunTotals totals_;
};

// Text goes out as it comes; Ctrl-C and a closed stdout end the answer between two tokens.
Status Run::print_answer(const Answer& answer) {
    const InterruptGuard guard(session_);
    ProgressBar bar(environment_, "reading the prompt", ProgressUnit::kTokens);
    Status output;
    engine::GenerateCallbacks callbacks;
    callbacks.on_prompt = [&](size_t done, size_t total) {
        bar.update(done, total);
        return !guard.interrupted();
    };
    callbacks.on_text = [&](std::string_view text) {
        bar.clear();
        output = print_text(text);
        return output.has_value() && !guard.interrupted();
    };
    HYPURA_ASSIGN(const engine::GenerateResult result, answer(callbacks));
    totals_.add(result);
    HYPURA_TRY(output);
    return print_text(result.text.ends_with('\n') ? "" : "\n");
}

Status Run::ask(const std::string& question) {
    return print_answer(
        [&](const engine::GenerateCallbacks& callbacks) { return conversation_.ask(question, options_, callbacks); });
}

Status Run::answer_once(const std::string& prompt) {
    HYPURA_TRY(ask(prompt));
    if (totals_.stop == engine::StopReason::kCancelled) return fail(ErrorCode::kCancelled, "interrupted");
    return {};
}

// An answer that fails is reported and the chat goes on: the next one may be shorter, or the device may be back.
void Run::report(const Status& status) {
    if (!status) print_error(environment_, status.error().message);
}

Run::Next Run::take_line(const ChatLine& line) {
    using Kind = ChatLine::Kind;
    switch (line.kind) {
        case Kind::kExit:
            return Next::kLeave;
        case Kind::kNothing:
            break;
        case Kind::kHelp:
            print_note(chat_help());
            break;
        case Kind::kClear:
            conversation_.clear();
            break;
        case Kind::kSystem:
            conversation_.set_system(line.text);
            break;
        case Kind::kStats:
            print_note(summary_text(engine_.report(), totals_));
            break;
        case Kind::kUnknown:
            print_error(environment_, line.text + ": no such command; /help lists them");
            break;
        case Kind::kQuestion:
            report(ask(line.text));
            break;
        case Kind::kRegenerate:
            report(print_answer([&](const engine::GenerateCallbacks& callbacks) {
                return conversation_.ask_again(options_, callbacks);
            }));
            break;
    }
    return Next::kGoOn;
}

Status Run::chat(const std::string& first_question) {
    const auto input = make_line_input(environment_);
    if (environment_.stdin_is_terminal) print_note(dimmed(environment_, "/help lists the commands, Ctrl-D leaves\n"));
    if (!first_question.empty()) report(ask(first_question));
    while (const auto line = input->read())
        if (take_line(parse_chat_line(*line)) == Next::kLeave) break;
    return {};
}

Status Run::finish(OutputFile* stats) {
    const engine::Report report = engine_.report();
    if (!flags_.quiet) print_note("\n" + dimmed(environment_, summary_text(report, totals_)));
    if (stats == nullptr) return {};
    const std::string json = summary_json(report, totals_);
    HYPURA_TRY(stats->write(std::as_bytes(std::span(json))));
    return stats->close();
}

// Before the model is loaded: loading may take minutes, and the answer longer.
Result<std::unique_ptr<OutputFile>> open_stats(const RunFlags& flags) {
    if (flags.stats_file.empty()) return nullptr;
    HYPURA_ASSIGN(OutputFile file, OutputFile::create(flags.stats_file));
    return std::make_unique<OutputFile>(std::move(file));
}

Status run_model(const Environment& environment, const RunFlags& flags) {
    const bool chat = wants_chat(flags, environment);
    HYPURA_ASSIGN(std::string prompt, prompt_text(flags, chat));
    if (!flags.raw) prompt = without_last_newline(std::move(prompt));
    HYPURA_TRY(engine::check_sampling(to_sampling_options(flags.sampling, {})));
    HYPURA_ASSIGN(const auto stats, open_stats(flags));
    HYPURA_ASSIGN(const auto engine, open_engine(environment, flags.engine));
    if (!engine->has_vocabulary())
        return fail(ErrorCode::kUnsupportedModel, "{}: the model has no vocabulary; only verify and logits can run it",
                    flags.engine.model_path);
    HYPURA_ASSIGN(const auto session, engine->new_session());

    Run run(environment, flags, *engine, *session);
    const Status answered = chat ? run.chat(prompt) : run.answer_once(prompt);
    // The summary matters most when something went wrong, so that it comes in any case.
    const Status finished = run.finish(stats.get());
    return answered ? finished : answered;
}

void add_prompt_flags(CLI::App& command, RunFlags& flags) {
    auto* prompt = command.add_option("-p,--prompt", flags.prompt, "the question (default: stdin, or a chat)");
    command.add_option("-f,--file", flags.prompt_file, "read the question from FILE; - is stdin")->excludes(prompt);
    command.add_flag("-i,--interactive", flags.interactive, "chat");
    command.add_option("-n,--max-tokens", flags.max_tokens, "most tokens an answer (-1 or 0: until it ends)")
        ->check(CLI::Range(int64_t{-1}, int64_t{INT32_MAX}));
    command.add_option("--system", flags.system, "system message");
    command.add_option("--stop", flags.stop, "text that ends an answer; may be given several times")
        ->allow_extra_args(false);
    command.add_flag("--raw", flags.raw, "continue the prompt as it is, without the chat template");
    command.add_option("--stats", flags.stats_file, "write what was read and computed to FILE as JSON");
    command.add_flag("-q,--quiet", flags.quiet, "no closing summary");
}

}  // namespace

void add_run(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<RunFlags>();
    CLI::App* command = app.add_subcommand("run", "Answer a prompt, or chat");
    add_engine_flags(*command, flags->engine, context.environment);
    add_draft_flag(*command, flags->engine);
    add_prompt_flags(*command, *flags);
    add_sampling_flags(*command, flags->sampling);
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return run_model(context.environment, *flags); }; });
}

}  // namespace hypura::cli
