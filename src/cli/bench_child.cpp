#include "cli/bench_child.h"

#include "base/clock.h"
#include "cli/bench_ceiling.h"
#include "cli/child_process.h"
#include "cli/console.h"
#include "engine/engine.h"
#include "gguf/reader.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

namespace hypura::cli {
namespace {

// The tokens that llama-bench feeds. It draws them from rand(), which it never seeds, so they are the same in every run
// of it; drawing from the same rand() in the same order gives the same tokens here. Checked by listening to its calls
// of rand(); should a later version draw otherwise, both sides still have uniformly random tokens.
class LlamaBenchTokens {
public:
    explicit LlamaBenchTokens(const engine::Engine& engine)
        : vocabulary_(static_cast<int>(std::max(engine.vocabulary_tokens(), 1U))),
          bos_(engine.has_vocabulary() && engine.adds_bos() ? engine.bos_token() : -1) {}

    std::vector<engine::Token> prompt(uint32_t count) { return draw(count); }
    // After each token it draws the next, the last one for nothing.
    std::vector<engine::Token> generation(uint32_t count) {
        std::vector<engine::Token> tokens = draw(count + 1);
        tokens.resize(count);
        return tokens;
    }

private:
    std::vector<engine::Token> draw(uint32_t count) {
        std::vector<engine::Token> tokens(count);
        for (uint32_t i = 0; i < count; ++i) tokens[i] = i == 0 && bos_ >= 0 ? bos_ : std::rand() % vocabulary_;
        return tokens;
    }
    int vocabulary_;
    engine::Token bos_;
};

int64_t as_us(const timeval& time) { return time.tv_sec * int64_t{1'000'000} + time.tv_usec; }

// All counters as of now; a stretch is the difference of two.
struct Counters {
    engine::Report report;
    uint64_t process_bytes = 0;
    rusage usage{};
    int64_t at_us = 0;
};

Counters counters_of(const engine::Engine& engine) {
    Counters counters{.report = engine.report(), .process_bytes = cost_of(::getpid()).read_bytes};
    ::getrusage(RUSAGE_SELF, &counters.usage);
    counters.at_us = now_us();
    return counters;
}

Stretch difference(const Counters& before, const Counters& after) {
    Stretch stretch;
    stretch.wall_us = after.at_us - before.at_us;
    stretch.wait_us = after.report.wait_us - before.report.wait_us;
    stretch.busy_us = after.report.reads.busy_us - before.report.reads.busy_us;
    stretch.read_bytes = after.report.reads.bytes - before.report.reads.bytes;
    stretch.process_bytes = after.process_bytes - before.process_bytes;
    stretch.demands = after.report.demands - before.report.demands;
    stretch.hits = after.report.hits - before.report.hits;
    stretch.joined = after.report.joined - before.report.joined;
    stretch.prefetches = after.report.prefetches - before.report.prefetches;
    stretch.prefetch_wasted = after.report.prefetch_wasted - before.report.prefetch_wasted;
    stretch.device_demands = after.report.device_demands - before.report.device_demands;
    stretch.device_hits = after.report.device_hits - before.report.device_hits;
    stretch.device_brought_ahead = after.report.device_brought_ahead - before.report.device_brought_ahead;
    stretch.device_uploaded_bytes = after.report.device_uploaded_bytes - before.report.device_uploaded_bytes;
    stretch.minor_faults = static_cast<uint64_t>(after.usage.ru_minflt - before.usage.ru_minflt);
    stretch.major_faults = static_cast<uint64_t>(after.usage.ru_majflt - before.usage.ru_majflt);
    stretch.user_us = as_us(after.usage.ru_utime) - as_us(before.usage.ru_utime);
    stretch.system_us = as_us(after.usage.ru_stime) - as_us(before.usage.ru_stime);
    return stretch;
}

class ChildRun {
public:
    ChildRun(engine::Engine& engine, engine::Session& session, const BenchCase& bench_case, bool repeat)
        : engine_(engine), session_(session), case_(bench_case), repeat_(repeat), tokens_(engine) {}

    Result<Stretch> run() { return case_.decode ? run_decode() : run_prompt(); }
    // What run() measured, once more.
    Result<Stretch> run_beside(SideReads& reads, uint64_t bytes_per_token) {
        HYPURA_TRY(back_to_begin());
        return measure_once([&](uint64_t tokens) { reads.allow(tokens * bytes_per_token); });
    }
    int64_t first_logits_us() const { return first_logits_us_; }
    uint64_t first_logits_bytes() const { return first_logits_bytes_; }

private:
    // llama-bench: the prompt once as a warm-up, then another one with an empty history.
    Result<Stretch> run_prompt() {
        HYPURA_TRY(evaluate(tokens_.prompt(case_.tokens)));
        first_logits_us_ = now_us();
        first_logits_bytes_ = cost_of(::getpid()).read_bytes;
        session_.clear();
        measured_ = tokens_.prompt(case_.tokens);
        return measure();
    }

    // llama-bench -n WARM_UP,TOKENS -d PROMPT: a single token, the prompt, the first test; for the second test a single
    // token in an empty history again, then the prompt's state restored. That single token is not computed here: its
    // only trace would be its experts.
    Result<Stretch> run_decode() {
        HYPURA_TRY(evaluate(tokens_.generation(1)));
        session_.clear();
        prompt_ = tokens_.prompt(case_.prompt_tokens);
        if (!prompt_.empty()) HYPURA_TRY(evaluate(prompt_));
        if (case_.warm_up_tokens > 0) {
            for (const engine::Token token : tokens_.generation(case_.warm_up_tokens)) HYPURA_TRY(evaluate({token}));
            HYPURA_TRY(back_to_prompt());
            tokens_.generation(1);
        }
        measured_ = tokens_.generation(case_.tokens);
        return measure();
    }

    Status evaluate(const std::vector<engine::Token>& tokens) {
        return session_.evaluate(tokens, engine::LogitsWanted::kLast);
    }

    // Recurrent models cannot go back: they read the prompt again.
    Status back_to_prompt() {
        if (session_.rewind(case_.prompt_tokens)) return {};
        session_.clear();
        return prompt_.empty() ? Status{} : evaluate(prompt_);
    }

    Status back_to_begin() {
        if (case_.decode) return back_to_prompt();
        session_.clear();
        return {};
    }

    Result<Stretch> measure() {
        HYPURA_ASSIGN(Stretch stretch, measure_once());
        if (!repeat_) return stretch;
        HYPURA_TRY(back_to_begin());
        return measure_once();
    }
    // `at_piece`: told how many tokens are evaluated next, a prompt at once or a single token.
    Result<Stretch> measure_once(const std::function<void(uint64_t tokens)>& at_piece = {}) {
        const size_t piece_tokens = case_.decode ? 1 : measured_.size();
        std::vector<int64_t> token_us;
        const Counters before = counters_of(engine_);
        for (size_t done = 0; done < measured_.size(); done += piece_tokens) {
            const int64_t begin_us = now_us();
            if (at_piece) at_piece(piece_tokens);
            HYPURA_TRY(
                session_.evaluate(std::span(measured_).subspan(done, piece_tokens), engine::LogitsWanted::kLast));
            if (case_.decode) token_us.push_back(now_us() - begin_us);
        }
        Stretch stretch = difference(before, counters_of(engine_));
        stretch.tokens = static_cast<uint32_t>(measured_.size());
        stretch.token_us = std::move(token_us);
        return stretch;
    }

    engine::Engine& engine_;
    engine::Session& session_;
    const BenchCase& case_;
    const bool repeat_;
    LlamaBenchTokens tokens_;
    std::vector<engine::Token> prompt_;
    std::vector<engine::Token> measured_;
    int64_t first_logits_us_ = 0;  // prompt cases: when the warm-up was done
    uint64_t first_logits_bytes_ = 0;
};

std::vector<std::array<uint64_t, 3>> streamed_slices(const engine::Engine& engine) {
    std::vector<std::array<uint64_t, 3>> slices;
    const residency::SlotCache* const cache = engine.slot_cache();
    if (cache == nullptr) return slices;
    for (residency::PageId page = 0; page < cache->page_count(); ++page)
        for (const residency::SliceSpec& slice : cache->page_spec(page).slices)
            slices.push_back({slice.file, slice.offset, slice.bytes});
    return slices;
}

ChildReport describe(const engine::Report& report) {
    ChildReport described;
    described.mode = engine::to_string(report.mode);
    described.reason = report.reason;
    described.reader = report.reader;
    described.direct_io = report.direct_io;
    described.batch_tokens = report.batch_tokens;
    described.model_bytes = report.model_bytes;
    described.resident_bytes = report.resident_bytes;
    described.streamed_bytes = report.streamed_bytes;
    described.slot_bytes = report.slot_bytes;
    described.context_bytes = report.context_bytes;
    described.ram_bytes = report.ram_bytes;
    described.load_us = report.load_us;
    return described;
}

Status measure_beside_reads(const EngineFlags& flags, uint64_t bytes_per_token, ChildRun& run, ChildReport& report) {
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(flags.model_path));
    HYPURA_ASSIGN(const storage::ReaderKind kind, parse_reader_kind(flags.io));
    HYPURA_ASSIGN(const auto reads, SideReads::create(part_paths(file), report.slices, kind));
    HYPURA_ASSIGN(report.beside_reads, run.run_beside(*reads, bytes_per_token));
    report.side_read_bytes = reads->begun_bytes();
    return {};
}

}  // namespace

Status run_bench_child(const EngineFlags& flags, const BenchCase& bench_case, const ChildExtras& extras) {
    const int64_t begin_us = now_us();
    HYPURA_ASSIGN(const engine::EngineOptions options, to_engine_options(flags));
    HYPURA_ASSIGN(const auto engine, engine::Engine::open(options));
    HYPURA_ASSIGN(const auto session, engine->new_session());
    ChildReport report = describe(engine->report());
    ChildRun run(*engine, *session, bench_case, extras.repeat);
    HYPURA_ASSIGN(report.measured, run.run());
    if (run.first_logits_us() > 0) report.cold_us = run.first_logits_us() - begin_us;
    report.cold_bytes = run.first_logits_bytes();
    report.slices = streamed_slices(*engine);
    if (extras.side_bytes_per_token > 0)
        HYPURA_TRY(measure_beside_reads(flags, extras.side_bytes_per_token, run, report));
    return print_text(nlohmann::json(report).dump() + "\n");
}

}  // namespace hypura::cli
