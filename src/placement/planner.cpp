#include "placement/planner.h"

#include "base/bytes.h"
#include "placement/logits_rows.h"
#include "placement/pass_size.h"
#include "placement/tier_program.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <map>

namespace hypura::placement {
namespace {

constexpr uint32_t kDefaultContextTokens = 4096;
constexpr uint32_t kLeastContextTokens = 512;
// The program with libllama and its backends, and what nobody announces beforehand.
constexpr uint64_t kProcessBytes = 160 * kMiB;
constexpr double kWorthWhile = 1.25;  // that much speed is worth a smaller context or a less exact cache
constexpr double kNoticeable = 1.1;   // faster prompts, that larger passes are mentioned for
constexpr double kTie = 1.03;         // predictions closer than that are taken as equal

struct CacheTypeFacts {
    CacheType type;
    std::string_view name;
    double bytes_per_value;
};
constexpr std::array kCacheTypes = {CacheTypeFacts{CacheType::kF16, "f16", 2.0},
                                    CacheTypeFacts{CacheType::kQ8_0, "q8_0", 34.0 / 32},
                                    CacheTypeFacts{CacheType::kQ4_0, "q4_0", 18.0 / 32}};

const CacheTypeFacts& facts_of(CacheType type) { return *std::ranges::find(kCacheTypes, type, &CacheTypeFacts::type); }

uint32_t default_context(const gguf::ModelShape& shape) {
    return shape.context_train == 0
               ? kDefaultContextTokens
               : static_cast<uint32_t>(std::min<uint64_t>(shape.context_train, kDefaultContextTokens));
}

// One context and cache type, tried in all modes.
class Attempt {
public:
    Attempt(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk, const PlanRequest& request,
            uint32_t context_tokens, CacheType type)
        : demand_(demand),
          machine_(machine),
          disk_(disk),
          request_(request),
          batch_tokens_(request.batch_tokens > 0 ? request.batch_tokens : kPassTokens) {
        plan_.context_tokens = context_tokens;
        plan_.cache_type = type;
        plan_.batch_tokens = batch_tokens_;
        plan_.cache_bytes = cache_size_bytes(demand, context_tokens, type);
        plan_.other_bytes = kProcessBytes;
        plan_.outlooks = {resident_outlook(), mmap_outlook(), stream_outlook()};
    }

    // False when no mode fits, or not the one that was asked for.
    bool choose() {
        const ModeOutlook* best = nullptr;
        for (const ModeOutlook& outlook : plan_.outlooks) {
            if (!outlook.fits || !allowed(outlook.mode)) continue;
            if (best == nullptr || outlook.prediction.token_s * kTie < best->prediction.token_s) best = &outlook;
        }
        if (best == nullptr) return false;
        plan_.mode = best->mode;
        plan_.prediction = best->prediction;
        return true;
    }

    // What the chosen mode puts where.
    void fill_in() {
        if (plan_.mode == PlanMode::kStream) plan_.batch_tokens = stream_batch_tokens_;
        plan_.compute_bytes = compute_buffer_bytes(demand_.shape, plan_.batch_tokens);
        if (plan_.mode == PlanMode::kStream)
            fill_in_streaming();
        else
            plan_.resident_bytes = demand_.tensor_bytes;
        plan_.chunk_tokens = chunk_tokens(plan_.batch_tokens, [this](uint32_t tokens) { return pass_seconds(tokens); });
        plan_.layers = layer_places();
    }

    Plan& plan() { return plan_; }
    uint64_t least_ram_bytes() const {
        uint64_t least = UINT64_MAX;
        for (const ModeOutlook& outlook : plan_.outlooks)
            if (allowed(outlook.mode)) least = std::min(least, outlook.needed_bytes);
        return least;
    }

private:
    bool allowed(PlanMode mode) const {
        if (request_.mode) return *request_.mode == mode;
        const bool within_budget = demand_.tensor_bytes <= mapped_bytes() && request_.weights_bytes == 0;
        const bool no_budget = request_.page_cache_bytes > 0 && request_.weights_bytes == 0;
        return mode != PlanMode::kMmap || no_budget || within_budget;
    }

    // Memory for mapped weights.
    uint64_t mapped_bytes() const {
        if (request_.weights_bytes > 0) return request_.weights_bytes;
        if (request_.page_cache_bytes > 0) return request_.page_cache_bytes;
        return request_.ram_bytes - std::min(request_.ram_bytes, beside_weights(batch_tokens_));
    }

    CostInputs inputs(uint32_t batch_tokens) const {
        const Workload workload{request_.prompt_tokens, std::min(request_.prompt_tokens, plan_.context_tokens),
                                batch_tokens, request_.routing};
        return {demand_, machine_, disk_, workload, cache_bytes_per_value(plan_.cache_type)};
    }

    Prediction predict(PlanMode mode, const CostInputs& costs) const {
        switch (mode) {
            case PlanMode::kResident:
                return predict_resident(costs);
            case PlanMode::kMmap:
                return predict_mmap(costs, mapped_bytes());
            case PlanMode::kStream:
                break;
        }
        return predict_stream(costs, problem_, layout_);
    }

    // In the chosen mode.
    double pass_seconds(uint32_t tokens) const {
        CostInputs costs = inputs(tokens);
        costs.workload.prompt_tokens = tokens;
        return predict(plan_.mode, costs).first_token_s;
    }

    uint64_t beside_weights(uint32_t batch_tokens) const {
        return plan_.cache_bytes + compute_buffer_bytes(demand_.shape, batch_tokens) + plan_.other_bytes;
    }

    ModeOutlook resident_outlook() const {
        const bool by_weights = request_.weights_bytes > 0;
        ModeOutlook outlook{PlanMode::kResident};
        outlook.needed_bytes = demand_.tensor_bytes + beside_weights(batch_tokens_);
        outlook.fits =
            by_weights ? demand_.tensor_bytes <= request_.weights_bytes : outlook.needed_bytes <= request_.ram_bytes;
        if (outlook.fits) outlook.prediction = predict(outlook.mode, inputs(batch_tokens_));
        return outlook;
    }

    // The kernel takes mapped pages away again, so this works with next to nothing, however slowly.
    ModeOutlook mmap_outlook() const {
        ModeOutlook outlook{PlanMode::kMmap};
        outlook.needed_bytes = beside_weights(batch_tokens_);
        outlook.fits = request_.weights_bytes > 0 || outlook.needed_bytes <= request_.ram_bytes;
        if (outlook.fits) outlook.prediction = predict(outlook.mode, inputs(batch_tokens_));
        return outlook;
    }

    // As the engine does it: where a layer's experts would not fit, the batch is halved.
    ModeOutlook stream_outlook() {
        ModeOutlook outlook{PlanMode::kStream};
        for (uint32_t batch_tokens = batch_tokens_;; batch_tokens = (batch_tokens + 1) / 2) {
            problem_ = stream_problem(demand_, batch_tokens);
            const uint64_t beside = beside_weights(batch_tokens);
            outlook.needed_bytes = smallest_weights_bytes(problem_) + beside;
            problem_.weights_bytes = request_.weights_bytes > 0
                                         ? request_.weights_bytes
                                         : request_.ram_bytes - std::min(request_.ram_bytes, beside);
            outlook.fits = smallest_weights_bytes(problem_) <= problem_.weights_bytes;
            stream_batch_tokens_ = batch_tokens;
            if (outlook.fits || batch_tokens <= 1) break;
        }
        if (!outlook.fits) return outlook;
        layout_ = plan_streaming(problem_).value_or(StreamPlan{});
        outlook.prediction = predict(outlook.mode, inputs(stream_batch_tokens_));
        return outlook;
    }

    void fill_in_streaming() {
        plan_.resident_bytes = layout_.resident_bytes;
        std::vector<bool> of_experts(layout_.classes.size());
        for (const uint32_t slot_class : layout_.expert_class) of_experts[slot_class] = true;
        for (size_t c = 0; c < layout_.classes.size(); ++c) {
            const PlannedClass& planned = layout_.classes[c];
            (of_experts[c] ? plan_.pool_bytes : plan_.ring_bytes) += planned.slot_bytes * planned.slots;
            if (of_experts[c]) plan_.pool_slots += planned.slots;
        }
        for (const ExpertLayer& layer : demand_.experts) plan_.pool_experts += layer.experts;
        plan_.disk_bytes = demand_.tensor_bytes - layout_.resident_bytes;
        if (request_.with_bound) plan_.bound_token_s = bound();
    }

    double slots_share() const {
        return plan_.pool_experts == 0 ? 0 : std::min(1.0, double{1} * plan_.pool_slots / plan_.pool_experts);
    }

    // Of tables, where rows are streamed.
    uint64_t streamed_row_bytes() const {
        uint64_t bytes = 0;
        for (const RowTable& table : problem_.tables) bytes += table.bytes - table.kept_bytes;
        return bytes;
    }

    std::vector<LayerPlace> layer_places() const {
        std::map<int, LayerPlace> places;
        const bool streams = plan_.mode == PlanMode::kStream;
        places[-1].streamed_dense_bytes = streams && layout_.rows_streamed ? streamed_row_bytes() : 0;
        places[-1].resident_bytes = demand_.fixed_bytes - places[-1].streamed_dense_bytes;
        for (size_t d = 0; d < demand_.dense.size(); ++d) {
            LayerPlace& place = places[demand_.dense[d].layer];
            (streams && layout_.dense_streamed[d] ? place.streamed_dense_bytes : place.resident_bytes) +=
                demand_.dense[d].bytes;
        }
        for (const ExpertLayer& layer : demand_.experts) {
            LayerPlace& place = places[layer.layer];
            place.expert_bytes += layer.expert_bytes * layer.experts;
            place.pool_share = streams ? slots_share() : 1;
        }
        std::vector<LayerPlace> ordered;
        for (auto& [layer, place] : places) {
            place.layer = layer;
            ordered.push_back(place);
        }
        return ordered;
    }

    // The same memory under the tier programme: matrices alike in size are one item, all experts one pool.
    double bound() const {
        const CostInputs costs = inputs(plan_.batch_tokens);
        const double compute_s = plan_.prediction.compute_s;
        std::map<uint64_t, int> sizes;
        for (const DenseMatrix& matrix : demand_.dense) ++sizes[matrix.bytes];
        const double every_token = static_cast<double>(demand_.dense_bytes() + demand_.token_expert_bytes());
        const uint64_t least_fixed_bytes = demand_.fixed_bytes - streamed_row_bytes();
        const double capacity =
            static_cast<double>(problem_.weights_bytes - std::min(problem_.weights_bytes, least_fixed_bytes));
        const double per_byte_s = compute_s / std::max(every_token, 1.0);
        TierProblem tiers{.pool_exposed = 0};
        tiers.tiers = {{"memory", capacity, per_byte_s, 0}, {"disk", 0, per_byte_s, read_seconds_per_byte(costs)}};
        for (const auto& [bytes, count] : sizes) tiers.items.push_back({static_cast<double>(bytes), count});
        if (!demand_.experts.empty())
            tiers.pools.push_back(
                {static_cast<double>(demand_.expert_bytes()), static_cast<double>(demand_.token_expert_bytes()),
                 MissCurve::expected(demand_.shape.experts, demand_.shape.experts_used, request_.routing)});
        const auto answer = solve_tiers(tiers);
        return answer ? answer->seconds : 0;
    }

    // At the best that the disk does: a bound must not be slower than the layout.
    double read_seconds_per_byte(const CostInputs& costs) const {
        double best = 0;
        for (const storage::DiskPoint& point : costs.disk.points) best = std::max(best, point.bytes_per_second);
        return best > 0 ? 1 / best : 0;
    }

    const ModelDemand& demand_;
    const Machine& machine_;
    const DiskProfile& disk_;
    const PlanRequest& request_;
    uint32_t batch_tokens_;
    Plan plan_;
    StreamProblem problem_;
    StreamPlan layout_;
    uint32_t stream_batch_tokens_ = 1;
};

std::string speed(const Prediction& prediction) {
    return std::format("{:.3g} tok/s", prediction.decode_tokens_per_second());
}

std::string others_text(const Plan& plan) {
    std::string text;
    for (const ModeOutlook& outlook : plan.outlooks) {
        if (outlook.mode == plan.mode) continue;
        text += text.empty() ? "" : ", ";
        text += outlook.fits ? std::format("{} would give {}", to_string(outlook.mode), speed(outlook.prediction))
                             : std::format("{} needs {}", to_string(outlook.mode), format_bytes(outlook.needed_bytes));
    }
    return text;
}

std::string reason_of(const Plan& plan, const Machine& machine, const PlanRequest& request) {
    const uint64_t budget = request.weights_bytes > 0 ? request.weights_bytes : request.ram_bytes;
    return std::format("{} is predicted with {}{}; {}{}", speed(plan.prediction), format_bytes(budget),
                       request.weights_bytes > 0 ? " for weights" : "", others_text(plan),
                       machine.measured() ? "" : " (this machine was not measured: hypura profile does that)");
}

// The budget error names what would work.
Error too_small(const PlanRequest& request, uint64_t least_bytes) {
    return {ErrorCode::kBudgetTooSmall, std::format("{} cannot work; the smallest that works is {}MiB",
                                                    format_bytes(request.ram_bytes), (least_bytes + kMiB - 1) / kMiB)};
}

std::vector<uint32_t> contexts_to_try(const ModelDemand& demand, const PlanRequest& request) {
    if (request.context_tokens > 0) return {request.context_tokens};
    std::vector<uint32_t> contexts = {default_context(demand.shape)};
    while (contexts.back() / 2 >= kLeastContextTokens) contexts.push_back(contexts.back() / 2);
    return contexts;
}

// Of a streamed prompt, where nobody said how long they are: nothing where it would hardly be faster.
std::optional<WhatIf> with_large_passes(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                                        PlanRequest request, const Plan& plan) {
    constexpr uint32_t kLargePassTokens = 4 * kPassTokens;
    const bool is_open = plan.mode == PlanMode::kStream && request.batch_tokens == 0;
    if (!is_open || plan.context_tokens < kLargePassTokens) return std::nullopt;
    request.batch_tokens = request.prompt_tokens = kLargePassTokens;
    auto changed = make_plan(demand, machine, disk, request);
    const double least_rate = kNoticeable * plan.prediction.prefill_tokens_per_second;
    if (!changed || changed->prediction.prefill_tokens_per_second < least_rate) return std::nullopt;
    return WhatIf{std::format("long prompts, --batch {}", kLargePassTokens), *std::move(changed)};
}

}  // namespace

std::string_view to_string(PlanMode mode) {
    switch (mode) {
        case PlanMode::kResident:
            return "resident";
        case PlanMode::kMmap:
            return "mmap";
        case PlanMode::kStream:
            break;
    }
    return "stream";
}

std::string_view to_string(CacheType type) { return facts_of(type).name; }
double cache_bytes_per_value(CacheType type) { return facts_of(type).bytes_per_value; }

std::optional<CacheType> parse_cache_type(std::string_view text) {
    const auto found = std::ranges::find(kCacheTypes, text, &CacheTypeFacts::name);
    if (found == kCacheTypes.end()) return std::nullopt;
    return found->type;
}

uint64_t cache_size_bytes(const ModelDemand& demand, uint32_t context_tokens, CacheType type) {
    const double values = static_cast<double>(demand.cache_values_per_token) * context_tokens;
    return static_cast<uint64_t>(values * cache_bytes_per_value(type));
}

// Logits, and about two dozen activations of the model's width a token.
uint64_t compute_buffer_bytes(const gguf::ModelShape& shape, uint32_t batch_tokens) {
    const uint64_t logits = uint64_t{logits_rows(shape.vocabulary, batch_tokens)} * shape.vocabulary;
    return (logits + uint64_t{batch_tokens} * 24 * shape.embedding) * sizeof(float);
}

// The first attempt is what the user expects; a later one must earn its cost.
Result<Plan> make_plan(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                       const PlanRequest& request) {
    std::optional<Plan> best;
    uint64_t least_bytes = UINT64_MAX;
    for (const CacheType type : request.cache_types) {
        for (const uint32_t context_tokens : contexts_to_try(demand, request)) {
            Attempt attempt(demand, machine, disk, request, context_tokens, type);
            least_bytes = std::min(least_bytes, attempt.least_ram_bytes());
            if (!attempt.choose()) continue;
            const bool better = !best || attempt.plan().prediction.token_s * kWorthWhile < best->prediction.token_s;
            if (!better) continue;
            attempt.fill_in();
            best = std::move(attempt.plan());
        }
    }
    if (!best) return std::unexpected(too_small(request, least_bytes));
    best->reason = reason_of(*best, machine, request);
    return *std::move(best);
}

std::vector<WhatIf> what_if(const ModelDemand& demand, const Machine& machine, const DiskProfile& disk,
                            const PlanRequest& request, const Plan& plan) {
    std::vector<WhatIf> answers;
    PlanRequest plain = request;
    plain.with_bound = false;
    const auto ask = [&](std::string change, const DiskProfile& other_disk, const PlanRequest& other) {
        if (auto changed = make_plan(demand, machine, other_disk, other))
            answers.push_back({std::move(change), *std::move(changed)});
    };
    PlanRequest more_memory = plain;
    more_memory.ram_bytes += 4 * kGiB;
    more_memory.weights_bytes += request.weights_bytes > 0 ? 4 * kGiB : 0;
    ask("4 GiB more memory", disk, more_memory);
    DiskProfile faster = disk;
    for (storage::DiskPoint& point : faster.points) point.bytes_per_second *= 2;
    ask("a disk twice as fast", faster, plain);
    PlanRequest shorter = plain;
    shorter.context_tokens = std::max(plan.context_tokens / 4, 1U);
    ask(std::format("a context of {} tokens", shorter.context_tokens), disk, shorter);
    if (auto answer = with_large_passes(demand, machine, disk, plain, plan)) answers.push_back(*std::move(answer));
    return answers;
}

}  // namespace hypura::placement
