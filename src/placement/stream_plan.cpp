#include "placement/stream_plan.h"

#include "base/bytes.h"

#include <algorithm>
#include <map>

namespace hypura::placement {
namespace {

// Slots of one expert class: at least what a pass needs of one layer, at most every expert that it serves.
struct ExpertClass {
    uint64_t slot_bytes = 0;
    uint32_t least = 0;
    uint32_t most = 0;
    std::map<int, uint32_t> pass_experts_by_layer;
};

std::vector<ExpertClass> expert_classes(const StreamProblem& problem) {
    std::map<uint64_t, ExpertClass> by_stride;
    for (const ExpertGroup& group : problem.experts) {
        ExpertClass& found = by_stride[group.slot_bytes];
        found.slot_bytes = group.slot_bytes;
        found.least = std::max(found.least, found.pass_experts_by_layer[group.layer] += group.pass_experts);
        found.most += group.experts;
    }
    std::vector<ExpertClass> classes;
    classes.reserve(by_stride.size());
    for (const auto& [stride, found] : by_stride) classes.push_back(found);
    return classes;
}

uint64_t least_expert_bytes(const std::vector<ExpertClass>& classes) {
    uint64_t bytes = 0;
    for (const ExpertClass& expert_class : classes) bytes += expert_class.slot_bytes * expert_class.least;
    return bytes;
}

// Streams `share` of the candidates' bytes, spread evenly in graph order: a tensor is streamed whenever the running sum
// of what ought to be streamed has gained a whole tensor on what is.
std::vector<bool> choose_streamed(const StreamProblem& problem, double share_feed_forward, double share_other) {
    std::vector<bool> streamed(problem.dense.size());
    double owed_bytes[2] = {0, 0};
    for (size_t i = 0; i < problem.dense.size(); ++i) {
        const DenseTensor& tensor = problem.dense[i];
        double& owed = owed_bytes[tensor.feed_forward ? 1 : 0];
        owed += static_cast<double>(tensor.bytes) * (tensor.feed_forward ? share_feed_forward : share_other);
        if (owed + 0.5 < static_cast<double>(tensor.bytes)) continue;
        streamed[i] = true;
        owed -= static_cast<double>(tensor.bytes);
    }
    return streamed;
}

// How many slots each dense class gets: the ring, but no more slots than tensors.
std::map<uint64_t, uint32_t> ring_classes(const StreamProblem& problem, const std::vector<bool>& streamed) {
    std::map<uint64_t, uint32_t> slots_by_stride;
    for (size_t i = 0; i < problem.dense.size(); ++i) {
        if (!streamed[i]) continue;
        uint32_t& slots = slots_by_stride[problem.dense[i].slot_bytes];
        slots = std::min(slots + 1, std::max(2U, problem.ring_slots));
    }
    return slots_by_stride;
}

struct DenseChoice {
    std::vector<bool> streamed;
    uint64_t resident_bytes = 0;
    uint64_t ring_bytes = 0;
    uint64_t total_bytes() const { return resident_bytes + ring_bytes; }
};

DenseChoice dense_choice(const StreamProblem& problem, double share_feed_forward, double share_other) {
    DenseChoice choice{choose_streamed(problem, share_feed_forward, share_other)};
    for (size_t i = 0; i < problem.dense.size(); ++i)
        if (!choice.streamed[i]) choice.resident_bytes += problem.dense[i].bytes;
    for (const auto& [stride, slots] : ring_classes(problem, choice.streamed)) choice.ring_bytes += stride * slots;
    return choice;
}

// The choice that streams the least and fits `room_bytes`. Share 0..1 streams feed-forward weights, 1..2 the others
// too.
DenseChoice fit_dense(const StreamProblem& problem, uint64_t room_bytes) {
    constexpr int kSteps = 2048;
    const auto at = [&](int step) {
        const double share = 2.0 * step / kSteps;
        return dense_choice(problem, std::min(share, 1.0), std::max(share - 1.0, 0.0));
    };
    if (at(0).total_bytes() <= room_bytes)
        return at(0);  // not monotone here: the first ring may cost more than it saves
    int low = 1, high = kSteps;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (at(middle).total_bytes() <= room_bytes)
            high = middle;
        else
            low = middle + 1;
    }
    return at(low);
}

// Shares `room_bytes` out in proportion to the bytes that each class serves, within its bounds.
std::vector<PlannedClass> share_expert_slots(const std::vector<ExpertClass>& classes, uint64_t room_bytes) {
    double served_bytes = 0;
    for (const ExpertClass& expert_class : classes)
        served_bytes += static_cast<double>(expert_class.slot_bytes) * expert_class.most;
    double spare_bytes = static_cast<double>(room_bytes) - static_cast<double>(least_expert_bytes(classes));
    std::vector<PlannedClass> planned;
    for (const ExpertClass& expert_class : classes) {
        const double stride = static_cast<double>(expert_class.slot_bytes);
        const double share = static_cast<double>(room_bytes) * expert_class.most / served_bytes;
        const double wanted = std::clamp(share, double(expert_class.least), double(expert_class.most));
        const double extra = std::min(wanted - expert_class.least, spare_bytes / stride);
        const auto slots = expert_class.least + static_cast<uint32_t>(std::max(extra, 0.0));
        spare_bytes -= stride * (slots - expert_class.least);
        planned.push_back({expert_class.slot_bytes, slots});
    }
    return planned;
}

uint32_t class_of(const std::vector<PlannedClass>& classes, size_t begin, uint64_t slot_bytes) {
    for (size_t i = begin; i < classes.size(); ++i)
        if (classes[i].slot_bytes == slot_bytes) return static_cast<uint32_t>(i);
    return 0;
}

StreamPlan assemble(const StreamProblem& problem, DenseChoice dense, std::vector<PlannedClass> expert_slots) {
    StreamPlan plan;
    plan.resident_bytes = problem.fixed_bytes + dense.resident_bytes;
    plan.classes = std::move(expert_slots);
    const size_t first_ring = plan.classes.size();
    for (const auto& [stride, slots] : ring_classes(problem, dense.streamed)) plan.classes.push_back({stride, slots});
    for (const ExpertGroup& group : problem.experts)
        plan.expert_class.push_back(class_of(plan.classes, 0, group.slot_bytes));
    for (const DenseTensor& tensor : problem.dense)
        plan.dense_class.push_back(class_of(plan.classes, first_ring, tensor.slot_bytes));
    plan.dense_streamed = std::move(dense.streamed);
    for (const PlannedClass& planned : plan.classes) plan.slot_bytes += planned.slot_bytes * planned.slots;
    return plan;
}

// The same problem with what tables take in memory as fixed.
StreamProblem with_tables(StreamProblem problem, uint64_t RowTable::* table_bytes) {
    for (const RowTable& table : problem.tables) problem.fixed_bytes += table.*table_bytes;
    problem.tables.clear();
    return problem;
}

uint64_t smallest_without_tables(const StreamProblem& problem) {
    const uint64_t all_streamed = dense_choice(problem, 1, 1).total_bytes();
    const uint64_t none_streamed = dense_choice(problem, 0, 0).total_bytes();  // tiny models: rings cost more
    return problem.fixed_bytes + least_expert_bytes(expert_classes(problem)) + std::min(all_streamed, none_streamed);
}

Result<StreamPlan> plan_without_tables(const StreamProblem& problem) {
    const uint64_t smallest = smallest_without_tables(problem);
    if (problem.weights_bytes < smallest)
        return fail(ErrorCode::kBudgetTooSmall,
                    "{} for weights cannot work: the smallest that works is {} ({} that must stay in "
                    "memory, the rest slots for one pass)",
                    format_bytes(problem.weights_bytes), format_bytes_up(smallest), format_bytes(problem.fixed_bytes));
    const auto classes = expert_classes(problem);
    const uint64_t dense_room = problem.weights_bytes - problem.fixed_bytes - least_expert_bytes(classes);
    DenseChoice dense = fit_dense(problem, dense_room);
    const uint64_t expert_room =
        problem.weights_bytes - problem.fixed_bytes - std::min(dense.total_bytes(), dense_room);
    return assemble(problem, std::move(dense), share_expert_slots(classes, expert_room));
}

}  // namespace

uint64_t kept_row_bytes(uint64_t table_bytes, uint64_t row_bytes, uint32_t batch_tokens) {
    constexpr uint64_t kPageBytes = 4096;
    constexpr uint64_t kLeastBytes = 4 * kMiB;
    const uint64_t row_pages = (row_bytes + kPageBytes - 2) / kPageBytes + 1;  // wherever it begins
    const uint64_t kept_bytes = std::max(uint64_t{2} * batch_tokens * row_pages * kPageBytes, kLeastBytes);
    return kept_bytes > table_bytes / 2 ? table_bytes : kept_bytes;
}

uint64_t smallest_fixed_bytes(const StreamProblem& problem) {
    return with_tables(problem, &RowTable::kept_bytes).fixed_bytes;
}

uint64_t smallest_weights_bytes(const StreamProblem& problem) {
    return smallest_without_tables(with_tables(problem, &RowTable::kept_bytes));
}

// A row that is not in memory costs a read of a page or two, which pays where slots are short alone.
Result<StreamPlan> plan_streaming(const StreamProblem& problem) {
    const StreamProblem whole = with_tables(problem, &RowTable::bytes);
    if (auto plan = plan_without_tables(whole); plan && never_evicts(whole, *plan)) return plan;
    auto plan = plan_without_tables(with_tables(problem, &RowTable::kept_bytes));
    if (plan) plan->rows_streamed = !problem.tables.empty();
    return plan;
}

bool never_evicts(const StreamProblem& problem, const StreamPlan& plan) {
    std::vector<uint64_t> served(plan.classes.size());
    for (size_t g = 0; g < problem.experts.size(); ++g) served[plan.expert_class[g]] += problem.experts[g].experts;
    for (size_t d = 0; d < problem.dense.size(); ++d)
        if (plan.dense_streamed[d]) ++served[plan.dense_class[d]];
    for (size_t c = 0; c < served.size(); ++c)
        if (served[c] > plan.classes[c].slots) return false;
    return true;
}

}  // namespace hypura::placement
