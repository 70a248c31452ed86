// hypura trace: writes down what a run asks of its slot cache (trace_file.h has the format).
#include "cli/console.h"
#include "cli/conversation.h"
#include "cli/opening.h"
#include "cli/options.h"
#include "cli/text_file.h"
#include "cli/trace_file.h"
#include "residency/demand_trace.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <format>
#include <random>

namespace hypura::cli {
namespace {

struct TraceFlags {
    EngineFlags engine;
    SamplingFlags sampling;
    std::vector<std::string> prompts;
    std::string prompts_file;
    std::string out_path;
    uint32_t max_tokens = 300;
    uint32_t random_tokens = 0;
    bool raw = false;
};

// Takes the observer away again, whatever happens between.
class Listening {
public:
    Listening(engine::Engine& engine, residency::CacheObserver& observer) : engine_(engine) {
        engine_.observe(&observer);
    }
    Listening(const Listening&) = delete;
    ~Listening() { engine_.observe(nullptr); }

private:
    engine::Engine& engine_;
};

// -p, then the lines of --prompts.
Result<std::vector<std::string>> all_prompts(const TraceFlags& flags) {
    std::vector<std::string> prompts = flags.prompts;
    if (flags.prompts_file.empty()) return prompts;
    HYPURA_ASSIGN(const std::string text, read_text(flags.prompts_file));
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        if (end > begin) prompts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return prompts;
}

// Each prompt on a timeline of its own, as a chat would ask it; the cache stays as it is.
Status answer(const TraceFlags& flags, engine::Engine& engine, engine::Session& session,
              const std::vector<std::string>& prompts) {
    engine::GenerateOptions options;
    options.max_tokens = flags.max_tokens;
    options.sampling = to_sampling_options(flags.sampling, engine.file().metadata);
    for (const std::string& prompt : prompts) {
        session.clear();
        Conversation conversation(engine, session, flags.raw);
        HYPURA_TRY(conversation.ask(prompt, options, {}));
    }
    return {};
}

// One token a pass; those that no longer fit the context begin a new timeline.
Status feed_random_tokens(const TraceFlags& flags, engine::Engine& engine, engine::Session& session) {
    std::mt19937 random(static_cast<uint32_t>(flags.sampling.seed.value_or(1)));
    for (uint32_t i = 0; i < flags.random_tokens; ++i) {
        if (session.position() == session.context_tokens()) session.clear();
        const auto token = static_cast<engine::Token>(random() % std::max(engine.vocabulary_tokens(), 1U));
        HYPURA_TRY(session.evaluate(std::span(&token, 1), engine::LogitsWanted::kLast));
    }
    return {};
}

std::string summary(const residency::DemandTrace& trace) {
    const auto passes = std::ranges::count(trace.events, residency::TraceStep::kPass, &residency::TraceEvent::step);
    return std::format("{} passes, {} demands, {} of them in memory, {} on their way, {} evictions\n", passes,
                       trace.counters.demands, trace.counters.hits, trace.counters.joined, trace.counters.evictions);
}

Status run_trace(const Environment& environment, const TraceFlags& flags) {
    HYPURA_ASSIGN(const std::vector<std::string> prompts, all_prompts(flags));
    if (prompts.empty() && flags.random_tokens == 0)
        return fail(ErrorCode::kInvalidArgument, "nothing to run: give -p, --prompts or --random-tokens");
    HYPURA_ASSIGN(const auto engine, open_engine(environment, flags.engine));
    if (engine->slot_cache() == nullptr)
        return fail(ErrorCode::kInvalidArgument,
                    "{}: the mode is {} ({}), so no weight is streamed and there is nothing to trace; give a smaller "
                    "--ram or --weights",
                    flags.engine.model_path, engine::to_string(engine->report().mode), engine->report().reason);
    HYPURA_ASSIGN(const auto session, engine->new_session());
    residency::TraceRecorder recorder(*engine->slot_cache());
    {
        const Listening listening(*engine, recorder);
        HYPURA_TRY(answer(flags, *engine, *session, prompts));
        HYPURA_TRY(feed_random_tokens(flags, *engine, *session));
    }
    residency::DemandTrace trace = recorder.take();
    trace.model = flags.engine.model_path;
    HYPURA_TRY(write_text(flags.out_path, trace_text(trace)));
    print_note(summary(trace));
    return {};
}

}  // namespace

void add_trace(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<TraceFlags>();
    CLI::App* command = app.add_subcommand("trace", "Write down which experts a run asks for, and what was in memory");
    add_engine_flags(*command, flags->engine, context.environment);
    command->add_option("-p,--prompt", flags->prompts, "a question; may be given several times")
        ->allow_extra_args(false);
    command->add_option("--prompts", flags->prompts_file, "a file with a question on each line");
    command->add_option("-n,--max-tokens", flags->max_tokens, "most tokens an answer");
    command->add_option("--random-tokens", flags->random_tokens, "then so many random tokens, one a pass");
    command->add_flag("--raw", flags->raw, "continue the prompts as they are, without the chat template");
    command->add_option("--out", flags->out_path, "the file to write")->required();
    add_sampling_flags(*command, flags->sampling);
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return run_trace(context.environment, *flags); }; });
}

}  // namespace hypura::cli
